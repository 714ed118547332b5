"""Every sampling parameter through every public door, each by an effect that ignoring it would not have.

The oracle is the model itself: reported logprobs are the raw ones, so logit_bias can reshape the distribution of the
next token into a known one over a few tokens, and what a filter keeps of it is then known exactly.
"""
import collections
import concurrent.futures
import dataclasses
import functools
import inspect
import math
import re
import time

import grpc
import openai
import pytest

from conftest import Server

# 33 and 17 tokens: whole KV blocks, and one token more. Of n draws each then computes that one token only.
CHAT_TEXT = "Say something."
TEXT = "Once upon a time there was a small house by the sea. In the house lived"
SEED = 1300  # the first draws of the 128 seeds from here on are spread evenly
ALMOST_ALL = 80.0  # a bias that leaves e^-80 or so to all other tokens together


@dataclasses.dataclass
class Token:
    bytes: bytes
    logprob: float | None
    top: dict  # bytes -> logprob


@dataclasses.dataclass
class Choice:
    text: str
    finish: str
    tokens: list
    prompt_tokens: list

    @property
    def spelling(self):
        return [token.bytes for token in self.tokens]


@dataclasses.dataclass
class Answer:
    choices: list
    completion_tokens: int


# ---- Doors. Tests speak the names of our proto; each door turns them into its own.


class HttpDoor:
    def __init__(self, server):
        self.client = openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=0, timeout=120)

    def call(self, create, fields):
        if isinstance(fields.get("logit_bias"), dict):
            fields["logit_bias"] = {str(id): bias for id, bias in fields["logit_bias"].items()}
        if "include_stop_in_output" in fields:
            fields["include_stop_str_in_output"] = fields.pop("include_stop_in_output")
        if "keep_special_tokens" in fields:
            fields["skip_special_tokens"] = not fields.pop("keep_special_tokens")
        extra = {name: fields.pop(name) for name in fields.keys() - inspect.signature(create).parameters.keys()}
        return create(model="demo", **fields, extra_body=extra)


class Completions(HttpDoor):
    def __init__(self, server, oracle):
        super().__init__(server)
        self.ids = oracle.tokenize(text=TEXT)

    def complete(self, **fields):
        answer = self.call(self.client.completions.create, {"prompt": list(self.ids), **fields})
        return Answer([self.choice(c, len(self.ids) if fields.get("echo") else 0) for c in answer.choices],
                      answer.usage.completion_tokens)

    @staticmethod
    def key_bytes(key):
        """A token that is no UTF-8 by itself is spelt bytes:\\xe2\\x80."""
        return bytes.fromhex(re.sub(r"bytes:|\\x", "", key)) if key.startswith("bytes:") else key.encode()

    def choice(self, choice, num_prompt):
        tokens = []
        if choice.logprobs:
            for key, logprob, top in zip(choice.logprobs.tokens, choice.logprobs.token_logprobs,
                                         choice.logprobs.top_logprobs):
                tokens.append(Token(self.key_bytes(key), logprob,
                                    {self.key_bytes(k): p for k, p in (top or {}).items()}))
        return Choice(choice.text, choice.finish_reason, tokens[num_prompt:], tokens[:num_prompt])


class Chat(HttpDoor):
    def __init__(self, server, oracle):
        super().__init__(server)
        self.ids = oracle.tokenize(chat={"messages": [{"role": "user", "content": CHAT_TEXT}]})

    def complete(self, **fields):
        if "logprobs" in fields:
            fields.update(logprobs=True, top_logprobs=fields["logprobs"])
        answer = self.call(self.client.chat.completions.create,
                           {"messages": [{"role": "user", "content": CHAT_TEXT}], **fields})
        return Answer([self.choice(c) for c in answer.choices], answer.usage.completion_tokens)

    @staticmethod
    def choice(choice):
        content = choice.logprobs.content if choice.logprobs else []
        tokens = [Token(bytes(t.bytes), t.logprob, {bytes(a.bytes): a.logprob for a in t.top_logprobs})
                  for t in content]
        return Choice(choice.message.content, choice.finish_reason, tokens, [])


