"""What the tests of deploy/ share."""
import contextlib
import json
import pathlib
import socket
import subprocess
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
FLUSH_S = 8  # kFlushTime and kTelemetryFlushTime of server/cli/serve.cc, and what libcurl takes to notice
UID = 64000  # of the container's user


def run(*command, **kwargs):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **kwargs)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post(server, path, body):
    request = urllib.request.Request(server.base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60).read()


def traffic(server):
    """Good and bad requests through both doors, so that every metric has something to tell."""
    grpc = pytest.importorskip("grpc")
    post(server, "/v1/completions", {"model": "demo", "prompt": "the same long beginning " * 4, "max_tokens": 8})
    post(server, "/v1/completions", {"model": "demo", "max_tokens": -1})
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        channel.unary_unary("/trireme.v1.Inference/GetServerInfo")(b"", timeout=30)
        with pytest.raises(grpc.RpcError):  # no prompt
            list(channel.unary_stream("/trireme.v1.Inference/Generate")(b"", timeout=30))
