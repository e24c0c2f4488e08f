// The official JavaScript client behind a proxy that cuts its first connection.
//
// usage: openai_retry.js BASE_URL CHECK   (NODE_PATH: where the package `openai` is)
//
// Prints OK, or what was not as it should be, and then fails.
"use strict";

const assert = require("node:assert/strict");
const OpenAI = require("openai");

const [baseURL, check] = process.argv.slice(2);

let requests = 0;
const client = new OpenAI({
  baseURL,
  apiKey: "unused",
  maxRetries: 3,
  defaultHeaders: { "X-Synthesis-Session": `retry-${check}` },
  fetch: (url, init) => {
    requests += 1;
    return fetch(url, init);
  },
});

const ask = (text) => ({ model: "synthesis", messages: [{ role: "user", content: text }] });

async function text(stream) {
  let all = "";
  for await (const chunk of stream) all += chunk.choices[0]?.delta?.content ?? "";
  return all;
}

const checks = {
  async whole() {
    const answer = await client.chat.completions.create(ask("SLOW 1500 SAY whole"));
    assert.equal(answer.choices[0].message.content, "whole");
    assert.equal(requests, 2);
  },

  async before_the_head() {
    const stream = await client.chat.completions.create({
      ...ask("SLOW 500 SAY headless"),
      stream: true,
    });
    assert.equal(await text(stream), "headless");
    assert.equal(requests, 2);
  },

  // The client leaves it to its program to ask again; with the same key it is the same request.
  async in_the_middle() {
    const again = { headers: { "Idempotency-Key": "js" } };
    const body = { ...ask("CHUNKS 4 400"), stream: true };
    const broken = await client.chat.completions.create(body, again);
    await assert.rejects(text(broken));
    const answer = await text(await client.chat.completions.create(body, again));
    assert.deepEqual(answer.match(/chunk \d\/4/g), [1, 2, 3, 4].map((n) => `chunk ${n}/4`));
  },
};

checks[check]().then(
  () => console.log("OK"),
  (error) => {
    console.log(`${check}: ${error.stack}`);
    process.exit(1);
  },
);
