"""What the node tells of itself: OTLP traces, access log, audit log, trace file; and that none of them can hurt it."""
import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest

from collector import Collector, attributes

SECRET = "zanzibar-umbrella"  # in every prompt: must be nowhere
CHAT = {"model": "demo", "messages": [{"role": "user", "content": f"Say {SECRET} twice."}], "temperature": 0,
        "ignore_eos": True, "max_tokens": 6}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FAST_EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.fixture
def collector():
    running = Collector()
    yield running
    running.close()


def post(server, request_id, body=None, headers=None, path="/v1/chat/completions"):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(CHAT if body is None else body),
                           {"content-type": "application/json", "x-request-id": request_id, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()


def begin_stream(server, request_id, max_tokens=1500):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True, "max_tokens": max_tokens}),
                       {"content-type": "application/json", "x-request-id": request_id})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline().startswith(b"data: ")
    return connection, answer


@contextlib.contextmanager
def grpc_stub(server, stubs):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield stubs[1].InferenceStub(channel)


def eventually(check, timeout=60):
    """What `check` returns, once it is true."""
    deadline = time.monotonic() + timeout
    while not (value := check()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return value


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def line_of(path, request_id):
    """The one line of a request in a log, once it is there."""
    found = eventually(lambda: path.exists() and
                       [line for line in lines(path) if line.get("request_id") == request_id])
    assert len(found) == 1
    return found[0]


def dropped(server, sink):
    text = server.get("/metrics")[2].decode()
    return float(re.search(rf'^trireme_telemetry_dropped_total{{sink="{sink}"}} (\S+)$', text, re.M)[1])


# ---- OTLP.

def nanos(span):
    return int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])


def check_phases(collector, span):
    """Queue, prefill, decode: inside the request, one after the other."""
    children = collector.children(span)
    assert list(children) == ["queue", "prefill", "decode"]
    begin, end = nanos(span)
    last = begin
    for child in children.values():
        assert child["traceId"] == span["traceId"] and child["kind"] == 1
        child_begin, child_end = nanos(child)
        assert last <= child_begin <= child_end <= end
        last = child_end
    assert nanos(children["queue"])[1] == nanos(children["prefill"])[0]
    assert nanos(children["prefill"])[1] == nanos(children["decode"])[0]


def test_a_request_of_either_door_continues_its_callers_trace(start_server, stubs, collector):
    server = start_server("--otlp-endpoint", collector.url, env={**FAST_EXPORT, "OTEL_SERVICE_NAME": "node-7",
                          "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test%20bed",
                          "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hidden,x-scope=a"})
    before = time.time_ns()
    traceparent = f"00-{TRACE}-{PARENT}-01"
    status, body = post(server, "http-1", headers={"traceparent": traceparent, "tracestate": "vendor=a1, other=b"})
    assert status == 200
    with grpc_stub(server, stubs) as stub:
        usage = list(stub.Generate(stubs[0].GenerateRequest(prompt=SECRET, max_tokens=5, ignore_eos=True,
                                                            request_id="grpc-call"),
                                   metadata=(("traceparent", traceparent),), timeout=60))[-1].usage
    for request_id in ("http-1", "grpc-call"):
        span = collector.server_span(request_id)
        assert span["traceId"] == TRACE and span["parentSpanId"] == PARENT and span["kind"] == 2
        assert before <= nanos(span)[0] and nanos(span)[1] <= time.time_ns()
        check_phases(collector, span)
    span = collector.server_span("http-1")
    found = attributes(span)
    answer = json.loads(body)
    assert span["name"] == "POST /v1/chat/completions" and span["traceState"] == "vendor=a1,other=b"
    assert found["gen_ai.operation.name"] == "chat" and found["gen_ai.request.model"] == "demo"
    assert found["gen_ai.usage.input_tokens"] == answer["usage"]["prompt_tokens"]
    assert found["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"] == 6
    assert found["gen_ai.response.finish_reasons"] == ["length"]
    assert found["http.response.status_code"] == 200 and found["http.route"] == "/v1/chat/completions"
    assert "status" not in span
    found = attributes(collector.server_span("grpc-call"))
    assert found["rpc.service"] == "trireme.v1.Inference" and found["rpc.method"] == "Generate"
    assert found["gen_ai.usage.input_tokens"] == usage.prompt_tokens
    assert found["gen_ai.usage.output_tokens"] == usage.completion_tokens == 5
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.headers[0]["authorization"] == "Bearer hidden" and collector.headers[0]["x-scope"] == "a"
    assert collector.resources[0]["service.name"] == "node-7"
    assert collector.resources[0]["deployment.environment"] == "test bed"
    assert SECRET not in json.dumps(collector.spans)
    server.stop()
    assert "hidden" not in server.logs()


