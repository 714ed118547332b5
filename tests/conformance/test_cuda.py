"""The CUDA backend through both doors: the same words as the CPU's, batch invariant, and rule P.

On the GPU simulator (or a real GPU):
  pytest tests/conformance/test_cuda.py --device cuda --binary build/gpusim/trireme
A process whose kernels did something wrong ends with exit code 86 there, so that stopping the server is a check, too.
"""
import concurrent.futures
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import grpc
import pytest

import tiny_model
from conftest import Server, kill_what_runs
from range_server import Authority
from rule_p import CANARY
from test_concurrency import make_request, stream


@pytest.fixture(autouse=True)
def device(pytestconfig):
    if pytestconfig.getoption("--device") != "cuda":
        pytest.skip("--device cuda was not asked for")


@pytest.fixture(scope="module")
def tiny_cuda(tmp_path_factory):
    """Heads of 64: the smallest that there are kernels for."""
    return str(tiny_model.write_random(tmp_path_factory.mktemp("tiny-cuda") / "tiny", head_dim=64,
                                       num_key_value_heads=2))


@pytest.fixture
def serve(binary):
    started = []

    def start(model, device, *flags, env=None):
        started.append(Server(binary, model, "--threads", "2", "--device", device, *flags, env=env))
        return started[-1]

    yield start
    kill_what_runs(started)
    for server in started:
        print(server.logs())


def complete(server, prompt, count, **fields):
    body = {"model": "demo", "prompt": prompt, "max_tokens": count, "temperature": 0, "ignore_eos": True, "logprobs": 20,
            **fields}
    code, _, answer = post(server, "/v1/completions", body)
    assert code == 200, answer
    return json.loads(answer)["choices"][0]


def complete_over_grpc(server, stubs, prompt, count):
    pb, pb_grpc = stubs
    request = pb.GenerateRequest(prompt=prompt, max_tokens=count, ignore_eos=True,
                                 sampling=pb.SamplingParams(temperature=0))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        return "".join(part.text for part in pb_grpc.InferenceStub(channel).Generate(request, timeout=600))


