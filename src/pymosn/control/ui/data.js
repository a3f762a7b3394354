// The admin API: calls, the token, and the stream of points. The token is kept for this tab only.

const TOKEN = "pymosn-token";
const PAUSES = [1000, 1000, 2000, 4000];
const HIDDEN_LIMIT = 60000;
const SILENCE_LIMIT = 30000;
export const KEPT_POINTS = 300;

export class CallError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

let askToken = async () => null;

export function onTokenNeeded(ask) {
  askToken = ask;
}

function headers(more) {
  const token = sessionStorage.getItem(TOKEN);
  return { ...more, ...(token ? { authorization: `Bearer ${token}` } : {}) };
}

async function request(target, options) {
  for (let attempt = 0; ; attempt += 1) {
    let response;
    try {
      response = await fetch(target, { cache: "no-store", redirect: "error", ...options, headers: headers(options?.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new CallError(0, "The process does not answer.");
    }
    if (response.status === 401 && attempt < 5) {
      const token = await askToken(sessionStorage.getItem(TOKEN) !== null);
      if (token) {
        sessionStorage.setItem(TOKEN, token);
        continue;
      }
    }
    return response;
  }
}

async function failure(response) {
  let text = (await response.text()).slice(0, 2000).trim();
  try {
    const value = JSON.parse(text);
    text = value.error ? `${value.error}${value.reason ? `: ${value.reason}` : ""}` : text;
  } catch {
    // It is text already.
  }
  return new CallError(response.status, text || `status ${response.status}`);
}

export async function getJson(target, signal) {
  const response = await request(target, { signal });
  if (!response.ok) throw await failure(response);
  return response.json();
}

export async function postJson(target, value, asText) {
  const response = await request(target, { method: "POST", body: JSON.stringify(value), headers: { "content-type": "application/json" } });
  if (!response.ok) throw await failure(response);
  return asText ? response.text() : response.json();
}

// A response of lines: `onLine(text)` for each when it comes, until the end.
export async function postLines(target, value, signal, onLine) {
  const response = await request(target, { method: "POST", signal, body: JSON.stringify(value), headers: { "content-type": "application/json" } });
  if (!response.ok) throw await failure(response);
  let rest = "";
  await readText(response, (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) if (line) onLine(line);
  });
}

async function readText(response, onText) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onText(value);
  }
}

export function query(values) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== "" && value !== null && value !== undefined) found.set(name, value);
  const text = found.toString();
  return text ? `?${text}` : "";
}

// The stream. `state`: connecting, live, lost or paused. Listeners are called with each change.
export class Stream {
  constructor() {
    this.points = [];
    this.facts = null;
    this.state = "connecting";
    this.error = "";
    this.listeners = new Set();
    this.failures = 0;
    this.controller = null;
    document.addEventListener("visibilitychange", () => this.onVisibility());
  }

  start() {
    this.run();
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  tell() {
    for (const listener of [...this.listeners]) listener();
  }

  onVisibility() {
    clearTimeout(this.hideTimer);
    if (document.hidden) {
      this.hideTimer = setTimeout(() => this.pause(), HIDDEN_LIMIT);
    } else if (this.state === "paused") {
      this.state = "connecting";
      this.run();
    }
  }

  pause() {
    this.state = "paused";
    this.controller?.abort();
    this.tell();
  }

  async run() {
    while (this.state !== "paused") {
      try {
        await this.read();
        this.error = "The stream has ended.";
      } catch (error) {
        this.error = error.name === "AbortError" ? "No data has arrived." : error.message;
      }
      if (this.state === "paused") return;
      this.state = "lost";
      this.tell();
      const pause = PAUSES[Math.min(this.failures, PAUSES.length - 1)];
      this.failures += 1;
      await new Promise((done) => setTimeout(done, pause));
    }
  }

  async read() {
    this.controller = new AbortController();
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => this.controller.abort(), SILENCE_LIMIT);
    };
    heard();
    try {
      const response = await request("/api/v1/live", { signal: this.controller.signal, headers: { accept: "text/event-stream" } });
      if (!response.ok) throw await failure(response);
      let rest = "";
      await readText(response, (text) => {
        heard();
        const events = (rest + text).split("\n\n");
        rest = events.pop();
        for (const event of events) this.onEvent(event);
      });
    } finally {
      clearTimeout(silence);
    }
  }

  onEvent(text) {
    let name = "";
    let data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (!data) return;
    const { points, ...facts } = JSON.parse(data);
    this.facts = facts;
    if (name === "hello") this.points = points;
    else this.points.push(...points);
    if (this.points.length > KEPT_POINTS) this.points.splice(0, this.points.length - KEPT_POINTS);
    this.state = "live";
    this.failures = 0;
    this.tell();
  }
}
