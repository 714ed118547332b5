// The chat playground. What the model says is shown as text, never as markup.
import { ApiError, apiKey, streamChat } from "./api.js";
import { asCurl, asPython } from "./snippets.js";

const $ = (id) => document.getElementById(id);
const transcript = $("transcript");
const prompt = $("prompt");

const EXAMPLES = ["Why is the sky blue?", "Write a haiku about rowing.", "Explain what a KV cache is."];

let history = [];      // {role, content}: what has been said
let running = null;    // {controller, conversation}: of the answer being streamed
let onAuthError = () => {};

// ---- What is asked for.

function numberOf(id) {
  const field = $(id);
  return field.value.trim() === "" ? undefined : Number(field.value);
}

function stopStrings() {
  const lines = $("stop_strings").value.split("\n").filter((line) => line !== "");
  return lines.length === 0 ? undefined : lines.map((line) => line.replaceAll("\\n", "\n"));
}

function requestFor(messages) {
  const system = $("system").value.trim();
  const request = {
    model: $("model").value,
    messages: system === "" ? messages : [{ role: "system", content: system }, ...messages],
    stream: true,
    stream_options: { include_usage: true },
    temperature: numberOf("temperature"),
    top_p: numberOf("top_p"),
    max_tokens: numberOf("max_tokens"),
    seed: numberOf("seed"),
    stop: stopStrings(),
  };
  return JSON.parse(JSON.stringify(request));  // without what is undefined
}

// ---- The transcript.