def post(server, path, body):
    request = urllib.request.Request(server.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def ranks(count):
    """The flag that shares a model, and a machine that has as many GPUs. The simulator is slow: patience."""
    return (("--tensor-parallel-size", str(count), "--rank-timeout", "300") if count > 1 else (),
            {"TRIREME_GPUSIM_DEVICES": str(count)})


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Follower:
    """`trireme serve` on a node that only follows."""

    def __init__(self, binary, model, node, flags, env):
        self.process = subprocess.Popen([binary, "serve", model, "--threads", "1", "--device", "cuda", "--log-format", "json",
                                         "--node-rank", str(node), *flags], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
        self._lines = []
        self._reader = threading.Thread(target=lambda: self._lines.extend(self.process.stderr), daemon=True)
        self._reader.start()

    def logs(self):
        return "".join(self._lines)

    def wait(self, timeout=60):
        code = self.process.wait(timeout)
        self._reader.join(5)
        return code

    def wait_for(self, words, timeout=60):
        deadline = time.monotonic() + timeout
        while words not in self.logs():
            assert time.monotonic() < deadline and self.process.poll() is None, self.logs()
            time.sleep(0.02)


class Nodes:
    """A model that several processes share: the first one serves."""

    def __init__(self, binary, serve, pool):
        self._binary, self._serve, self._pool = binary, serve, pool
        self.followers = []

    def follow(self, model, node, flags, env=None):
        self.followers.append(Follower(self._binary, model, node, flags, env or {}))
        return self.followers[-1]

    def serve_later(self, model, *flags, env):
        """The leader, which serves once the others have come: a future."""
        return self._pool.submit(self._serve, model, "cuda", "--node-rank", "0", *flags, env=env)

    def start(self, model, num_nodes, devices, *flags, rank_timeout=300, follower_env=None):
        """The leader, which serves; `devices` on each node."""
        flags = ["--nnodes", str(num_nodes), "--leader", f"127.0.0.1:{free_port()}", "--tensor-parallel-size",
                 str(num_nodes * devices), "--rank-timeout", str(rank_timeout), *flags]
        env = {"TRIREME_GPUSIM_DEVICES": str(devices)}
        leader = self.serve_later(model, *flags, env=env)
        for node in range(1, num_nodes):
            self.follow(model, node, flags, {**env, **(follower_env or {})})
        return leader.result()


@pytest.fixture
def nodes(binary, serve):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        group = Nodes(binary, serve, pool)
        yield group
        for follower in group.followers:
            if follower.process.poll() is None:
                follower.process.kill()
                follower.process.wait()
            print(follower.logs())


NEAR_TIE_NATS = 0.35  # activations in bf16 here, in int8 on the CPU: logprobs differ by 0.1 or so


PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def cpu_says(binary, model):
    server = Server(binary, model, "--threads", "2", "--device", "cpu", "--kv-cache-memory", "64MiB")
    said = complete(server, PROMPT, 16)["logprobs"]
    server.stop()
    return said


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_the_demo_model_says_what_it_says_on_the_cpu(serve, stubs, model, cpu_says, num_ranks):
    """16 greedy tokens over HTTP and gRPC, side by side; where the CPU's best two are as good as equal, either may come
    first. Its 9 heads with 3 KV heads divide neither by 2 nor by 4."""
    flags, env = ranks(num_ranks)
    cuda = serve(model, "cuda", "--kv-cache-memory", "64MiB", *flags, env=env)
    says_what_the_cpu_says(cuda, stubs, cpu_says)
    cuda.stop()


def test_the_demo_model_on_cublaslt_says_what_it_says_on_the_cpu(serve, stubs, model, cpu_says):
    """Its output projection is widened to bf16, and so cuBLASLt's; its quantised weights are not."""
    cuda = serve(model, "cuda", "--kv-cache-memory", "64MiB", "--gemm", "cublaslt")
    assert "cuBLASLt" in cuda.logs()
    says_what_the_cpu_says(cuda, stubs, cpu_says)
    cuda.stop()


def says_what_the_cpu_says(cuda, stubs, want, prompt=PROMPT):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        over_grpc = pool.submit(complete_over_grpc, cuda, stubs, prompt, 16)
        got = complete(cuda, prompt, 16)
        assert over_grpc.result() == got["text"]
    says_nearly(got["logprobs"], want, NEAR_TIE_NATS)
    cuda.wait_idle()


def says_nearly(got, want, nats):
    for i, (token, best) in enumerate(zip(got["tokens"], want["tokens"])):
        if token == best:
            assert abs(got["token_logprobs"][i] - want["token_logprobs"][i]) < nats
            continue
        top = want["top_logprobs"][i]
        assert token in top and top[best] - top[token] < nats, (i, token, best, top)
        break  # from here on they tell different stories


def test_the_demo_model_on_two_nodes_says_what_it_says_on_the_cpu(nodes, stubs, model, cpu_says):
    cuda = nodes.start(model, 2, 1, "--kv-cache-memory", "64MiB")
    says_what_the_cpu_says(cuda, stubs, cpu_says)
    cuda.stop()
    assert [follower.wait() for follower in nodes.followers] == [0], "the leader ends them"


@pytest.mark.parametrize("num_ranks, arch, flags", [
    (1, "sm_80", ("--kv-cache-memory", "16MiB")),
    # Chunked prefill, and so little memory that sequences are preempted and computed again.
    (1, "sm_80", ("--max-prefill-chunk", "24", "--max-step-tokens", "64", "--kv-cache-memory", "384KiB")),
    (2, "sm_80", ("--max-prefill-chunk", "24", "--max-step-tokens", "64", "--kv-cache-memory", "192KiB")),
    # Chunks whose attention is computed by warpgroups, and remainders that are too short for that.
    (1, "sm_90a", ("--max-prefill-chunk", "40", "--max-step-tokens", "64", "--kv-cache-memory", "384KiB")),
], ids=["roomy", "tight", "tight_on_two", "tight_on_hopper"])
def test_sixteen_at_once_equal_their_solo_runs(serve, stubs, tiny_cuda, num_ranks, arch, flags):
    """Bitwise: the logprobs are compared as printed, which is exactly. Prefixes are shared, some hang up."""
    more, env = ranks(num_ranks)
    env["TRIREME_GPUSIM_ARCH"] = arch
    server = serve(tiny_cuda, "cuda", "--max-context", "256", *flags, *more, env=env)
    bodies = [{**make_request(seed), "max_tokens": 24 + seed} for seed in range(16)]
    for body in bodies:
        body["prompt"] = body["prompt"][:20 + 5 * body["seed"]]
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        kept = [pool.submit(stream, server, stubs, body) for body in bodies]
        dropped = [pool.submit(stream, server, stubs, {**bodies[i], "seed": 100 + i}, i % 5) for i in range(4)]
        together = [future.result() for future in kept]
        for future in dropped:
            future.result()
    server.wait_idle(120)
    for body, said in zip(bodies, together):
        assert said["usage"][1] == body["max_tokens"] == len(said["logprobs"])
    for body, said in list(zip(bodies, together))[::3]:
        assert said == stream(server, stubs, body)
    if "--max-prefill-chunk" in flags:
        assert server.metric("trireme_preemptions_total") > 0
    server.wait_idle(120)
    server.stop()


@pytest.mark.parametrize("arch", ["sm_89", "sm_90a", "sm_100a"])
def test_every_architecture_says_what_the_cpu_says(serve, tiny_cuda, arch):
    """All else here runs on the simulator's default, sm_80, or on the GPU that there is."""
    prompts = ["Which machine?", "abc" * 40]
    said = []
    for device in ("cpu", "cuda"):
        server = serve(tiny_cuda, device, "--kv-cache-memory", "8MiB", env={"TRIREME_GPUSIM_ARCH": arch})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said.append([c["logprobs"] for c in pool.map(lambda prompt: complete(server, prompt, 16), prompts)])
        server.stop()
    for want, got in zip(*said):
        says_nearly(got, want, NEAR_TIE_NATS)


@pytest.mark.parametrize("arch, num_ranks", [("sm_80", 1), ("sm_80", 2), ("sm_90a", 1)])
def test_a_model_on_cublaslt_says_what_the_cpu_says(serve, tiny_cuda, arch, num_ranks):
    """Where our own kernels read weights in rows, too (sm_90a), they keep what has few tokens."""
    flags, env = ranks(num_ranks)
    prompts = ["Which machine?", "abc" * 60]
    said = []
    for device, more in (("cpu", ()), ("cuda", (*flags, "--gemm", "cublaslt"))):
        server = serve(tiny_cuda, device, "--kv-cache-memory", "8MiB", *more, env={**env, "TRIREME_GPUSIM_ARCH": arch})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said.append([c["logprobs"] for c in pool.map(lambda prompt: complete(server, prompt, 16), prompts)])
        server.wait_idle()
        server.stop()
    for want, got in zip(*said):
        says_nearly(got, want, NEAR_TIE_NATS)


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_model_in_f16_is_computed_in_f16(serve, tmp_path, num_ranks):
    """Its logprobs are nearer to the CPU's, which computes in float, than bf16 could be."""
    model = str(tiny_model.write_random(tmp_path / "tiny-f16", dtype="F16", head_dim=64, num_key_value_heads=2))
    flags, env = ranks(num_ranks)
    prompts = ["In what type?", "0123456789" * 8]
    said = []
    for device, more in (("cpu", ()), ("cuda", flags)):
        server = serve(model, device, "--kv-cache-memory", "8MiB", "--kv-cache-dtype", "f16", *more, env=env)
        said.append([complete(server, prompt, 12)["logprobs"] for prompt in prompts])
        server.stop()
    assert "f16)" in server.logs()
    for want, got in zip(*said):
        says_nearly(got, want, 0.01)


SAMPLED = [
    {"temperature": 1.0},
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 20, "min_p": 0.02},
    {"temperature": 1.0, "frequency_penalty": 0.8, "presence_penalty": 0.4},
    {"temperature": 1.0, "repetition_penalty": 1.3, "top_p": 0.95},
    {"temperature": 1.0, "logit_bias": {"65": 4.0, "66": -100, "67": -3.5}},
    {"temperature": 0, "logit_bias": {"70": -100}, "frequency_penalty": 1.5},
    {"temperature": 0.9, "min_tokens": 12, "ignore_eos": False, "stop_token_ids": [71, 72, 65], "logit_bias": {"65": 5}},
    {"temperature": 1.0, "echo": True},
]


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_the_device_draws_the_tokens_that_the_host_draws(serve, tiny_cuda, num_ranks):
    """typical_p without top_k is the host's, and so near to 1 leaves every token that could be drawn here. Both kinds at once."""
    flags, env = ranks(num_ranks)
    server = serve(tiny_cuda, "cuda", "--kv-cache-memory", "8MiB", *flags, env={**env, "TRIREME_GPUSIM_PROFILE": "1"})
    prompt = "What is drawn where?"
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        both = [[pool.submit(complete, server, prompt, 24, seed=seed, **fields, **where)
                 for where in ({}, {"typical_p": 0.9999999})] for seed, fields in enumerate(SAMPLED)]
        for fields, (device, host) in zip(SAMPLED, both):
            device, host = device.result()["logprobs"], host.result()["logprobs"]
            assert device["tokens"] == host["tokens"], fields
            for got, want in zip(device["token_logprobs"], host["token_logprobs"]):
                assert got == want if want is None else abs(got - want) < 1e-4, fields
            for got, want in zip(device["top_logprobs"], host["top_logprobs"]):
                assert (got is None) == (want is None) and (want is None or list(got) == list(want)), fields
    server.wait_idle()
    server.stop()
    if "simulated" in server.logs():  # the name of its devices; it tells what was launched
        assert "SampleRows" in server.logs()


def test_logits_that_are_no_numbers_fail_their_request_alone(serve, tmp_path):
    poison = "\x01"
    path = tiny_model.write_random(tmp_path / "poisoned", poison=ord(poison), head_dim=64)
    server = serve(str(path), "cuda", "--kv-cache-memory", "4MiB")
    alone = complete(server, "How do you do", 24)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        beside = pool.submit(complete, server, "How do you do", 24)
        bad = [post(server, "/v1/completions", {"model": "demo", "prompt": "x" * i + poison, "max_tokens": 4})
               for i in range(3)]
        assert beside.result() == alone
    assert [code for code, _, _ in bad] == [500] * 3
    server.wait_idle()
    server.stop()


@pytest.mark.parametrize("flags, words", [
    (("--kv-cache-dtype", "f32"), ["--kv-cache-dtype", "f32"]),
    (("--block-size", "8"), ["--block-size 8"]),
    (("--kv-cache-memory", "900GiB"), ["KV cache", "bytes needed", "free"]),
    (("--tensor-parallel-size", "2"), ["--tensor-parallel-size 2", "1 GPU"]),
    (("--device", "cpu", "--tensor-parallel-size", "2"), ["--tensor-parallel-size 2", "--device cuda"]),
    (("--device", "cpu", "--gemm", "cublaslt"), ["--gemm cublaslt", "--device cuda"]),
])
def test_what_the_device_cannot_do_is_said_before_serving(binary, tiny_cuda, flags, words):
    device = () if "--device" in flags else ("--device", "cuda")
    done = subprocess.run([binary, "serve", tiny_cuda, *device, "--http-port", "0", "--grpc-port", "0", *flags],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def start_and_end(binary, model, *flags, env):
    """A server that is to fail while it loads: its exit code and words. Or None: it serves (and is stopped)."""
    process = subprocess.Popen([binary, "serve", model, "--device", "cuda", "--http-port", "0", "--grpc-port", "0",
                                "--log-format", "json", "--kv-cache-memory", "1MiB", *flags],
                               stderr=subprocess.PIPE, text=True, env={**os.environ, **env})
    said = ""
    for line in process.stderr:
        said += line
        if '"event":"serving"' in line:
            process.terminate()
            assert process.wait(60) == 0, said
            return None
    return process.wait(60), said


@pytest.mark.parametrize("num_ranks", [1, 2])
def test_every_allocation_that_fails_at_start_is_said(binary, tiny_cuda, num_ranks):
    """Fail-the-Nth: one allocation after the other, until all succeed. Of two ranks the second's."""
    flags, env = ranks(num_ranks)
    for nth in range(1, 200):
        ended = start_and_end(binary, tiny_cuda, *flags,
                              env={**env, "TRIREME_GPUSIM_FAULTS": f"alloc@{nth}/{num_ranks - 1}"})
        if ended is None:
            break
        code, said = ended
        assert code == 1 and "bytes" in said and ("memory" in said), (nth, said)
    assert 20 < nth < 199, "the loop ends when the server starts"


@pytest.mark.parametrize("kind, rank, flags", [
    ("cublaslt", 0, ("--gemm", "cublaslt")),
    ("nccl", 0, ("--tensor-parallel-size", "2", "--rank-timeout", "300")),
    ("nccl", 1, ("--tensor-parallel-size", "2", "--rank-timeout", "300")),
], ids=["cublaslt", "nccl_of_the_first_rank", "nccl_of_the_second_rank"])
def test_every_library_call_that_fails_ends_the_start_or_every_request(serve, binary, tiny_cuda, kind, rank, flags):
    """Fail-the-Nth: one call after the other, until all succeed. At the start it is said, exit code 1; in a step, with
    requests under way, all of them get 503, and the process ends with 4 at once: no rank waits for one that failed."""
    library = {"cublaslt": "cuBLASLt", "nccl": "NCCL"}[kind]
    nth = 1

    def env():
        return {"TRIREME_GPUSIM_DEVICES": "2", "TRIREME_GPUSIM_FAULTS": f"{kind}@{nth}/{rank}"}

    while (ended := start_and_end(binary, tiny_cuda, *flags, env=env())) is not None:
        code, said = ended
        assert code == 1 and library in said, (nth, said)
        nth += 1
    at_start = nth - 1
    while True:
        server = serve(tiny_cuda, "cuda", "--kv-cache-memory", "2MiB", *flags, env=env())
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda text: post(server, "/v1/completions", {
                "model": "demo", "prompt": CANARY + text, "max_tokens": 4, "ignore_eos": True}), ["a", "bc"]))
        failed = [json.loads(body)["error"] for code, _, body in answers if code == 503]
        if not failed:
            assert [code for code, _, _ in answers] == [200, 200]
            server.wait_idle()
            server.stop()
            assert "fault on demand" not in server.logs()
            break
        assert all(code in (200, 503) for code, _, _ in answers), (nth, answers)
        assert "device_lost" in [error["code"] for error in failed], (nth, failed)
        assert server.wait(20) == 4, (nth, server.logs())
        assert library in server.logs() and CANARY not in server.logs() + json.dumps(failed), (nth, server.logs())
        nth += 1
    print(f"{kind} of rank {rank}: {at_start} calls at the start, {nth - 1 - at_start} in steps")
    assert at_start > 0 and nth - 1 - at_start > 10