class Grpc:
    FINISH = {1: "stop", 2: "length"}

    def __init__(self, server, oracle):
        self.stub, self.pb = oracle.stub_to(server), oracle.pb
        self.ids = oracle.tokenize(text=TEXT)

    def complete(self, **fields):
        pb = self.pb
        sampling = {name: fields.pop(name) for name in pb.SamplingParams.DESCRIPTOR.fields_by_name if name in fields}
        if "logit_bias" in sampling:
            sampling["logit_bias"] = [pb.LogitBias(token_id=id, bias=b) for id, b in sampling["logit_bias"].items()]
        sampling["prompt_logprobs"] = bool(fields.get("echo")) and "logprobs" in sampling  # as the HTTP door does
        request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=self.ids),
                                     sampling=pb.SamplingParams(**sampling), **fields)
        choices = collections.defaultdict(lambda: Choice("", "", [], []))
        for news in self.stub.Generate(request, timeout=120):
            choice = choices[news.index]
            choice.text += news.text
            choice.finish = self.FINISH.get(news.finish_reason, "")
            choice.tokens += [self.token(t) for t in news.logprobs]
            choice.prompt_tokens += [self.token(t) for t in news.prompt_logprobs]
        return Answer([choices[i] for i in sorted(choices)], news.usage.completion_tokens)

    @staticmethod
    def token(token):
        return Token(token.token, token.logprob, {t.token: t.logprob for t in token.top})


class Oracle:
    """What the model thinks, by token ids."""

    def __init__(self, server, stubs):
        self.pb, self.pb_grpc = stubs
        self.channels, self.logprobs = [], {}
        self.stub = self.stub_to(server)
        self.eos = list(self.stub.GetModelInfo(self.pb.GetModelInfoRequest(), timeout=30).eos_token_ids)

    def stub_to(self, server):
        self.channels.append(grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}"))
        return self.pb_grpc.InferenceStub(self.channels[-1])

    def tokenize(self, **source):
        return list(self.stub.Tokenize(self.pb.TokenizeRequest(**source), timeout=30).token_ids)

    def greedy(self, ids, max_tokens, **sampling):
        sampling = self.pb.SamplingParams(temperature=0, **sampling)
        request = self.pb.GenerateRequest(token_ids=self.pb.TokenIds(ids=ids), sampling=sampling,
                                          max_tokens=max_tokens, ignore_eos=True)
        return [t for news in self.stub.Generate(request, timeout=60) for t in news.logprobs]

    def head(self, ids):
        """The 20 likeliest next tokens, best first."""
        return list(self.greedy(ids, 1, logprobs=20)[0].top)

    def logprob(self, ids, token):
        """The raw logprob of any token after `ids`: it is forced, which changes its choice, not its report."""
        key = (*ids, token)
        if key not in self.logprobs:
            forced = [self.pb.LogitBias(token_id=token, bias=100)]
            self.logprobs[key] = self.greedy(ids, 1, logprobs=0, logit_bias=forced)[0].logprob
        return self.logprobs[key]


@pytest.fixture(scope="module")
def oracle(server, stubs):
    oracle = Oracle(server, stubs)
    yield oracle
    for channel in oracle.channels:
        channel.close()


DOORS = {"completions": Completions, "chat": Chat, "grpc": Grpc}


@pytest.fixture(scope="module")
def open_door(server, oracle):
    """A door by its name, with `words`: plain tokens of the model's own choice to build distributions from."""
    @functools.cache
    def open_door(name):
        door = DOORS[name](server, oracle)
        assert len(door.ids) % 16 == 1, "makes these tests slow"
        door.oracle = oracle
        door.head = oracle.head(door.ids)
        door.words = [t for t in door.head if t.token.isascii() and t.token_id not in oracle.eos + door.ids][:5]
        return door

    return open_door