function element(tag, className, text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

const nearBottom = () => transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 60;
const toBottom = () => { transcript.scrollTop = transcript.scrollHeight; };

// Whoever reads the end goes on reading it when the window or the settings change size.
let atEnd = true;
transcript.addEventListener("scroll", () => { atEnd = nearBottom(); });
new ResizeObserver(() => { if (atEnd) toBottom(); }).observe(transcript);

function addMessage(role, text) {
  $("empty").hidden = true;
  const article = element("article", `message ${role}`);
  article.append(element("h3", "who", role === "user" ? "You" : $("model").value || "Model"));
  const body = element("div", "text", text);
  article.append(body);
  const foot = element("div", "foot");
  article.append(foot);
  transcript.append(article);
  toBottom();
  return { article, body, foot };
}

function addCopyButton(message) {
  const button = element("button", "quiet small", "Copy");
  button.type = "button";
  button.setAttribute("aria-label", "Copy this answer");
  button.addEventListener("click", async () => {
    button.textContent = await copyText(message.body.textContent) ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  message.foot.append(button);
}

const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`);

function countsOf(usage, timing) {
  const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
  const parts = [
    `${usage.prompt_tokens} prompt tokens${cached > 0 ? ` (${cached} cached)` : ""}`,
    `${usage.completion_tokens} generated`,
    `first after ${seconds(timing.first - timing.begin)}`,
  ];
  const decode = (timing.end - timing.first) / 1000;
  if (usage.completion_tokens > 1 && decode > 0) {
    parts.push(`${((usage.completion_tokens - 1) / decode).toFixed(1)} tokens/s`);
  }
  return parts.join(" \u00b7 ");
}

// ---- Sending.

function setRunning(run) {
  running = run;
  $("send").hidden = run !== null;
  $("stop").hidden = run === null;
  transcript.setAttribute("aria-busy", String(run !== null));  // announced once, when complete
}

// Streams into `message`. Returns what becomes of the answer: {text, note, stopped, failed}.
async function readAnswer(request, message, signal) {
  const timing = { begin: performance.now(), first: 0, end: 0 };
  const node = document.createTextNode("");
  message.body.append(node);
  let usage = null, finish = null, note = "", stopped = false, failed = null;
  try {
    for await (const chunk of streamChat(request, signal)) {
      if (chunk.usage) usage = chunk.usage;
      const choice = chunk.choices[0];
      if (!choice) continue;
      if (choice.finish_reason) finish = choice.finish_reason;
      if (!choice.delta.content) continue;
      timing.first ||= performance.now();
      const follow = nearBottom();
      node.appendData(choice.delta.content);
      message.article.classList.remove("waiting");
      timing.end = performance.now();
      if (follow) toBottom();
    }
    timing.first ||= performance.now();
    if (usage) note = countsOf(usage, timing);
    if (finish === "length") note += " \u00b7 ended at max tokens";
  } catch (error) {
    stopped = error.name === "AbortError";
    if (stopped) note = "stopped";
    else failed = error instanceof ApiError ? error : new ApiError(String(error));
  }
  return { text: node.data, note, stopped, failed };
}

async function send(text) {
  const conversation = history;  // "New chat" may begin another one meanwhile
  conversation.push({ role: "user", content: text });
  const asked = addMessage("user", text);
  const answer = addMessage("assistant", "");
  answer.article.classList.add("waiting");
  const controller = new AbortController();
  setRunning({ controller, conversation });
  const { text: said, note, stopped, failed } =
    await readAnswer(requestFor(conversation), answer, controller.signal);
  const follow = nearBottom();  // whoever reads further up stays there
  answer.article.classList.remove("waiting");
  answer.foot.append(element("span", "counts", note));
  if (said !== "" || !(stopped || failed)) {
    conversation.push({ role: "assistant", content: said });
    if (said !== "") addCopyButton(answer);
  } else {
    // Nothing was said: the question goes back to where it can be mended.
    conversation.pop();
    asked.article.remove();
    if (stopped) answer.article.remove();
    $("empty").hidden = transcript.querySelector(".message") !== null;
    if (prompt.value === "" && conversation === history) prompt.value = text;
    resizePrompt();
  }
  if (failed) {
    if (said === "") answer.body.remove();
    const alert = element("p", "error", failed.message);
    alert.setAttribute("role", "alert");
    answer.foot.before(alert);
    answer.article.classList.add("failed");
  }
  setRunning(null);
  if (follow) toBottom();
  if (failed?.status === 401) onAuthError(failed.message);
  else if ([$("stop"), prompt, document.body].includes(document.activeElement)) prompt.focus();
}

function submit(event) {
  event?.preventDefault();
  const text = prompt.value.trim();
  if (running || text === "") return;
  if (!$("parameters").checkValidity()) {
    showSettings(true);
    $("parameters").reportValidity();
    return;
  }
  transcript.querySelectorAll(".message.failed").forEach((old) => {
    if (!old.querySelector(".text")) old.remove();  // an error that has been read
  });
  prompt.value = "";
  resizePrompt();
  send(text);
}

function stop() {
  running?.controller.abort();
}

function newChat() {
  stop();
  history = [];
  transcript.querySelectorAll(".message").forEach((message) => message.remove());
  $("empty").hidden = false;
  prompt.focus();
}

function resizePrompt() {
  prompt.style.height = "auto";
  prompt.style.height = `${Math.min(prompt.scrollHeight + 2, 200)}px`;
}

function showSettings(open) {
  $("settings").classList.toggle("open", open);
  $("show-settings").setAttribute("aria-expanded", String(open));
}

// ---- Code.

let needsKey = false;

// The clipboard API exists only for https and localhost.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", "hidden");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    return copied;
  }
}

function showCode(language) {
  const draft = prompt.value.trim() || (history.length === 0 ? EXAMPLES[0] : "");
  // A question that is being answered is not yet something to go on from.
  const said = running?.conversation === history ? history.slice(0, -1) : history;
  let messages = draft ? [...said, { role: "user", content: draft }] : history;
  if (!draft && history.at(-1)?.role === "assistant") messages = history.slice(0, -1);
  const base = new URL(".", document.baseURI).href;
  const write = language === "curl" ? asCurl : asPython;
  $("code").textContent = write(base, requestFor(messages), needsKey || apiKey() !== "");
  $("code-curl").setAttribute("aria-pressed", String(language === "curl"));
  $("code-python").setAttribute("aria-pressed", String(language === "python"));
  $("code-said").textContent = "";
  if (!$("code-dialog").open) $("code-dialog").showModal();
}

// ---- Wiring.

export function setModels(models) {
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map((model) => {
    const option = element("option", "", model.id);
    option.value = model.id;
    return option;
  }));
  if (models.some((model) => model.id === chosen)) $("model").value = chosen;
}

export function startChat(options) {
  onAuthError = options.onAuthError;
  needsKey = options.needsKey;
  for (const text of EXAMPLES) {
    const button = element("button", "quiet", text);
    button.type = "button";
    button.addEventListener("click", () => { prompt.value = text; submit(); });
    $("examples").append(button);
  }
  $("composer").addEventListener("submit", submit);
  $("parameters").addEventListener("submit", (event) => event.preventDefault());
  prompt.addEventListener("input", resizePrompt);
  prompt.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
  });
  $("stop").addEventListener("click", stop);
  $("new-chat").addEventListener("click", newChat);
  $("show-settings").addEventListener("click",
    () => showSettings(!$("settings").classList.contains("open")));
  $("show-code").addEventListener("click", () => showCode("curl"));
  $("code-curl").addEventListener("click", () => showCode("curl"));
  $("code-python").addEventListener("click", () => showCode("python"));
  $("code-close").addEventListener("click", () => $("code-dialog").close());
  $("code-copy").addEventListener("click", async () => {
    $("code-said").textContent = await copyText($("code").textContent) ? "Copied." : "Select the code and copy it.";
  });
}
