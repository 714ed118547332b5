"""Clients that vanish, stall or storm, through both doors: rule P holds, and what nobody waits for is not computed."""
import concurrent.futures
import json
import socket
import time

import grpc
import pytest

from doors import call, http_verdict
from rule_p import CANARY, WITNESS

LONG = CANARY + " word" * 300  # 1,500 tokens and more of the tiny model
RESET = b"\1\0\0\0\0\0\0\0"    # SO_LINGER: close with a reset


@pytest.fixture(scope="module")
def narrow(guard_server):
    """The witnesses and one more sequence run at a time, prompts are computed in small pieces."""
    return guard_server("--max-running", "3", "--max-prefill-chunk", "8")


class HttpClient:
    """One streamed completion, by socket."""

    def __init__(self, rule_p, request_id="", **fields):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", rule_p.server.http_port))
        body = json.dumps({"model": "demo", "stream": True, "ignore_eos": True, **fields}).encode()
        self.socket.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nx-request-id: %s\r\n"
                            b"Content-Length: %d\r\n\r\n" % (request_id.encode(), len(body)) + body)

    def read_some(self):
        assert self.socket.recv(16)

    def read_all(self):
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def leave(self, how):
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()


class GrpcClient:
    def __init__(self, rule_p, **fields):
        self.call = rule_p.stub.Generate(rule_p.pb.GenerateRequest(ignore_eos=True, **fields), timeout=120)

    def read_some(self):
        next(self.call)

    def leave(self, how):
        self.call.cancel()
        if how == "twice":
            self.call.cancel()


def state_of(rule_p, request_id):
    found = [r["state"] for r in json.loads(rule_p.get("/v1/requests"))["data"] if r["id"] == request_id]
    return found[0] if found else None


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


WAYS = [(HttpClient, "close"), (HttpClient, "reset"), (GrpcClient, "cancel"), (GrpcClient, "twice")]


def counts(client):
    return {"http": 1, "grpc": 0} if client is HttpClient else {"http": 0, "grpc": 1}


@pytest.mark.parametrize("client, how", WAYS)
def test_leaving_while_queued_costs_no_prefill(narrow, client, how):
    before = narrow.scrape()
    with narrow.holds(http=None, grpc=None):
        blocker = HttpClient(narrow, prompt="x", n=32, max_tokens=1900)  # fills all slots, and goes on to
        blocker.read_some()
        victim = client(narrow, prompt=LONG, request_id="victim")
        until(lambda: state_of(narrow, "victim") == "waiting")
        victim.leave(how)
        until(lambda: state_of(narrow, "victim") is None)
        blocker.leave("close")
    after = narrow.scrape()
    assert after.sum("trireme_prompt_tokens_total") - before.sum("trireme_prompt_tokens_total") < len(LONG) / 2


@pytest.mark.parametrize("client, how", WAYS)
def test_leaving_while_the_prompt_is_computed_cancels(narrow, client, how):
    prompt = f"{client.__name__} {how} {LONG}"  # no prefix in the cache
    before = narrow.scrape()
    with narrow.holds(**counts(client)):
        victim = client(narrow, prompt=prompt)
        # Two of the three that run are the witnesses, while they last.
        until(lambda: narrow.scrape().sum("trireme_prompt_tokens_total") > before.sum("trireme_prompt_tokens_total") + 64)
        victim.leave(how)
    after = narrow.scrape()
    aborted = [scrape.sum("trireme_requests_finished_total", 'finished_reason="abort"') for scrape in (before, after)]
    assert aborted[1] - aborted[0] == 1


@pytest.mark.parametrize("client, how", WAYS)
def test_leaving_while_tokens_come_cancels(narrow, client, how):
    before = narrow.scrape()
    with narrow.holds(**counts(client)):
        victim = client(narrow, prompt="x", max_tokens=1900)
        victim.read_some()
        victim.leave(how)
    after = narrow.scrape()
    generated = [scrape.sum("trireme_generation_tokens_total") for scrape in (before, after)]
    assert generated[1] - generated[0] < 1900 + 2 * WITNESS["max_tokens"]


# ---- How much is still computed for those who have left. Alone on the node, so that every step is theirs. The engine
# itself takes two steps (tests/simulation asserts it); here threads and the network pass the news on while it goes on.