def test_a_device_that_is_lost_while_the_server_drains_still_answers(serve, tiny_cuda):
    """Its own SIGTERM must not count as the second one, which aborts."""
    server = serve(tiny_cuda, "cuda", "--kv-cache-memory", "4MiB", env={"TRIREME_GPUSIM_FAULTS": "loss@1500"})
    body = {"model": "demo", "prompt": "x", "max_tokens": 200, "ignore_eos": True}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, server, "/v1/completions", body) for _ in range(4)]
        deadline = time.monotonic() + 60
        while server.metric("trireme_requests_running") < 4:
            assert time.monotonic() < deadline
        server.process.terminate()
        answers = [answer.result() for answer in answers]
    assert [code for code, _, _ in answers] == [503] * 4, answers
    assert {json.loads(said)["error"]["code"] for _, _, said in answers} == {"device_lost"}
    assert server.wait(10) == 4, server.logs()


@pytest.mark.parametrize("kind", ["launch", "sticky", "loss"])
def test_a_device_that_fails_fails_every_request_and_ends_the_process(serve, tiny_cuda, kind):
    """A kernel's launch, the kernel, the device: in the midst of eight streams. 503, exit code 4, nothing left behind."""
    for nth in (1, 40, 100) if kind == "launch" else (1, 40, 333, 900):  # a graph is launched as a whole
        server = serve(tiny_cuda, "cuda", "--kv-cache-memory", "2MiB", env={"TRIREME_GPUSIM_FAULTS": f"{kind}@{nth}"})
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda i: post(server, "/v1/completions", {
                "model": "demo", "prompt": "x" * (10 + i), "max_tokens": 60, "ignore_eos": True}), range(8)))
        failed = [json.loads(body)["error"] for code, _, body in answers if code == 503]
        assert failed and all(code in (200, 503) for code, _, _ in answers), answers
        assert all(error["code"] in ("device_lost", "draining", "shutting_down") for error in failed), failed
        assert any(error["code"] == "device_lost" for error in failed), failed
        assert server.wait(10) == 4, server.logs()
        assert "device_lost" in server.logs()


