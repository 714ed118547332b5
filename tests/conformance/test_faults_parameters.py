"""Parameters that no request may have: the same verdict through every door, and nothing allocated."""
import json

import pytest

import tiny_model
from doors import call, post_bytes
from rule_p import CANARY

VOCAB = tiny_model.VOCAB
BANNED = {id: -100 for id in range(VOCAB)}
CONTEXT = tiny_model.RANDOM_CONFIG["max_position_embeddings"]

OUT_OF_RANGE = [
    ("temperature", -0.1), ("temperature", 2.01), ("top_p", 0), ("top_p", -0.5), ("top_p", 1.01), ("top_k", -2),
    ("min_p", -0.1), ("min_p", 1.1), ("typical_p", 0), ("typical_p", 1.1), ("repetition_penalty", 0),
    ("repetition_penalty", -1), ("repetition_penalty", 10.1), ("presence_penalty", 2.1), ("presence_penalty", -2.1),
    ("frequency_penalty", 2.1), ("frequency_penalty", -2.1), ("logit_bias", {1: 100.5}), ("logit_bias", {1: -101}),
    ("logit_bias", {VOCAB: 1}), ("logit_bias", {2**31 - 1: 1}), ("logit_bias", {id: 1 for id in range(1025)}),
    ("logit_bias", BANNED), ("logprobs", 21), ("logprobs", -1), ("n", -1), ("n", 129), ("n", 10**6),
    ("max_tokens", 0), ("max_tokens", -1), ("max_tokens", CONTEXT), ("max_tokens", 2**31 - 1), ("min_tokens", -1),
    ("min_tokens", 5), ("stop", [""]), ("stop", ["x" * 1025]), ("stop", list("abcde")), ("stop_token_ids", [-1]),
    ("stop_token_ids", [VOCAB]), ("stop_token_ids", [2**31 - 1]), ("stop_token_ids", [0] * 129), ("priority", 1001),
    ("priority", -1001), ("token_ids", []), ("token_ids", [-1]), ("token_ids", [VOCAB]), ("token_ids", [2**31 - 1]),
]


def names(case):
    return f"{case[0]}={str(case[1])[:16]}"


@pytest.mark.parametrize("case", OUT_OF_RANGE, ids=names)
def test_values_out_of_range_are_refused_by_name(rule_p, doors, case):
    field, value = case
    verdicts = {}
    ask = [door for door in doors.NAMES if field != "token_ids" or door != "chat"]
    with rule_p.holds(http=len(ask) - 1, grpc=1):
        for door in ask:
            verdicts[door] = doors.send(door, **{field: value})
    codes = {verdict.code for verdict in verdicts.values()}
    for door, verdict in verdicts.items():
        expected = {("completions", "token_ids"): "prompt", ("chat", "logprobs"): "top_logprobs"}.get((door, field), field)
        assert (verdict.status, verdict.param) == (400, expected), (door, verdict)
        if verdict.message.split()[0].rstrip(":").isidentifier() and "_" in verdict.message.split()[0]:
            assert verdict.message.startswith(expected), "a field of another door's"
    assert len(codes) == 1, codes
    if field == "max_tokens" and value >= CONTEXT:
        assert codes == {"context_length_exceeded"}


@pytest.mark.parametrize("door, fields, message", [
    ("chat", {"logprobs": 21}, "top_logprobs must be between 0 and 20, got 21"),
    ("completions", {"logprobs": 21}, "logprobs must be between 0 and 20, got 21"),
    ("chat", {"max_tokens": None, "max_completion_tokens": -1}, "max_completion_tokens must be between "),
    ("completions", {"max_tokens": None, "max_completion_tokens": 0}, "max_completion_tokens must be at least 1"),
    ("grpc", {"token_ids": [-1]}, "token_ids: token id -1 is not in the vocabulary"),
    ("completions", {"token_ids": [-1]}, "prompt: token id -1 is not in the vocabulary"),
    ("completions", {"token_ids": [2**40]}, f"prompt: token id {2**40} is not in the vocabulary"),
    ("completions", {"token_ids": [VOCAB]}, f"prompt: token id {VOCAB} is not in the vocabulary"),
    ("completions", {"priority": 1001}, "priority must be between -1000 and 1000, got 1001"),
    ("grpc", {"priority": -1001}, "priority must be between -1000 and 1000, got -1001"),
], ids=str)
def test_a_refusal_speaks_of_the_field_as_the_client_spelt_it(rule_p, doors, door, fields, message):
    with rule_p.holds(http=int(door != "grpc"), grpc=int(door == "grpc")):
        verdict = doors.send(door, **fields)
    assert verdict.status == 400 and verdict.message.startswith(message), verdict
    assert verdict.param == message.split()[0].rstrip(":")
    if "token_ids" in fields:
        assert verdict.code == "invalid_token_id"