FEW_STEPS = 100  # where 700 to 1,900 are to come


def stops_within_few_steps(attempt):
    """`attempt` gives the steps that were computed all the same. At one of three: a step takes a fraction of what a busy
    machine may keep a thread waiting that passes the news on."""
    computed = []
    while not computed or (computed[-1] > FEW_STEPS and len(computed) < 3):
        computed.append(attempt(len(computed)))
    assert computed[-1] <= FEW_STEPS, computed


LEAVES = {"queue": dict(prompt="y", max_tokens=1900), "prefill": dict(prompt=LONG, max_tokens=400),
          "decode": dict(prompt="x", max_tokens=1900)}


def steps(rule_p):
    return rule_p.scrape().sum("trireme_steps_total")


@pytest.fixture(scope="module")
def alone(guard_server):
    return guard_server("--max-running", "2", "--max-prefill-chunk", "4")


@pytest.mark.parametrize("client", [HttpClient, GrpcClient])
@pytest.mark.parametrize("phase", LEAVES)
def test_a_cancelled_request_computes_few_more_steps(alone, client, phase):
    before = alone.scrape()
    stops_within_few_steps(lambda attempt: steps_after_abort(alone, client, phase, attempt))
    after = alone.scrape()
    aborted = [scrape.sum("trireme_requests_finished_total", 'finished_reason="abort"') for scrape in (before, after)]
    assert aborted[1] > aborted[0], "it was cancelled, and had not ended by itself"


def steps_after_abort(alone, client, phase, attempt):
    fields = {**LEAVES[phase], "prompt": f"{client.__name__} {phase} {attempt} {LEAVES[phase]['prompt']}"}
    with alone.holds(witnessed=False):
        before = steps(alone)
        victims = [client(alone, request_id="victim", n=1 if phase == "prefill" else 2, **fields)]
        if phase == "queue":
            victims[0].read_some()
            victims.append(client(alone, request_id="victim-2", **fields))
            until(lambda: state_of(alone, "victim-2") == "waiting")
        elif phase == "prefill":
            until(lambda: steps(alone) > before)
        else:
            victims[0].read_some()
        for name in ("victim-2", "victim")[2 - len(victims):]:
            alone.stub.Abort(alone.pb.AbortRequest(request_id=name), timeout=30)
        known = steps(alone)
        until(lambda: not json.loads(alone.get("/v1/requests"))["data"])
        computed = steps(alone) - known
        for victim in victims:
            victim.leave("close" if client is HttpClient else "cancel")
    return computed


@pytest.mark.parametrize("client, how", WAYS)
def test_a_client_that_left_is_noticed_within_few_steps(rule_p, client, how):
    def steps_after_leaving(attempt):
        with rule_p.holds(witnessed=False):
            victim = client(rule_p, prompt=f"{client.__name__} {how} {attempt}", n=64, max_tokens=1900)
            victim.read_some()
            left = steps(rule_p)
            victim.leave(how)
            until(lambda: not json.loads(rule_p.get("/v1/requests"))["data"])
            return steps(rule_p) - left

    stops_within_few_steps(steps_after_leaving)