def test_what_is_no_traceparent_begins_a_new_trace(start_server, collector):
    # The endpoint from the standard variable; whole, because it is the one for traces.
    server = start_server(env={**FAST_EXPORT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": collector.url + "/v1/traces"})
    malformed = [f"00-{TRACE}-{PARENT}", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
                 f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01-more",
                 f"00-{TRACE}-{PARENT}-0g", f"00-{TRACE[:-1]}-{PARENT}-01", "", "x" * 4000]
    for number, traceparent in enumerate(malformed):
        assert post(server, f"bad-{number}", headers={"traceparent": traceparent})[0] == 200
    for number in range(len(malformed)):
        span = collector.server_span(f"bad-{number}")
        assert "parentSpanId" not in span and span["traceId"] != TRACE and re.fullmatch("[0-9a-f]{32}", span["traceId"])
    assert len({span["traceId"] for span in collector.spans}) == len(malformed)
    # A later version may have more fields; the caller's word on sampling is followed.
    assert post(server, "later", headers={"traceparent": f"cc-{TRACE}-{PARENT}-01-what-comes-later"})[0] == 200
    assert collector.server_span("later")["traceId"] == TRACE
    assert post(server, "unsampled", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})[0] == 200
    assert post(server, "sampled", headers={"traceparent": f"00-{TRACE}-{PARENT}-03"})[0] == 200
    collector.server_span("sampled")
    server.stop()
    assert not [s for s in collector.spans if attributes(s).get("trireme.request.id") == "unsampled"]
    assert not [s for s in collector.spans if "/metrics" in s["name"] or "/health" in s["name"]]


def test_the_sampling_ratio_decides_on_traces_that_begin_here(start_server, collector):
    server = start_server("--otlp-endpoint", collector.url, "--otlp-sample-ratio", "0", env=FAST_EXPORT)
    for number in range(5):
        assert post(server, f"new-{number}")[0] == 200
    assert post(server, "asked-for", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})[0] == 200
    server.stop()
    assert [attributes(s)["trireme.request.id"] for s in collector.spans if s["kind"] == 2] == ["asked-for"]


def test_errors_are_marked_and_refusals_are_not_the_servers_fault(start_server, collector):
    server = start_server("--otlp-endpoint", collector.url, "--drain-timeout", "0", env=FAST_EXPORT)
    assert post(server, "refused", {**CHAT, "temperature": 7})[0] == 400
    span = collector.server_span("refused")
    assert "status" not in span and attributes(span)["error.type"] and not collector.children(span)
    _, answer = begin_stream(server, "cut-off")
    server.stop()  # the drain deadline ends the stream; spans are flushed before the exit
    assert b'{"error":' in answer.read()
    span = collector.server_span("cut-off")
    assert span["status"]["code"] == 2 and attributes(span)["error.type"] == "shutting_down"


def test_a_collector_that_asks_for_patience_gets_everything_once(start_server, collector):
    collector.answers = [(503, {"retry-after": "1"}), (429, {}), (502, {}), (504, {})]
    server = start_server("--otlp-endpoint", collector.url, env=FAST_EXPORT)
    for number in range(3):
        assert post(server, f"patient-{number}")[0] == 200
    for number in range(3):
        collector.server_span(f"patient-{number}")
    assert len([s for s in collector.spans if s["kind"] == 2]) == 3
    assert collector.attempts >= 5 and dropped(server, "otlp") == 0
    # What is refused for good is not sent again.
    collector.answers = [(400, {})]
    assert post(server, "unwanted")[0] == 200
    eventually(lambda: dropped(server, "otlp") == 1)
    server.stop()
    assert "traces cannot be exported" in server.logs() and "traces are exported again" in server.logs()