@pytest.mark.parametrize("fault, seconds", [("hang@60/1", 3), ("hang@1/0", 3), ("loss@333/1", 300), ("launch@40/0", 300)])
def test_a_rank_that_fails_or_hangs_fails_every_request_and_ends_the_process(serve, tiny_cuda, fault, seconds):
    """A rank in the midst of a collective waits for one that never comes: given up after --rank-timeout. One that fails
    ends the others' wait at once."""
    server = serve(tiny_cuda, "cuda", "--kv-cache-memory", "2MiB", "--tensor-parallel-size", "2", "--rank-timeout",
                   str(seconds), env={"TRIREME_GPUSIM_DEVICES": "2", "TRIREME_GPUSIM_FAULTS": fault})
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: post(server, "/v1/completions", {
            "model": "demo", "prompt": "x" * (10 + i), "max_tokens": 60, "ignore_eos": True}), range(8)))
    failed = [json.loads(body)["error"] for code, _, body in answers if code == 503]
    assert failed and any(error["code"] == "device_lost" for error in failed), answers
    assert server.wait(20) == 4, server.logs()
    assert ("did not end a step within 3 s" in server.logs()) == fault.startswith("hang"), server.logs()
    assert time.monotonic() - began < 200, "not the other cases' timeout"


# ---- Ranks on several nodes (processes here)


