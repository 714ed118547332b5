"""Start, readiness, drain, abort, keys, TLS, configuration."""
import http.client
import json
import signal
import ssl
import subprocess
import threading
import time
import urllib.request

import pytest

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Count to fifty."}], "temperature": 0,
        "ignore_eos": True}


def post(port, body, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(body),
                       {"content-type": "application/json", **(headers or {})})
    return connection, connection.getresponse()


def test_sigterm_finishes_streams_and_exits_zero(start_server):
    server = start_server()
    connection, answer = post(server.http_port, {**CHAT, "max_tokens": 100, "stream": True})
    assert answer.status == 200 and answer.readline().startswith(b"data: ")
    server.process.send_signal(signal.SIGTERM)
    rest = answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"finish_reason":"length"' in rest
    assert server.wait(30) == 0


def test_drain_is_unready_first_and_refuses_new_requests(start_server):
    server = start_server()
    assert server.get("/ready")[0] == 200
    connection, answer = post(server.http_port, {**CHAT, "max_tokens": 400, "stream": True})
    answer.readline()
    keep_alive = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    keep_alive.request("GET", "/health")
    assert keep_alive.getresponse().read() is not None
    server.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while True:  # the signal is handled by another thread
        keep_alive.request("GET", "/ready")
        ready = keep_alive.getresponse()
        body = ready.read()
        if ready.status == 503:
            break
        assert time.monotonic() < deadline
    assert json.loads(body)["error"]["code"] == "draining"
    assert answer.read().endswith(b"data: [DONE]\n\n")
    assert server.wait(30) == 0


def test_drain_deadline_ends_streams_with_an_error_event(start_server):
    server = start_server("--drain-timeout", "1", "--max-context", "8192")
    connection, answer = post(server.http_port, {**CHAT, "max_tokens": 8000, "stream": True})
    answer.readline()
    server.process.send_signal(signal.SIGTERM)
    rest = answer.read()
    assert b'data: {"error":' in rest and b"[DONE]" not in rest
    assert server.wait(30) == 0


def test_second_signal_aborts(start_server):
    server = start_server("--drain-timeout", "600")
    connection, answer = post(server.http_port, {**CHAT, "max_tokens": 4000, "stream": True})
    answer.readline()
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    server.process.send_signal(signal.SIGTERM)
    assert server.wait(10) == 3


def test_tls_on_both_doors(start_server, stubs, tmp_path):
    import grpc
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)
    server = start_server("--tls-cert", str(cert), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(cert))
    with urllib.request.urlopen(f"https://localhost:{server.http_port}/health", context=context, timeout=30) as answer:
        assert answer.status == 200
    with pytest.raises(Exception):
        urllib.request.urlopen(f"http://localhost:{server.http_port}/health", timeout=5)
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    with grpc.secure_channel(f"localhost:{server.grpc_port}", credentials) as channel:
        info = stubs[1].InferenceStub(channel).GetModelInfo(stubs[0].GetModelInfoRequest(), timeout=30)
        assert info.id == "demo"
    server.stop()


def run(binary, *arguments, env=None):
    import os
    return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **(env or {})})


def test_listening_beyond_loopback_needs_keys(binary, model):
    result = run(binary, "serve", model, "--host", "0.0.0.0")
    assert result.returncode == 1 and "--api-keys" in result.stderr


def test_missing_model_is_a_clear_error(binary):
    result = run(binary, "serve", "/nonexistent/model.gguf")
    assert result.returncode == 1 and "/nonexistent/model.gguf" in result.stderr


def test_port_in_use_is_a_clear_error(binary, model, server):
    result = run(binary, "serve", model, "--http-port", str(server.http_port))
    assert result.returncode == 1 and "--http-port" in result.stderr


def test_usage_errors_exit_with_two(binary):
    assert run(binary, "serve").returncode == 2
    assert run(binary, "serve", "x", "--no-such-flag").returncode == 2
    assert run(binary).returncode == 2


def test_help_teaches(binary):
    result = run(binary, "serve", "--help")
    assert result.returncode == 0
    for word in ("TRIREME_HTTP_PORT", "--kv-cache-memory", "Examples", "curl"):
        assert word in result.stdout


def test_flag_beats_environment_beats_config_file(start_server, tmp_path):
    config = tmp_path / "trireme.yaml"
    config.write_text("max-context: 512\nserved-model-name: [from-file, alias]\nmax-running: 7\n")
    server = start_server("--config", str(config), env={"TRIREME_MAX_CONTEXT": "640"})
    models = json.loads(server.get("/v1/models")[2])
    assert [m["id"] for m in models["data"]][0] == "demo"  # the flag
    assert models["data"][0]["max_model_len"] == 640       # the environment
    assert "from-file" not in json.dumps(models)


def test_unknown_key_in_config_file_is_refused(binary, model, tmp_path):
    config = tmp_path / "trireme.yaml"
    config.write_text("max-contxt: 512\n")
    result = run(binary, "serve", model, "--config", str(config))
    assert result.returncode == 2 and "max-contxt" in result.stderr


def test_generate_and_inspect(binary, model):
    first = run(binary, "generate", model, "--raw", "-p", "The capital of France is", "--max-tokens", "8", "--temperature", "0", "--json")
    assert first.returncode == 0, first.stderr
    answer = json.loads(first.stdout)
    assert "Paris" in answer["text"] and answer["completion_tokens"] > 0
    shown = run(binary, "inspect", model, "--json")
    assert shown.returncode == 0, shown.stderr
    plan = json.loads(shown.stdout)
    assert plan["architecture"] == "llama" and plan["kv_bytes_per_token"] > 0
