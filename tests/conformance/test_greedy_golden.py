"""Greedy tokens of the demo model against llama.cpp's on the same file (tests/golden/make_greedy_golden.py)."""
import json
import math
import pathlib

import pytest

GOLDEN = json.loads((pathlib.Path(__file__).resolve().parent.parent / "golden/greedy.json").read_text())


def rms(values):
    return math.sqrt(sum(v * v for v in values) / len(values))


# Both engines round activations to int8, which on this file moves a log-probability by about 0.11 (rms, against double
# precision; the golden file holds the exact values). A gap between two numbers moves by sqrt(2) times that in each
# engine. Where the exact gap is below four such errors rounding decides; above, the tokens must be equal.
LLAMA_RMS = rms([top[i][1] - exact[i] for e in GOLDEN for top, exact in zip(e["top"], e["exact"]) for i in (0, 1)])
NEAR_TIE_NATS = 4 * math.sqrt(2) * LLAMA_RMS


def greedy(stub, pb, prompt, count):
    request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt), max_tokens=count, ignore_eos=True,
                                 sampling=pb.SamplingParams(temperature=0))
    return [id for response in stub.Generate(request, timeout=120) for id in response.token_ids]


def lead_over(stub, pb, prompt, token):
    """By how many nats our best next token leads `token`."""
    request = pb.GenerateRequest(token_ids=pb.TokenIds(ids=prompt), max_tokens=1, ignore_eos=True,
                                 sampling=pb.SamplingParams(temperature=0, logprobs=20))
    (best,) = [logprob for response in stub.Generate(request, timeout=120) for logprob in response.logprobs]
    found = {top.token_id: top.logprob for top in best.top}
    assert token in found, f"{token} is not among our best {len(found)}"
    return best.logprob - found[token]


@pytest.mark.parametrize("index", range(len(GOLDEN)))
def test_greedy_tokens_equal_llama_cpp(stub, stubs, index):
    """Follows the golden path: after a near-tie that went the other way, the golden token is fed instead."""
    golden = GOLDEN[index]
    expected = golden["tokens"]
    position, ties = 0, 0
    while position < len(expected):
        got = greedy(stub, stubs[0], golden["prompt"] + expected[:position], len(expected) - position)
        assert len(got) == len(expected) - position
        wrong = next((i for i, (a, b) in enumerate(zip(got, expected[position:])) if a != b), None)
        if wrong is None:
            break
        at = position + wrong
        # The best two must be near each other in exact numbers, and what we took must be near the golden token in ours.
        exact_gap = golden["exact"][at][0] - golden["exact"][at][1]
        assert exact_gap < NEAR_TIE_NATS, f"token {at}: {got[wrong]} instead of {expected[at]}, by {exact_gap} nats"
        our_gap = lead_over(stub, stubs[0], golden["prompt"] + expected[:at], expected[at])
        assert our_gap < NEAR_TIE_NATS, f"token {at}: {got[wrong]} leads {expected[at]} by {our_gap} nats"
        ties += 1
        position = at + 1
    assert ties <= 4, "more near-ties than rounding explains"


def test_logprobs_are_as_exact_as_llama_cpps(stub, stubs):
    """The distance to double precision along the golden paths: ours must not exceed llama.cpp's by more than noise."""
    pb = stubs[0]
    ours, theirs = [], []
    for golden in GOLDEN:
        request = pb.GenerateRequest(
            token_ids=pb.TokenIds(ids=golden["prompt"] + golden["tokens"]), max_tokens=1, ignore_eos=True,
            sampling=pb.SamplingParams(temperature=0, logprobs=20, prompt_logprobs=True))
        scored = [t for response in stub.Generate(request, timeout=120) for t in response.prompt_logprobs]
        scored = scored[-len(golden["tokens"]):]
        for token, best, exact in zip(scored, golden["top"], golden["exact"]):
            found = {t.token_id: t.logprob for t in token.top}
            for (id, logprob), true in zip(best, exact):
                if id in found:
                    ours.append(found[id] - true)
                    theirs.append(logprob - true)
    assert len(ours) > 900
    print(f"rms error of log-probabilities: trireme {rms(ours):.4f}, llama.cpp {rms(theirs):.4f}")
    assert rms(ours) <= 1.15 * rms(theirs)