def test_a_half_closed_client_is_served(rule_p):
    with rule_p.holds(http=1, grpc=0):
        client = HttpClient(rule_p, **WITNESS)
        client.socket.shutdown(socket.SHUT_WR)
        data = client.read_all()
        client.leave("close")
    events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: {")]
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == rule_p.solo


def test_a_slow_reader_loses_nothing_and_holds_nobody_up(rule_p):
    fields = {"prompt": "slow", "max_tokens": 1900, "seed": 3, "logprobs": 20}

    def read(reader):
        events = [line[6:] for line in reader.read_all().splitlines() if line.startswith(b"data: ")]
        reader.leave("close")
        assert events.pop() == b"[DONE]"
        choices = [json.loads(event)["choices"][0] for event in events]  # of one step each, or of several
        return "".join(c["text"] for c in choices), [p for c in choices for p in c["logprobs"]["top_logprobs"]]

    solo = read(HttpClient(rule_p, **fields))
    with rule_p.holds(http=2, grpc=0):
        readers = [HttpClient(rule_p, **fields) for _ in range(2)]
        assert [read(reader) for reader in readers] == [solo, solo]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_connections_that_say_nothing_cost_nothing(rule_p, how):
    with rule_p.holds(http=0, grpc=0):
        for port in (rule_p.server.http_port, rule_p.server.grpc_port):
            for _ in range(200):
                connection = socket.create_connection(("127.0.0.1", port), timeout=30)
                if how == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()


def test_a_retry_storm_is_told_to_come_back(guard_server):
    rule_p = guard_server("--max-running", "4", "--max-waiting", "6")
    pb = rule_p.pb
    storm = 150

    def over_http(i):
        client = HttpClient(rule_p, prompt=f"{i}", max_tokens=200)
        head, _, body = client.read_all().partition(b"\r\n\r\n")
        client.leave("close")
        headers = dict(line.decode().lower().split(": ", 1) for line in head.split(b"\r\n")[1:])
        status = int(head.split()[1])
        return status if status == 200 else http_verdict(status, headers, body).status

    def over_grpc(i):
        return call(rule_p.stub.Generate, pb.GenerateRequest(prompt=f"{i}", max_tokens=200, ignore_eos=True)).status

    with rule_p.holds(http=storm, grpc=storm), concurrent.futures.ThreadPoolExecutor(64) as pool:
        jobs = [pool.submit(door, i) for i in range(storm) for door in (over_http, over_grpc)]
        seen = {job.result() for job in jobs}
    assert seen == {200, 429}


# ---- gRPC alone.


def test_a_deadline_in_the_queue_expires_without_a_prefill(narrow):
    before = narrow.scrape()
    def expired():
        verdict = call(narrow.stub.Generate, narrow.pb.GenerateRequest(prompt=LONG), timeout=0.2)
        assert verdict.status == 504
        # The server's own verdict, and not only the client's clock: mostly they race, and a client cancels.
        return (narrow.scrape().sum("trireme_grpc_requests_total", 'code="DEADLINE_EXCEEDED"') >
                before.sum("trireme_grpc_requests_total", 'code="DEADLINE_EXCEEDED"'))

    with narrow.holds(http=None, grpc=None):
        blocker = HttpClient(narrow, prompt="x", n=64, max_tokens=1900)
        blocker.read_some()
        until(expired)
        blocker.leave("close")
    after = narrow.scrape()
    assert after.sum("trireme_prompt_tokens_total") - before.sum("trireme_prompt_tokens_total") < len(LONG) / 2


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.0001])
def test_a_deadline_that_has_passed_is_kept(rule_p, timeout):
    with rule_p.holds(http=0, grpc=None):  # gRPC may not let it through
        assert call(rule_p.stub.Generate, rule_p.pb.GenerateRequest(prompt=LONG), timeout=timeout).status == 504


def test_a_message_over_the_limit_is_refused(rule_p):
    with rule_p.holds(http=0, grpc=0):
        for method, request in ((rule_p.stub.Generate, rule_p.pb.GenerateRequest(prompt="x" * (33 << 20))),
                                (rule_p.stub.Tokenize, rule_p.pb.TokenizeRequest(text="x" * (33 << 20)))):
            assert call(method, request).status == 429


def test_compressed_messages_are_refused(rule_p):
    """The size limit holds for the wire, and a compressed message could expand to anything."""
    with rule_p.holds(http=0, grpc=0):
        with pytest.raises(grpc.RpcError) as raised:
            list(rule_p.stub.Generate(rule_p.pb.GenerateRequest(prompt="x" * 10000), timeout=30,
                                      compression=grpc.Compression.Gzip))
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