def test_a_dead_or_stuck_collector_harms_no_request(start_server, collector):
    with socket.socket() as closed:  # bound, not listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        server = start_server("--otlp-endpoint", f"http://127.0.0.1:{closed.getsockname()[1]}",
                              env={**FAST_EXPORT, "OTEL_BSP_MAX_QUEUE_SIZE": "4"})
        for number in range(20):
            assert post(server, f"dead-{number}", {**CHAT, "max_tokens": 1})[0] == 200
        # Four fit into the queue and four into the batch in hand: the other twelve are lost at once.
        assert 12 <= eventually(lambda: (lost := dropped(server, "otlp")) >= 12 and lost) <= 20
        server.stop()
    collector.hold = threading.Event()
    server = start_server("--otlp-endpoint", collector.url, env={**FAST_EXPORT, "OTEL_BSP_MAX_QUEUE_SIZE": "4"})
    for number in range(20):
        assert post(server, f"stuck-{number}", {**CHAT, "max_tokens": 1})[0] == 200
    assert 12 <= eventually(lambda: (lost := dropped(server, "otlp")) >= 12 and lost) <= 20
    server.stop()  # within the minute that it gives: the flush has a deadline


def test_an_endpoint_that_cannot_be_one_is_refused_at_start(binary, model):
    for flags, env in (["--otlp-endpoint", "localhost:4318"], {}), ([], {"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://x"}), \
            (["--otlp-endpoint", "http://x"], {"OTEL_EXPORTER_OTLP_HEADERS": "broken%0d%0a=topsecret%0d%0a"}):
        result = subprocess.run([binary, "serve", model, *flags], env={**os.environ, **env}, capture_output=True,
                                text=True, timeout=60)
        assert result.returncode == 1 and "OTLP" in result.stderr.upper() and "topsecret" not in result.stderr


# ---- Access log.

def test_every_request_leaves_one_line(start_server, stubs, tmp_path):
    keys, log = tmp_path / "keys.txt", tmp_path / "access.log"
    keys.write_text("key-alpha team-a\n")
    keys.chmod(0o600)
    server = start_server("--api-keys", str(keys), "--access-log", str(log))
    key = {"authorization": "Bearer key-alpha"}
    status, body = post(server, "good", headers={**key, "traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert status == 200
    line = line_of(log, "good")
    usage = json.loads(body)["usage"]
    assert (line["door"], line["method"], line["route"], line["status"], line["outcome"]) == \
        ("http", "POST", "/v1/chat/completions", 200, "ok")
    assert line["tenant"] == "team-a" and line["model"] == "demo" and line["stream"] is False
    assert (line["prompt_tokens"], line["completion_tokens"], line["finish_reason"]) == \
        (usage["prompt_tokens"], usage["completion_tokens"], "length")
    assert line["cached_tokens"] == 0 and line["trace_id"] == TRACE and line["peer"] == "loopback"
    assert 0 <= line["queue_ms"] <= line["ttft_ms"] <= line["total_ms"]
    assert line["bytes_received"] == len(json.dumps(CHAT)) and line["bytes_sent"] > len(body)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])

    assert post(server, "again", headers=key)[0] == 200
    assert line_of(log, "again")["cached_tokens"] > 0

    assert post(server, "invalid", {**CHAT, "temperature": 7}, key)[0] == 400
    line = line_of(log, "invalid")
    assert line["status"] == 400 and line["outcome"] == "refused" and line["error_code"] and "model" not in line
    assert post(server, "stranger", headers={"authorization": "Bearer wrong-key"})[0] == 401
    line = line_of(log, "stranger")
    assert (line["status"], line["tenant"], line["error_code"]) == (401, "", "invalid_api_key")
    assert post(server, "nowhere", headers=key, path=f"/{SECRET}")[0] == 404
    assert line_of(log, "nowhere")["route"] == "other"

    connection, answer = begin_stream_with(server, "vanished", key)
    answer.close()
    connection.close()
    line = line_of(log, "vanished")
    assert (line["outcome"], line["status"], line["finish_reason"]) == ("client_gone", 200, "cancelled")
    assert 1 <= line["completion_tokens"] < 1500 and line["stream"] is True

    pb = stubs[0]
    with grpc_stub(server, stubs) as stub:
        metadata = (("authorization", "Bearer key-alpha"), ("traceparent", f"00-{TRACE}-{PARENT}-00"))
        list(stub.Generate(pb.GenerateRequest(prompt=SECRET, max_tokens=3, ignore_eos=True, n=2, request_id="rpc"),
                           metadata=metadata, timeout=60))
        line = line_of(log, "rpc")
        assert (line["door"], line["method"], line["route"], line["grpc_code"], line["outcome"]) == \
            ("grpc", "Generate", "trireme.v1.Inference/Generate", "OK", "ok")
        assert line["completion_tokens"] == 6 and line["trace_id"] == TRACE and line["tenant"] == "team-a"
        assert line["bytes_received"] > 0 and line["bytes_sent"] > 0 and line["peer"] == "loopback"
        with pytest.raises(grpc.RpcError) as raised:
            list(stub.Generate(pb.GenerateRequest(prompt="x", request_id="rpc-stranger"), timeout=60))
        given = dict(raised.value.initial_metadata())["x-request-id"]  # what a stranger sends is not even parsed
        assert line_of(log, given)["grpc_code"] == "UNAUTHENTICATED"
        call = stub.Generate(pb.GenerateRequest(prompt="x", max_tokens=1500, ignore_eos=True, request_id="rpc-gone"),
                             metadata=metadata, timeout=60)
        next(call)
        call.cancel()
        line = line_of(log, "rpc-gone")
        assert (line["grpc_code"], line["outcome"], line["finish_reason"]) == ("CANCELLED", "client_gone", "cancelled")
        stub.Tokenize(pb.TokenizeRequest(text=SECRET), metadata=metadata, timeout=60)
        eventually(lambda: [x for x in lines(log) if x.get("method") == "Tokenize" and x["bytes_sent"] > 0])
    server.stop()
    text = log.read_text()
    for word in (SECRET, "key-alpha", "wrong-key", "127.0.0.1"):
        assert word not in text


