"""The model alone, without a server: engine_bench of ours, llama-bench, llama-batched-bench and llama-perplexity of the
peer."""
import dataclasses
import json
import re

from processes import Failed, output_of

STEP_TOKENS = 512  # of a prompt, in one step: weights are read once for all of them
PERPLEXITY_WINDOW = 512  # that of engine_bench, and the peer's default


@dataclasses.dataclass
class Work:
    """What one token costs at least."""
    bytes: float  # read from memory
    operations: float  # of matrix products, a multiply-add is two
    quantised: bool  # products of 8 bits, else of floating point

    def ceiling(self, limits):
        """Tokens a second that memory and arithmetic allow (the roofline model), None where neither was measured."""
        peak = arithmetic_peak(limits, self.quantised)
        bounds = []
        if limits.get("dram_gb_per_s") and self.bytes:
            bounds.append(limits["dram_gb_per_s"] * 1e9 / self.bytes)
        if peak and self.operations:
            bounds.append(peak * 1e9 / self.operations)
        return min(bounds) if bounds else None


def arithmetic_peak(limits, quantised):
    """Of matrix products, GOP/s."""
    return limits.get("int8_gop_per_s") if quantised else (
        limits.get("bf16_gflop_per_s") or limits.get("fp32_gflop_per_s"))


def work_of(test, report, model, file_type):
    """`report`: what engine_bench printed for `test`; `model`: what the file's head says of it."""
    kind, count = test.split(":")
    count = int(count)
    shared_by = {"prefill": min(count, STEP_TOKENS), "decode": count, "depth": 1}[kind]  # tokens of a step
    logits_of_one = count if kind == "prefill" else 1  # tokens for each that has logits
    kv = 0 if kind == "prefill" else report["kv_bytes_per_token"]
    return Work(bytes=report["weight_bytes_per_step"] / shared_by + kv,
                operations=2 * (model.layer_weights + model.head_weights / logits_of_one),
                quantised=file_type.startswith("Q"))


def ours(programs, file, test, threads):
    """One run: what engine_bench says, an object with tokens_per_s, or gop_per_s."""
    return json.loads(output_of([programs / "engine_bench", file, "--threads", threads, "--test", test]))


def limits(programs, threads):
    """What the machine can do, measured: dram_gb_per_s, int8_gop_per_s, fp32_gflop_per_s."""
    return json.loads(output_of([programs / "engine_bench", "--limits", "--threads", threads]))


def peers(peer, file, test, threads):
    """One run of the peer's own tool for the same work: tokens a second."""
    kind, count = test.split(":")
    if kind == "decode" and count != "1":
        said = output_of([peer / "llama-batched-bench", "-m", file, "-t", threads, "-tb", threads, "-c", int(count) * 128,
                          "-npp", 16, "-ntg", 64, "-npl", count, "--output-format", "jsonl"])
        return _object_with(said, "speed_tg")
    shape = {"prefill": ["-p", count, "-n", 0], "decode": ["-p", 0, "-n", 128],
             "depth": ["-p", 0, "-n", 64, "-d", count]}[kind]
    said = output_of([peer / "llama-bench", "-m", file, "-t", threads, "-r", 1, "-o", "jsonl", *shape])
    return _object_with(said, "avg_ts")


def our_perplexity(programs, file, text, threads):
    return json.loads(output_of([programs / "engine_bench", file, "--threads", threads, "--perplexity", text]))["perplexity"]


def peers_perplexity(peer, file, text, threads):
    said = output_of([peer / "llama-perplexity", "-m", file, "-f", text, "-t", threads, "-c", PERPLEXITY_WINDOW], both=True)
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", said)
    if not found:
        raise Failed(f"no perplexity in what the peer printed: {said[-300:]!r}")
    return float(found[1])


def _object_with(said, key):
    """The value of `key` in the first line of JSON that has it: the tools print other lines, too."""
    for line in said.splitlines():
        if line.startswith("{"):
            found = json.loads(line)
            if key in found:
                return found[key]
    raise Failed(f"no {key} in what the peer printed: {said[-300:]!r}")
