// Asks by the Responses API as a program with the official JavaScript client would: as a stream,
// with the stream helper, and whole.
//
// usage: openai_responses.js BASE_URL SESSION TEXT   (NODE_PATH: where the package `openai` is)
//
// Each way has a session of its own, and a second turn that continues the first by its id. Prints
// one line of JSON, the same as openai_responses.py: what the client made of each way.
"use strict";

const OpenAI = require("openai");

const [baseURL, session, input] = process.argv.slice(2);

function client(way) {
  const defaultHeaders = { "X-Synthesis-Session": `${session}-js-${way}` };
  return new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0, defaultHeaders });
}

const told = (response) => ({
  id: response.id,
  status: response.status,
  text: response.output_text,
  output: response.output.map((item) => [item.type, item.status]),
  reasoning: response.output
    .filter((item) => item.type === "reasoning")
    .map((item) => item.summary.map((part) => part.text).join("")),
  previous: response.previous_response_id,
  error: response.error?.code ?? null,
  usage: response.usage
    ? [response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens]
    : null,
});

const ask = (previous) => ({
  model: "synthesis",
  input,
  ...(previous ? { previous_response_id: previous } : {}),
});

const ways = {
  async streamed(one, previous) {
    const [types, last] = [[], {}];
    let text = "";
    for await (const event of await one.responses.create({ ...ask(previous), stream: true })) {
      types.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
      if (event.response) Object.assign(last, told(event.response));
    }
    // What was streamed, not what the last event repeats (which has no `output_text` here).
    return { ...last, text, types };
  },
  async helper(one, previous) {
    const stream = one.responses.stream(ask(previous));
    let deltas = "";
    stream.on("response.output_text.delta", (event) => (deltas += event.delta));
    const last = told(await stream.finalResponse());
    return { ...last, deltas };
  },
  async whole(one, previous) {
    return told(await one.responses.create(ask(previous)));
  },
};

const failed = (error) => ({
  raised: error.constructor.name,
  http: error.status ?? null,
  code: error.code ?? null,
});

(async () => {
  const found = {};
  for (const [way, use] of Object.entries(ways)) {
    const one = client(way);
    const turns = [];
    for (let turn = 0; turn < 2; turn += 1) {
      turns.push(await use(one, turns[0]?.id).catch(failed));
    }
    found[way] = turns;
  }
  console.log(JSON.stringify(found));
})();
