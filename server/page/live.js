// The live view: /metrics and /v1/requests once a second while somebody looks.
import { call, getJson, getText, parseMetrics } from "./api.js";

const $ = (id) => document.getElementById(id);
const PERIOD_MS = 1000;
const PATIENCE_MS = 4000;  // then a server is not answering
const SAMPLES = 60;      // one minute of sparkline
const MEAN_SAMPLES = 30;
const SVG = "http://www.w3.org/2000/svg";

let samples = [];        // {time, metrics}, oldest first
let timer = 0;
let visible = false;
let onAuthError = () => {};

// ---- Numbers.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const rate = (value) => (value < 10 ? tenths : whole).format(value);

function duration(s) {
  if (s < 0.0995) return `${tenths.format(s * 1000)} ms`;
  if (s < 0.9995) return `${whole.format(s * 1000)} ms`;
  if (s < 60) return `${s.toFixed(1)} s`;
  return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
}

const delta = (a, b, name) => (b.metrics.get(name) ?? 0) - (a.metrics.get(name) ?? 0);

// Per second between samples.
function rates(name) {
  return samples.slice(1).map((sample, i) =>
    delta(samples[i], sample, name) / Math.max(sample.time - samples[i].time, 0.001));
}

// Mean of what a histogram took in between two samples; null: nothing.
function mean(a, b, name) {
  const count = delta(a, b, `${name}_count`);
  return count > 0 ? delta(a, b, `${name}_sum`) / count : null;
}
const means = (name) => samples.slice(1).map((sample, i) => mean(samples[i], sample, name));

// ---- Sparklines.

function points(values, top) {
  const step = 240 / (SAMPLES - 1);
  const offset = 240 - (values.length - 1) * step;
  return values.map((value, i) => value === null ? null :
    [(offset + i * step).toFixed(1), (45 - (value / top) * 42).toFixed(1)]);
}

// Lines between neighbours that have values. `sparse`: each value is a dot, and the lines pass over
// the gaps between them.
function drawSpark(id, values, format, label, sparse = false) {
  const known = values.filter((value) => value !== null);
  const top = Math.max(...known, 1e-9);
  const shapes = [];
  const add = (tag, attributes) => {
    const shape = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    shapes.push(shape);
  };
  add("line", { class: "base", x1: 0, x2: 240, y1: 46.5, y2: 46.5 });
  let run = [];
  const flush = () => {
    if (run.length > 1) {
      const line = run.map((point) => point.join(",")).join(" ");
      add("polygon", { class: "area", points: `${run[0][0]},46 ${line} ${run.at(-1)[0]},46` });
      add("polyline", { class: "line", points: line });
    }
    if (run.length === 1 || sparse) {
      for (const [x, y] of run) add("polyline", { class: "dot", points: `${x},${y} ${x},${y}` });
    }
    run = [];
  };
  for (const point of points(values, top)) {
    if (point !== null) run.push(point);
    else if (!sparse) flush();
  }
  flush();
  const svg = $(id);
  svg.replaceChildren(...shapes);
  svg.setAttribute("aria-label", known.length === 0 ? `${label}: nothing in the last minute` :
    `${label}, last minute: lowest ${format(Math.min(...known))}, highest ${format(top)}, ` +
    `latest ${format(known.at(-1))}`);
}

// Counters are shown as rates, histograms as means.
const SPARKS = [
  { id: "generation", name: "trireme_generation_tokens_total", label: "Generated tokens a second", format: rate, counter: true },
  { id: "prefill", name: "trireme_prompt_tokens_total", label: "Prompt tokens a second", format: rate, counter: true },
  { id: "ttft", name: "trireme_time_to_first_token_seconds", label: "Time to first token", format: duration },
  { id: "itl", name: "trireme_inter_token_latency_seconds", label: "Time between tokens", format: duration },
];

function showMetrics() {
  const now = samples.at(-1);
  const get = (name) => now.metrics.get(name) ?? 0;
  $("running").textContent = whole.format(get("trireme_requests_running"));
  $("waiting").textContent = whole.format(get("trireme_requests_waiting"));
  $("waiting-sub").textContent = `in the queue, ${whole.format(get("trireme_waiting_prompt_tokens"))} prompt tokens`;
  const used = get("trireme_kv_cache_usage_ratio");
  $("kv").textContent = `${tenths.format(used * 100)} %`;
  $("kv-meter").value = used;
  $("kv-sub").textContent = `${whole.format(get("trireme_kv_blocks_held"))} of ` +
    `${whole.format(get("trireme_kv_blocks"))} blocks held, ` +
    `${whole.format(get("trireme_kv_blocks_cached"))} kept for reuse`;
  const before = samples.at(-1 - MEAN_SAMPLES) ?? samples[0];
  for (const { id, name, label, format, counter } of SPARKS) {
    const values = counter ? rates(name) : means(name);
    const recent = counter ? values.at(-1) ?? null : mean(before, now, name);
    $(id).textContent = recent === null ? "\u2013" : format(recent);
    drawSpark(`${id}-spark`, values, format, label, /*sparse=*/id === "ttft");
  }
}

function takeSample(text) {
  const sample = { time: performance.now() / 1000, metrics: parseMetrics(text) };
  const last = samples.at(-1);
  // Counters that fell, or a long sleep: the past says nothing about now.
  if (last && (delta(last, sample, "trireme_steps_total") < 0 || sample.time - last.time > 10)) samples = [];
  samples.push(sample);
  if (samples.length > SAMPLES + 1) samples.shift();
}