NO_MESSAGES = {
    "length": b"\x0a\xff\xff\xff\xff\x0f",  # a string longer than the message
    "utf-8": b"\x0a\x02\xff\xfe",            # a string that is no UTF-8
    "ones": b"\xff" * 100,
    "depth": b"\x0b" * 10000,                  # groups in groups
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_bytes_that_are_no_message_are_refused(rule_p, name):
    methods = ["Generate", "Tokenize", "Detokenize", "Abort"]
    methods += [] if name == "utf-8" else ["GetModelInfo", "GetServerInfo", "GetLoad"]  # no field, so no string
    with rule_p.holds(http=0, grpc=len(methods)):
        for method in methods:
            verdict = call(rule_p.channel.unary_stream(f"/trireme.v1.Inference/{method}"), NO_MESSAGES[name])
            assert (verdict.status, verdict.param, verdict.code) == (400, None, None), (method, verdict)
            assert f"could not parse the request as trireme.v1.{method}Request" in verdict.message


FIELD_99 = b"\x98\x06\x01"


def messages_with_unknown_fields(pb):
    """(method, message, where field 99 is in it, what message it is)."""
    def unknown(kind, **fields):
        return kind.FromString(kind(**fields).SerializeToString() + FIELD_99)

    said = pb.ChatMessage(role="user", content=CANARY)
    odd = unknown(pb.ChatMessage, role="user", content=CANARY)
    return [
        ("Generate", unknown(pb.GenerateRequest, prompt=CANARY), "99", "GenerateRequest"),
        ("Generate", pb.GenerateRequest(prompt=CANARY, sampling=unknown(pb.SamplingParams)), "sampling.99",
         "SamplingParams"),
        ("Generate", pb.GenerateRequest(prompt=CANARY, sampling=pb.SamplingParams(
            logit_bias=[pb.LogitBias(token_id=1), unknown(pb.LogitBias, token_id=2)])), "sampling.logit_bias[1].99",
         "LogitBias"),
        ("Generate", pb.GenerateRequest(token_ids=unknown(pb.TokenIds, ids=[1])), "token_ids.99", "TokenIds"),
        ("Generate", pb.GenerateRequest(chat=pb.Chat(messages=[said, odd])), "chat.messages[1].99", "ChatMessage"),
        ("Tokenize", pb.TokenizeRequest(chat=pb.Chat(messages=[odd])), "chat.messages[0].99", "ChatMessage"),
        ("Tokenize", unknown(pb.TokenizeRequest, text=CANARY), "99", "TokenizeRequest"),
        *[(method, unknown(getattr(pb, method + "Request")), "99", method + "Request")
          for method in ("Detokenize", "Abort", "GetModelInfo", "GetServerInfo", "GetLoad")],
    ]


def test_fields_that_the_proto_does_not_define_are_refused_by_path(rule_p):
    cases = messages_with_unknown_fields(rule_p.pb)
    with rule_p.holds(http=0, grpc=len(cases)):
        for method, message, path, kind in cases:
            verdict = call(rule_p.channel.unary_stream(f"/trireme.v1.Inference/{method}"), message.SerializeToString())
            assert (verdict.status, verdict.param, verdict.code) == (400, path, "unknown_parameter"), (method, verdict)
            assert "field 99" in verdict.message and f"trireme.v1.{kind} " in verdict.message


@pytest.mark.parametrize("method", ["/trireme.v1.Inference/NoSuch", "/nothing.Here/Generate", "/", "//", "/../x"])
def test_unknown_methods_are_unimplemented(rule_p, method):
    with rule_p.holds(http=0, grpc=0):
        with pytest.raises(grpc.RpcError) as raised:
            rule_p.channel.unary_unary(method)(b"", timeout=30)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED


def large_metadata(num_bytes):
    return [(f"x-{i}", "y" * 8000) for i in range(num_bytes // 8000)]


def test_large_metadata_are_refused(rule_p):
    """The call's neighbours on its connection go on: the witness is one."""
    with rule_p.holds(http=0, grpc=1):
        with pytest.raises(grpc.RpcError) as raised:
            list(rule_p.channel.unary_stream("/trireme.v1.Inference/Generate")(
                b"", metadata=large_metadata(160_000), timeout=30))
        assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "65536" in raised.value.details()


def test_metadata_too_large_for_the_library_are_refused(rule_p):
    """On a connection of their own, which gRPC ends: whether the client learns why before its connection breaks is
    chance."""
    with rule_p.holds(http=0, grpc=0):
        with grpc.insecure_channel(f"127.0.0.1:{rule_p.server.grpc_port}",
                                   options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            with pytest.raises(grpc.RpcError) as raised:
                list(channel.unary_stream("/trireme.v1.Inference/Generate")(
                    b"", metadata=large_metadata(400_000), timeout=30))
        assert raised.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
