"""Hostile chat templates and hostile text: fuel ends the first, the second is only text; rule P holds."""
import json
import subprocess

import pytest

import tiny_model
from doors import Doors, call, post, post_bytes
from rule_p import CANARY

# One template that does what `attack` names: chat_template_kwargs reach it as variables.
ATTACKS = {
    "loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "long loop": "{% for a in range(10 ** 9) %}{% endfor %}",
    "growth": "{{ 'a' * 10 ** 9 }}",
    "doubling": "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"
                "{{ ns.s }}",
    "joins": "{{ (['a' * 1000] * 10000) | join('b' * 10000) }}",
    "lists": "{{ [0] * 10 ** 9 }}",
    "nested lists": "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "mutual recursion": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "width": "{{ '%999999999d' % 1 }}",
    "braces": "{{ '{:>999999999}'.format(1) }}",
    "indent": "{{ ('a\n' * 100000) | indent(100000) }}",
    "replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "raise": "{{ raise_exception('no') }}",
    "undefined": "{{ nothing.of.the.kind }}",
    "type": "{{ 1 + 'a' }}",
    "zero": "{{ 1 // 0 }}",
}
HARMLESS = {  # what escapes a sandbox elsewhere is nothing here
    "class": "{{ ''.__class__ }}", "mro": "{{ [].__class__ is defined }}", "globals": "{{ raise_exception.__globals__ }}",
    "config": "{{ config }}", "self": "{{ self }}", "os": "{{ os }}",
}
REFUSED = {  # the template, and where it is wrong
    "{% include '/etc/passwd' %}": "line 1, column 4", "{% import 'x' as y %}": "line 1, column 4",
    "{% extends 'x' %}": "line 1, column 4", "a\nbc{% for %}{% endfor %}": "line 2, column",
    "{% for x in y %}": "line 1", "{% endfor %}": "line 1, column 4", "{{ 'a }}": "line 1", "{{ a b }}": "line 1, column",
    "{{ a | nofilter }}": "nofilter", "{% nonsense %}": "nonsense", "{{": "line 1", "{#": "line 1",
    "{{ " + "(" * 5000 + ")" * 5000 + " }}": "line 1", "{{ " + "-" * 50000 + "1 }}": "line 1",
    "{% if a %}" * 5000 + "{% endif %}" * 5000: "line 1",
}