def many(server, count=8):
    """Requests side by side: their codes, and the errors among their answers."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda i: post(server, "/v1/completions", {
            "model": "demo", "prompt": "x" * (10 + i), "max_tokens": 60, "ignore_eos": True}), range(count)))
    return [code for code, _, _ in answers], [json.loads(body).get("error", {}).get("code") for _, _, body in answers]


def test_four_ranks_on_two_nodes_say_what_four_on_one_say(nodes, serve, tiny_cuda):
    flags, env = ranks(4)
    one = serve(tiny_cuda, "cuda", "--kv-cache-memory", "2MiB", *flags, env=env)
    want = complete(one, "How do you do", 24)
    one.stop()
    two = nodes.start(tiny_cuda, 2, 2, "--kv-cache-memory", "2MiB")
    assert complete(two, "How do you do", 24) == want
    codes, _ = many(two)
    assert codes == [200] * 8
    two.wait_idle()
    two.stop()
    assert nodes.followers[0].wait() == 0, nodes.followers[0].logs()


def test_nodes_that_hang_fail_every_request_and_end_all_nodes(nodes, tiny_cuda):
    """A rank of the second node waits for a collective for good: both nodes' watchdogs see it."""
    server = nodes.start(tiny_cuda, 2, 1, "--kv-cache-memory", "2MiB", rank_timeout=3,
                         follower_env={"TRIREME_GPUSIM_FAULTS": "hang@60/0"})
    codes, errors = many(server)
    assert "device_lost" in errors and set(codes) <= {200, 503}, (codes, errors)
    assert server.wait(20) == 4, server.logs()
    assert nodes.followers[0].wait() == 4
    assert "did not end a step within 3 s" in server.logs() and "node 1" in server.logs()


