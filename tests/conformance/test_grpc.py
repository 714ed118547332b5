"""trireme.v1.Inference with grpcio: from our proto, and by reflection alone."""
import threading
import time

import grpc
import pytest

PROMPT = "The capital of France is"
LIST_SERVICES = b"\x3a\x00"  # a reflection request: field 7 (list_services) is one empty string
SERVING = b"\x08\x01"  # a health response: field 1 (status) is 1


def generate(stub, pb, **fields):
    sampling = fields.pop("sampling", {"temperature": 0})
    timeout = fields.pop("timeout", 120)
    return stub.Generate(pb.GenerateRequest(sampling=pb.SamplingParams(**sampling), **fields), timeout=timeout)


def text_of(responses):
    return "".join(response.text for response in responses)


def failure(call):
    """The error of a streaming call."""
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    error = raised.value
    return error.code(), error.details(), dict(error.trailing_metadata())


def test_generate_streams_and_ends_with_usage(stub, stubs):
    pb = stubs[0]
    responses = list(generate(stub, pb, prompt=PROMPT, max_tokens=8, ignore_eos=True))
    assert [r for r in responses if r.HasField("usage")] == responses[-1:]
    usage = responses[-1].usage
    assert usage.completion_tokens == 8 and usage.prompt_tokens > 0
    assert responses[-1].finish_reason == pb.FINISH_REASON_LENGTH
    assert len({r.request_id for r in responses}) == 1 and responses[0].request_id
    assert sum(len(r.token_ids) for r in responses) == 8


def test_text_equals_the_http_door(stub, stubs, client):
    over_grpc = text_of(generate(stub, stubs[0], prompt=PROMPT, max_tokens=24))
    over_http = client.completions.create(model="demo", prompt=PROMPT, max_tokens=24, temperature=0)
    assert over_grpc == over_http.choices[0].text


def test_chat_equals_the_http_door(stub, stubs, client):
    pb = stubs[0]
    chat = pb.Chat(messages=[pb.ChatMessage(role="system", content="Be brief."),
                             pb.ChatMessage(role="user", content="Name a colour.")])
    over_grpc = text_of(generate(stub, pb, chat=chat, max_tokens=16))
    over_http = client.chat.completions.create(
        model="demo", max_tokens=16, temperature=0,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}])
    assert over_grpc == over_http.choices[0].message.content


def test_logprobs_n_and_seed(stub, stubs):
    pb = stubs[0]
    sampling = {"temperature": 1.0, "seed": 7, "logprobs": 3}
    runs = []
    for _ in range(2):
        choices = {0: [], 1: []}
        for response in generate(stub, pb, prompt=PROMPT, max_tokens=6, n=2, ignore_eos=True, sampling=sampling):
            choices[response.index].extend(response.logprobs)
        runs.append({i: [t.token_id for t in tokens] for i, tokens in choices.items()})
        for tokens in choices.values():
            assert len(tokens) == 6
            for token in tokens:
                assert len(token.top) == 3 and token.logprob <= 0
                assert token.top[0].logprob >= token.top[1].logprob >= token.top[2].logprob
    assert runs[0] == runs[1] and runs[0][0] != runs[0][1]


def test_stop_string(stub, stubs):
    pb = stubs[0]
    responses = list(generate(stub, pb, prompt="1, 2, 3, 4,", max_tokens=40, stop=[" 7"]))
    assert " 7" not in text_of(responses)
    assert responses[-1].finish_reason == pb.FINISH_REASON_STOP and responses[-1].matched_stop == " 7"


def test_tokenize_round_trip(stub, stubs):
    pb = stubs[0]
    text = "Grüße, 世界! 👩‍🚀\n\tcode = x[0]"
    tokens = stub.Tokenize(pb.TokenizeRequest(text=text), timeout=30)
    assert b"".join(tokens.tokens).decode() == text and tokens.max_context_tokens > 0
    assert stub.Detokenize(pb.DetokenizeRequest(token_ids=tokens.token_ids), timeout=30).text == text


def test_model_and_server_info(stub, stubs):
    pb = stubs[0]
    info = stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=30)
    assert info.id == "demo" and info.vocab_size == 49152 and info.has_chat_template and info.architecture == "llama"
    server = stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=30)
    assert server.version and server.kv_blocks_total > 0 and "cpu" in server.device
    load = stub.GetLoad(pb.GetLoadRequest(), timeout=30)
    assert load.kv_usage >= 0 and not load.draining


def test_developer_is_system_as_in_http(stub, stubs, client):
    pb = stubs[0]
    chats = [pb.Chat(messages=[pb.ChatMessage(role=role, content="Be brief."), pb.ChatMessage(role="user", content="Hi")])
             for role in ("system", "developer")]
    tokens = [list(stub.Tokenize(pb.TokenizeRequest(chat=chat), timeout=30).token_ids) for chat in chats]
    assert tokens[0] == tokens[1]


def test_continue_final_message_needs_no_other_field_as_in_http(stub, stubs, client):
    pb = stubs[0]
    messages = [{"role": "user", "content": "Count to five."}, {"role": "assistant", "content": "One, two,"}]
    chat = pb.Chat(messages=[pb.ChatMessage(**message) for message in messages], continue_final_message=True)
    over_grpc = text_of(generate(stub, pb, chat=chat, max_tokens=8))
    over_http = client.chat.completions.create(model="demo", max_tokens=8, temperature=0, messages=messages,
                                               extra_body={"continue_final_message": True})
    assert over_grpc and over_grpc == over_http.choices[0].message.content