@pytest.fixture(params=DOORS)
def door(request, open_door):
    return open_door(request.param)


@pytest.fixture(params=["completions", "grpc"])
def text_door(request, open_door):
    return open_door(request.param)


@pytest.fixture(params=["completions", "chat"])
def http_door(request, open_door):
    return open_door(request.param)


# ---- Helpers.


def one(door, **fields):
    return door.complete(**{"temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": 0, **fields}).choices[0]


def shaped(door, probabilities):
    """The logit_bias under which the next token is words[i] with probabilities[i]."""
    return {word.token_id: ALMOST_ALL + math.log(p) - word.logprob for word, p in zip(door.words, probabilities)}


def draws(door, probabilities, n=64, **fields):
    """How often each word came, in n seeded draws from the shaped distribution."""
    answer = door.complete(**{"temperature": 1, "max_tokens": 1, "seed": SEED, "logprobs": 0, "n": n,
                              "logit_bias": shaped(door, probabilities), **fields})
    spelling = [word.token for word in door.words]
    return collections.Counter(spelling.index(choice.tokens[0].bytes) for choice in answer.choices)


# ---- Temperature, seed, n.


def test_temperature_zero_takes_the_likeliest_token(door):
    for token in one(door, logprobs=20, seed=5).tokens:
        assert token.logprob == max(token.top.values()) and token.top[token.bytes] == token.logprob


def test_tiny_temperatures_are_greedy(door):
    for temperature in (1e-4, 1e-30, 1e-44):
        assert one(door, temperature=temperature, seed=5).spelling == one(door).spelling


def test_high_temperature_leaves_the_greedy_path(door):
    assert one(door, temperature=2, seed=5).spelling != one(door).spelling


@pytest.mark.parametrize("temperature", [0.5, 1, 2])
def test_temperature_sharpens_and_flattens_by_the_formula(door, temperature):
    """p^(1/T), normalised: 0.06, 0.20 and 0.33 for the second token."""
    n, first, second = 128, 0.8 ** (1 / temperature), 0.2 ** (1 / temperature)
    expected = second / (first + second)
    got = draws(door, [0.8, 0.2], n=n, temperature=temperature)[1] / n
    assert abs(got - expected) < 2 * math.sqrt(expected * (1 - expected) / n)


def test_the_seed_decides(door):
    first, again, other = (one(door, temperature=1.5, seed=seed).spelling for seed in (7, 7, 8))
    assert first == again != other


def test_the_whole_range_of_seeds(http_door, open_door):
    """64 bits; a negative seed over HTTP is the same 64 bits."""
    fields = {"temperature": 1.5, "max_tokens": 6}
    seeds = (0, -1, 2**63 - 1, -2**63)
    spellings = [one(http_door, seed=seed, **fields).spelling for seed in seeds]
    assert len(set(map(tuple, spellings))) == 4
    if http_door is open_door("completions"):
        assert spellings == [one(open_door("grpc"), seed=seed % 2**64, **fields).spelling for seed in seeds]


def test_without_a_seed_two_runs_differ(door):
    assert one(door, temperature=2).spelling != one(door, temperature=2).spelling


def test_choice_i_is_drawn_with_seed_plus_i(door):
    choices = door.complete(temperature=1.5, max_tokens=6, logprobs=0, seed=40, n=3, ignore_eos=True).choices
    assert len({c.text for c in choices}) == 3
    for i, choice in enumerate(choices):
        assert choice.spelling == one(door, temperature=1.5, max_tokens=6, seed=40 + i).spelling


# ---- Filters: exactly these words of the shaped distribution can come.


