// Puts the page together: views, theme, key.
import { apiKey, getJson, setApiKey } from "./api.js";
import { setModels, startChat } from "./chat.js";
import { resetLive, showLive, startLive } from "./live.js";

const $ = (id) => document.getElementById(id);

// ---- Views: #chat and #node; any other fragment (the skip link's) changes nothing.

let view = "chat";
let connected = false;  // the server has taken our key, or needs none

function showView() {
  const wanted = location.hash.slice(1);
  if (wanted === "chat" || wanted === "node") view = wanted;
  for (const name of ["chat", "node"]) {
    $(`view-${name}`).hidden = name !== view;
    if (name === view) $(`nav-${name}`).setAttribute("aria-current", "page");
    else $(`nav-${name}`).removeAttribute("aria-current");
  }
  document.title = view === "node" ? "Node \u2013 Trireme" : "Trireme";
  showLive(connected && view === "node");
}

// ---- Theme.

function startTheme() {
  const root = document.documentElement;
  $("theme").value = root.dataset.theme ?? "auto";
  $("theme").addEventListener("change", () => {
    const theme = $("theme").value;
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    try {
      localStorage.setItem("trireme.theme", theme);
    } catch { /* lasts until the page is closed */ }
  });
}

// ---- Key and models.

function askForKey(message = "") {
  $("key-error").textContent = message;
  $("key").value = "";
  $("key-forget").hidden = apiKey() === "";
  if (!$("key-dialog").open) $("key-dialog").showModal();
  $("key").focus();
}

// `kind`: "error" or "info".
function notice(text, kind = "error") {
  $("notice").setAttribute("role", kind === "error" ? "alert" : "status");
  $("notice").dataset.kind = kind;
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

// Throws unless the server answers with the key that we have.
async function connect() {
  const models = (await getJson("v1/models")).data;
  setModels(models);
  $("model-name").textContent = models[0]?.id ?? "";
  $("model-name").hidden = models.length === 0;
  notice("");
  connected = true;
  showView();
}

function startKey() {
  $("key-button").addEventListener("click", () => askForKey());
  $("key-dialog").addEventListener("close", () => { $("key").value = ""; });
  $("key-cancel").addEventListener("click", () => $("key-dialog").close());
  $("key-forget").addEventListener("click", () => {
    setApiKey("");
    connected = false;
    resetLive("No key");
    showView();
    $("key-dialog").close();
    notice("The key is forgotten.", "info");
  });
  $("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const before = apiKey();
    setApiKey($("key").value.trim());
    resetLive("Connecting");  // what it shows is another key's
    $("key-use").disabled = true;
    try {
      await connect();
      $("key-dialog").close();
      $("prompt").focus();
    } catch (error) {
      setApiKey(before);
      askForKey(error.message);
    }
    $("key-use").disabled = false;
  });
}

async function start() {
  startTheme();
  startKey();
  let needsKey = false;
  try {
    needsKey = (await getJson("page/config.json")).key_required;
  } catch (error) {
    notice(error.message);
  }
  $("key-button").hidden = !needsKey;
  startChat({ needsKey, onAuthError: askForKey });
  startLive({ onAuthError: askForKey });
  window.addEventListener("hashchange", showView);
  showView();
  if (needsKey && apiKey() === "") {
    askForKey();
  } else {
    await connect().catch((error) => {
      if (error.status === 401) askForKey(error.message);
      else notice(error.message);
    });
  }
  if (!$("key-dialog").open && view === "chat") $("prompt").focus();
}

start();
