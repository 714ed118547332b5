"""Many streams at once: every output equals its solo run, and everything comes back to baseline (rule P)."""
import concurrent.futures
import http.client
import json
import random

import grpc
import pytest

STREAMS = 64
WORDS = "the sea a house of red winter stories about machines that learn to sing in seven small towns".split()


def make_request(seed):
    """Mixed prompt lengths (some share prefixes), mixed lengths, greedy and sampled."""
    rng = random.Random(seed)
    shared = "You are a patient teacher. " * (8 if seed % 3 == 0 else 0)
    prompt = shared + " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 120)))
    return {"model": "demo", "prompt": prompt, "max_tokens": rng.randint(1, 24), "seed": seed,
            "temperature": 0 if seed % 2 else 0.9, "top_p": 0.95, "ignore_eos": True, "stream": True, "logprobs": 1,
            "stream_options": {"include_usage": True}}


def stream(server, stubs, body, stop_after=None):
    """All that one streamed completion says, logprobs to the last bit; with stop_after the client hangs up after that
    many events."""
    door = stream_grpc if body["seed"] % 4 == 3 else stream_http
    return door(server, stubs, body, stop_after)


def stream_grpc(server, stubs, body, stop_after):
    pb, pb_grpc = stubs
    request = pb.GenerateRequest(
        prompt=body["prompt"], max_tokens=body["max_tokens"], ignore_eos=body["ignore_eos"],
        sampling=pb.SamplingParams(seed=body["seed"], temperature=body["temperature"], top_p=body["top_p"],
                                   logprobs=body["logprobs"]))
    said = {"text": "", "tokens": [], "logprobs": [], "finish": [], "usage": None}
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = pb_grpc.InferenceStub(channel).Generate(request, timeout=300)
        if stop_after == 0:
            call.cancel()
            return None
        for events, answer in enumerate(call, 1):
            said["text"] += answer.text
            said["tokens"] += answer.token_ids
            said["logprobs"] += [entry.logprob for entry in answer.logprobs]
            if answer.finish_reason:
                said["finish"].append(answer.finish_reason)
            if answer.HasField("usage"):
                said["usage"] = (answer.usage.prompt_tokens, answer.usage.completion_tokens)
            if events == stop_after:
                call.cancel()
                return None
    return said


def stream_http(server, stubs, body, stop_after):
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    said = {"text": "", "tokens": [], "logprobs": [], "finish": [], "usage": None}
    events = 0
    while True:
        line = answer.readline()
        if not line.startswith(b"data: "):
            assert line, "the stream ended without [DONE]"
            continue
        if line == b"data: [DONE]\n":
            break
        event = json.loads(line[6:])
        for choice in event["choices"]:
            said["text"] += choice["text"]
            if choice.get("logprobs"):
                said["tokens"] += choice["logprobs"]["tokens"]
                said["logprobs"] += choice["logprobs"]["token_logprobs"]
            if choice["finish_reason"]:
                said["finish"].append(choice["finish_reason"])
        if event.get("usage"):
            said["usage"] = (event["usage"]["prompt_tokens"], event["usage"]["completion_tokens"])
        events += 1
        if stop_after is not None and events >= stop_after:
            connection.close()
            return None
    connection.close()
    return said


@pytest.mark.parametrize("flags, extra_tokens", [
    ((), 0),
    # Little KV memory, small chunks and answers long enough to outgrow what admission found free: preemption,
    # recomputation and chunked prefill all happen.
    (("--max-prefill-chunk", "48", "--max-step-tokens", "160"), 40),
], ids=["roomy", "tight"])
def test_concurrent_streams_equal_their_solo_runs(start_server, stubs, model, flags, extra_tokens):
    if extra_tokens:
        flags += ("--kv-cache-memory", "12MiB" if model.endswith(".gguf") else "640KiB")
    server = start_server("--threads", "2", "--max-context", "1024", *flags)
    bodies = [make_request(seed) for seed in range(STREAMS)]
    for body in bodies:
        body["max_tokens"] += extra_tokens
    with concurrent.futures.ThreadPoolExecutor(2 * STREAMS) as pool:
        kept = [pool.submit(stream, server, stubs, body) for body in bodies]
        # Neighbours that hang up: at once, or in the middle.
        dropped = [pool.submit(stream, server, stubs, {**make_request(1000 + i), "max_tokens": 64}, i % 5)
                   for i in range(STREAMS // 2)]
        together = [future.result() for future in kept]
        for future in dropped:
            future.result()
    server.wait_idle()
    for body, said in zip(bodies, together):
        assert said["usage"][1] == body["max_tokens"] == len(said["tokens"]) == len(said["logprobs"])
        assert len(said["finish"]) == 1
        assert said == stream(server, stubs, body)
    server.wait_idle()
    if flags:
        assert server.metric("trireme_preemptions_total") > 0, "the tight case did not preempt"
    server.stop()


def test_hundred_disconnects_leave_nothing_behind(server, stubs):
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda i: stream(server, stubs, {**make_request(i), "max_tokens": 200}, i % 4), range(100)))
    server.wait_idle()