@pytest.mark.parametrize("probabilities, fields, kept", [
    ([0.25, 0.35, 0.40], {}, {0, 1, 2}),
    ([0.25, 0.35, 0.40], {"top_k": 0}, {0, 1, 2}),
    ([0.25, 0.35, 0.40], {"top_k": 2**31 - 1}, {0, 1, 2}),
    ([0.25, 0.35, 0.40], {"top_k": 1}, {2}),
    ([0.25, 0.35, 0.40], {"top_k": 2}, {1, 2}),
    ([0.50, 0.30, 0.20], {"top_p": 0.01}, {0}),
    ([0.50, 0.30, 0.20], {"top_p": 0.49}, {0}),
    ([0.50, 0.30, 0.20], {"top_p": 0.51}, {0, 1}),
    ([0.50, 0.30, 0.20], {"top_p": 0.79}, {0, 1}),
    ([0.50, 0.30, 0.20], {"top_p": 0.81}, {0, 1, 2}),
    # What is left after one filter is a whole distribution for the next: 5/8 and 3/8.
    ([0.50, 0.30, 0.20], {"top_k": 2, "top_p": 0.6}, {0}),
    # Relative to the likeliest: 1, 0.5, 0.25.
    ([0.20, 0.40, 0.10], {"min_p": 0.24}, {0, 1, 2}),
    ([0.20, 0.40, 0.10], {"min_p": 0.26}, {0, 1}),
    ([0.20, 0.40, 0.10], {"min_p": 0.51}, {1}),
    # After temperature 2: 1, 0.71, 0.5.
    ([0.20, 0.40, 0.10], {"min_p": 0.51, "temperature": 2}, {0, 1}),
    # Entropy 1.08 nats; surprises 0.51, 1.61, 2.12, 2.53: the order of typicality is 1, 0, 2, 3.
    ([0.60, 0.20, 0.12, 0.08], {"typical_p": 0.01}, {1}),
    ([0.60, 0.20, 0.12, 0.08], {"typical_p": 0.19}, {1}),
    ([0.60, 0.20, 0.12, 0.08], {"typical_p": 0.21}, {0, 1}),
    ([0.60, 0.20, 0.12, 0.08], {"typical_p": 0.81}, {0, 1, 2}),
    # typical_p before top_p; the other way round only word 0 would be left.
    ([0.60, 0.20, 0.12, 0.08], {"typical_p": 0.19, "top_p": 0.5}, {1}),
], ids=str)
def test_filters_keep_exactly_the_right_tokens(door, probabilities, fields, kept):
    assert set(draws(door, probabilities, **fields)) == kept


@pytest.mark.parametrize("fields", [{"top_k": 3}, {"top_p": 0.3}, {"min_p": 0.3}], ids=str)
def test_filters_on_the_models_own_distribution(door, fields):
    """As computed from the reported logprobs; without the filter the draws leave that set."""
    allowed, mass = set(), 0.0
    for rank, token in enumerate(door.head):
        if rank >= fields.get("top_k", 20) or mass >= fields.get("top_p", 1):
            break
        if token.logprob >= door.head[0].logprob + math.log(fields.get("min_p", 1e-30)):
            allowed.add(token.token)
        mass += math.exp(token.logprob)
    assert 0 < len(allowed) < 20, "the 20 reported tokens do not decide this"
    common = {"temperature": 1, "max_tokens": 1, "n": 64, "seed": 0, "logprobs": 0, "ignore_eos": True}
    filtered, free = ({c.tokens[0].bytes for c in door.complete(**{**common, **more}).choices} for more in (fields, {}))
    assert filtered <= allowed and not free <= allowed


def test_the_narrowest_filters_are_greedy_at_any_temperature(door):
    greedy = one(door).spelling
    for fields in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1}):
        assert one(door, temperature=2, seed=3, **fields).spelling == greedy, fields


# ---- Biases and penalties.


def test_logit_bias_forces_and_bans(door):
    rare, best, second = door.head[-1], door.head[0], door.head[1]
    assert one(door, max_tokens=1, logit_bias={rare.token_id: 100}).spelling == [rare.token]
    assert one(door, max_tokens=1, logit_bias={best.token_id: -100}).spelling == [second.token]
    banned = {t.token_id: -100 for t in door.head[:-1]}
    assert one(door, max_tokens=1, logit_bias=banned).spelling == [rare.token]