@pytest.mark.parametrize("field, value, doors_of_it", [
    ("best_of", 0, ["completions", "grpc"]), ("best_of", 21, ["completions", "grpc"]), ("echo", True, ["chat"]),
    ("best_of", 2, ["chat"]), ("no_such_field", 1, ["chat", "completions"]), ("n", 0, ["chat", "completions"]),
], ids=str)
def test_what_one_door_only_has_is_refused_there(rule_p, doors, field, value, doors_of_it):
    grpc = doors_of_it.count("grpc")
    with rule_p.holds(http=len(doors_of_it) - grpc, grpc=grpc):
        for door in doors_of_it:
            verdict = doors.send(door, **{field: value})
            assert (verdict.status, verdict.param) == (400, field), (door, verdict)


@pytest.mark.parametrize("field, value", [
    ("temperature", "1"), ("temperature", True), ("top_k", 1.5), ("seed", "x"), ("seed", 2**63), ("seed", 2**64),
    ("max_tokens", 2**31), ("max_tokens", 2**64), ("max_tokens", 1e400), ("temperature", 10**400), ("n", 2.0),
    ("ignore_eos", 1), ("stop", 5), ("stop", [5]), ("stop", {"a": 1}), ("logit_bias", [1]), ("logit_bias", {"x": 1}),
    ("logit_bias", {"07": 1}), ("logit_bias", {"1": "x"}), ("logit_bias", {str(2**40): 1}), ("stream", "yes"),
    ("stop_token_ids", [1.0]), ("stop_token_ids", ["1"]), ("stop_token_ids", [2**40]), ("stream_options", []),
    ("metadata", {str(i): "x" for i in range(17)}), ("metadata", {"a": 1}), ("service_tier", "gold"), ("model", 5),
    ("store", True), ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("response_format", {"type": "json_object"}),
], ids=lambda value: str(value)[:24])
def test_values_of_the_wrong_type_are_refused_over_http(rule_p, doors, field, value):
    ask = ["chat"] if field in ("tools", "response_format") else ["chat", "completions"]
    with rule_p.holds(http=len(ask), grpc=0):
        for door in ask:
            # 10**400 and 1e400 are numbers of JSON, if not of Python's float.
            verdict = doors.send(door, **{field: value})
            assert verdict.status == 400, (door, verdict)
            if value != 1e400:  # json.dumps says Infinity, which is no JSON: no field is to blame
                assert verdict.param.split(".")[0].split("[")[0] == field, (door, verdict)


IMAGE = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}


