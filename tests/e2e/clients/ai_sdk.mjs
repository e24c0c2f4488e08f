// Chats as a page with the AI SDK would: the package's own Chat class and transport, so that what
// the page would show, and whatever kills its stream, is the package's doing.
//
// usage: ai_sdk.mjs API CHAT VERSION... -- TEXT...
//
// API is the chat endpoint (http://…/api/chat), CHAT the chat's id; NODE_PATH is where the packages
// are, each version as `ai-VERSION`. An empty list of texts resumes the chat instead of sending to
// it. For every version, which gets a chat of its own (CHAT-VERSION), one line of JSON: {version,
// status, error, messages, data, sent}; `sent` says what each request got.
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [api, chat, ...rest] = process.argv.slice(2);
const versions = rest.slice(0, rest.indexOf("--"));
const texts = rest.slice(rest.indexOf("--") + 1);

/** The package; `import` knows no NODE_PATH. */
async function load(version) {
  const folder = path.join(process.env.NODE_PATH, `ai-${version}`);
  const about = createRequire(import.meta.url)(path.join(folder, "package.json"));
  if (about.version !== version) throw new Error(`${folder} is version ${about.version}`);
  const entry = about.exports["."].import ?? about.exports["."].default ?? about.exports["."];
  return import(pathToFileURL(path.join(folder, entry.default ?? entry)).href);
}

/** What a page's framework keeps for the chat. */
class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => {
    this.messages = [...this.messages, structuredClone(message)];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

async function use(version) {
  const { AbstractChat, DefaultChatTransport } = await load(version);
  const [data, sent] = [[], []];
  const transport = new DefaultChatTransport({
    api,
    fetch: async (url, init) => {
      const response = await fetch(url, init);
      sent.push({
        method: init.method,
        path: new URL(url).pathname,
        status: response.status,
        type: response.headers.get("content-type"),
        stream: response.headers.get("x-vercel-ai-ui-message-stream"),
      });
      return response;
    },
  });
  const state = new State();
  class Chat extends AbstractChat {}
  const page = new Chat({
    id: `${chat}-${version}`,
    transport,
    state,
    onData: (part) => data.push(part),
  });
  if (texts.length === 0) await page.resumeStream();
  for (const text of texts) await page.sendMessage({ text });
  const { status, error, messages } = state;
  return { version, status, error: error?.message, messages, data, sent };
}

/** Halves of characters are legal in JavaScript's JSON and in hardly any other. */
const wellFormed = (_, value) => (typeof value === "string" ? value.toWellFormed() : value);

for (const version of versions) {
  console.log(JSON.stringify(await use(version), wellFormed));
}
