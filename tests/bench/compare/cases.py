"""What is measured: each case has a run of ours and one of the peer's, and gives values of one row or more."""
import dataclasses
import functools
import json
import pathlib
import sys
import tempfile
from typing import Callable

import engine
import gguf
import random_model
import servers
import texts
import variants
from processes import free_port, json_lines, output_of
from rows import Row
from targets import target

PEER = "llama.cpp"
RANDOM_TYPE = "Q4_0"  # the peer is strongest there
BENCH = pathlib.Path(__file__).resolve().parent.parent
TEXT = BENCH / "perplexity.txt"


@dataclasses.dataclass
class Case:
    name: str
    run: Callable  # run(side, round) for side "ours" or "peer": a value for each row
    rows: list  # of Row
    once: bool = False  # does not vary from run to run, or repeats by itself
    alone: bool = False  # the peer has nothing of the kind
    peer: str = PEER


@dataclasses.dataclass
class Setup:
    programs: pathlib.Path  # has trireme, engine_bench, host_bench
    peer: pathlib.Path | None  # has the peer's programs
    variants: dict  # type of the weights ("Q4_1") -> file
    threads: int
    quick: bool
    limits: dict = dataclasses.field(default_factory=dict)  # the best seen of each

    def row(self, name, unit, peer=PEER):
        return Row(name, unit, target(name), peer=peer if self.peer else None)


ENGINE = [("decode:1", "decode, 1 stream", None), ("prefill:512", "prefill 512", None),
          ("decode:32", "decode, 32 streams", ("Q4_0", "Q8_0", "BF16")), ("depth:4096", "decode at depth 4096", ("Q8_0",))]


def all_cases(setup):
    """In the order of the table. --quick leaves out what takes long or says little more."""
    cases = []
    for test, name, types in ENGINE:
        for file_type, file in setup.variants.items():
            quick = test == "prefill:512" or file_type == "Q8_0"
            if (types is None or file_type in types) and (not setup.quick or (quick and not test.startswith("depth"))):
                cases.append(_engine(setup, test, f"{name}, {file_type}", file_type, functools.partial(pathlib.Path, file)))
    if not setup.quick:
        cases += [_gemm(setup, file_type, file) for file_type, file in setup.variants.items()]
    for file_type, file in setup.variants.items():
        if not setup.quick or file_type == "Q8_0":
            cases.append(_perplexity(setup, f"perplexity, {file_type}", file))
    if not setup.quick:
        cases += _like_1b(setup)
    file = setup.variants[server_type(setup)]
    cases += [_chats(setup, file), _start(setup, file), _cached_start(setup, file), _binary(setup)]
    if not setup.quick:
        cases.append(_tokenizer(setup))
    return cases + [_host(setup)]


def server_type(setup):
    """Of the weights that servers are measured with."""
    return "Q8_0" if "Q8_0" in setup.variants else next(iter(setup.variants))


def server_commands(setup):
    """(type of the weights, name -> command_of(port, context, chats) of each side's server)."""
    file_type = server_type(setup)
    file = setup.variants[file_type]
    sides = {"trireme": "ours", **({PEER: "peer"} if setup.peer else {})}
    return file_type, {name: functools.partial(_command, setup, side, file) for name, side in sides.items()}


def measure_limits(setup):
    for name, value in engine.limits(setup.programs, setup.threads).items():
        setup.limits[name] = max(value, setup.limits.get(name, 0))


def _engine(setup, test, name, file_type, file_of):
    """file_of(): the weights."""
    row = setup.row(name, "tokens/s")

    def run(side, round):
        if side == "peer":
            return [engine.peers(setup.peer, file_of(), test, setup.threads)]
        report = engine.ours(setup.programs, file_of(), test, setup.threads)
        row.ceiling = engine.work_of(test, report, gguf.read(file_of()), file_type).ceiling(setup.limits)
        return [report["tokens_per_s"]]

    return Case(name, run, [row])


def _gemm(setup, file_type, file):
    """What of the arithmetic peak the layers' matrix products reach by themselves."""
    row = setup.row(f"matrix products of 512 tokens, {file_type}", "GOP/s", peer=None)

    def run(side, round):
        row.ceiling = engine.arithmetic_peak(setup.limits, file_type.startswith("Q"))
        return [engine.ours(setup.programs, file, "gemm:512", setup.threads)["gop_per_s"]]

    return Case(row.name, run, [row], alone=True)