@pytest.mark.parametrize("messages, param", [
    ([], "messages"),
    (None, "messages"),
    ("hello", "messages"),
    ([[]], "messages[0]"),
    ([{}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "boss", "content": CANARY}], "messages[0].role"),
    ([{"role": "tool", "content": CANARY}], "messages[0].role"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": []}], "messages[0].content"),
    ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    ([{"role": "user", "content": [IMAGE]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": [{**IMAGE, "type": "input_audio"}]}], "messages[0].content[0].type"),
    ([{"role": "user", "content": CANARY, "no_such_field": 1}], "messages[0].no_such_field"),
    ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls"),
], ids=str)
def test_hostile_messages_are_refused_by_path(rule_p, messages, param):
    with rule_p.holds(http=2, grpc=0):
        for path in ("/v1/chat/completions", "/tokenize"):
            body = json.dumps({"model": "demo", "messages": messages})
            verdict = post_bytes(rule_p.server, path, body)
            wanted = "prompt" if path == "/tokenize" and messages is None else param
            assert (verdict.status, verdict.param) == (400, wanted), (path, verdict)


@pytest.mark.parametrize("chat, param", [
    ({"messages": []}, "chat.messages"),
    ({"messages": [{"role": "user"}, {"role": "boss"}]}, "chat.messages[1].role"),
    ({"messages": [{"content": CANARY}]}, "chat.messages[0].role"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "chat.messages[0].role"),
    ({"messages": [{"role": "function", "content": "x"}]}, "chat.messages[0].role"),
    *[({"messages": [{"role": "user", "content": "x"}], "template_kwargs_json": kwargs}, "chat.template_kwargs_json")
      for kwargs in ("[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": ' + "[" * 100 + "]" * 100 + "}")],
    ({"messages": [{"role": "user", "content": "x"}], "template_kwargs_json": '{"messages": []}'},
     "chat.template_kwargs_json"),
    ({"messages": [{"role": "user", "content": "x" * (1 << 20)}]}, "chat.messages"),
], ids=lambda value: str(value)[:60])
def test_hostile_chats_over_grpc_are_refused_by_path(rule_p, doors, chat, param):
    with rule_p.holds(http=0, grpc=2):
        for verdict in (doors.send("grpc", chat=chat),
                        call(rule_p.stub.Tokenize, rule_p.pb.TokenizeRequest(chat=chat))):
            assert (verdict.status, verdict.param) == (400, param), verdict


def test_an_empty_grpc_request_is_refused(rule_p):
    with rule_p.holds(http=0, grpc=2):
        for method, request in ((rule_p.stub.Generate, rule_p.pb.GenerateRequest()),
                                (rule_p.stub.Tokenize, rule_p.pb.TokenizeRequest())):
            verdict = call(method, request)
            assert (verdict.status, verdict.param) == (400, "input")


def test_nan_over_grpc_is_refused(rule_p, doors):
    fields = [name for name, field in rule_p.pb.SamplingParams.DESCRIPTOR.fields_by_name.items()
              if field.cpp_type == field.CPPTYPE_FLOAT]
    assert len(fields) >= 7
    with rule_p.holds(http=0, grpc=3 * len(fields)):
        for field in fields:
            for value in (float("nan"), float("inf"), float("-inf")):
                verdict = doors.send("grpc", **{field: value})
                assert (verdict.status, verdict.param) == (400, field), (field, value, verdict)


def test_a_bias_twice_over_grpc_is_refused(rule_p, doors):
    with rule_p.holds(http=0, grpc=1):
        pb = rule_p.pb
        verdict = doors.send("grpc", logit_bias=[pb.LogitBias(token_id=5, bias=1), pb.LogitBias(token_id=5, bias=2)])
        assert (verdict.status, verdict.param) == (400, "logit_bias")


def test_an_unknown_model_is_not_found(rule_p, doors):
    with rule_p.holds(http=4, grpc=3):
        verdicts = [doors.send(door, model=CANARY) for door in doors.NAMES]
        for path, body in (("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]})):
            verdicts.append(post_bytes(rule_p.server, path, json.dumps({"model": CANARY, **body})))
        pb = rule_p.pb
        verdicts.append(call(rule_p.stub.Tokenize, pb.TokenizeRequest(model=CANARY, text="x")))
        verdicts.append(call(rule_p.stub.Detokenize, pb.DetokenizeRequest(model=CANARY, token_ids=[1])))
    for verdict in verdicts:
        assert (verdict.status, verdict.param, verdict.code) == (404, "model", "model_not_found"), verdict


@pytest.mark.parametrize("length", [CONTEXT, 10**6], ids=["just", "far"])
def test_beyond_the_context_is_refused_before_any_block_is_taken(rule_p, doors, length):
    text = CANARY + "x" * (length - len(CANARY))
    pb = rule_p.pb
    before = rule_p.scrape()
    with rule_p.holds(http=2, grpc=1):
        for door, param in (("chat", "messages"), ("completions", "prompt"), ("grpc", "prompt")):
            verdict = doors.send(door, prompt=text)
            assert (verdict.status, verdict.param, verdict.code) == (400, param, "context_length_exceeded"), door
    if length > CONTEXT:
        with rule_p.holds(http=1, grpc=1):
            for verdict, param in ((post_bytes(rule_p.server, "/tokenize", json.dumps({"prompt": text})), "prompt"),
                                   (call(rule_p.stub.Tokenize, pb.TokenizeRequest(text=text)), "text")):
                assert (verdict.status, verdict.param, verdict.code) == (400, param, "context_length_exceeded")
    after = rule_p.scrape()
    witnesses = 2 if length == CONTEXT else 4
    assert (after.sum("trireme_requests_submitted_total") - before.sum("trireme_requests_submitted_total")) == witnesses


@pytest.mark.parametrize("tokens", [[-1], [VOCAB], [2**31 - 1], [2**40], ["a"], [1.5], "abc", None], ids=str)
def test_ids_outside_the_vocabulary_have_no_text(rule_p, tokens):
    pb = rule_p.pb
    over_grpc = isinstance(tokens, list) and isinstance(tokens[0], int) and tokens[0] < 2**31
    with rule_p.holds(http=1, grpc=int(over_grpc)):
        verdict = post_bytes(rule_p.server, "/detokenize", json.dumps({"tokens": tokens}))
        assert verdict.status == 400 and verdict.param.startswith("tokens")
        if over_grpc:
            verdict = call(rule_p.stub.Detokenize, pb.DetokenizeRequest(token_ids=tokens))
            assert (verdict.status, verdict.param, verdict.code) == (400, "token_ids", "invalid_token_id")


@pytest.mark.parametrize("request_id", ["x" * 129, "a b", "a\nb", "\u20ac"], ids=["long", "space", "newline", "euro"])
def test_a_request_id_that_could_forge_a_log_line_is_refused_or_replaced(rule_p, doors, request_id):
    with rule_p.holds(http=int("\n" not in request_id), grpc=1):
        verdict = doors.send("grpc", request_id=request_id)
        assert (verdict.status, verdict.param) == (400, "request_id")
        if "\n" not in request_id:  # no HTTP client would send it
            headers = {"x-request-id": request_id.encode()}
            verdict = post_bytes(rule_p.server, "/tokenize", b'{"prompt": "x"}', headers=headers)
            assert verdict.status == 200 and verdict.headers["x-request-id"].startswith("req_")


def test_best_of_other_than_n_cannot_be_streamed_over_http(rule_p, doors):
    with rule_p.holds(http=1, grpc=0):
        assert doors.send("completions", best_of=2, stream=True).param == "best_of"