def test_top_k_of_minus_one_is_off(stub, stubs):
    pb = stubs[0]
    texts = [text_of(generate(stub, pb, prompt=PROMPT, max_tokens=8, sampling={"seed": 5, "top_k": top_k}))
             for top_k in (0, -1)]
    assert texts[0] == texts[1]


def test_deadline_is_honoured(stub, stubs, server):
    pb = stubs[0]
    started = time.monotonic()
    code, _, _ = failure(generate(stub, pb, prompt=PROMPT, max_tokens=8000, ignore_eos=True, timeout=0.5))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - started < 30
    server.wait_idle()


def test_abort_ends_a_call_by_its_id(stub, stubs, server):
    pb = stubs[0]
    call = generate(stub, pb, prompt=PROMPT, max_tokens=8000, ignore_eos=True, request_id="to-abort")
    next(call)
    assert stub.Abort(pb.AbortRequest(request_id="to-abort"), timeout=30).found
    assert failure(call)[0] == grpc.StatusCode.CANCELLED
    assert not stub.Abort(pb.AbortRequest(request_id="to-abort"), timeout=30).found
    server.wait_idle()


def test_health_check_and_watch(server):
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
    from google.protobuf import descriptor_pool, message_factory
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"trireme.v1.Inference", "grpc.health.v1.Health"} <= set(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("grpc.health.v1.Health")
        method = service.FindMethodByName("Check")
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        for name in ("", "trireme.v1.Inference"):
            check = channel.unary_unary("/grpc.health.v1.Health/Check", request.SerializeToString, response.FromString)
            assert check(request(service=name), timeout=10).status == 1
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch", request.SerializeToString,
                                         response.FromString)(request(service=name), timeout=10)
            assert next(watch).status == 1
            watch.cancel()


def test_generate_by_reflection_alone(server):
    """A client that has never seen our proto."""
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
    from google.protobuf import descriptor_pool, message_factory
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("trireme.v1.Inference").FindMethodByName("Generate")
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_stream("/trireme.v1.Inference/Generate", request.SerializeToString, response.FromString)
        answers = list(call(request(prompt=PROMPT, max_tokens=4, sampling={"temperature": 0}), timeout=60))
        assert text_of(answers)


def test_reflection_v1_lists_services(server, stubs):
    """The newer protocol, by its method name."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        answer = next(call(iter([LIST_SERVICES]), timeout=10))
        assert b"trireme.v1.Inference" in answer


def test_keys_guard_every_method(start_server, stubs, tmp_path):
    pb, pb_grpc = stubs
    keys = tmp_path / "keys"
    keys.write_text("grpc-key\n")
    keys.chmod(0o600)
    server = start_server("--api-keys", str(keys))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = pb_grpc.InferenceStub(channel)
        assert failure(stub.Generate(pb.GenerateRequest(prompt="x", max_tokens=1)))[0] == grpc.StatusCode.UNAUTHENTICATED
        for method, request in ((stub.Tokenize, pb.TokenizeRequest(text="x")), (stub.GetLoad, pb.GetLoadRequest()),
                                (stub.GetModelInfo, pb.GetModelInfoRequest()), (stub.Abort, pb.AbortRequest())):
            with pytest.raises(grpc.RpcError) as raised:
                method(request, timeout=10)
            assert raised.value.code() == grpc.StatusCode.UNAUTHENTICATED
        metadata = (("authorization", "Bearer grpc-key"),)
        assert list(stub.Generate(pb.GenerateRequest(prompt="x", max_tokens=1), metadata=metadata, timeout=60))
        for version in ("v1", "v1alpha"):
            reflect = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            assert failure(reflect(iter([LIST_SERVICES]), timeout=10))[0] == grpc.StatusCode.UNAUTHENTICATED
            assert b"trireme.v1.Inference" in next(reflect(iter([LIST_SERVICES]), metadata=metadata, timeout=10))
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=10) == SERVING, "health is open"
    server.stop()


def test_calls_are_counted_by_method_and_code(start_server, stubs):
    pb, pb_grpc = stubs
    server = start_server()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = pb_grpc.InferenceStub(channel)
        list(generate(stub, pb, prompt="x", max_tokens=1))
        failure(generate(stub, pb, prompt="x", n=-1))
        stub.Tokenize(pb.TokenizeRequest(text="x"), timeout=30)
    expected = {f'trireme_grpc_requests_total{{code="{code}",method="{method}"}} 1'
                for code, method in (("OK", "Generate"), ("INVALID_ARGUMENT", "Generate"), ("OK", "Tokenize"))}
    deadline = time.monotonic() + 30  # counted when gRPC has let the call go
    while not expected <= set(server.get("/metrics")[2].decode().splitlines()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.stop()


def test_an_open_health_watch_does_not_hold_the_drain_up(start_server):
    server = start_server("--drain-timeout", "600")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert next(watch) == SERVING
        server.stop()  # waits for a minute at most


def test_many_concurrent_calls(server, stubs):
    """32 streams on one channel, each equal to its solo run."""
    pb, pb_grpc = stubs
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = pb_grpc.InferenceStub(channel)

        def run(i):
            return text_of(generate(stub, pb, prompt=f"Story number {i}:", max_tokens=4 + i % 9, ignore_eos=True))

        together = [None] * 32
        threads = [threading.Thread(target=lambda i=i: together.__setitem__(i, run(i))) for i in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == [run(i) for i in range(32)]
    server.wait_idle()
