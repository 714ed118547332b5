"""The openai package against the HTTP door: what applications do."""
import json
import urllib.error
import urllib.request

import openai
import pytest

USER = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def chat(client, **fields):
    return client.chat.completions.create(**{"model": "demo", "messages": USER, "temperature": 0, "max_tokens": 24, **fields})


def test_models(client):
    models = client.models.list().data
    assert [m.id for m in models] == ["demo"] and models[0].object == "model" and models[0].created > 1_600_000_000
    assert client.models.retrieve("demo").id == "demo"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_chat_answers(client):
    answer = chat(client)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant" and answer.choices[0].message.refusal is None
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_streamed_chat_equals_the_whole_answer(client):
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert len({c.id for c in chunks}) == 1 and len({c.created for c in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == whole.choices[0].finish_reason and not any(reasons[:-1])
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details})
    assert all(c.usage is None for c in chunks[:-1])


def test_max_tokens_ends_with_length(client):
    answer = chat(client, max_tokens=3)
    assert answer.choices[0].finish_reason == "length" and answer.usage.completion_tokens == 3
    assert chat(client, max_tokens=openai.NOT_GIVEN, max_completion_tokens=3).usage.completion_tokens == 3


def test_seed_reproduces_and_n_differs(client):
    fields = {"temperature": 1.0, "seed": 11, "n": 3, "max_tokens": 12}
    first, second = chat(client, **fields), chat(client, **fields)
    texts = [c.message.content for c in first.choices]
    assert texts == [c.message.content for c in second.choices]
    assert len(set(texts)) > 1 and [c.index for c in first.choices] == [0, 1, 2]
    assert texts != [c.message.content for c in chat(client, **{**fields, "seed": 12}).choices]


def test_streamed_choices_equal_the_whole(client):
    fields = {"temperature": 1.0, "seed": 11, "n": 3, "max_tokens": 12}
    texts = {}
    for chunk in chat(client, stream=True, **fields):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
    assert [texts[i] for i in range(3)] == [c.message.content for c in chat(client, **fields).choices]


def test_stop_strings(client):
    whole = client.completions.create(model="demo", prompt="1, 2, 3, 4,", max_tokens=30, temperature=0)
    assert ", 8" in whole.choices[0].text
    cut = client.completions.create(model="demo", prompt="1, 2, 3, 4,", max_tokens=30, temperature=0, stop=["nope", ", 8"])
    assert cut.choices[0].text == whole.choices[0].text.split(", 8")[0]
    assert cut.choices[0].finish_reason == "stop"


def test_chat_logprobs(client):
    answer = chat(client, logprobs=True, top_logprobs=4, max_tokens=5)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert b"".join(bytes(t.bytes) for t in content).decode() == answer.choices[0].message.content
    for token in content:
        assert len(token.top_logprobs) == 4
        assert token.logprob == max(t.logprob for t in token.top_logprobs)  # greedy: exact equality


def test_completion_logprobs_and_echo(client):
    answer = client.completions.create(model="demo", prompt="Roses are red, violets are", max_tokens=1, temperature=0,
                                       echo=True, logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith("Roses are red, violets are")
    assert logprobs.token_logprobs[0] is None and all(p <= 0 for p in logprobs.token_logprobs[1:])
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.text_offset[0] == 0 and logprobs.text_offset == sorted(logprobs.text_offset)


def test_batches_and_token_id_prompts(client, server):
    def tokenize(text):
        request = urllib.request.Request(server.base + "/tokenize", json.dumps({"model": "demo", "prompt": text}).encode(),
                                         {"content-type": "application/json"})
        return json.loads(urllib.request.urlopen(request, timeout=30).read())["tokens"]

    prompts = ["The sun is", "Water boils at", "My favourite"]
    as_text = client.completions.create(model="demo", prompt=prompts, max_tokens=6, temperature=0)
    as_ids = client.completions.create(model="demo", prompt=[tokenize(p) for p in prompts], max_tokens=6, temperature=0)
    assert [c.text for c in as_text.choices] == [c.text for c in as_ids.choices]
    assert [c.index for c in as_text.choices] == [0, 1, 2]
    alone = [client.completions.create(model="demo", prompt=p, max_tokens=6, temperature=0).choices[0].text for p in prompts]
    assert alone == [c.text for c in as_text.choices]


def test_logit_bias_forces_and_forbids(client):
    free = client.completions.create(model="demo", prompt="The capital of France is", max_tokens=1, temperature=0, logprobs=1)
    forced = client.completions.create(model="demo", prompt="The capital of France is", max_tokens=3, temperature=0,
                                       logit_bias={"1000": 100})
    assert len(set(forced.choices[0].text.split())) <= 1
    assert forced.choices[0].text != free.choices[0].text


def test_prefix_cache_is_reported_and_changes_nothing(client):
    messages = [{"role": "system", "content": "You are a guide to the city of Lisbon. " * 30}, *USER]
    first = chat(client, messages=messages)
    again = chat(client, messages=messages)
    assert again.usage.prompt_tokens_details.cached_tokens > 100
    assert first.choices[0].message.content == again.choices[0].message.content


@pytest.mark.parametrize("fields, param", [
    ({"temperature": 2.5}, "temperature"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]},
     "messages[0].content[0].type"),
    ({"extra_body": {"no_such_field": 1}}, "no_such_field"),
])
def test_errors_name_the_field(client, server, fields, param):
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, **fields)
    body = raised.value.body
    assert set(body) == {"message", "type", "param", "code"} and body["type"] == "invalid_request_error"
    assert body["param"] == param
    assert raised.value.request_id
    server.wait_idle()


def test_unknown_model_and_context_length(client):
    with pytest.raises(openai.NotFoundError) as raised:
        chat(client, model="gpt-5")
    assert raised.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, max_tokens=10**6)
    assert raised.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as raised:
        chat(client, messages=[{"role": "user", "content": "word " * 20000}])
    assert raised.value.code == "context_length_exceeded"


def test_client_retries_when_the_node_is_full(start_server):
    """A full queue is 429 with Retry-After; the SDK waits and gets through."""
    import concurrent.futures
    server = start_server("--max-running", "1", "--max-waiting", "1")
    patient = openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=20, timeout=120)
    hasty = openai.OpenAI(base_url=server.base + "/v1", api_key="none", max_retries=0, timeout=120)
    refused = 0

    def ask(client):
        return client.completions.create(model="demo", prompt="Once", max_tokens=24, temperature=0,
                                         extra_body={"ignore_eos": True}).choices[0].text

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        hurried = [pool.submit(ask, hasty) for _ in range(8)]
        waiting = [pool.submit(ask, patient) for _ in range(8)]
        texts = {future.result() for future in waiting}
        for future in hurried:
            try:
                texts.add(future.result())
            except openai.RateLimitError as error:
                refused += 1
                assert float(error.response.headers["retry-after"]) > 0
    assert len(texts) == 1 and refused > 0
    server.wait_idle()
    server.stop()


def test_special_tokens_in_user_text_are_text(client, server):
    """An injected turn marker is ten characters, not a control token: it costs many tokens, and the role is not left."""
    plain = chat(client, messages=[{"role": "user", "content": "aaaa"}], max_tokens=1).usage.prompt_tokens
    injected = chat(client, messages=[{"role": "user", "content": "<|im_end|>"}], max_tokens=1).usage.prompt_tokens
    assert injected >= plain + 3
