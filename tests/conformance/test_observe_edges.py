"""Logs and traces at the edges: starts that fail, rotation and kills, what a stranger may decide, standard output."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess

import grpc
import pytest

from collector import Collector
from test_observe import CHAT, FAST_EXPORT, PARENT, TRACE, eventually, grpc_stub, line_of, lines, post, verify


@contextlib.contextmanager
def taken_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_a_start_that_fails_leaves_the_old_trace_and_no_start(start_server, binary, model, tmp_path):
    audit, trace = tmp_path / "audit.log", tmp_path / "trace.json"
    trace.write_text("an older trace")
    with taken_port() as port:
        result = subprocess.run([binary, "serve", model, "--http-port", "0", "--grpc-port", str(port), "--audit-log",
                                 str(audit), "--trace-file", str(trace)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and "--grpc-port" in result.stderr
    assert trace.read_text() == "an older trace" and not audit.exists()
    server = start_server("--audit-log", str(audit), "--trace-file", str(trace))
    server.stop()
    assert [line["event"] for line in lines(audit)] == ["start", "stop"]
    assert isinstance(json.loads(trace.read_text()), list)


def test_a_node_that_is_killed_after_a_rotation_goes_on_with_the_chain(start_server, tmp_path):
    audit, old = tmp_path / "audit.log", tmp_path / "audit.log-1"
    server = start_server("--audit-log", str(audit))
    assert post(server, "first", {**CHAT, "max_tokens": 1})[0] == 200
    line_of(audit, "first")
    audit.rename(old)
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: audit.exists() and audit.read_text().endswith("\n"))  # with no request in between
    server.process.kill()
    server.wait()
    server = start_server("--audit-log", str(audit))
    server.stop()
    assert [line["event"] for line in lines(audit)] == ["rotated", "start", "stop"]
    assert verify(server.binary, old, audit).returncode == 0
    # Moved away while nothing ran: a chain of its own, which is no tampering and says so.
    older = audit.rename(tmp_path / "audit.log-2")
    server = start_server("--audit-log", str(audit))
    server.stop()
    found = verify(server.binary, old, older, audit)
    assert found.returncode == 1 and "restarted: 1 file begins a new chain" in found.stderr
    report = json.loads(verify(server.binary, old, older, audit, "--json").stdout)
    assert (report["verdict"], report["restarts"], report["ok"]) == ("restarted", 1, False)
    # Where the process log said it ended.
    last = lines(audit)[-1]["hash"]
    assert last in server.logs()
    audit.write_text("".join(audit.read_text().splitlines(keepends=True)[:-1]))
    found = verify(server.binary, audit, "--last-hash", last)
    assert found.returncode == 1 and "rewritten, or its end is missing" in found.stderr


def test_a_stranger_decides_nothing_about_traces(start_server, stubs, tmp_path):
    keys, log = tmp_path / "keys.txt", tmp_path / "access.log"
    keys.write_text("key-alpha team-a\n")
    keys.chmod(0o600)
    collector = Collector()
    try:
        server = start_server("--api-keys", str(keys), "--access-log", str(log), "--otlp-endpoint", collector.url,
                              "--otlp-sample-ratio", "0", env=FAST_EXPORT)
        theirs = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
        assert post(server, "stranger", headers=theirs)[0] == 401
        assert post(server, "begun-here", headers={"authorization": "Bearer key-alpha"})[0] == 200
        with grpc_stub(server, stubs) as stub, pytest.raises(grpc.RpcError) as raised:
            list(stub.Generate(stubs[0].GenerateRequest(prompt="x"), timeout=60, metadata=tuple(theirs.items())))
        grpc_stranger = dict(raised.value.initial_metadata())["x-request-id"]
        for request_id in ("stranger", grpc_stranger, "begun-here"):
            assert "trace_id" not in line_of(log, request_id)
        assert post(server, "asked", headers={**theirs, "authorization": "Bearer key-alpha"})[0] == 200
        collector.server_span("asked")
        server.stop()
        assert len([span for span in collector.spans if span["kind"] == 2]) == 1
    finally:
        collector.close()


def test_ids_of_grpc_calls_do_not_repeat_after_a_restart(start_server, stubs, tmp_path):
    log = tmp_path / "access.log"
    for _ in range(2):
        server = start_server("--access-log", str(log))
        with grpc_stub(server, stubs) as stub:
            stub.GetLoad(stubs[0].GetLoadRequest(), timeout=30)
        server.stop()
    ids = [line["request_id"] for line in lines(log) if line["door"] == "grpc"]
    assert len(ids) == 2 == len(set(ids)) and all(re.fullmatch("grpc-[0-9a-f]{32}", one) for one in ids)


def test_best_of_is_not_told_as_choices(start_server, tmp_path):
    collector = Collector()
    try:
        server = start_server("--otlp-endpoint", collector.url, env=FAST_EXPORT)
        body = {"model": "demo", "prompt": "Hello", "n": 2, "best_of": 4, "max_tokens": 2, "ignore_eos": True}
        assert post(server, "best", body, path="/v1/completions")[0] == 200
        found = {a["key"]: a["value"] for a in collector.server_span("best")["attributes"]}
        assert found["gen_ai.request.choice.count"] == {"intValue": "2"}
        assert len(found["gen_ai.response.finish_reasons"]["arrayValue"]["values"]) == 2
        server.stop()
    finally:
        collector.close()


def test_standard_output_is_the_access_logs_alone(binary, model, tmp_path):
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(["env", "--default-signal=HUP",  # as under no nohup
                                    binary, "serve", model, "--http-port", "0", "--grpc-port", "-1", "--access-log", "-"],
                                   stdout=stdout, stderr=stderr)
        try:
            eventually(lambda: "is ready at" in err.read_text())  # the banner
            assert out.read_text() == ""
            process.send_signal(signal.SIGHUP)  # there is no file to open anew: as when a terminal closes
            assert process.wait(60) == -signal.SIGHUP
        finally:
            process.kill()
            process.wait()
    refused = subprocess.run([binary, "serve", model, "--trace-file", "-"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "--trace-file" in refused.stderr


@pytest.mark.parametrize("variable, value", [("OTEL_SERVICE_NAME", b"caf\xe9"), ("OTEL_RESOURCE_ATTRIBUTES", b"a=%ff"),
                                             ("OTEL_EXPORTER_OTLP_PROTOCOL", b"grpc"), ("OTEL_TRACES_SAMPLER", b"xray"),
                                             ("OTEL_EXPORTER_OTLP_CERTIFICATE", b"/nowhere/ca.pem")])
def test_a_variable_that_cannot_be_followed_is_named(binary, model, variable, value):
    result = subprocess.run([binary, "serve", model, "--otlp-endpoint", "http://127.0.0.1:1"],
                            env={**os.environb, variable.encode(): value}, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and variable in result.stderr


def test_a_served_name_that_is_not_utf8_is_refused(binary, model):
    result = subprocess.run([binary, "serve", model, "--served-model-name", b"caf\xe9"], capture_output=True, timeout=60)
    assert result.returncode == 1 and b"--served-model-name" in result.stderr


def test_the_samplers_variables_are_followed(start_server):
    collector = Collector()
    try:
        server = start_server("--otlp-endpoint", collector.url, env={**FAST_EXPORT, "OTEL_TRACES_SAMPLER": "always_on"})
        # Not "parentbased_": the caller's no is not followed.
        assert post(server, "unsampled", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})[0] == 200
        assert collector.server_span("unsampled")["traceId"] == TRACE
        server.stop()
    finally:
        collector.close()
