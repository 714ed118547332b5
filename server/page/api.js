// Calls to the server that this page came from. The key lives in sessionStorage, or in memory where
// storage is switched off, and nowhere else.

const KEY = "trireme.key";
let memoryKey = "";

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? memoryKey;
  } catch {
    return memoryKey;
  }
}

export function setApiKey(key) {
  memoryKey = "";
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch {
    memoryKey = key;
  }
}

// What the server answered instead of what was asked for; status 0: it did not answer.
export class ApiError extends Error {
  constructor(message, status = 0, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// What fetch and the reading of a body throw.
function failureOf(error) {
  if (error.name === "TimeoutError") return new ApiError("The server does not answer.");
  if (error.name === "TypeError") return new ApiError("The server cannot be reached.");
  return error;
}

function errorOf(body, status) {
  const error = body?.error;
  return new ApiError(error?.message ?? `The server answered ${status}.`, status, error?.code ?? "");
}

// The response of a call that succeeded. Paths are relative, so that the page also works behind a
// proxy's prefix. Throws ApiError, and AbortError when `signal` fires without another reason.
export async function call(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (!/^[!-~]*$/.test(apiKey())) throw new ApiError("No key has such characters.", 401);
  if (apiKey()) headers.authorization = `Bearer ${apiKey()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw failureOf(error);
  }
  if (!response.ok) throw errorOf(await response.json().catch(() => null), response.status);
  return response;
}

async function whole(path, options, read) {
  const response = await call(path, options);
  return read(response).catch((error) => { throw failureOf(error); });
}
export const getJson = (path, options) => whole(path, options, (response) => response.json());
export const getText = (path, options) => whole(path, options, (response) => response.text());

// The data of server-sent events, as they come. (Only what our server sends: "data:" lines and
// comments.)
export async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart()).join("\n");
        if (data) yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// Streams a chat completion: yields chunks; returns after [DONE]. Throws the error of an error
// event, and one when the stream ends without either.
export async function* streamChat(request, signal) {
  const response = await call("v1/chat/completions", { method: "POST", body: request, signal });
  try {
    for await (const data of serverSentEvents(response)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw errorOf(chunk, 200);
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The connection broke.");
  }
  throw new ApiError("The answer broke off.");
}

// Prometheus text: name -> sum over its label sets. Histograms appear as name_sum and name_count.
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line[0] === "#") continue;
    const match = /^([A-Za-z_:][\w:]*)(?:\{(?:[^"}]|"(?:\\.|[^"\\])*")*\})? (\S+)/.exec(line);
    if (match) values.set(match[1], (values.get(match[1]) ?? 0) + Number(match[2]));
  }
  return values;
}
