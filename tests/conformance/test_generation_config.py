"""generation_config.json through HTTP: its values are the defaults of every request, and a request's own win."""
import http.client
import json
import math
import subprocess

import pytest

import tiny_model
from conftest import Server

A, B, C, D = (ord(letter) for letter in "ABCD")
# A chance of 8 : 4 : 2 : 1 for A, B, C, D at temperature 1; the rest never.
WEIGHTS = {A: 8, B: 4, C: 2, D: 1}


def head(token):
    return math.log(WEIGHTS[token]) if token in WEIGHTS else -30.0


@pytest.fixture
def serve(binary, tmp_path):
    started = []

    def start(config):
        directory = tiny_model.write(tmp_path / "tiny", config, head)
        started.append(Server(binary, str(directory), "--threads", "1"))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def complete(server, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    body = {"model": "demo", "prompt": "x", "max_tokens": 1, **fields}
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    assert answer.status == 200, content
    return content["choices"][0]


def seen(server, count=48, **fields):
    """The first letters that `count` seeds give."""
    return {complete(server, seed=seed, **fields)["text"] for seed in range(count)}


def test_without_the_file_every_token_may_come(serve):
    assert seen(serve(None), 200) == set("ABCD")


def test_temperature_applies_and_a_request_overrides_it(serve):
    server = serve({"temperature": 0.0})
    assert seen(server) == {"A"}
    assert len(seen(server, temperature=2)) > 2


def test_top_k_applies(serve):
    server = serve({"top_k": 2})
    assert seen(server) == {"A", "B"}
    assert len(seen(server, 200, top_k=0)) == 4


def test_top_p_applies(serve):
    # A has 8/15, A and B 12/15: 0.7 is reached with the second.
    server = serve({"top_p": 0.7})
    assert seen(server) == {"A", "B"}
    assert len(seen(server, 200, top_p=1)) == 4


def test_repetition_penalty_applies(serve):
    server = serve({"temperature": 0.0, "repetition_penalty": 10.0})
    # log 8 / 10 is below log 4: once A stands in the text, B is next, then C.
    assert complete(server, max_tokens=3)["text"] == "ABC"
    assert complete(server, max_tokens=3, repetition_penalty=1.0)["text"] == "AAA"


def test_every_eos_id_of_a_list_ends_the_answer(serve):
    server = serve({"temperature": 0.0, "repetition_penalty": 10.0, "eos_token_id": [tiny_model.EOS, C]})
    choice = complete(server, max_tokens=20)
    assert (choice["text"], choice["finish_reason"]) == ("AB", "stop")


@pytest.mark.parametrize("field, value", [("temperature", 3.0), ("top_p", 0.0), ("top_k", -7),
                                          ("repetition_penalty", 0.0), ("eos_token_id", "</s>")])
def test_values_out_of_range_are_refused_at_load(binary, tmp_path, field, value):
    directory = tiny_model.write(tmp_path / "tiny", {field: value}, head)
    result = subprocess.run([binary, "serve", str(directory), "--http-port", "0", "--grpc-port", "-1"],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert f"{directory}/generation_config.json" in result.stderr and field in result.stderr
