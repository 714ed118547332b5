"""Requests in flight: one list and one way to cancel for both doors, each tenant to itself."""
import contextlib
import http.client
import json
import threading
import time
import urllib.parse

import grpc
import openai
import pytest

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Count to a thousand."}], "temperature": 0,
        "ignore_eos": True, "max_tokens": 4000}


def start_stream(server, request_id, headers=None, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps({**CHAT, "stream": True, **fields}),
                       {"content-type": "application/json", "x-request-id": request_id, **(headers or {})})
    answer = connection.getresponse()
    assert answer.status == 200 and answer.readline().startswith(b"data: ")
    return answer


def listed(server, headers=None):
    status, _, body = server.get("/v1/requests", headers)
    assert status == 200
    return {request["id"]: request for request in json.loads(body)["data"]}


def cancel(server, request_id, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)
    with contextlib.closing(connection):
        connection.request("DELETE", "/v1/requests/" + urllib.parse.quote(request_id, safe=""), headers=headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def wait_until_listed(server, request_id):
    deadline = time.monotonic() + 60
    while request_id not in listed(server):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stream_is_listed_and_its_cancellation_is_its_last_event(server):
    answer = start_stream(server, "to/cancel")
    answer.readline()
    answer.readline()
    request = listed(server)["to/cancel"]
    assert request["door"] == "http" and request["stream"] is True and request["model"] == "demo"
    assert request["state"] == "generating" and request["generated_tokens"] >= 1 and request["prompt_tokens"] > 5
    assert request["age_ms"] >= 0
    assert "thousand" not in json.dumps(request), "no prompt text"
    assert cancel(server, "to/cancel") == (200, {"id": "to/cancel", "object": "request", "cancelled": True})
    rest = answer.read().decode()
    last = [line for line in rest.splitlines() if line.startswith("data: ")][-1]
    assert json.loads(last[6:])["error"]["code"] == "cancelled"
    assert "[DONE]" not in rest
    server.wait_idle()
    assert cancel(server, "to/cancel")[0] == 404


def test_the_openai_client_reports_a_cancelled_stream(server, client):
    stream = client.chat.completions.create(stream=True, extra_headers={"x-request-id": "by-openai"},
                                            extra_body={"ignore_eos": True},
                                            **{k: v for k, v in CHAT.items() if k != "ignore_eos"})
    next(stream)
    assert cancel(server, "by-openai")[0] == 200
    with pytest.raises(openai.APIError, match="cancelled"):
        list(stream)


def test_a_whole_answer_fails_without_being_tried_again(server):
    patient = openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=5, timeout=120)
    failures = []

    def ask():
        with pytest.raises(openai.APIStatusError) as raised:
            patient.chat.completions.create(extra_headers={"x-request-id": "whole"}, extra_body={"ignore_eos": True},
                                            **{k: v for k, v in CHAT.items() if k != "ignore_eos"})
        failures.append(raised.value)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_until_listed(server, "whole")
    assert cancel(server, "whole")[0] == 200
    thread.join(60)
    assert failures[0].status_code == 499 and failures[0].code == "cancelled"
    assert "whole" not in listed(server)
    server.wait_idle()


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_urls_resolve_are_not_taken(server, stub, stubs, name):
    answer = start_stream(server, name)
    (given,) = listed(server)
    assert given == answer.headers["x-request-id"] and given.startswith("req_")
    assert cancel(server, given)[0] == 200
    assert b'"code":"cancelled"' in answer.read()
    with pytest.raises(grpc.RpcError) as raised:
        list(stub.Generate(stubs[0].GenerateRequest(prompt="x", max_tokens=1, request_id=name), timeout=60))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "request_id" in raised.value.details()
    server.wait_idle()


def test_each_door_lists_and_cancels_what_came_through_the_other(server, stub, stubs):
    pb = stubs[0]
    call = stub.Generate(pb.GenerateRequest(prompt="x", max_tokens=4000, ignore_eos=True, request_id="over-grpc"),
                         timeout=120)
    next(call)
    assert listed(server)["over-grpc"]["door"] == "grpc"
    assert cancel(server, "over-grpc")[0] == 200
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    assert raised.value.code() == grpc.StatusCode.CANCELLED
    assert dict(raised.value.trailing_metadata())["trireme-code"] == "cancelled"

    answer = start_stream(server, "over-http")
    assert stub.Abort(pb.AbortRequest(request_id="over-http"), timeout=30).found
    assert b'"code":"cancelled"' in answer.read()
    server.wait_idle()
    assert listed(server) == {}


def test_a_tenant_neither_sees_nor_cancels_what_is_anothers(start_server, stubs, tmp_path):
    pb, pb_grpc = stubs
    keys = tmp_path / "keys.txt"
    keys.write_text("key-a team-a\nkey-b team-b\n")
    keys.chmod(0o600)
    server = start_server("--api-keys", str(keys))
    a, b = ({"authorization": f"Bearer key-{name}"} for name in "ab")
    answer = start_stream(server, "same-id", a)
    assert set(listed(server, a)) == {"same-id"} and listed(server, b) == {}
    assert server.get("/v1/requests")[0] == 401
    assert cancel(server, "same-id", b)[0] == 404
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        found = pb_grpc.InferenceStub(channel).Abort(
            pb.AbortRequest(request_id="same-id"), metadata=(("authorization", "Bearer key-b"),), timeout=30).found
    assert not found
    assert b'"error"' not in answer.readline() + answer.readline(), "it goes on"
    theirs = start_stream(server, "same-id", b)
    assert cancel(server, "same-id", b)[0] == 200
    assert b'"code":"cancelled"' in theirs.read()
    assert set(listed(server, a)) == {"same-id"}
    assert cancel(server, "same-id", a)[0] == 200
    assert b'"code":"cancelled"' in answer.read()
    server.stop()