def template_directory(path, template):
    tiny_model.write_random(path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    return path


@pytest.fixture(scope="module")
def hostile(guard_server, tmp_path_factory):
    template = "".join("{%% %s attack == '%s' %%}%s" % ("elif" if i else "if", name, text)
                       for i, (name, text) in enumerate({**ATTACKS, **HARMLESS}.items()))
    template += "{% else %}{% for m in messages %}{{ m['content'] }}{% endfor %}{{ attack }}{% endif %}"
    return guard_server(model=str(template_directory(tmp_path_factory.mktemp("template") / "model", template)))


def through_every_door(rule_p, attack):
    pb = rule_p.pb
    messages = [{"role": "user", "content": CANARY}]
    body = {"model": "demo", "messages": messages, "chat_template_kwargs": {"attack": attack}}
    chat = pb.Chat(messages=[pb.ChatMessage(**m) for m in messages], template_kwargs_json=json.dumps({"attack": attack}))
    return [post(rule_p.server, "/v1/chat/completions", {**body, "max_tokens": 1}),
            post(rule_p.server, "/tokenize", body),
            call(rule_p.stub.Generate, pb.GenerateRequest(chat=chat, max_tokens=1)),
            call(rule_p.stub.Tokenize, pb.TokenizeRequest(chat=chat))]


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_template_runs_out_of_fuel(hostile, attack):
    with hostile.holds(http=2, grpc=2):
        for verdict, param in zip(through_every_door(hostile, attack), ("messages",) * 2 + ("chat.messages",) * 2):
            assert (verdict.status, verdict.param, verdict.code) == (400, param, "chat_template_error"), verdict


@pytest.mark.parametrize("attack", HARMLESS)
def test_what_escapes_elsewhere_is_nothing_here(hostile, attack):
    with hostile.holds(http=2, grpc=2):
        verdicts = through_every_door(hostile, attack)
        for verdict in verdicts:
            assert verdict.status in (200, 400), verdict
    if verdicts[1].status == 200:
        tokens = verdicts[1].json["tokens"]
        assert b"module" not in bytes(tokens) and b"class" not in bytes(tokens) and len(tokens) < 20


@pytest.mark.parametrize("template", REFUSED, ids=lambda t: t[:24])
def test_a_template_that_cannot_be_is_refused_at_load(binary, tmp_path, template):
    path = template_directory(tmp_path / "model", template)
    result = subprocess.run([binary, "serve", path, "--http-port", "0", "--grpc-port", "-1"], capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == 1
    assert "tokenizer_config.json" in result.stderr and REFUSED[template] in result.stderr, result.stderr[-600:]


# ---- Text.

TEXTS = {
    "NUL": "a\0b", "noncharacters": "\ufffe\uffff\U0010ffff", "byte order mark": "\ufeffabc", "controls": "".join(map(chr, range(32))),
    "right to left": "\u202eabc\u202c", "marks": "a" + "\u0301" * 1000, "emoji": "\U0001f469\u200d\U0001f680" * 50,
    "line separators": "a\u2028b\u2029c\x85d\r\n\r", "wide": "\u3000" * 300, "astral": "\U00010348" * 200,
    "surrogates' neighbours": "\ud7ff\ue000", "replacement": "\ufffd" * 100, "unassigned": "\u0378\U000e0fff",
}


@pytest.mark.parametrize("name", TEXTS)
def test_any_text_comes_back_as_it_went(rule_p, name):
    text, pb = TEXTS[name], rule_p.pb
    with rule_p.holds(http=4, grpc=3):
        ids = post(rule_p.server, "/tokenize", {"prompt": text}).json["tokens"]
        assert ids == list(text.encode()), "the tiny model's tokens are bytes"
        assert post(rule_p.server, "/detokenize", {"tokens": ids}).json["prompt"] == text
        tokens = rule_p.stub.Tokenize(pb.TokenizeRequest(text=text), timeout=30)
        assert list(tokens.token_ids) == ids
        assert rule_p.stub.Detokenize(pb.DetokenizeRequest(token_ids=ids), timeout=30).text == text
        for door in Doors.NAMES:
            assert Doors(rule_p).send(door, prompt=text).status == 200


def test_text_that_spells_a_special_token_stays_text(hostile):
    """In a message, its author's name or a variable of the template; only a raw prompt may mean one."""
    word, pb = "<|im_end|>", hostile.pb
    with hostile.holds(http=2, grpc=2):
        body = {"messages": [{"role": "user", "content": word, "name": word}], "chat_template_kwargs": {"attack": word}}
        assert bytes(post(hostile.server, "/tokenize", body).json["tokens"]).decode() == 2 * word
        chat = pb.Chat(messages=[pb.ChatMessage(role="user", content=word)], template_kwargs_json=json.dumps({"attack": word}))
        assert bytes(hostile.stub.Tokenize(pb.TokenizeRequest(chat=chat), timeout=30).token_ids).decode() == 2 * word
        assert post(hostile.server, "/tokenize", {"prompt": word}).json["tokens"] == [tiny_model.EOS]
        assert list(hostile.stub.Tokenize(pb.TokenizeRequest(text=word), timeout=30).token_ids) == [tiny_model.EOS]


@pytest.fixture(scope="module")
def euro(guard_server, tmp_path_factory):
    """Says the three bytes of the euro sign one after the other: the repetition penalty moves it on."""
    weights = {0xE2: 30.0, 0x82: 20.0, 0xAC: 10.0, ord("!"): 5.0}
    path = tiny_model.write(tmp_path_factory.mktemp("euro") / "tiny", None, lambda token: weights.get(token, -30.0))
    return guard_server(model=str(path))


def euros(server, stubs, limit, **fields):
    """The parts of an answer through either door."""
    import grpc
    body = {"model": "demo", "prompt": "x", "max_tokens": limit, "temperature": 0, "repetition_penalty": 10.0, **fields}
    events = post(server, "/v1/completions", {**body, "stream": True}).body.decode("utf-8", "strict").split("\n\n")
    over_http = [json.loads(e[6:])["choices"][0]["text"] for e in events if e.startswith("data: {")]
    pb, pb_grpc = stubs
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        request = pb.GenerateRequest(prompt="x", max_tokens=limit, **fields,
                                     sampling=pb.SamplingParams(temperature=0, repetition_penalty=10.0))
        over_grpc = [answer.text for answer in pb_grpc.InferenceStub(channel).Generate(request, timeout=30)]
    assert "".join(over_http) == "".join(over_grpc)
    return over_http


@pytest.mark.parametrize("limit, fields, text", [
    (4, {}, "\u20ac!"), (3, {}, "\u20ac"), (2, {}, "\ufffd"), (1, {}, "\ufffd"), (4, {"stop": ["\u20ac"]}, ""),
    (4, {"stop": ["\u20ac!"]}, ""), (4, {"stop": ["!"]}, "\u20ac"), (3, {"stop": ["\u20ac!"]}, "\u20ac"),
], ids=str)
def test_a_character_of_three_tokens_is_shown_whole_or_replaced(euro, stubs, limit, fields, text):
    # How many tokens an event holds is the reader's haste; none holds a part of the character.
    with euro.holds(http=1, grpc=1):
        assert "".join(euros(euro.server, stubs, limit, **fields)) == text
