// A page with the AI SDK against a live server: it sends a message, goes away in the middle of the
// answer, comes back and sees the rest; then it stops another. The package's own Chat class and
// transport do all of it, except the call to the stop endpoint, which the SDK leaves to the page.
//
// usage: ai_live.mjs API CHAT VERSION...
//
// API is the chat endpoint (http://…/api/chat); NODE_PATH is where the packages are, each version
// as `ai-VERSION`. For every version, which gets chats of its own (CHAT-VERSION…), one line of
// JSON: {version, resumed, again, stopped, after}, each what the page shows.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [api, chat, ...versions] = process.argv.slice(2);

/** The package; `import` knows no NODE_PATH. */
async function load(version) {
  const folder = path.join(process.env.NODE_PATH, `ai-${version}`);
  const about = createRequire(import.meta.url)(path.join(folder, "package.json"));
  if (about.version !== version) throw new Error(`${folder} is version ${about.version}`);
  const entry = about.exports["."].import ?? about.exports["."].default ?? about.exports["."];
  return import(pathToFileURL(path.join(folder, entry.default ?? entry)).href);
}

/** What a page's framework keeps for the chat; `changed` is called whenever that changes. */
class State {
  status = "ready";
  error = undefined;
  #messages = [];
  changed = () => {};
  constructor(messages = []) {
    this.#messages = messages;
  }
  get messages() {
    return this.#messages;
  }
  set messages(messages) {
    this.#messages = messages;
    this.changed();
  }
  pushMessage = (message) => {
    this.messages = [...this.#messages, structuredClone(message)];
  };
  popMessage = () => {
    this.messages = this.#messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.#messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

const texts = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text);

const isAnswering = (message) => message.role === "assistant" && texts(message).length > 0;

const shown = (state) => ({
  status: state.status,
  error: state.error?.message,
  messages: state.messages.map((message) => ({
    id: message.id,
    role: message.role,
    texts: texts(message),
  })),
});

async function use(version) {
  const { AbstractChat, DefaultChatTransport } = await load(version);
  class Chat extends AbstractChat {}
  const statuses = [];
  const open = (id, state) => {
    const transport = new DefaultChatTransport({
      api,
      fetch: async (url, init) => {
        const response = await fetch(url, init);
        statuses.push(response.status);
        return response;
      },
    });
    return new Chat({ id, transport, state });
  };
  // In the middle of the answer the page is left.
  const id = `${chat}-${version}`;
  const first = new State();
  const left = open(id, first);
  const answered = new Promise((resolve) => {
    first.changed = () => first.messages.some(isAnswering) && resolve();
  });
  const sending = left.sendMessage({ text: "CHUNKS 6 100" });
  await answered;
  const partial = texts(first.messages.at(-1)).length;
  await left.stop();
  await sending;

  // The page is opened again, with what the user had said, and resumes.
  const second = new State(first.messages.filter((message) => message.role === "user"));
  const page = open(id, second);
  await page.resumeStream();
  const resumed = { partial, ...shown(second) };
  // There is nothing left to come back to.
  await page.resumeStream();
  const again = { http: statuses.at(-1), ...shown(second) };

  // Another answer is stopped on the server.
  const third = new State();
  const endless = open(`${id}-stop`, third);
  const stopping = endless.sendMessage({ text: "HANG" });
  let stop;
  for (;;) {
    stop = await fetch(`${api}/${encodeURIComponent(`${id}-stop`)}/stop`, { method: "POST" });
    if (stop.status !== 204) break;
  }
  await stopping;
  const stopped = { http: stop.status, ...shown(third) };

  await endless.sendMessage({ text: "SAY still here" });
  return { version, resumed, again, stopped, after: shown(third) };
}

for (const version of versions) {
  console.log(JSON.stringify(await use(version)));
}
