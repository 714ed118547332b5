"""Faults of the device, through both doors: no KV blocks left, and logits that are no numbers. Rule P holds. (An
allocation that fails within a step has no way in from outside: tests/simulation.)"""
import concurrent.futures
import http.client
import json

import pytest

import tiny_model
from doors import call, post
from rule_p import CANARY

POISON = "\x01"


@pytest.fixture(scope="module")
def small(guard_server):
    """Room for one and a half contexts, so that those who run together preempt each other."""
    return guard_server("--kv-cache-memory", "3MiB", "--max-running", "12")


def test_a_full_kv_cache_preempts_and_computes_the_same_again(small):
    fields = [{"prompt": f"{i} " * (20 + 5 * i), "max_tokens": 900, "seed": i, "temperature": 0.8} for i in range(6)]

    def over_http(one):
        verdict = post(small.server, "/v1/completions", {"model": "demo", "ignore_eos": True, **one})
        assert verdict.status == 200, verdict
        return verdict.json["choices"][0]["text"]

    def over_grpc(one):
        sampling = small.pb.SamplingParams(seed=one["seed"], temperature=one["temperature"])
        request = small.pb.GenerateRequest(prompt=one["prompt"], max_tokens=one["max_tokens"], ignore_eos=True,
                                           sampling=sampling)
        return "".join(answer.text for answer in small.stub.Generate(request, timeout=120))

    solo = [over_http(one) for one in fields]
    before = small.scrape().sum("trireme_preemptions_total")
    with small.holds(http=len(fields), grpc=len(fields)), concurrent.futures.ThreadPoolExecutor(12) as pool:
        jobs = [(pool.submit(over_http, one), pool.submit(over_grpc, one)) for one in fields]
        for alone, (http_job, grpc_job) in zip(solo, jobs):
            assert http_job.result() == alone and grpc_job.result() == alone
    assert small.scrape().sum("trireme_preemptions_total") - before >= 3


@pytest.fixture(scope="module")
def poisoned(guard_server, tmp_path_factory):
    """A model in which one token makes NaN of everything that sees it."""
    path = tiny_model.write_random(tmp_path_factory.mktemp("poisoned") / "tiny", poison=ord(POISON))
    return guard_server("--kv-cache-memory", "4MiB", model=str(path))


def test_logits_that_are_no_numbers_fail_their_request_alone(poisoned):
    """Beside the witnesses, and again and again, so that its KV blocks come to others."""
    fields = {"model": "demo", "prompt": CANARY + POISON, "max_tokens": 8}
    for i in range(5):
        with poisoned.holds(http=2, grpc=1):
            verdict = post(poisoned.server, "/v1/completions", fields)
            assert (verdict.status, verdict.code) == (500, "internal_error"), verdict
            assert call(poisoned.stub.Generate, poisoned.pb.GenerateRequest(
                prompt=fields["prompt"], max_tokens=8)).status == 500
            connection = http.client.HTTPConnection("127.0.0.1", poisoned.server.http_port, timeout=60)
            connection.request("POST", "/v1/completions", json.dumps({**fields, "stream": True}),
                               {"content-type": "application/json"})
            streamed = connection.getresponse().read()
            connection.close()
            assert b'"error":' in streamed and b"[DONE]" not in streamed and CANARY.encode() not in streamed