@pytest.mark.parametrize("excess, winner", [(-0.05, 0), (0.05, 5)])
def test_logit_bias_counts_in_logits(door, excess, winner):
    gap = door.head[0].logprob - door.head[5].logprob
    got = one(door, max_tokens=1, logit_bias={door.head[5].token_id: gap + excess})
    assert got.spelling == [door.head[winner].token]


def wins(door, word, other, lead, repeats=0, **penalties):
    """Whether `word` is chosen (again) after `repeats` times itself, when it leads `other` by `lead` logits.

    `other` is a stop token, which cannot come before min_tokens: that is what makes `word` repeat.
    """
    after = [word] * repeats
    behind = door.oracle.logprob(door.ids + after, word) - door.oracle.logprob(door.ids + after, other) - lead
    got = one(door, max_tokens=repeats + 1, min_tokens=repeats, stop_token_ids=[other], include_stop_in_output=True,
              logit_bias={word: ALMOST_ALL, other: ALMOST_ALL + behind}, **penalties)
    assert len(set(got.spelling[:repeats])) <= 1 and len(got.spelling) == repeats + 1
    return got.finish == "length"


@pytest.mark.parametrize("repeats, lead, penalties, expected", [
    (1, 0.05, {}, True),
    (1, -0.05, {}, False),
    # Once, however often the word came.
    (3, 1, {"presence_penalty": 0.9}, True),
    (3, 1, {"presence_penalty": 1.1}, False),
    (3, -1, {"presence_penalty": -0.9}, False),
    (3, -1, {"presence_penalty": -1.1}, True),
    # Each time it came.
    (3, 1, {"frequency_penalty": 0.30}, True),
    (3, 1, {"frequency_penalty": 0.37}, False),
    (3, -1, {"frequency_penalty": -0.30}, False),
    (3, -1, {"frequency_penalty": -0.37}, True),
    (3, 1, {"presence_penalty": 0.5, "frequency_penalty": 0.13}, True),
    (3, 1, {"presence_penalty": 0.5, "frequency_penalty": 0.2}, False),
    # Logits are 80 plus the model's own, which are some tens at most: divided by 1.002 they lose some 0.2, by 1.1
    # some 7; divided by 0.998 and 0.9 they gain as much.
    (1, 1, {"repetition_penalty": 1.002}, True),
    (1, 1, {"repetition_penalty": 1.1}, False),
    (1, -1, {"repetition_penalty": 0.998}, False),
    (1, -1, {"repetition_penalty": 0.9}, True),
], ids=str)
def test_penalties_on_a_word_of_the_output(door, repeats, lead, penalties, expected):
    word, other = (word.token_id for word in door.words[:2])
    assert wins(door, word, other, lead, repeats, **penalties) is expected


@pytest.mark.parametrize("lead, penalties, expected", [
    (1, {"repetition_penalty": 1.002}, True),
    (1, {"repetition_penalty": 1.1}, False),
    (-1, {"repetition_penalty": 0.9}, True),
    # These look at the output only.
    (0.05, {"presence_penalty": 2, "frequency_penalty": 2}, True),
    (-0.05, {"presence_penalty": -2, "frequency_penalty": -2}, False),
], ids=str)
def test_penalties_on_a_word_of_the_prompt(door, lead, penalties, expected):
    assert wins(door, door.ids[-1], door.words[0].token_id, lead, **penalties) is expected


# ---- Where an answer ends.


