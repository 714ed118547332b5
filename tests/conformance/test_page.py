"""The built-in page in headless Chromium: chat, live view, key, keyboard, themes, accessibility, and screenshots in
build/screenshots."""
import contextlib
import http.client
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import pytest

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

SHOTS = pathlib.Path(__file__).resolve().parent.parent.parent / "build/screenshots"
WIDE, NARROW = (1280, 820), (360, 740)
LONG = "Write a very long story about the sea."


class Page:
    """One browser tab with the page of one server."""

    def __init__(self, driver, server):
        self.driver, self.server = driver, server

    def open(self, fragment="", size=WIDE, dark=False):
        self.driver.get("about:blank")
        self.size(*size)
        self.prefer("dark" if dark else "light")
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(self.server.base + "/" + fragment)
        self.driver.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.driver.refresh()
        self.wait(lambda: self("model").get_attribute("value") or self("key-dialog").is_displayed(), "loaded")
        return self

    def size(self, width, height):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})

    def prefer(self, scheme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                    {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def __call__(self, element_id):
        return self.driver.find_element(By.ID, element_id)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def js(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition, what, timeout=60):
        return WebDriverWait(self.driver, timeout, 0.05).until(lambda _: condition(), f"waiting for: {what}")

    def set(self, element_id, value):
        field = self(element_id)
        field.clear()
        field.send_keys(value)

    def ask(self, text, key=Keys.ENTER):
        self("prompt").send_keys(text + key)

    def ask_at_length(self):
        """What is answered without end: sampled, the model may stop after a sentence; greedy, it repeats itself."""
        self.set("temperature", "0")
        self.ask(LONG)

    def answers(self):
        return [self.js("return arguments[0].textContent", e) for e in self.all(".assistant .text")]

    def finished(self):
        self.wait(lambda: self("send").is_displayed(), "the answer's end", 120)
        return self.js("return [...document.querySelectorAll('.assistant .counts')].at(-1)?.textContent")

    def shot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SHOTS / f"{name}.png"))

    def console_errors(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def hosts(self):
        """Whom the tab asked for anything."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return {urllib.parse.urlsplit(url).netloc for url in urls if not url.startswith(("about:", "data:"))}


@pytest.fixture(scope="module")
def driver():
    for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
        if not shutil.which(program):
            pytest.fail(f"{program} is missing: install the Debian package {package} (deploy/dependencies.sh test does)")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--window-size=1280,900", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield browser
    browser.quit()


@pytest.fixture
def page(driver, server):
    """Afterwards: nothing in the console, nobody else asked, nothing left running."""
    tab = Page(driver, server).open()
    yield tab
    assert tab.console_errors() == []
    assert tab.hosts() <= {f"127.0.0.1:{server.http_port}"}
    driver.get("about:blank")
    server.wait_idle()


# ---- Chat.

def test_an_answer_streams_and_is_counted(page):
    page.shot("chat-empty-light")
    page.set("temperature", "0")
    page.set("max_tokens", "200")
    page.ask("Why is the sky blue?")
    lengths = set()
    page.wait(lambda: lengths.add(len((page.answers() or [""])[-1])) or page("send").is_displayed(), "the answer", 120)
    assert len(lengths - {0}) >= 3, f"it grew: {sorted(lengths)}"
    assert page("prompt").get_attribute("value") == ""
    assert page("transcript").get_attribute("aria-busy") == "false"
    counts = page.finished()
    assert re.match(r"\d+ prompt tokens( \(\d+ cached\))? · \d+ generated · first after [\d.]+\sm?s · [\d.]+ tokens/s", counts)
    # The model is told what has been said.
    page.ask("And at night?")
    page.wait(lambda: len(page.answers()) == 2, "the second answer")
    assert int(page.finished().split()[0]) > int(counts.split()[0]) + 20
    page.shot("chat-light")
    page.prefer("dark")
    page.shot("chat-dark")
    page.size(*NARROW)
    page.shot("chat-narrow-dark")
    page("show-settings").click()
    page.shot("chat-narrow-settings")
    page("new-chat").click()
    assert page.answers() == [] and page("empty").is_displayed()


def test_same_seed_same_answer_and_parameters_count(page):
    page.set("seed", "7")
    page.set("max_tokens", "12")
    page.set("system", "You answer in one word.")
    answers = []
    for _ in range(2):
        page("new-chat").click()
        page.ask("Name a colour.")
        page.wait(lambda: page.answers() and page("send").is_displayed(), "the answer")
        answers.append(page.answers()[-1])
    assert answers[0] == answers[1] != ""
    page("new-chat").click()
    page.set("temperature", "0")
    page.set("max_tokens", "3")
    page.ask("Count to fifty.")
    page.wait(lambda: page.answers() and page("send").is_displayed(), "the answer")
    assert "3 generated" in page.finished() and "ended at max tokens" in page.finished()
    page("new-chat").click()
    page.set("max_tokens", "100")
    page.set("stop_strings", "e\nE")
    page.ask("Say hello there.")
    page.finished()
    assert "e" not in "".join(page.answers()).lower()


@pytest.mark.parametrize("how", ["button", "escape"])
def test_stop_keeps_what_was_said_and_frees_the_engine(page, how):
    page.ask_at_length()
    page.wait(lambda: len((page.answers() or [""])[-1]) > 40, "some text")
    if how == "button":
        page("stop").click()
    else:
        page("prompt").send_keys(Keys.ESCAPE)
    assert page.finished() == "stopped"
    said = page.answers()[-1]
    page.server.wait_idle()
    assert page.answers()[-1] == said and len(said) > 40
    assert page.all(".message [role=alert]") == []


def test_a_new_chat_forgets_an_answer_that_is_still_coming(page):
    page.ask_at_length()
    page.wait(lambda: len((page.answers() or [""])[-1]) > 10, "some text")
    page("new-chat").click()
    page.finished()
    assert page.answers() == [] and page("empty").is_displayed() and page("prompt").get_attribute("value") == ""
    page("prompt").send_keys("Another matter.")
    page("show-code").click()
    assert "Another matter." in page("code").text and "sea" not in page("code").text
    page("code-close").click()


def test_shift_enter_starts_a_line_and_markup_stays_text(page):
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    page("prompt").send_keys(markup + Keys.SHIFT + Keys.ENTER)
    page("prompt").send_keys(Keys.NULL + "second line")
    assert page.answers() == []
    page.set("max_tokens", "4")
    page("prompt").send_keys(Keys.ENTER)
    page.finished()
    assert page.js("return document.querySelector('.user .text').textContent") == markup + "\nsecond line"
    assert page.all("#transcript img, #transcript b, #transcript script") == []


def test_an_error_is_shown_with_its_message_and_the_question_comes_back(page):
    page.set("stop_strings", "a\nb\nc\nd\ne")
    page.ask("Hello?")
    alert = page.wait(lambda: page.all(".message [role=alert]"), "the error")[0]
    assert "stop" in alert.text
    assert page("prompt").get_attribute("value") == "Hello?"
    page.shot("chat-error-light")
    page.set("stop_strings", "")
    page.set("max_tokens", "4")
    page.ask("")
    page.wait(lambda: page.all(".assistant .counts"), "an answer after all")
    page.finished()
    assert page.all(".message [role=alert]") == []
    errors = page.console_errors()  # the browser itself notes the 400
    assert len(errors) == 1 and "400" in errors[0]


def test_a_cancelled_answer_says_so(page):
    page.ask_at_length()
    page.wait(lambda: len((page.answers() or [""])[-1]) > 10, "some text")
    (request,) = json.loads(page.server.get("/v1/requests")[2])["data"]
    cancel(page.server, request["id"])
    alert = page.wait(lambda: page.all(".message [role=alert]"), "the error")[0]
    assert alert.text == "the request was cancelled"
    assert len(page.answers()[-1]) > 10


def test_the_end_of_an_answer_takes_neither_focus_nor_place(page):
    page.size(1000, 400)
    page.set("max_tokens", "300")
    page.ask_at_length()
    page.wait(lambda: len((page.answers() or [""])[-1]) > 10, "some text")
    page("system").click()
    page("system").send_keys("You are ")
    page.wait(lambda: page.js("const t = document.getElementById('transcript'); return t.scrollHeight > t.clientHeight + 120"),
              "more than fits")
    page.js("document.getElementById('transcript').scrollTop = 0")
    page.finished()
    page.js("return new Promise(requestAnimationFrame)")
    assert page.js("return document.getElementById('transcript').scrollTop") == 0
    page.driver.switch_to.active_element.send_keys("a pirate")
    assert page("system").get_attribute("value") == "You are a pirate" and page("prompt").get_attribute("value") == ""
    # Whoever is at the end stays there, and whoever stops goes on writing.
    page.js("const t = document.getElementById('transcript'); t.scrollTop = t.scrollHeight")
    page("prompt").click()
    page.ask("More.")
    page.wait(lambda: len((page.answers() or [""])[-1]) > 10, "some text")
    page("stop").click()
    page.finished()
    assert page.js("return document.activeElement.id") == "prompt"
    assert page.js("const t = document.getElementById('transcript'); return t.scrollHeight - t.clientHeight - t.scrollTop") < 2


def test_code_asked_for_during_an_answer_has_one_question(page):
    page.ask_at_length()
    page.wait(lambda: len((page.answers() or [""])[-1]) > 10, "some text")
    page("show-code").click()
    assert page("code").text.count('"role": "user"') == 1 and "about the sea" in page("code").text
    page("code-close").click()
    page("prompt").send_keys("Another matter.")
    page("show-code").click()
    assert page("code").text.count('"role": "user"') == 1 and "Another matter." in page("code").text
    page("code-close").click()
    page("stop").click()
    page.finished()


def test_the_code_it_offers_runs(page):
    page.set("max_tokens", "8")
    page.set("stop_strings", "zebra\\n")
    page("prompt").send_keys("It's a \"test\" with $HOME, \\n and ünïcode \N{ROWBOAT}")
    page("show-code").click()
    curl = page("code").text
    page("code-python").click()
    python = page("code").text
    page.shot("code-light")
    page("code-close").click()
    ran = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=60)
    assert "data: [DONE]" in ran.stdout, ran.stdout + ran.stderr
    ran = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr
    assert "zebra\\n" in python and '"stop"' in curl


# ---- Key.

def test_with_keys_it_asks_and_a_wrong_one_is_refused(driver, start_server, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("right-key team-a\n")
    keys.chmod(0o600)
    server = start_server("--api-keys", str(keys))
    page = Page(driver, server).open()
    dialog = page("key-dialog")
    assert dialog.is_displayed() and page("key").get_attribute("type") == "password"
    assert page.console_errors() == [], "it asks before it is refused"
    page("key").send_keys("wrong-key" + Keys.ENTER)
    page.wait(lambda: page("key-error").text, "the refusal")
    assert "Incorrect API key" in page("key-error").text and dialog.is_displayed()
    page.shot("key-light")
    page.prefer("dark")
    page.shot("key-dark")
    page("key").send_keys("right-key" + Keys.ENTER)
    page.wait(lambda: not dialog.is_displayed(), "the key to be taken")
    page.set("max_tokens", "5")
    page.ask("Hello?")
    page.wait(lambda: page.all(".assistant .counts"), "an answer")
    assert "generated" in page.finished()
    assert page.js("return Object.values(sessionStorage)") == ["right-key"]
    assert "right-key" not in json.dumps(page.js("return [Object.entries(localStorage), document.cookie]"))
    page("show-code").click()
    assert "right-key" not in page("code").text and "$TRIREME_API_KEY" in page("code").text
    page("code-close").click()
    page("nav-node").click()
    page.wait(lambda: page("node-state").text == "Live", "the live view")
    # A key that is withdrawn is asked for again.
    page.js("sessionStorage.setItem('trireme.key', 'gone')")
    page.wait(dialog.is_displayed, "the question for another key")
    assert page.hosts() <= {f"127.0.0.1:{server.http_port}"}
    assert all("401" in message for message in page.console_errors())
    driver.get("about:blank")
    server.stop()


def test_a_forgotten_key_leaves_nothing_behind(driver, start_server, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("right-key team-a\n")
    keys.chmod(0o600)
    server = start_server("--api-keys", str(keys))
    page = Page(driver, server).open()
    page("key").send_keys("right-key" + Keys.ENTER)
    page.wait(lambda: not page("key-dialog").is_displayed(), "the key to be taken")
    assert page("key").get_attribute("value") == ""
    page("nav-node").click()
    with streams(server, ["forget-me"], {"authorization": "Bearer right-key"}):
        page.wait(lambda: len(page.all("#requests tr")) == 1 and page("generation").text != "\N{EN DASH}", "a row")
        page("key-button").click()
        page("key-forget").click()
        page.wait(lambda: not page("key-dialog").is_displayed(), "the dialog to go")
        assert page.all("#requests tr") == [] and page("running").text == page("generation").text == "\N{EN DASH}"
        assert page("node-state").text == "No key" and page("node-state").get_attribute("data-state") == "none"
        assert page("notice").text == "The key is forgotten." and page("notice").get_attribute("role") == "status"
        assert page.js("return getComputedStyle(arguments[0]).color === getComputedStyle(document.body).color", page("notice"))
        assert page.js("return Object.values(sessionStorage)") == []
        page.shot("key-forgotten-light")
        assert page.js(CONTRAST)[1] == []
        page("key-button").click()
        page("key").send_keys("right-key" + Keys.ENTER)
        page.wait(lambda: len(page.all("#requests tr")) == 1 and page("node-state").text == "Live", "the view to be back")
    driver.get("about:blank")
    server.stop()


# ---- Live view.

def cancel(server, request_id, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("DELETE", "/v1/requests/" + urllib.parse.quote(request_id, safe=""), headers=headers or {})
        assert connection.getresponse().status == 200


def stream(server, request_id, headers, results):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=300)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", json.dumps({
            "model": "demo", "messages": [{"role": "user", "content": LONG}], "stream": True, "ignore_eos": True,
            "max_tokens": 6000}), {"content-type": "application/json", "x-request-id": request_id, **headers})
        results[request_id] = connection.getresponse().read().decode()


@contextlib.contextmanager
def streams(server, ids, headers=None):
    """Runs long streams; at the end of the block none is left, and what each brought is in the yielded dict."""
    results = {}
    threads = [threading.Thread(target=stream, args=(server, request_id, headers or {}, results)) for request_id in ids]
    for thread in threads:
        thread.start()
    try:
        yield results
    finally:
        for request in json.loads(server.get("/v1/requests", headers)[2])["data"]:
            cancel(server, request["id"], headers)
        for thread in threads:
            thread.join(60)


def test_the_live_view_shows_numbers_and_cancels(page):
    page("nav-node").click()
    page.wait(lambda: page("node-state").text == "Live", "the live view")
    page.wait(lambda: page("running").text == "0" and page("no-requests").is_displayed(), "an idle node")
    with streams(page.server, [f"live-{i}" for i in range(3)]) as results:
        page.wait(lambda: len(page.all("#requests tr")) == 3 and page("running").text == "3", "three rows")
        page.wait(lambda: all("Generating" in row.text for row in page.all("#requests tr")), "their first tokens")
        page.wait(lambda: float(page("generation").text.replace(",", "")) > 0, "a rate")
        page.wait(lambda: page.js("return document.querySelector('#generation-spark .line')?.points.length ?? 0") >= 8,
                  "lines for the pictures")
        assert float(page("kv").text.split()[0]) > 0
        assert re.fullmatch(r"[\d.,]+ (ms|s|min.*)", page("ttft").text)
        assert re.fullmatch(r"[\d.,]+ (ms|s|min.*)", page("itl").text)
        for name in ("generation", "prefill", "ttft", "itl"):
            assert "last minute: lowest" in page(f"{name}-spark").get_attribute("aria-label")
            assert page.all(f"#{name}-spark polyline")
        page.shot("node-light")
        page.prefer("dark")
        page.shot("node-dark")
        page.size(*NARROW)
        page.shot("node-narrow-dark")
        page.js("document.getElementById('requests-title').scrollIntoView()")
        page.shot("node-narrow-requests")
        page.size(*WIDE)
        # By keyboard: the focused button survives the polls.
        button = page.all("#requests button")[0]
        assert re.fullmatch(r"Cancel request live-\d", button.get_attribute("aria-label"))
        page.js("arguments[0].focus()", button)
        polls = count_polls(page.server)
        page.wait(lambda: count_polls(page.server) >= polls + 3, "polls")
        assert page.js("return document.activeElement === arguments[0]", button)
        page.driver.switch_to.active_element.send_keys(Keys.ENTER)
        page.wait(lambda: len(page.all("#requests tr")) == 2, "the row to go")
        assert page.js("return document.activeElement.className") == "table-frame", "focus does not fall to the body"
        for button in page.all("#requests button"):
            button.click()
        page.wait(lambda: page("no-requests").is_displayed() and page("running").text == "0", "an idle node")
    assert all('"code":"cancelled"' in text for text in results.values()) and len(results) == 3


def test_a_server_that_hangs_is_not_live(driver, start_server):
    server = start_server()
    tab = Page(driver, server).open("#node")
    tab.wait(lambda: tab("node-state").text == "Live" and tab("running").text == "0", "the live view")
    assert tab("node-age").text == ""
    server.process.send_signal(signal.SIGSTOP)
    try:
        tab.wait(lambda: "does not answer" in tab("node-state").text, "the page to notice")
        assert tab("node-state").get_attribute("data-state") == "error"
        assert re.fullmatch(r"These numbers are [\d.]+ (s|min.*) old\.", tab("node-age").text)
        tab.shot("node-hung-light")
    finally:
        server.process.send_signal(signal.SIGCONT)
    tab.wait(lambda: tab("node-state").text == "Live" and tab("node-age").text == "", "it to recover")
    driver.get("about:blank")
    server.stop()


def test_only_a_request_that_is_gone_is_called_finished(page):
    with streams(page.server, ["here"]):
        page("nav-node").click()
        page.wait(lambda: page.all("#requests button"), "its row")
        # A proxy, say, that knows no such path.
        page.js("""const real = window.fetch;
            window.fetch = (path, options) => options?.method === 'DELETE'
              ? Promise.resolve(new Response(JSON.stringify({error: {message: arguments[0], code: arguments[1]}}), {status: 404}))
              : real(path, options);
            window.realFetch = real;""", "Unknown URL", "unknown_url")
        button = page.all("#requests button")[0]
        button.click()
        page.wait(lambda: page.js("return document.getElementById('node-said').textContent") == "Unknown URL", "what it said")
        assert button.get_attribute("aria-disabled") is None
        page.js("window.fetch = window.realFetch")
        button.click()
        page.wait(lambda: not page.all("#requests tr"), "the row to go")


def test_the_live_view_polls_only_while_it_is_seen(page):
    page("nav-node").click()
    page.wait(lambda: page("node-state").text == "Live", "the live view")
    before = count_polls(page.server)
    page.wait(lambda: count_polls(page.server) >= before + 2, "polls")
    page.js("setTimeout(() => document.getElementById('nav-chat').click(), 0)")
    page.wait(lambda: page("view-chat").is_displayed(), "the chat")
    # One more may be under way. After it, none is asked for in the browser's own time of three and more.
    page.js("window.seen = 0; new PerformanceObserver((list) => { window.seen += list.getEntries().filter((e) => "
            "e.name.endsWith('/v1/requests')).length; }).observe({type: 'resource'});")
    page.driver.set_script_timeout(60)
    page.driver.execute_async_script("setTimeout(arguments[0], 3500)")
    assert page.js("return window.seen") <= 1
    page("nav-node").click()
    page.wait(lambda: page.js("return window.seen") >= 3, "polls again")


def count_polls(server):
    found = re.search(r'^trireme_http_requests_total\{code="200",method="GET",route="/v1/requests"\} (\d+)',
                      server.get("/metrics")[2].decode(), re.M)
    return int(found[1]) if found else 0


# ---- For everybody.

AUDIT = """
const faults = [];
const visible = (e) => e.checkVisibility({checkOpacity: true, checkVisibilityCSS: true});
const name = (e) => (e.getAttribute('aria-label') ?? '') + e.textContent.trim() +
  (e.getAttribute('aria-labelledby') ?? '').split(' ').map((id) => document.getElementById(id)?.textContent ?? '').join('');
for (const e of document.querySelectorAll('input, select, textarea'))
  if (![...e.labels].some((label) => label.textContent.trim())) faults.push(`no label: ${e.id}`);
for (const e of document.querySelectorAll('button, a[href], meter, dialog, nav, aside, section, [role=region], [role=log]'))
  if (!name(e)) faults.push(`no name: ${e.outerHTML.slice(0, 80)}`);
for (const e of document.querySelectorAll('img')) if (!e.hasAttribute('alt')) faults.push('img without alt');
for (const e of document.querySelectorAll('svg[role=img]'))
  if (visible(e) && !e.getAttribute('aria-label')) faults.push(`no text alternative: ${e.id}`);
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
if (new Set(ids).size !== ids.length) faults.push('an id twice');
for (const attribute of ['for', 'aria-labelledby', 'aria-describedby', 'aria-controls'])
  for (const e of document.querySelectorAll(`[${attribute}]`))
    for (const id of e.getAttribute(attribute).split(' '))
      if (!document.getElementById(id)) faults.push(`${attribute} names no element: ${id}`);
if (document.querySelectorAll('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])').length) faults.push('tabindex above 0');
for (const landmark of ['header', 'nav', 'main']) if (document.querySelectorAll(landmark).length !== 1) faults.push(landmark);
if (document.querySelectorAll('h1').length !== 1) faults.push('not one h1');
if (!document.documentElement.lang || !document.title) faults.push('no language or title');
if (document.querySelectorAll('[style]').length > 1) faults.push('inline style');  // the prompt's height
let level = 0;
for (const h of document.querySelectorAll('h1, h2, h3')) {
  if (!visible(h)) continue;
  if (+h.tagName[1] > level + 1) faults.push(`heading level skipped: ${h.textContent}`);
  level = +h.tagName[1];
}
for (const e of document.querySelectorAll('button, select, input')) {
  const box = e.getBoundingClientRect();
  if (visible(e) && box.height < 24) faults.push(`small target: ${e.outerHTML.slice(0, 60)} ${box.height}`);
}
return faults;
"""

# Every visible text against the first opaque ground behind it (WCAG 2.2, 1.4.3).
CONTRAST = """
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
const luminance = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255;
  return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c[3] > 0.99) return c; } return [255, 255, 255, 1]; };