@pytest.mark.parametrize("victim, number", [("follower", signal.SIGKILL), ("follower", signal.SIGTERM),
                                            ("leader", signal.SIGKILL)])
def test_nodes_that_die_end_the_others(nodes, tiny_cuda, victim, number):
    """In the midst of requests that would go on for long. The other nodes end at once, not at their --rank-timeout. A
    second signal ends a follower that waits for its leader's drain."""
    server = nodes.start(tiny_cuda, 3, 1, "--kv-cache-memory", "2MiB")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, server, "/v1/completions", {"model": "demo", "prompt": "x", "max_tokens": 100,
                                                                 "ignore_eos": True}) for _ in range(4)]
        deadline = time.monotonic() + 60
        while server.metric("trireme_requests_running") < 4:
            assert time.monotonic() < deadline
        process = server.process if victim == "leader" else nodes.followers[1].process
        process.send_signal(number)
        if number == signal.SIGTERM:
            while "draining" not in nodes.followers[1].logs():
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(number)
        if victim == "follower":
            answers = [answer.result() for answer in answers]
            assert [code for code, _, _ in answers] == [503] * 4, answers
            assert {json.loads(said)["error"]["code"] for _, _, said in answers} == {"device_lost"}
    if victim == "follower":
        assert server.wait(20) == 4, server.logs()
        assert "node 2" in server.logs()
        assert nodes.followers[1].wait() == (3 if number == signal.SIGTERM else -number)
    ended = nodes.followers if victim == "leader" else nodes.followers[:1]
    assert [follower.wait() for follower in ended] == [4] * len(ended), [follower.logs() for follower in ended]