def test_min_tokens_holds_back_the_end(door):
    bias = {door.oracle.eos[0]: 100, door.words[0].token_id: ALMOST_ALL}
    at_once = door.complete(temperature=0, max_tokens=9, logit_bias=bias, logprobs=0)
    assert at_once.choices[0].finish == "stop" and at_once.choices[0].text == "" and at_once.completion_tokens == 1
    later = door.complete(temperature=0, max_tokens=9, logit_bias=bias, logprobs=0, min_tokens=4)
    assert later.choices[0].finish == "stop" and later.choices[0].spelling == [door.words[0].token] * 4


def test_ignore_eos_goes_on_to_max_tokens(door):
    bias = {door.oracle.eos[0]: 100}
    answer = door.complete(temperature=0, max_tokens=5, logit_bias=bias, ignore_eos=True)
    assert answer.choices[0].finish == "length" and answer.completion_tokens == 5 and answer.choices[0].text == ""


def test_special_tokens_are_shown_on_request(door):
    bias = {door.oracle.eos[0]: 100}
    assert one(door, max_tokens=2, logit_bias=bias, keep_special_tokens=True).text.count("<|") == 2


def test_stop_token_ids_end_the_answer(door):
    path = [token.token_id for token in door.oracle.greedy(door.ids, 12, logprobs=0)]
    position = max(i for i, id in enumerate(path) if id not in path[:i])
    stop, whole = path[position], one(door)
    cut, kept, held = (one(door, stop_token_ids=[stop], **more)
                       for more in ({}, {"include_stop_in_output": True}, {"min_tokens": 12}))
    assert cut.finish == "stop" and cut.spelling == whole.spelling[:position] and whole.text.startswith(cut.text)
    assert kept.finish == "stop" and kept.spelling == whole.spelling[:position + 1]
    assert held.finish == "length" and whole.spelling[position] not in held.spelling