def _like_1b(setup):
    """Another size: random weights, made (0.6 GB, in the cache) when the first of these rows is measured."""
    file_of = functools.cache(lambda: random_model.cached(
        variants.cache() / "models" / "variants", RANDOM_TYPE, next(iter(setup.variants.values()))))
    return [_engine(setup, test, f"1B-shaped: {name}, {RANDOM_TYPE}", RANDOM_TYPE, file_of)
            for test, name, _ in ENGINE if not test.startswith("depth")]


def _perplexity(setup, name, file):
    def run(side, round):
        if side == "peer":
            return [engine.peers_perplexity(setup.peer, file, TEXT, setup.threads)]
        return [engine.our_perplexity(setup.programs, file, TEXT, setup.threads)]

    return Case(name, run, [setup.row(name, "perplexity")], once=True)


def _command(setup, side, file, port, context, chats):
    if side == "peer":
        return servers.llama_command(setup.peer, file, setup.threads, port, context, chats)
    return servers.trireme_command(setup.programs, file, setup.threads, port, context, chats,
                                   gguf.read(file).kv_bytes_per_token)


def _chats(setup, file):
    requests = servers.CHATS if setup.quick else 2 * servers.CHATS

    def run(side, round):
        port = free_port()
        command = _command(setup, side, file, port, servers.CONTEXT, servers.CHATS)
        return servers.chats(command, port, setup.programs, requests, seed=round + 1)

    return Case("server, 32 chats", run, [
        setup.row("server, 32 chats, output", "tokens/s"),
        setup.row("server, 32 chats, TTFT p50", "ms"),
        setup.row("server, 32 chats, ITL p99", "ms")])


def _start(setup, file):
    def run(side, round):
        port = free_port()
        command = _command(setup, side, file, port, servers.START_CONTEXT, 1)
        return servers.start(command, port, file, servers.START_CONTEXT * gguf.read(file).kv_bytes_per_token)

    return Case("start", run, [setup.row("start to first token", "ms"),
                               setup.row("memory above weights and KV", "MB")])


def _cached_start(setup, file):
    """Ours behind a start that kept its packed weights; the peer maps its file in any case."""
    def run(side, round):
        port = free_port()
        command = _command(setup, side, file, port, servers.START_CONTEXT, 1)
        kv_bytes = servers.START_CONTEXT * gguf.read(file).kv_bytes_per_token
        if side == "peer":
            return servers.start(command, port, file, kv_bytes)[:1]
        with tempfile.TemporaryDirectory() as folder:
            command += ["--weight-cache", folder]
            servers.wait_for_weight_cache(command, port, folder)
            return servers.start(command, port, file, kv_bytes)[:1]

    return Case("start, weights cached", run, [setup.row("start to first token, --weight-cache", "ms")])


def _binary(setup):
    def run(side, round):
        program = setup.peer / "llama-server" if side == "peer" else setup.programs / "trireme"
        with tempfile.TemporaryDirectory() as folder:
            output_of(["strip", "-o", pathlib.Path(folder) / "stripped", program])
            return [(pathlib.Path(folder) / "stripped").stat().st_size / 1e6]

    return Case("binary", run, [setup.row("stripped binary", "MB")], once=True)


def _tokenizer(setup):
    """On one thread, both with the vocabulary of the same file."""
    scripts = texts.scripts()
    model = next(iter(setup.variants.values()))

    def run(side, round):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(texts.make(), file)
            file.flush()
            if side == "peer":
                rates = json.loads(output_of([sys.executable, BENCH / "compare/tokenizers_peer.py", model, file.name]))
            else:
                said = output_of([setup.programs / "host_bench", "--only", "tokenizer", "--json", "--quick", "--model", model,
                                  "--texts", file.name])
                rates = {line["name"].removeprefix("tokenizer_"): line["value"] for line in json_lines(said)}
        return [rates[script] for script in scripts]

    rows = [setup.row(f"tokenizer, {script}", "MB/s", peer="tokenizers") for script in scripts]
    return Case("tokenizer", run, rows, peer="tokenizers")


def _host(setup):
    """host_bench names its rows itself, with medians of its own."""
    rows = []

    def run(side, round):
        quick = ["--quick"] if setup.quick else []
        model = next(iter(setup.variants.values()))
        found = json_lines(output_of([setup.programs / "host_bench", "--json", *quick, "--model", model]))
        found = [line for line in found if not line["name"].startswith("tokenizer_")]  # those have a case of their own
        rows.extend(Row(line["name"], line["unit"], target(line["name"])) for line in found)
        return [line["value"] for line in found]

    return Case("host path", run, rows, once=True, alone=True)
