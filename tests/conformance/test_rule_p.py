"""The checker itself: each breach of rule P is caught."""
import http.client
import json

import pytest

from rule_p import CANARY


@pytest.fixture
def strict(guard_server):
    """A server of its own, and a checker without patience."""
    rule_p = guard_server()
    rule_p.patience_s = 0.3
    return rule_p


def expect(rule_p, words, breach, **counts):
    with pytest.raises(AssertionError, match=words):
        with rule_p.holds(**counts):
            left_open = breach()
    if left_open:
        left_open.close()


def test_breaches_are_caught(strict):
    def connect():
        connection = http.client.HTTPConnection("127.0.0.1", strict.server.http_port)
        connection.connect()
        return connection

    def stream():
        connection = connect()
        body = {"model": "demo", "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "n": 64}
        connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        return connection

    def health():
        assert strict.server.get("/health")[0] == 200

    def tell():
        strict.server._stderr_lines.append(json.dumps({"event": CANARY}) + "\n")

    expect(strict, "connections", connect, http=0, grpc=0)
    expect(strict, "running", stream, http=None, grpc=0)
    strict.server.wait_idle()
    expect(strict, "http requests counted", health, http=0, grpc=0)
    expect(strict, "http requests counted", health, http=2, grpc=0)
    expect(strict, "grpc requests counted", health, http=1, grpc=1)
    expect(strict, "the log tells", tell, http=0, grpc=0)
    strict.solo = strict.solo[:-1] + "?"
    expect(strict, "the HTTP witness was disturbed", lambda: None, http=0, grpc=0)


def test_a_death_is_caught(guard_server):
    rule_p = guard_server()

    def kill():
        rule_p.server.process.kill()
        rule_p.server.wait()

    expect(rule_p, "the process died", kill)