def test_stop_strings_end_the_answer(door):
    whole = one(door).text
    stop = whole[len(whole) // 2:][:3]  # across tokens, as it happens
    before = whole.split(stop)[0]
    assert before
    cut, kept, held = (one(door, stop=["\u2603", stop], **more)
                       for more in ({}, {"include_stop_in_output": True}, {"min_tokens": 12}))
    assert (cut.finish, cut.text) == ("stop", before)
    assert (kept.finish, kept.text) == ("stop", before + stop)
    assert (held.finish, held.text) == ("length", whole)


def test_max_tokens_ends_the_answer(door):
    for limit in (1, 7):
        answer = door.complete(temperature=0, max_tokens=limit, ignore_eos=True)
        assert answer.choices[0].finish == "length" and answer.completion_tokens == limit


# ---- What is reported.


def test_logprobs_are_the_models_own_whatever_shapes_the_choice(door):
    plain = {t.token: t.logprob for t in door.head}
    token = one(door, max_tokens=1, logprobs=20, temperature=2, seed=1, top_p=0.9, min_p=0.01, repetition_penalty=1.5,
                logit_bias={door.words[3].token_id: 100}).tokens[0]
    assert token.bytes == door.words[3].token
    assert {t: token.top[t] for t in plain} == pytest.approx(plain, abs=1e-5)
    assert token.logprob == pytest.approx(door.words[3].logprob, abs=1e-5)


@pytest.mark.parametrize("count", [0, 1, 20])
def test_as_many_alternatives_as_asked_for(door, count):
    # /v1/completions adds the token itself, which greedy decoding finds among them anyhow.
    for token in one(door, max_tokens=3, logprobs=count).tokens:
        assert len(token.top) == count or (count == 0 and list(token.top) == [token.bytes])


def test_echo_repeats_the_prompt(text_door):
    plain, echoed = one(text_door), one(text_door, echo=True)
    assert echoed.text == TEXT + plain.text and echoed.spelling == plain.spelling


def test_prompt_logprobs_are_those_of_generating_the_prompt(text_door):
    door = text_door
    prompt = one(door, echo=True, logprobs=2, max_tokens=1).prompt_tokens
    assert b"".join(token.bytes for token in prompt) == TEXT.encode() and len(prompt) == len(door.ids)
    for i in (1, 9, 16):
        assert prompt[i].logprob == pytest.approx(door.oracle.logprob(door.ids[:i], door.ids[i]), abs=1e-5)
        best = door.oracle.head(door.ids[:i])[0]
        assert prompt[i].top[best.token] == pytest.approx(best.logprob, abs=1e-5)


def test_best_of_returns_the_best_by_mean_logprob(text_door):
    fields = {"temperature": 1.2, "max_tokens": 6, "seed": 61, "logprobs": 0, "ignore_eos": True}
    candidates = text_door.complete(n=6, **fields).choices
    ranking = sorted(candidates, key=lambda c: -sum(t.logprob for t in c.tokens) / len(c.tokens))
    assert ranking[0] is not candidates[0]
    best = text_door.complete(n=2, best_of=6, **fields)
    assert [c.text for c in best.choices] == [c.text for c in ranking[:2]]
    assert best.completion_tokens == 6 * 6
    del fields["logprobs"]  # ranked by them all the same
    assert text_door.complete(n=1, best_of=6, **fields).choices[0].text == ranking[0].text


# ---- Priority.


@pytest.fixture(scope="module")
def narrow_server(binary, model):
    """Runs one request at a time."""
    running = Server(binary, model, "--threads", "2", "--max-running", "1")
    yield running
    running.stop()


def test_urgent_requests_overtake_waiting_ones(door, narrow_server):
    narrow, pb = type(door)(narrow_server, door.oracle), door.oracle.pb
    finished = []

    def run(priority):
        narrow.complete(temperature=0, max_tokens=24, ignore_eos=True, priority=priority)
        finished.append(priority)

    first = door.oracle.stub_to(narrow_server).Generate(
        pb.GenerateRequest(prompt=TEXT, max_tokens=8000, ignore_eos=True), timeout=120)
    next(first)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        jobs = []
        for priority in (1000, 0, 5):
            jobs.append(pool.submit(run, priority))
            deadline = time.monotonic() + 60
            while narrow_server.metric("trireme_requests_waiting") < len(jobs):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        first.cancel()
        for job in jobs:
            job.result()
    assert finished == [0, 5, 1000]


# ---- Doors among themselves.


EVERYTHING = {"temperature": 1.4, "top_p": 0.95, "top_k": 60, "min_p": 0.001, "typical_p": 0.97, "seed": 12,
              "repetition_penalty": 1.1, "presence_penalty": 0.3, "frequency_penalty": 0.2, "logprobs": 3, "n": 3,
              "max_tokens": 20, "min_tokens": 5, "stop": ["."], "include_stop_in_output": True, "ignore_eos": True,
              "echo": True, "keep_special_tokens": True}


def test_all_parameters_together_mean_the_same_through_both_doors(open_door):
    over_http, over_grpc = (open_door(name).complete(**EVERYTHING) for name in ("completions", "grpc"))
    assert over_http.completion_tokens == over_grpc.completion_tokens
    for a, b in zip(over_http.choices, over_grpc.choices, strict=True):
        assert (a.text, a.finish, a.spelling) == (b.text, b.finish, b.spelling)
        assert [t.logprob for t in a.tokens] == pytest.approx([t.logprob for t in b.tokens], abs=1e-6)


def test_over_http_null_is_absent_and_top_k_minus_one_is_off(http_door):
    plain = one(http_door, temperature=1, seed=3)
    absent = dict.fromkeys(["top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "presence_penalty",
                            "frequency_penalty", "logit_bias", "n", "stop", "stop_token_ids", "min_tokens"])
    assert one(http_door, temperature=1, seed=3, **absent).spelling == plain.spelling
    assert one(http_door, temperature=1, seed=3, top_k=-1).spelling == plain.spelling


def test_over_http_one_stop_string_needs_no_array(http_door):
    stop = one(http_door).text[4:7]
    assert one(http_door, stop=stop).text == one(http_door, stop=[stop]).text != one(http_door).text
