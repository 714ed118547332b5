"""Both servers under the same load, from start to first token, and what memory they take."""
import http.client
import json
import pathlib
import tempfile
import time

from processes import Failed, output_of, resident_bytes, running, seconds

CHATS = 32
PROMPT_TOKENS = "uniform:16:240"  # of a chat; the template adds some 30
OUTPUT_TOKENS = 64
CONTEXT = 384  # of one chat: prompt, template and answer fit
START_CONTEXT = 1024  # of the server whose start and memory are measured
START_DEADLINE = 120  # seconds
MODEL_NAME = "bench"


def trireme_command(programs, file, threads, port, context, chats, kv_bytes_per_token):
    return [programs / "trireme", "serve", file, "--threads", threads, "--http-port", port, "--grpc-port", -1,
            "--served-model-name", MODEL_NAME,
            "--max-context", context, "--kv-cache-memory", context * chats * kv_bytes_per_token]


def llama_command(peer, file, threads, port, context, chats):
    slots = ["-np", chats] if chats > 1 else []  # its default otherwise
    return [peer / "llama-server", "-m", file, "-t", threads, "--host", "127.0.0.1", "--port", port,
            "-c", context * chats, *slots]


def load(command, port, programs, *, streams, requests, prompt_tokens, seed):
    """`requests` chats, `streams` at a time, by our load generator: what it reports of them, an object.

    Each is answered with OUTPUT_TOKENS tokens, or the measurement has failed.
    """
    with running(command, port) as server, tempfile.TemporaryDirectory() as folder:
        _first_token(server, "Hello")
        report = pathlib.Path(folder) / "report.json"
        output_of([programs / "trireme", "bench", "--target", f"http://127.0.0.1:{port}", "--concurrency", streams,
                   "--requests", requests, "--prompt-tokens", prompt_tokens, "--output-tokens", OUTPUT_TOKENS,
                   "--ignore-eos", "--seed", seed, "--json", report])
        server.check()
        level = json.loads(report.read_text())["levels"][0]
    if level["requests"]["failed"] or level["tokens_out"] != requests * OUTPUT_TOKENS:
        raise Failed(f"{level['requests']['failed']} chats failed, {level['tokens_out']} tokens of "
                     f"{requests * OUTPUT_TOKENS} came: {level['error_examples']}")
    return level


def chats(command, port, programs, requests, seed):
    """CHATS at a time: (output tokens/s, TTFT p50 in ms, ITL p99 in ms)."""
    level = load(command, port, programs, streams=CHATS, requests=requests, prompt_tokens=PROMPT_TOKENS, seed=seed)
    return level["tokens_out_per_s"], level["ttft_ms"]["p50"], level["itl_ms"]["p99"]


def start(command, port, file, kv_bytes):
    """(ms from the process's start to the first token, MB of memory above the file and the KV cache).

    Memory is read when a prompt has filled most of the context, so that nothing is left out because it was not touched yet.
    """
    with open(file, "rb") as weights:  # into the page cache
        while weights.read(1 << 24):
            pass
    begun = seconds()
    with running(command, port) as server:
        milliseconds = (_first_token(server, "Hello") - begun) * 1e3
        _first_token(server, " one" * (START_CONTEXT * 4 // 5))
        resident = resident_bytes(server.pid)
    return milliseconds, (resident - pathlib.Path(file).stat().st_size - kv_bytes) / 1e6


def wait_for_weight_cache(command, port, folder):
    """Starts the server until it has written its packed weights."""
    deadline = seconds() + START_DEADLINE
    with running(command, port) as server:
        while not list(pathlib.Path(folder).glob("*.trireme-packed")):
            server.check()
            if seconds() > deadline:
                raise Failed(f"no packed weights within {START_DEADLINE} s")
            time.sleep(0.01)


def _first_token(server, prompt):
    """Asks until the server answers: when the first token came, in seconds(). The rest of the answer is read, too."""
    body = json.dumps({"model": MODEL_NAME, "messages": [{"role": "user", "content": prompt}],
                       "max_tokens": 4, "stream": True})
    deadline = seconds() + START_DEADLINE
    while seconds() < deadline:
        server.check()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=START_DEADLINE)
        try:
            connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            if answer.status == 200:
                return _read_stream(answer)
            if answer.status != 503:  # that one: still loading
                raise Failed(f"the server answered {answer.status}: {answer.read(300)!r}")
        except (OSError, http.client.HTTPException):
            pass  # not listening yet, or ended: check() tells
        finally:
            connection.close()
        time.sleep(0.002)
    raise Failed(f"no first token within {START_DEADLINE} s")


def _read_stream(answer):
    came = None
    for line in answer:
        if came is None and line.startswith(b"data: {"):
            choices = json.loads(line[6:]).get("choices")
            if choices and choices[0]["delta"].get("content"):
                came = seconds()
    if came is None:
        raise Failed("the server's answer has no token")
    return came
