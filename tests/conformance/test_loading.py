"""While the model loads: the doors are open, the node is alive and not ready, and says so.

Loading is held up by what it says: the server's standard error is a pipe that is full, so that its first line (a warning
that comes from the loader, when the doors are open) waits until somebody reads.
"""
import contextlib
import http.client
import json
import os
import queue
import random
import signal
import subprocess
import threading
import time

import pytest

from conftest import kill_what_runs

PORTS = (18000, 18001)
CHAT = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2})
JSON = {"content-type": "application/json"}
NOT_SERVING, SERVING = b"\x08\x02", b"\x08\x01"  # a health response: field 1 (status)


class HeldServer:
    """`trireme serve` that loads until go_on()."""

    def __init__(self, binary, model, *flags):
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        try:
            while True:
                os.write(write, b"\n" * 4096)
        except BlockingIOError:
            os.set_blocking(write, True)
        self.lines = []
        # An address of its own, since it cannot tell us its ports.
        self.host = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self.process = subprocess.Popen(
            [binary, "serve", model, "--served-model-name", "demo", "--host", self.host, "--http-port", str(PORTS[0]),
             "--grpc-port", str(PORTS[1]), "--log-format", "json", "--log-level", "warning", "--threads", "1",
             "--max-step-tokens", "8", "--max-running", "64", *flags], stdout=subprocess.DEVNULL, stderr=write)
        os.close(write)
        self._reader = threading.Thread(target=self._drain, daemon=True)
        deadline = time.monotonic() + 60
        while True:  # until the doors are open
            try:
                self.connection = http.client.HTTPConnection(self.host, PORTS[0], timeout=60)
                self.connection.connect()
                break
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, "no door opens"
                time.sleep(0.01)

    def _drain(self):
        with os.fdopen(self._read, errors="replace") as lines:
            self.lines = [line for line in lines if line.strip()]

    def go_on(self):
        self._reader.start()

    def exit_code(self):
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def ask(self, method, path, body=None, headers=None):
        """Over one connection for as long as the server keeps it."""
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer, answer.read()


@pytest.fixture
def held(binary, tiny):
    started = []

    def start(*flags, model=tiny):
        started.append(HeldServer(binary, model, *flags))
        return started[-1]

    yield start
    kill_what_runs(started)


def assert_loading(answer, body):
    assert answer.status == 503 and answer.headers["Retry-After"] == "1"
    error = json.loads(body)["error"]
    assert error["code"] == "loading" and error["type"] == "server_error" and "loading" in error["message"]


def test_alive_but_not_ready_until_the_model_is_there(held):
    server = held()
    for path in ("/health", "/version", "/metrics", "/"):
        assert server.ask("GET", path)[0].status == 200, path
    for path in ("/ready", "/v1/models", "/v1/models/demo", "/v1/requests", "/tokenizer_info"):
        assert_loading(*server.ask("GET", path))
    for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"):
        assert_loading(*server.ask("POST", path, CHAT, JSON))
    assert server.ask("GET", "/nothing")[0].status == 404
    server.go_on()
    deadline = time.monotonic() + 60
    while (ready := server.ask("GET", "/ready"))[0].status != 200:
        assert_loading(*ready)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert server.ask("POST", "/v1/chat/completions", CHAT, JSON)[0].status == 200
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code() == 0


def test_grpc_health_follows_and_calls_are_refused(held, stubs):
    import grpc
    server = held()
    with grpc.insecure_channel(f"{server.host}:{PORTS[1]}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=30) == NOT_SERVING
        assert check(b"\x0a\x14trireme.v1.Inference", timeout=30) == NOT_SERVING
        seen = queue.Queue()
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=120)

        def follow():
            with contextlib.suppress(grpc.RpcError):  # we cancel it
                for status in watch:
                    seen.put(status)

        threading.Thread(target=follow, daemon=True).start()
        assert seen.get(timeout=30) == NOT_SERVING
        messages, stub = stubs[0], stubs[1].InferenceStub(channel)
        calls = {
            "Generate": lambda: list(stub.Generate(messages.GenerateRequest(prompt="x", max_tokens=1), timeout=30)),
            "Tokenize": lambda: stub.Tokenize(messages.TokenizeRequest(text="x"), timeout=30),
            "Detokenize": lambda: stub.Detokenize(messages.DetokenizeRequest(token_ids=[1]), timeout=30),
            "Abort": lambda: stub.Abort(messages.AbortRequest(request_id="x"), timeout=30),
            "GetModelInfo": lambda: stub.GetModelInfo(messages.GetModelInfoRequest(), timeout=30),
            "GetServerInfo": lambda: stub.GetServerInfo(messages.GetServerInfoRequest(), timeout=30),
            "GetLoad": lambda: stub.GetLoad(messages.GetLoadRequest(), timeout=30)}
        for name, call in calls.items():
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE, name
            assert dict(refused.value.trailing_metadata())["trireme-code"] == "loading", name
        server.go_on()
        assert seen.get(timeout=60) == SERVING
        assert calls["Generate"]() and calls["GetModelInfo"]().id == "demo"
        watch.cancel()


def test_a_key_is_asked_for_while_loading_too(held, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("0123456789abcdef0123456789abcdef team\n")
    keys.chmod(0o600)
    server = held("--api-keys", str(keys))
    assert server.ask("GET", "/v1/models")[0].status == 401
    assert server.ask("GET", "/version")[0].status == 401
    assert_loading(*server.ask("GET", "/v1/models", headers={"api-key": "0123456789abcdef0123456789abcdef"}))
    assert_loading(*server.ask("GET", "/ready"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_loading_ends_the_process(held, tmp_path, number):
    log, audit = tmp_path / "access.log", tmp_path / "audit.log"
    server = held("--access-log", str(log), "--audit-log", str(audit))
    assert_loading(*server.ask("GET", "/v1/models", headers={"x-request-id": "too-early"}))
    server.process.send_signal(number)
    server.go_on()
    assert server.exit_code() == 0
    assert "too-early" in log.read_text(), "what was refused is in the log"
    assert '"start"' not in audit.read_text(), "nothing was served"


def test_a_load_that_fails_ends_the_process_as_before(held):
    server = held("--max-context", "9999999")
    assert server.ask("GET", "/health")[0].status == 200
    server.go_on()
    assert server.exit_code() == 1
    assert any("cannot serve" in line and "--max-context 9999999" in line for line in server.lines), server.lines
