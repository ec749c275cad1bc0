// Server-sent events over fetch, since an EventSource cannot send a key; errors as they are told.

const KEY = "gossamer.key";
const FIRST_RETRY_S = 1;
const LAST_RETRY_S = 20;
const SILENT_S = 15; // the feed speaks every two seconds; a phone that slept hears nothing

export class Trouble extends Error {
  constructor(message, { status = 0, code = "", hint = "" } = {}) {
    super(message);
    Object.assign(this, { status, code, hint });
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) || localStorage.getItem(KEY) || "",
  set(value, keep) {
    key.forget();
    (keep ? localStorage : sessionStorage).setItem(KEY, value);
  },
  kept: () => localStorage.getItem(KEY) !== null,
  forget() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  },
};

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (key.get()) headers.authorization = `Bearer ${key.get()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The agent does not answer.", {
      code: "unreachable",
      hint: "It was stopped, or this device left its network.",
    });
  }
  if (answer.ok) return answer;
  let told = {};
  try {
    told = (await answer.json()).error || {};
  } catch {
    // no word of ours: the status has to do
  }
  throw new Trouble(told.message || `The agent answered ${answer.status}.`, {
    status: answer.status,
    code: told.code || "",
  });
}

export async function fetched(path) {
  return (await request(path)).json();
}

export async function sent(path, body) {
  const headers = { "content-type": "application/json" };
  return (await request(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

// Every event of one answer; `heard` is called whenever anything came.
export async function* events(path, options = {}, heard = () => {}) {
  const answer = await request(path, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      rest += value;
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const data = part.split("\n").filter((line) => line.startsWith("data: "));
        if (data.length) yield JSON.parse(data.map((line) => line.slice(6)).join("\n"));
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Trouble) throw error;
    throw new Trouble("The connection broke.", { code: "unreachable", hint: "" });
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Follows the feed for ever. `take` gets each event, `tell` what is wrong (null: nothing).
// It waits where only a key would help, until `again` is called.
export function follow(path, take, tell) {
  let wake = () => {};
  const pause = (seconds) =>
    new Promise((resolve) => {
      const timer = seconds === Infinity ? 0 : setTimeout(resolve, seconds * 1000);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  (async () => {
    let retry = FIRST_RETRY_S;
    for (;;) {
      const stopped = new AbortController();
      let timer = 0;
      const heard = () => {
        clearTimeout(timer);
        timer = setTimeout(() => stopped.abort(), SILENT_S * 1000);
      };
      let trouble = new Trouble("The agent ended its feed.", { code: "unreachable" });
      heard();
      try {
        for await (const event of events(path, { signal: stopped.signal }, heard)) {
          if (event.type === "error") throw new Trouble(event.message, event);
          retry = FIRST_RETRY_S;
          tell(null, 0);
          take(event);
        }
      } catch (error) {
        trouble = error instanceof Trouble ? error : trouble;
        if (!(error instanceof Trouble) && error.name !== "AbortError") console.error(error);
      }
      clearTimeout(timer);
      const wait = trouble.status === 401 || trouble.status === 403 ? Infinity : retry;
      tell(trouble, wait);
      await pause(wait);
      retry = Math.min(LAST_RETRY_S, retry * 2);
    }
  })();
  return { again: () => wake() };
}