const faults = [];
let count = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node; (node = walker.nextNode());) {
  const e = node.parentElement;
  if (!node.data.trim() || !e.checkVisibility() || e.closest('.hidden, noscript, script, option, :disabled')) continue;
  const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  ++count;
  if (ratio < 4.5) faults.push(`${ratio.toFixed(2)} ${getComputedStyle(e).color} "${node.data.trim().slice(0, 30)}"`);
}
return [count, faults];
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("view", ["chat", "node", "code"])
def test_basic_accessibility(page, view, dark):
    page.open("#node" if view == "node" else "", dark=dark)
    if view == "node":
        page.wait(lambda: page("node-state").text == "Live" and page("generation").text != "\N{EN DASH}", "two samples")
    else:
        page.set("max_tokens", "5")
        page.ask("Hello?")
        page.wait(lambda: page.all(".assistant .counts"), "an answer")
        page.finished()
    if view == "code":
        page("show-code").click()
    assert page.js(AUDIT) == []
    count, faults = page.js(CONTRAST)
    assert count > 10 and faults == []
    for size in (WIDE, (820, 700), NARROW):
        page.size(*size)
        assert page.js("return document.documentElement.scrollWidth") <= size[0], "nothing sticks out"
    if view == "code":
        page("code-close").click()


def test_the_keyboard_reaches_everything_and_focus_shows(page):
    page.js("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    seen = []
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        element = page.js("const e = document.activeElement; return [e.id || e.className || e.tagName, "
                          "getComputedStyle(e).outlineStyle, getComputedStyle(e.closest('.composer') ?? e).boxShadow]")
        if element[0] == "BODY" or seen and element[0] == seen[0]:
            break
        assert element[1] != "none" or element[2] != "none", f"focus does not show on {element[0]}"
        seen.append(element[0])
    assert seen[0] == "skip"
    for wanted in ("nav-chat", "nav-node", "theme", "transcript", "prompt", "send", "show-code", "new-chat", "model",
                   "system", "temperature", "top_p", "max_tokens", "seed", "stop_strings"):
        assert wanted in seen, f"{wanted} is not among {seen}"
    page.js("document.querySelector('.skip').focus()")
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.js("return document.activeElement.id") == "main" and page("view-chat").is_displayed()


def test_the_theme_follows_the_system_until_one_is_chosen(page):
    def ground():
        return page.js("return getComputedStyle(document.body).backgroundColor")

    light = ground()
    page.prefer("dark")
    dark = ground()
    assert light != dark
    Select(page("theme")).select_by_value("light")
    assert ground() == light
    page.driver.refresh()
    page.wait(lambda: page("model").get_attribute("value"), "loaded")
    assert ground() == light and page("theme").get_attribute("value") == "light"
    Select(page("theme")).select_by_value("auto")
    assert ground() == dark


def test_no_page_removes_it(start_server):
    server = start_server("--no-page")
    for path in ("/", "/page/app.js", "/page/config.json"):
        status, _, body = server.get(path)
        assert status == 404 and json.loads(body)["error"]["code"] == "unknown_url"
    server.stop()