def test_nodes_that_die_end_an_idle_leader(nodes, tiny_cuda):
    server = nodes.start(tiny_cuda, 2, 1, "--kv-cache-memory", "2MiB")
    nodes.followers[0].process.kill()
    assert server.wait(20) == 4, server.logs()
    assert "node_lost" in server.logs() and "node 1" in server.logs()


def test_nodes_that_do_not_belong_to_the_group_are_turned_away(nodes, tiny_cuda, tmp_path):
    """By name, and the group still comes about."""
    other = str(tiny_model.write_random(tmp_path / "other", head_dim=64, num_hidden_layers=1))
    env = {"TRIREME_GPUSIM_DEVICES": "1"}
    common = ("--rank-timeout", "300", "--kv-cache-memory", "2MiB", "--leader", f"127.0.0.1:{free_port()}")
    flags = ("--nnodes", "2", "--tensor-parallel-size", "2", *common)
    serving = nodes.serve_later(tiny_cuda, *flags, env=env)
    for model, wrong_flags, words in [(other, flags, "another model"),
                                      (tiny_cuda, ("--nnodes", "3", "--tensor-parallel-size", "3", *common), "--nnodes 3")]:
        wrong = nodes.follow(model, 1, wrong_flags, env)
        assert wrong.wait() == 1 and "node 1" in wrong.logs() and words in wrong.logs(), wrong.logs()
    right = nodes.follow(tiny_cuda, 1, flags, env)
    server = serving.result()
    assert "a node was turned away" in server.logs()
    assert len(complete(server, "x", 4)["logprobs"]["tokens"]) == 4
    late = nodes.follow(tiny_cuda, 1, flags, env)
    assert late.wait() == 1 and "has all its nodes" in late.logs(), late.logs()
    server.stop()
    assert right.wait() == 0


