// Uses the server as a program with the official JavaScript client would.
//
// usage: openai_client.js BASE_URL CHECK...   (NODE_PATH: where the package `openai` is)
//
// Prints OK, or what was not as it should be, and then fails.
"use strict";

const assert = require("node:assert/strict");
const OpenAI = require("openai");

const [baseURL, ...chosen] = process.argv.slice(2);

// Every request that leaves, repetitions included.
let requests = 0;

/** A client whose conversation is `session`; it repeats requests as it does by default. */
function client(session, headers = {}) {
  requests = 0;
  return new OpenAI({
    baseURL,
    apiKey: "unused",
    defaultHeaders: { "X-Synthesis-Session": `js-${session}`, ...headers },
    fetch: (url, init) => {
      requests += 1;
      return fetch(url, init);
    },
  });
}

const ask = (text) => ({ model: "synthesis", messages: [{ role: "user", content: text }] });

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

/** The error that `promise` is rejected with; it must be of exactly this class. */
async function rejected(kind, promise) {
  const error = await promise.then(
    (found) => assert.fail(`no ${kind.name}, but ${JSON.stringify(found)}`),
    (error) => error,
  );
  assert.equal(error.constructor.name, kind.name, String(error));
  return error;
}

const checks = {
  async whole() {
    const one = client("whole");
    const first = await one.chat.completions.create(ask("first"));
    assert.equal(first.object, "chat.completion");
    assert.equal(first.model, "synthesis");
    const { message, finish_reason: end } = first.choices[0];
    assert.deepEqual([message.role, message.content, end], ["assistant", "echo: first", "stop"]);
    const { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total } = first.usage;
    assert.equal(total, prompt + completion);
    // The conversation as clients keep it: all of it, every time.
    const messages = [
      { role: "system", content: "be kind" },
      { role: "user", content: "first" },
      message,
      { role: "user", content: [{ type: "text", text: "second" }] },
    ];
    const second = await one.chat.completions.create({ model: "synthesis", messages });
    assert.equal(second.choices[0].message.content, "echo: second");
  },

  async streamed() {
    const one = client("streamed");
    const chunks = await all(await one.chat.completions.create({ ...ask("CHUNKS 3"), stream: true }));
    assert.equal(chunks[0].choices[0].delta.role, "assistant");
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    assert.deepEqual(text.match(/\d\/\d/g), ["1/3", "2/3", "3/3"]);
    const ends = chunks.map((chunk) => chunk.choices[0].finish_reason).filter(Boolean);
    assert.deepEqual(ends, ["stop"]);
    assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  },

  async helper() {
    const stream = client("helper").chat.completions.stream({
      ...ask("CHUNKS 3"),
      stream_options: { include_usage: true },
    });
    let text = "";
    stream.on("content", (delta) => (text += delta));
    const completion = await stream.finalChatCompletion();
    assert.equal(completion.choices[0].message.content, text);
    assert.deepEqual(text.match(/\d\/\d/g), ["1/3", "2/3", "3/3"]);
    assert.equal(completion.choices[0].finish_reason, "stop");
    const usage = await stream.totalUsage();
    assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
    assert.ok(usage.completion_tokens > 0, JSON.stringify(usage));
  },

  async models() {
    const one = client("models");
    const listed = await all(one.models.list());
    assert.equal(listed[0].id, "synthesis");
    for (const model of listed) assert.deepEqual(await one.models.retrieve(model.id), model);
    const error = await rejected(OpenAI.NotFoundError, one.models.retrieve("other"));
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
  },

  async unknown_model() {
    const request = client("unknown").chat.completions.create({ ...ask("hello"), model: "other" });
    const error = await rejected(OpenAI.NotFoundError, request);
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
    assert.equal(error.type, "invalid_request_error");
    assert.equal(requests, 1);
  },

  async refused() {
    const one = client("refused", { Origin: "http://elsewhere.example" });
    const error = await rejected(
      OpenAI.PermissionDeniedError,
      one.chat.completions.create(ask("hello")),
    );
    assert.equal(error.code, "foreign_origin");
    assert.match(error.requestID, /^req_[0-9a-f]{32}$/);
    assert.equal(requests, 1);
    assert.equal(error.headers.get("x-should-retry"), "false");
  },

  // A 502 is one that clients repeat unless they are told not to.
  async broken() {
    const request = client("broken").chat.completions.create(ask("EXIT 3"));
    const error = await rejected(OpenAI.InternalServerError, request);
    assert.deepEqual([error.status, error.code], [502, "process_ended"]);
    assert.equal(requests, 1);
    assert.equal(error.headers.get("x-should-retry"), "false");
  },

  // So late that the stream has begun: the error comes in it.
  async broken_stream() {
    const one = client("broken-stream");
    const stream = await one.chat.completions.create({ ...ask("SLOW 2500 EXIT 3"), stream: true });
    const error = await rejected(OpenAI.APIError, all(stream));
    assert.equal(error.code, "process_ended");
    assert.match(error.message, /exit status 3/);
    assert.equal(requests, 1);
  },

  // Deltas without text, while claude works, disturb neither way of reading.
  async keep_alive() {
    const one = client("keep-alive");
    const request = ask("SLOW 4000");
    const chunks = await all(await one.chat.completions.create({ ...request, stream: true }));
    const deltas = chunks.map((chunk) => chunk.choices[0].delta);
    const empty = deltas.filter((delta) => delta.content === "" && delta.role === undefined);
    assert.ok(empty.length > 0, `no keep-alive came: ${JSON.stringify(deltas)}`);
    const text = deltas.map((delta) => delta.content ?? "").join("");
    const completion = await one.chat.completions.stream(request).finalChatCompletion();
    assert.equal(completion.choices[0].message.content, text);
  },
};

(async () => {
  for (const check of chosen) {
    try {
      await checks[check]();
    } catch (error) {
      console.error(`${check}: ${error.stack}`);
      process.exit(1);
    }
  }
  console.log("OK");
})();
