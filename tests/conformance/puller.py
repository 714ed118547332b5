"""`trireme pull` with a home of its own, and the local servers that it is run against."""
import json
import os
import pathlib
import random
import subprocess
import time

import pytest
from range_server import Authority, RangeServer

MIB = 1 << 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_S = 120


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def server():
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture
def store():
    """A second host."""
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_server(authority):
    running = RangeServer(authority)
    yield running
    running.close()


class Puller:
    """Runs `trireme pull` (and other commands) with a home, a cache and an environment of the test's own."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.cache = binary, folder, folder / "cache"
        dropped = ("TRIREME_", "HF_", "AWS_", "SSL_", "http", "https", "HTTP", "no_proxy", "NO_PROXY")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.env |= {"HOME": str(folder), "TRIREME_CACHE": str(self.cache), "AWS_EC2_METADATA_DISABLED": "true"}
        self.env.pop("XDG_CACHE_HOME", None)

    def start(self, *arguments, **kwargs):
        return subprocess.Popen([self.binary, *map(str, arguments)], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **kwargs)

    def run(self, *arguments, code=0, **kwargs):
        process = self.start(*arguments, **kwargs)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == code, f"exit code {process.returncode}: {out}{err}"
        return out, err

    def pull(self, *arguments, **kwargs):
        """The path that is printed."""
        return pathlib.Path(self.run("pull", *arguments, **kwargs)[0].strip())

    def fails(self, *arguments, code=1, **kwargs):
        """What is said on standard error."""
        out, err = self.run("pull", *arguments, code=code, **kwargs)
        assert out == ""
        return err

    def events(self, *arguments, code=0):
        out, _ = self.run("pull", *arguments, "--json", code=code)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def puller(binary, tmp_path):
    return Puller(binary, tmp_path)


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def leftovers(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.name.endswith((".part", ".part.json", ".new"))]