def test_nodes_that_cannot_load_end_the_others(nodes, binary, tiny_cuda):
    """The leader says which one, and why."""
    flags = ("--nnodes", "2", "--tensor-parallel-size", "2", "--kv-cache-memory", "2MiB", "--leader",
             f"127.0.0.1:{free_port()}")
    env = {"TRIREME_GPUSIM_DEVICES": "1"}
    leader = nodes.follow(tiny_cuda, 0, flags, env)
    follower = nodes.follow(tiny_cuda, 1, flags, {**env, "TRIREME_GPUSIM_FAULTS": "alloc@12"})
    assert [leader.wait(), follower.wait()] == [1, 1], leader.logs() + follower.logs()
    assert "node 1" in leader.logs() and "bytes" in leader.logs(), leader.logs()


@pytest.mark.parametrize("node", [0, 1])
def test_nodes_whose_nccl_fails_at_the_start_end_all(nodes, tiny_cuda, node):
    """Each of the calls by which ranks join; the others wait for this one inside them."""
    for nth in (1, 2, 3):
        flags = ("--nnodes", "2", "--tensor-parallel-size", "2", "--kv-cache-memory", "2MiB", "--leader",
                 f"127.0.0.1:{free_port()}")
        started = [nodes.follow(tiny_cuda, i, flags, {"TRIREME_GPUSIM_DEVICES": "1",
                                                      **({"TRIREME_GPUSIM_FAULTS": f"nccl@{nth}"} if i == node else {})})
                   for i in (0, 1)]
        assert [process.wait() for process in started] == [1, 1], (nth, [process.logs() for process in started])
        assert "NCCL" in started[node].logs()


@pytest.mark.parametrize("nth", [4, 6, 9, 14, 30, 70])
def test_nodes_whose_nccl_fails_in_a_step_end_all(nodes, tiny_cuda, nth):
    """Without peers there is a collective for each norm. A follower that failed does not leave the leader waiting."""
    server = nodes.start(tiny_cuda, 2, 1, "--kv-cache-memory", "2MiB",
                         follower_env={"TRIREME_GPUSIM_FAULTS": f"nccl@{nth}"})
    codes, errors = many(server)
    assert "device_lost" in errors and set(codes) <= {200, 503}, (codes, errors)
    assert server.wait(20) == 4, server.logs()
    assert nodes.followers[0].wait() == 4, nodes.followers[0].logs()
    assert "NCCL" in nodes.followers[0].logs()


def test_nodes_verify_each_others_certificates(nodes, tiny_cuda, tmp_path):
    """A follower without one, or with one of another authority, never becomes part of the group."""
    def tls(shows, trusts):
        return "--ranks-cert", str(shows.certificate), "--ranks-key", str(shows.key), "--ranks-ca", str(trusts.ca)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    env = {"TRIREME_GPUSIM_DEVICES": "1"}
    flags = ("--nnodes", "2", "--tensor-parallel-size", "2", "--rank-timeout", "300", "--kv-cache-memory", "2MiB",
             "--leader", f"127.0.0.1:{free_port()}")
    serving = nodes.serve_later(tiny_cuda, *flags, *tls(ours, ours), env=env)
    stranger = nodes.follow(tiny_cuda, 1, (*flags, *tls(theirs, theirs)), env)
    assert stranger.wait() == 1 and "--leader" in stranger.logs(), stranger.logs()
    # It trusts the leader, but has a certificate that the leader does not trust.
    for more in (tls(theirs, ours), ()):
        refused = nodes.follow(tiny_cuda, 1, (*flags, *more), env)
        refused.wait_for("Socket closed")  # it may as well be a leader that starts anew: it goes on trying
        refused.process.kill()
    right = nodes.follow(tiny_cuda, 1, (*flags, *tls(ours, ours)), env)
    server = serving.result()
    assert server.logs().count('"a node has come"') == 1, server.logs()
    assert len(complete(server, "x", 4)["logprobs"]["tokens"]) == 4
    server.stop()
    assert right.wait() == 0


def test_nodes_at_an_address_that_others_can_reach_need_certificates(binary, tiny_cuda):
    done = subprocess.run([binary, "serve", tiny_cuda, "--device", "cuda", "--nnodes", "2", "--node-rank", "0", "--leader",
                           "0.0.0.0:8002", "--tensor-parallel-size", "2"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--ranks-cert" in done.stderr, done.stderr
