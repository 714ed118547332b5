"""Starts the real server on the demo model and hands real clients to the tests."""
import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import pytest

import tiny_model

pytest.register_assert_rewrite("doors", "puller", "rule_p")
from doors import Doors
from rule_p import RuleP

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
START_TIMEOUT_S = 180  # sanitizer builds are slow


def pytest_addoption(parser):
    parser.addoption("--binary", default=str(ROOT / "build/test/trireme"), help="the trireme program under test")
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="where the model runs")
    parser.addoption("--model", default=os.environ.get("TRIREME_TEST_MODEL", ""), help="the demo model's GGUF, or 'tiny': one made up, for builds too slow for it")


class Server:
    """One `trireme serve` process."""

    def __init__(self, binary, model, *flags, env=None):
        self._stderr_lines = []
        self.binary = binary
        self.process = subprocess.Popen(
            [binary, "serve", model, "--served-model-name", "demo", "--http-port", "0", "--grpc-port", "0",
             "--log-format", "json", *flags],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        self._ready = threading.Event()
        self.http_port = self.grpc_port = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_TIMEOUT_S) or self.http_port is None:
            self.process.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self._stderr_lines))

    def _read(self):
        for line in self.process.stderr:
            self._stderr_lines.append(line)
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "serving":
                    self.http_port, self.grpc_port = event["http_port"], event["grpc_port"]
                    self._ready.set()
        self._ready.set()  # the process ended

    @property
    def base(self):
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path, headers=None):
        request = urllib.request.Request(self.base + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def metric(self, name):
        """Sum over the label sets of one metric."""
        text = self.get("/metrics")[2].decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.M)
        assert found, f"no metric {name}"
        return sum(float(value) for value in found)

    def wait_idle(self, timeout=30):
        """Rule P: nothing runs, nothing waits, no KV block is held."""
        names = ("trireme_requests_running", "trireme_requests_waiting", "trireme_kv_blocks_held")
        deadline = time.monotonic() + timeout
        while True:
            values = [self.metric(name) for name in names]
            if not any(values):
                return
            assert time.monotonic() < deadline, f"not back to baseline: {dict(zip(names, values))}"
            time.sleep(0.02)

    def logs(self):
        return "".join(self._stderr_lines)

    def wait(self, timeout=60):
        """The exit code of a process that ends by itself; logs() are whole then."""
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def stop(self, expect=0):
        """SIGTERM, and the exit code it must give."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.wait(60)
        assert code == expect, f"exit code {code}\n{self.logs()}"


@pytest.fixture(scope="session")
def binary(pytestconfig):
    return pytestconfig.getoption("--binary")


@pytest.fixture(scope="session")
def model(pytestconfig, tmp_path_factory):
    path = pytestconfig.getoption("--model")
    if path == "tiny":
        return str(tiny_model.write_random(tmp_path_factory.mktemp("model") / "tiny"))
    if not path:
        path = subprocess.run([ROOT / "deploy/fetch_demo_model.sh"], check=True, capture_output=True,
                              text=True).stdout.strip()
    return path


@pytest.fixture(scope="session")
def server(binary, model):
    """One server for all tests that do not need flags of their own; leaves cleanly, without a leak."""
    running = Server(binary, model, "--threads", "2")
    yield running
    running.wait_idle()
    running.stop()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A directory with a model that answers thousands of tokens a second."""
    return str(tiny_model.write_random(tmp_path_factory.mktemp("tiny") / "tiny"))


@pytest.fixture(scope="session")
def guard_server(binary, tiny, stubs):
    """Serves `tiny`, or another model, with flags of one's own, until the tests end: a RuleP that watches over it."""
    started = []

    def guard(*flags, model=tiny, key=None, env=None):
        server = Server(binary, model, "--threads", "2", "--log-level", "debug", *flags, env=env)
        started.append(RuleP(server, stubs, key, forbidden=[str(model)]))
        return started[-1]

    yield guard
    for rule_p in started:
        rule_p.close()
        if rule_p.server.process.poll() is None:
            rule_p.server.wait_idle() if rule_p.key is None else None
            rule_p.server.stop()


def under(folder, binary, *prefix):
    """A program that runs `binary` under `prefix` (prlimit, env). Not a preexec_fn: what that runs after the fork can wait
    for good for a thread that the fork left behind, gRPC's for one."""
    script = folder / "under-limits"
    script.write_text("#!/bin/sh\nexec " + shlex.join([*map(str, prefix), os.path.abspath(binary)]) + ' "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.fixture(scope="session")
def rule_p(guard_server):
    """Rule P over one server of the tiny model, shared by all faults that need no flags."""
    return guard_server()


@pytest.fixture(scope="session")
def doors(rule_p):
    return Doors(rule_p)


def kill_what_runs(servers):
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture
def start_server(binary, model):
    """Starts servers with flags of their own."""
    started = []

    def start(*flags, env=None):
        started.append(Server(binary, model, *flags, env=env))
        return started[-1]

    yield start
    kill_what_runs(started)


@pytest.fixture(scope="session")
def client(server):
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def stubs():
    return load_stubs()


def load_stubs():
    """The modules that grpcio-tools generates from our proto."""
    from grpc_tools import protoc
    out = tempfile.mkdtemp(prefix="trireme-proto-")
    code = protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--grpc_python_out={out}",
                        str(ROOT / "proto/trireme/v1/inference.proto")])
    assert code == 0
    sys.path.insert(0, out)
    from trireme.v1 import inference_pb2, inference_pb2_grpc
    return inference_pb2, inference_pb2_grpc


@pytest.fixture(scope="session")
def stub(server, stubs):
    import grpc
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield stubs[1].InferenceStub(channel)
