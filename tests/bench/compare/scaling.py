"""How far a server scales: throughput and latency at 1, 2, 4 ... 256 streams, and where the knee is (run.sh --scaling)."""
import dataclasses
import json

import servers
from processes import free_port
from rows import aligned, number

STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PROMPT_TOKENS = "uniform:16:128"
CONTEXT = 256  # of one chat: prompt, template and answer fit
ROUNDS_OF_A_LEVEL = 2  # requests of each stream, so that streams are refilled while others run
MIN_REQUESTS = 32
# As `trireme bench --ramp` has it (server/loadgen/ramp.h): a level was worth it when throughput grew by at least half of
# what the load grew by.
MIN_GROWTH_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Level:
    streams: int
    tokens_per_s: float
    ttft_p50_ms: float
    itl_p50_ms: float
    itl_p99_ms: float


def measure_level(command_of, programs, streams, seed):
    """One Level. command_of(port, context, chats): the command that starts a server for so many chats."""
    port = free_port()
    report = servers.load(command_of(port, CONTEXT, streams), port, programs, streams=streams,
                          requests=max(MIN_REQUESTS, ROUNDS_OF_A_LEVEL * streams), prompt_tokens=PROMPT_TOKENS, seed=seed)
    return Level(streams, report["tokens_out_per_s"], report["ttft_ms"]["p50"], report["itl_ms"]["p50"],
                 report["itl_ms"]["p99"])


def measure(sides, programs, streams, attempt, curves):
    """Fills `curves`: Levels by side, in order. sides: name -> command_of. Level by level, the sides by turns.

    attempt(name, measurement): its result, or None when one of that name has failed: above what a side can do, its curve ends.
    """
    curves.update((side, []) for side in sides)
    for count in streams:
        for side, command_of in sides.items():
            level = attempt(f"scaling ({side})", lambda: measure_level(command_of, programs, count, seed=count))
            if level:
                curves[side].append(level)


def knee(levels):
    """The last level that was worth it. None without levels."""
    good = None
    for level in levels:
        if good and (level.tokens_per_s / good.tokens_per_s - 1 <
                     MIN_GROWTH_SHARE * (level.streams / good.streams - 1)):
            break
        good = level
    return good


def table(curves):
    lines = [["server", "streams", "tokens/s", "TTFT p50", "ITL p50", "ITL p99", ""]]
    for side, levels in curves.items():
        at_knee = knee(levels)
        for level in levels:
            lines.append([side, str(level.streams), *map(number, (level.tokens_per_s, level.ttft_p50_ms, level.itl_p50_ms,
                                                                  level.itl_p99_ms)),
                          "knee" if level is at_knee else ""])
    return aligned(lines, left=(0, 6)) + "\n(latencies in ms)"


def summary(curves):
    """A line for each side that was measured."""
    lines = []
    for side, levels in curves.items():
        at_knee = knee(levels)
        if at_knee:
            best = max(levels, key=lambda level: level.tokens_per_s)
            lines.append(f"{side}: the knee is at {at_knee.streams}: {number(at_knee.tokens_per_s)} tokens/s, ITL p99 "
                         f"{number(at_knee.itl_p99_ms)} ms; at most {number(best.tokens_per_s)} tokens/s, at {best.streams} streams")
    return "\n".join(lines)


def write_json(path, head, curves):
    scaling = {}
    for side, levels in curves.items():
        at_knee = knee(levels)
        scaling[side] = {"levels": [dataclasses.asdict(level) for level in levels],
                         "knee_streams": at_knee.streams if at_knee else None}
    with open(path, "w") as file:
        json.dump({"head": head, "scaling": scaling}, file, indent=1)
        file.write("\n")