// ---- Requests in flight. Rows are kept from poll to poll, so that a focused button stays.

const rows = new Map();  // id -> {row, cells, button}

function makeRow(id) {
  const row = document.createElement("tr");
  const cells = {};
  const labels = { id: "Request", state: "State", door: "Door", age: "Age", prompt: "Prompt", generated: "Generated" };
  for (const [name, label] of Object.entries(labels)) {
    cells[name] = document.createElement(name === "id" ? "th" : "td");
    cells[name].dataset.label = label;
    if (["age", "prompt", "generated"].includes(name)) cells[name].className = "number";
    row.append(cells[name]);
  }
  cells.id.scope = "row";
  cells.id.textContent = id;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "danger small";
  button.textContent = "Cancel";
  button.setAttribute("aria-label", `Cancel request ${id}`);
  button.addEventListener("click", () => cancelRequest(id, button));
  const action = document.createElement("td");
  action.className = "action";
  action.append(button);
  row.append(action);
  return { row, cells, button };
}

async function cancelRequest(id, button) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");  // a disabled button would lose the focus
  try {
    await call(`v1/requests/${encodeURIComponent(id)}`, { method: "DELETE" });
    $("node-said").textContent = `Request ${id} is cancelled.`;
  } catch (error) {
    if (error.status === 401) onAuthError(error.message);
    const finished = error.code === "request_not_found";  // meanwhile, which is what was wanted
    if (!finished) button.removeAttribute("aria-disabled");
    $("node-said").textContent = finished ? `Request ${id} has finished.` : error.message;
  }
  poll();
}

const STATES = { preparing: "Preparing", waiting: "Waiting", generating: "Generating" };

function showRequests(list) {
  const seen = new Set();
  for (const request of list.data) {
    if (seen.has(request.id)) continue;  // two of one id are cancelled together
    seen.add(request.id);
    if (!rows.has(request.id)) rows.set(request.id, makeRow(request.id));
    const { row, cells } = rows.get(request.id);
    cells.id.title = request.model ?? "";
    cells.state.textContent = STATES[request.state] ?? request.state;
    cells.state.dataset.state = request.state;
    cells.door.textContent = `${request.door === "grpc" ? "gRPC" : "HTTP"}${request.stream ? ", stream" : ""}`;
    cells.age.textContent = duration(request.age_ms / 1000);
    cells.prompt.textContent = whole.format(request.prompt_tokens);
    cells.generated.textContent = whole.format(request.generated_tokens);
    if (!row.isConnected) $("requests").append(row);
  }
  for (const [id, { row }] of rows) {
    if (seen.has(id)) continue;
    if (row.contains(document.activeElement)) $("requests-title").parentElement.nextElementSibling.focus();
    row.remove();
    rows.delete(id);
  }
  $("no-requests").hidden = seen.size > 0;
  $("requests-count").textContent = list.has_more ? `the oldest ${list.data.length} of ${list.total}` : "";
}

// ---- Polling.

// `age`: of the numbers, in seconds, where they are not of now. It is no part of the status, which
// screen readers say at every change.
function setState(text, state, age = null) {
  if ($("node-state").textContent !== text) $("node-state").textContent = text;
  $("node-state").dataset.state = state;
  $("node-age").textContent = age === null ? "" : `These numbers are ${duration(age)} old.`;
}

let polling = null;  // AbortController of the poll in flight

async function poll() {
  clearTimeout(timer);
  if (!visible || document.visibilityState !== "visible" || polling) return;
  const controller = polling = new AbortController();
  const patience = setTimeout(() => controller.abort(new DOMException("", "TimeoutError")), PATIENCE_MS);
  const { signal } = controller;
  let delay = PERIOD_MS;
  try {
    const begin = performance.now();
    const [metrics, requests] = await Promise.all([getText("metrics", { signal }), getJson("v1/requests", { signal })]);
    signal.throwIfAborted();  // what came before a reset
    takeSample(metrics);
    showMetrics();
    showRequests(requests);
    setState((samples.at(-1).metrics.get("trireme_draining") ?? 0) > 0 ? "Draining" : "Live", "live");
    delay = Math.max(100, PERIOD_MS - (performance.now() - begin));
  } catch (error) {
    if (error.name !== "AbortError") {
      setState(error.message, "error", samples.length > 0 ? performance.now() / 1000 - samples.at(-1).time : null);
    }
    if (error.status === 401) {
      visible = false;  // until there is another key
      onAuthError(error.message);
    }
  }
  clearTimeout(patience);
  polling = null;
  timer = setTimeout(poll, delay);
}

// Nothing of what was shown stays; `text` is the new state.
export function resetLive(text) {
  polling?.abort();
  samples = [];
  for (const id of ["running", "waiting", "kv", "generation", "prefill", "ttft", "itl"]) $(id).textContent = "\u2013";
  for (const [id, sub] of [["waiting-sub", "in the queue"], ["kv-sub", "blocks held"], ["requests-count", ""]]) {
    $(id).textContent = sub;
  }
  $("kv-meter").value = 0;
  for (const { id, label, format } of SPARKS) drawSpark(`${id}-spark`, [], format, label);
  showRequests({ data: [] });
  $("no-requests").hidden = true;
  setState(text, "none");
}

export function showLive(show) {
  visible = show;
  poll();
}

export function startLive(options) {
  onAuthError = options.onAuthError;
  document.addEventListener("visibilitychange", poll);
}