def begin_stream_with(server, request_id, headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True, "max_tokens": 1500}),
                       {"content-type": "application/json", "x-request-id": request_id, **headers})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline().startswith(b"data: ")
    return connection, answer


def test_cancelled_through_the_registry_is_told_apart_from_gone(start_server, tmp_path):
    log = tmp_path / "access.log"
    server = start_server("--access-log", str(log))
    _, answer = begin_stream(server, "to-cancel")
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    connection.request("DELETE", "/v1/requests/to-cancel", headers={"x-request-id": "canceller"})
    assert connection.getresponse().status == 200
    answer.read()
    line = line_of(log, "to-cancel")
    assert (line["outcome"], line["error_code"], line["finish_reason"]) == ("cancelled", "cancelled", "cancelled")
    line = line_of(log, "canceller")
    assert (line["method"], line["route"]) == ("DELETE", "/v1/requests/{id}")
    server.stop()


def test_the_access_log_on_standard_output(binary, model, tmp_path):
    out = tmp_path / "out"
    with out.open("w") as stdout:
        process = subprocess.Popen([binary, "serve", model, "--http-port", "0", "--grpc-port", "-1", "--log-format",
                                    "json", "--access-log", "-"], stdout=stdout, stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                if "http_port" in line:
                    break
            port = json.loads(line)["http_port"]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/health", headers={"x-request-id": "probe"})
            assert connection.getresponse().read()
            assert line_of(out, "probe")["route"] == "/health"
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_a_full_disk_loses_lines_and_no_request(start_server, tmp_path):
    server = start_server("--access-log", "/dev/full")
    for number in range(5):
        assert post(server, f"full-{number}", {**CHAT, "max_tokens": 1})[0] == 200
    eventually(lambda: dropped(server, "access_log") >= 5)
    server.stop()
    assert server.logs().count("access log cannot be written") == 1


def test_a_reader_that_is_stuck_loses_lines_and_no_request(start_server, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # open, and never read
    try:
        server = start_server("--access-log", str(fifo))
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
        deadline = time.monotonic() + 240
        lost = 0
        while lost == 0:  # until the pipe and the queue are full
            for _ in range(2000):
                connection.request("GET", "/health")
                answer = connection.getresponse()
                assert answer.status == 200 and answer.read()
            lost = dropped(server, "access_log")
            assert time.monotonic() < deadline
        assert post(server, "fine")[0] == 200
        server.stop()  # though the log's thread still hangs
        assert "access log could not be written to its end" in server.logs()
    finally:
        os.close(reader)


def test_rotation_under_load_loses_no_line(start_server, tmp_path):
    log, audit = tmp_path / "access.log", tmp_path / "audit.log"
    server = start_server("--access-log", str(log), "--audit-log", str(audit))
    stop = threading.Event()
    sent = []

    def load(name):
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
        number = 0
        while not stop.is_set():
            request_id = f"{name}-{number}"
            connection.request("GET", "/v1/models", headers={"x-request-id": request_id})
            assert connection.getresponse().read()
            sent.append(request_id)
            number += 1

    threads = [threading.Thread(target=load, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    rotated = []
    for number in range(5):
        count = len(sent)
        eventually(lambda: len(sent) > count + 50)
        for path in (log, audit):
            rotated.append(path.rename(tmp_path / f"{path.name}.{number}"))
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: log.exists() and audit.exists())
    stop.set()
    for thread in threads:
        thread.join()
    server.stop()
    for path in (log, audit):
        files = [p for p in rotated if p.name.startswith(path.name)] + [path]
        found = [line["request_id"] for file in files for line in lines(file) if "request_id" in line]
        assert sorted(found) == sorted(sent)
    verified = verify(server.binary, *[p for p in rotated if "audit" in p.name], audit)
    assert verified.returncode == 0, verified.stderr
    # One of them alone begins inside the chain, and one that is missing is noticed.
    assert verify(server.binary, rotated[3]).returncode == 0
    gap = verify(server.binary, rotated[1], rotated[5])
    assert gap.returncode == 1 and "line 1" in gap.stderr


def test_a_log_that_cannot_be_written_is_refused_at_start(binary, model, tmp_path):
    for flags in (["--access-log", str(tmp_path / "no" / "folder")], ["--audit-log", "/dev/null"],
                  ["--trace-file", str(tmp_path)]):
        result = subprocess.run([binary, "serve", model, *flags], capture_output=True, text=True, timeout=60)
        assert result.returncode == 1 and flags[0] in result.stderr


# ---- Audit log.

def verify(binary, *arguments):
    return subprocess.run([binary, "audit-verify", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def check_by_hand(path):
    """The chain as the documentation states it, without our program."""
    previous, count = "0" * 64, 0
    for line in path.read_text().splitlines():
        count += 1
        body, digest = line[:-75], json.loads(line)["hash"]
        assert line == f'{body},"hash":"{digest}"}}' and hashlib.sha256(body.encode()).hexdigest() == digest
        assert json.loads(line)["prev"] == previous and json.loads(line)["seq"] == count
        previous = digest
    return previous


@pytest.fixture
def audited(start_server, stubs, tmp_path):
    """An audit log of a node that has seen something, and the node's flags."""
    keys, audit = tmp_path / "keys.txt", tmp_path / "audit.log"
    keys.write_text("key-alpha team-a\n")
    keys.chmod(0o600)
    flags = ("--api-keys", str(keys), "--audit-log", str(audit))
    server = start_server(*flags)
    key = {"authorization": "Bearer key-alpha"}
    assert post(server, "first", headers=key)[0] == 200
    assert post(server, "stranger")[0] == 401
    with grpc_stub(server, stubs) as stub, pytest.raises(grpc.RpcError):
        stub.GetLoad(stubs[0].GetLoadRequest(), timeout=30)
    assert server.get("/health")[0] == 200
    for number, text in enumerate(("key-alpha team-a\nkey-beta team-b\n", "")):
        changed = tmp_path / "changed.txt"
        changed.write_text(text)
        changed.chmod(0o600)
        changed.rename(keys)  # at once: a file half written would be a change of its own
        eventually(lambda: sum(line["event"] == "keys_reloaded" for line in lines(audit)) == number + 1)
    server.stop()
    keys.write_text("key-alpha team-a\n")
    return audit, flags, server


def test_the_audit_log_tells_who_did_what(audited):
    audit, _, server = audited
    found = lines(audit)
    assert [line["event"] for line in found] == ["start", "request", "auth_refused", "auth_refused", "keys_reloaded",
                                                 "keys_reloaded", "stop"]
    request = found[1]
    assert (request["request_id"], request["tenant"], request["outcome"]) == ("first", "team-a", "ok")
    assert request["completion_tokens"] == 6 and request["prompt_tokens"] > 0
    assert [line["door"] for line in found if line["event"] == "auth_refused"] == ["http", "grpc"]
    reloads = [line for line in found if line["event"] == "keys_reloaded"]
    assert [(line["accepted"], line["keys"]) for line in reloads] == [(True, 2), (False, 2)]
    for word in (SECRET, "key-alpha", "key-beta", "127.0.0.1", "/health"):
        assert word not in audit.read_text()
    assert audit.stat().st_mode & 0o777 == 0o600
    last = check_by_hand(audit)
    result = verify(server.binary, audit, "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 0 and report["ok"] and report["stopped"] and report["records"] == len(found)
    assert report["last_hash"] == last and last in server.logs()


def test_tampering_and_truncation_are_found_and_the_line_is_named(audited, tmp_path):
    audit, _, server = audited
    original = audit.read_text().splitlines(keepends=True)
    last = json.loads(original[-1])["hash"]
    forged = tmp_path / "forged.log"
    changed = [line.replace("team-a", "team-z") for line in original]
    unchained = list(original)  # the hash of the forged line is right, the chain is not
    body = unchained[1][:-76].replace("team-a", "team-z")
    unchained[1] = f'{body},"hash":"{hashlib.sha256(body.encode()).hexdigest()}"}}\n'
    cases = {
        "line 2:": [changed, original[:1] + original[2:], original[:1] + original[:1] + original[1:],
                    original[:1] + [original[2], original[1]] + original[3:], original[:1] + ["\n"] + original[1:],
                    original[:1] + ["x" * 100_000 + "\n"], original[:1] + ['{"prev":"' + "0" * 64 + '"}\n']],
        "line 3:": [unchained],
        f"line {len(original)}:": [original[:-1] + [original[-1][:-1]], original[:-1] + [original[-1][:40]]],
    }
    for where, forgeries in cases.items():
        for forgery in forgeries:
            forged.write_text("".join(forgery))
            result = verify(server.binary, forged)
            assert result.returncode == 1 and where in result.stderr, result.stderr
    forged.write_text("".join(original[:-2]))
    result = verify(server.binary, forged)
    assert result.returncode == 0 and "does not end with a stop" in result.stdout
    assert verify(server.binary, forged, "--last-hash", last).returncode == 1
    assert verify(server.binary, audit, "--last-hash", last).returncode == 0
    forged.write_text("")
    assert verify(server.binary, forged).returncode == 1
    assert verify(server.binary, tmp_path / "absent").returncode == 1
    assert verify(server.binary).returncode == 2


def test_a_restart_continues_the_chain_even_after_a_crash(audited, start_server, binary, model):
    audit, flags, _ = audited
    before = lines(audit)
    server = start_server(*flags)
    assert post(server, "second", headers={"authorization": "Bearer key-alpha"})[0] == 200
    line_of(audit, "second")
    other = subprocess.run([binary, "serve", model, *flags, "--http-port", "0", "--grpc-port", "-1"],
                           capture_output=True, text=True, timeout=60)
    assert other.returncode == 1 and "another process" in other.stderr
    server.process.kill()
    server.wait()
    with audit.open("a") as file:
        file.write('{"prev":"torn')  # as a crash leaves it
    server = start_server(*flags)
    server.stop()
    found = lines(audit)
    check_by_hand(audit)
    assert found[:len(before)] == before
    assert [line["event"] for line in found[len(before):]] == ["start", "request", "recovered", "start", "stop"]
    assert next(line for line in found if line["event"] == "recovered")["torn_bytes"] == 13
    # A last line that is whole and wrong is no accident.
    audit.write_text(audit.read_text().replace('"event":"stop"', '"event":"stap"'))
    refused = subprocess.run([binary, "serve", model, *flags], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "audit-verify" in refused.stderr


# ---- Trace file.

def spans_of(events):
    """The asynchronous spans, by id: [(name, begin, end)], the outermost first."""
    out = {}
    for event in events:
        if event["ph"] == "b":
            out.setdefault(event["id"], []).append([event["name"], event["ts"], None])
        if event["ph"] == "e":
            open_span = [s for s in out[event["id"]] if s[0] == event["name"] and s[2] is None]
            open_span[-1][2] = event["ts"]
    return out


def check_trace(events, requests):
    steps = [e for e in events if e["name"] == "step"]
    assert [e["args"]["step"] for e in steps] == list(range(1, len(steps) + 1))
    for step in steps:
        end = step["ts"] + step["dur"]
        inside = [e for e in events if e["ph"] == "X" and e["name"] != "step" and
                  step["ts"] <= e["ts"] and e["ts"] + e["dur"] <= end + 0.002]
        assert [e["name"] for e in inside] == ["plan", "execute", "commit"]
        assert abs(sum(e["dur"] for e in inside) - step["dur"]) < 0.01
        args = step["args"]
        assert args["rows"] >= 1 and args["decode_tokens"] + args["prefill_tokens"] >= 1
        assert 0 < args["kv_blocks_held"] <= args["kv_blocks"] and args["running"] >= 1
    for earlier, later in zip(steps, steps[1:]):
        assert earlier["ts"] + earlier["dur"] <= later["ts"] + 0.002
    spans = spans_of(events)
    assert len(spans) == requests
    for names in spans.values():
        (name, begin, end), *phases = names
        assert name == "request" and [p[0] for p in phases] == ["queue", "prefill", "decode"]
        for _, phase_begin, phase_end in phases:
            assert begin <= phase_begin <= phase_end <= end
            begin = phase_end
    return steps


def test_the_trace_file_shows_steps_and_requests(start_server, tmp_path):
    path = tmp_path / "trace.json"
    path.write_text("what was here before")
    server = start_server("--trace-file", str(path))
    threads = [threading.Thread(target=post, args=(server, f"traced-{i}")) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.stop()
    events = json.loads(path.read_text())
    steps = check_trace(events, 3)
    assert sum(e["args"]["decode_tokens"] for e in steps) >= 15
    begin = next(e for e in events if e["ph"] == "b" and e["name"] == "request")
    assert begin["args"]["request_id"].startswith("traced-") and begin["args"]["completion_tokens"] == 6
    assert SECRET not in path.read_text()


def test_the_trace_of_a_killed_process_lacks_only_its_end(start_server, tmp_path):
    path = tmp_path / "trace.json"
    server = start_server("--trace-file", str(path))
    assert post(server, "traced")[0] == 200
    eventually(lambda: '"request_id":"traced"' in path.read_text())
    server.process.kill()
    server.wait()
    text = path.read_text()
    assert not text.rstrip().endswith("]")
    check_trace(json.loads(text + "]"), 1)


# The names that inference-perf, AIPerf, llm-d and the Gateway API inference extension read: a contract.
ALIASES = {
    "gauge": {"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info", "lora_requests_info"},
    "counter": {"prompt_tokens_total", "generation_tokens_total", "request_success_total", "num_preemptions_total",
                "prefix_cache_queries_total", "prefix_cache_hits_total"},
    "histogram": {"time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
                  "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
                  "request_inference_time_seconds", "request_prompt_tokens", "request_generation_tokens",
                  "iteration_tokens_total"}}


def test_the_aliases_of_this_field_are_all_there_and_no_others(server):
    text = server.get("/metrics")[2].decode()
    seen = re.findall(r"^# TYPE vllm:(\w+) (\w+)$", text, re.M)
    assert sorted(seen) == sorted((name, kind) for kind, names in ALIASES.items() for name in names)
    for labels in re.findall(r"^vllm:\w+\{(.*)\} ", text, re.M):
        assert 'model_name="demo"' in labels and 'engine="0"' in labels, labels
    [lora] = re.findall(r"^vllm:lora_requests_info\{(.*)\} ", text, re.M)
    assert set(re.findall(r"(\w+)=", lora)) >= {"max_lora", "running_lora_adapters", "waiting_lora_adapters"}
    assert set(re.findall(r"^vllm:request_success_total\{.*finished_reason=\"(\w+)\"", text, re.M)) >= {"stop", "length", "abort"}
