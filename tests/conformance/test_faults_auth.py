"""Strangers and neighbours: every route but liveness needs a key, keys rotate, no tenant finds another's prefix."""
import hashlib
import http.client
import json
import time

import grpc
import pytest

from doors import call, http_verdict, post
from rule_p import CANARY

KEY, OTHER = "key-of-team-a", "key-of-team-b"
ROUTES = [("GET", path) for path in ("/metrics", "/version", "/v1/models", "/v1/models/demo", "/v1/requests",
                                     "/tokenizer_info", "/nothing")]
ROUTES += [("POST", path) for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize")]
ROUTES += [("DELETE", "/v1/requests/x"), ("OPTIONS", "/v1/models"), ("HEAD", "/v1/models")]
OPEN = ["/health", "/ready", "/", "/page/config.json"]
STRANGERS = {
    "none": {}, "empty": {"authorization": "Bearer "}, "wrong": {"authorization": "Bearer " + CANARY},
    "prefix": {"authorization": "Bearer " + KEY[:-1]}, "longer": {"authorization": "Bearer " + KEY + "x"},
    "case": {"authorization": "Bearer " + KEY.upper()}, "huge": {"authorization": "Bearer " + "x" * 50000},
    "basic": {"authorization": "Basic " + KEY}, "api-key": {"api-key": CANARY},
    "its digest": {"authorization": "Bearer sha256:" + hashlib.sha256(KEY.encode()).hexdigest()},
}


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"{KEY} team-a\n{OTHER} team-b\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def guarded(guard_server, key_file):
    return guard_server("--api-keys", str(key_file), key=KEY)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_learns_nothing_on_any_route(guarded, name):
    answers = set()
    with guarded.holds(http=len(ROUTES) + len(OPEN), grpc=0):
        for method, path in ROUTES + [("GET", path) for path in OPEN]:
            connection = http.client.HTTPConnection("127.0.0.1", guarded.server.http_port, timeout=30)
            body = json.dumps({"model": CANARY, "prompt": CANARY}) if method == "POST" else None
            connection.request(method, path, body, STRANGERS[name])
            answer = connection.getresponse()
            data, headers = answer.read(), {k.lower(): v for k, v in answer.getheaders()}
            connection.close()
            if path in OPEN:
                assert answer.status == 200
                continue
            assert answer.status == 401 and headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                http_verdict(401, headers, data, secrets=[KEY, OTHER])
                answers.add(data)
    assert len(answers) == 1, "a path that is there looks like one that is not"


def test_a_stranger_over_grpc_learns_nothing(guarded):
    pb, stub = guarded.pb, guarded.stub
    calls = [(stub.Generate, pb.GenerateRequest(prompt=CANARY)), (stub.Tokenize, pb.TokenizeRequest(text=CANARY)),
             (stub.Detokenize, pb.DetokenizeRequest(token_ids=[1])), (stub.Abort, pb.AbortRequest(request_id="x")),
             (stub.GetModelInfo, pb.GetModelInfoRequest()), (stub.GetServerInfo, pb.GetServerInfoRequest()),
             (stub.GetLoad, pb.GetLoadRequest())]
    strangers = [(), (("authorization", ""),), (("authorization", "Bearer " + KEY[:-1]),), (("authorization", CANARY),),
                 (("authorization", KEY),), (("authorization", "Basic " + KEY),), (("api-key", CANARY),),
                 (("api-key", "Bearer " + KEY),)]
    with guarded.holds(http=0, grpc=len(calls) * len(strangers)):
        for metadata in strangers:
            for method, request in calls:
                verdict = call(method, request, metadata, secrets=[KEY, OTHER])
                assert (verdict.status, verdict.code) == (401, "invalid_api_key"), verdict


def test_both_doors_take_a_key_in_the_same_places_and_refuse_in_the_same_words(guarded):
    pb = guarded.pb
    places = [("authorization", "Bearer " + KEY), ("authorization", "bearer " + KEY), ("api-key", KEY)]
    refused = [(), (("authorization", KEY),), (("authorization", "Bearer x"),), (("api-key", "x"),)]
    tries = [(place,) for place in places] + refused
    with guarded.holds(http=len(tries), grpc=len(tries)):
        for metadata in tries:
            http = post(guarded.server, "/tokenize", {"prompt": "x"}, headers=dict(metadata))
            grpc = call(guarded.stub.Tokenize, pb.TokenizeRequest(text="x"), metadata)
            assert http.status == grpc.status == (401 if metadata in refused else 200), metadata
            assert (http.code, http.message) == (grpc.code, grpc.message)


def test_a_prefix_of_one_tenant_is_no_hit_of_another(guarded):
    pb = guarded.pb
    prompt = "A secret that only one of them knows. " * 8

    def cached(door, key):
        if door == "http":
            fields = {"model": "demo", "prompt": prompt, "max_tokens": 1}
            usage = post(guarded.server, "/v1/completions", fields, headers={"authorization": f"Bearer {key}"}).json["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"]
        answers = list(guarded.stub.Generate(pb.GenerateRequest(prompt=prompt, max_tokens=1),
                                             metadata=(("authorization", f"Bearer {key}"),), timeout=30))
        return answers[-1].usage.cached_tokens

    with guarded.holds(http=3, grpc=3):
        assert [cached("http", KEY), cached("grpc", OTHER)] == [0, 0]
        assert cached("grpc", KEY) > 100 and cached("http", KEY) > 100
        assert cached("http", OTHER) > 100 and cached("grpc", OTHER) > 100, "each finds its own"


def test_keys_rotate_without_a_restart(guarded, key_file):
    def status(key):
        return post(guarded.server, "/tokenize", {"prompt": "x"}, headers={"authorization": f"Bearer {key}"}).status

    def until(done):
        deadline = time.monotonic() + 30
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with guarded.holds(http=None, grpc=0):
        assert status("key-to-come") == 401
        key_file.write_text(f"{KEY} team-a\nkey-to-come team-b\n")
        until(lambda: status("key-to-come") == 200)
        assert status(OTHER) == 401
        for nonsense in ("", "sha256:xyz\n", "x" * (20 << 20)):
            refused = guarded.server.logs().count("key file refused")
            key_file.write_text(nonsense)
            until(lambda: guarded.server.logs().count("key file refused") > refused)
            assert status(KEY) == 200 and status("key-to-come") == 200, "the keys before it stay in force"
        key_file.unlink()
        until(lambda: guarded.server.logs().count("key file refused") > refused + 1)
        assert status(KEY) == 200
        key_file.write_text(f"{KEY} team-a\n{OTHER} team-b\n")
        key_file.chmod(0o600)
        until(lambda: status(OTHER) == 200)
    for key in (OTHER, "key-to-come"):
        assert key not in guarded.server.logs()
