"""A running server on a made-up model, from the conformance tests' own fixtures."""
import importlib.util
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from shipped import traffic

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONFORMANCE = ROOT / "tests/conformance"

sys.path.insert(0, str(CONFORMANCE))
_spec = importlib.util.spec_from_file_location("conformance_conftest", CONFORMANCE / "conftest.py")
conformance = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(conformance)


def pytest_addoption(parser):
    parser.addoption("--binary", default=str(ROOT / "build/test/trireme"), help="the trireme program under test")


@pytest.fixture(scope="session")
def binary(pytestconfig):
    path = pathlib.Path(pytestconfig.getoption("--binary")).resolve()
    assert path.exists(), f"there is no {path}: build it, or name another with --binary"
    return str(path)


@pytest.fixture(scope="session")
def setting_names(binary):
    help = subprocess.run([binary, "serve", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    return set(re.findall(r"\bTRIREME_[A-Z_]+", help))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return str(conformance.tiny_model.write_random(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="session")
def server(binary, model):
    running = conformance.Server(binary, model, "--threads", "1")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def metrics(server):
    """Names of the series that a running server's /metrics shows."""
    traffic(server)
    deadline = time.monotonic() + 30
    while True:  # a gRPC call is counted when it is over, a moment after its client has the answer
        text = server.get("/metrics")[2].decode()
        if "trireme_grpc_requests_total{" in text or time.monotonic() > deadline:
            return set(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{| )", text, re.M))
        time.sleep(0.05)


@pytest.fixture
def tool():
    """The path of a program that deploy/dependencies.sh test installs, or a skip that names it."""

    def find(name):
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed: deploy/dependencies.sh test")
        return path

    return find
