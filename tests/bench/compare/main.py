"""Measures, compares and reports; tests/bench/run.sh prepares what this needs, and its --help tells the usage."""
import argparse
import datetime
import os
import pathlib
import platform
import re
import signal
import sys
import time

import scaling
from cases import PEER, Setup, all_cases, measure_limits, server_commands
from processes import Failed, output_of, seconds
from rows import table, write_json

RUNS = 5
QUICK_SECONDS = 110
QUICK_LEVELS = 6  # of --scaling: up to 32 streams
ISA = ("avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd",
       "asimddp", "i8mm", "bf16")


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are ended, and what was measured is told
    options = parse()
    setup = Setup(programs=options.programs, peer=options.peer, quick=options.quick, threads=options.threads,
                  variants=dict(variant.split("=", 1) for variant in options.variant))
    if options.scaling:
        run_scaling(setup, options)
    else:
        run_table(setup, options)


def run_table(setup, options):
    cases = [case for case in all_cases(setup)
             if any(options.only.search(name) for name in [case.name, *(row.name for row in case.rows)])]
    if not cases:
        sys.exit(f"--only {options.only.pattern}: no row has such a name")
    head = describe(options)
    failures = {}
    stopped = until_stopped(lambda: measure(setup, cases, failures, head))
    head["limits"] = setup.limits
    rows = [row for case in cases for row in case.rows if row.ours]
    print(table(rows))
    print(summary(head, rows))
    if options.json:
        write_json(options.json, head, rows)
    if options.plot:
        import chart  # needs matplotlib, which only --plot needs
        chart.draw(options.plot, head, rows)
    finish(failures, stopped)


def run_scaling(setup, options):
    head = describe(options)
    file_type, commands = server_commands(setup)
    head["model"] = f"{pathlib.Path(setup.variants[file_type]).name} ({file_type})"
    curves, failures = {}, {}

    def attempt_level(name, measurement):
        level = attempt(name, measurement, failures)
        if level:
            say(f"{name}: {level.streams} streams, {level.tokens_per_s:.4g} tokens/s, ITL p99 {level.itl_p99_ms:.4g} ms")
        return level

    streams = scaling.STREAMS[:QUICK_LEVELS] if setup.quick else scaling.STREAMS
    stopped = until_stopped(lambda: scaling.measure(commands, setup.programs, streams, attempt_level, curves))
    print(scaling.table(curves))
    print(f"\n{head['date']}, {head['cpu']}, {head['threads']} threads, {head['model']}")
    print(scaling.summary(curves))
    if options.json:
        scaling.write_json(options.json, head, curves)
    if options.plot and any(curves.values()):
        import scaling_chart  # needs matplotlib, which only --plot needs
        scaling_chart.draw(options.plot, head, curves)
    finish(failures, stopped)


def until_stopped(measurement):
    """Whether it was stopped from outside before its end."""
    try:
        measurement()
    except KeyboardInterrupt:
        say("\nstopped; what was measured until now:")
        return True
    return False


def finish(failures, stopped):
    for name, why in failures.items():
        print(f"FAILED: {name}: {why}", file=sys.stderr)
    sys.exit(130 if stopped else 1 if failures else 0)


def pattern(text):
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=pathlib.Path, required=True, help="has trireme, engine_bench, host_bench")
    parser.add_argument("--peer", type=pathlib.Path, help="has llama-bench, llama-batched-bench, llama-server")
    parser.add_argument("--peer-version", default="")
    parser.add_argument("--variant", action="append", required=True, help="TYPE=FILE: weights to measure")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", type=pattern, default=pattern(""), help="a regular expression: rows to measure")
    parser.add_argument("--scaling", action="store_true", help="servers at 1 to 256 streams, in place of the table")
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--plot", help="PNG to write")
    return parser.parse_args()


def measure(setup, cases, failures, head):
    """Rounds over all cases, ours and the peer's by turns, so that a busy minute does not fall on one row alone.

    A side of a case that has failed is not tried again. With --quick, what would take too long is left out.
    """
    deadline = seconds() + QUICK_SECONDS if setup.quick else float("inf")
    took = {}  # by a case's name, the last time
    head["whole_rounds"] = 0
    for round in range(RUNS):
        if seconds() < deadline:
            attempt("limits", lambda: measure_limits(setup), failures)
        for case in cases:
            if (case.once and round > 0) or seconds() + took.get(case.name, 0) > deadline:
                continue
            begun = seconds()
            for side in ["ours"] if case.alone or setup.peer is None else ["ours", "peer"]:
                measure_one(case, side, round, f"{case.name} ({case.peer if side == 'peer' else 'trireme'})", failures)
            took[case.name] = seconds() - begun
        head["whole_rounds"] += all(len(row.ours) > round for case in cases if not case.once for row in case.rows)


def measure_one(case, side, round, name, failures):
    begun = seconds()
    values = attempt(name, lambda: case.run(side, round), failures)
    if values is None:
        return
    for row, value in zip(case.rows, values, strict=True):
        (row.theirs if side == "peer" else row.ours).append(value)
    shown = ", ".join(f"{value:.4g} {row.unit}" for row, value in zip(case.rows, values))
    say(f"round {round + 1}  {name}: {shown}  ({seconds() - begun:.0f} s)")


def attempt(name, measurement, failures):
    """What `measurement` returns; None when it failed now or before, which `failures` keeps."""
    if name in failures:
        return None
    try:
        return measurement()
    except Failed as error:
        failures[name] = str(error)
    except (KeyError, ValueError) as error:  # a program printed something else
        failures[name] = f"what was printed is not what was expected: {error!r}"
    except OSError as error:  # no room for a model, a folder that cannot be written
        failures[name] = str(error)
    say(f"{name}: failed")
    return None


def describe(options):
    """The head of the report. Warns of a machine that is busy."""
    busy = round(busy_share(), 2)
    if busy > 0.1:
        say(f"warning: {busy:.0%} of this machine is busy already: the figures will be worth little")
    cpu = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^(?:flags|Features)\s*:(.*)$", cpu, re.M)[1].split())
    model = re.search(r"^model name\s*:\s*(.*)$", cpu, re.M)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "instruction_sets": [name for name in ISA if name in flags],
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"trireme": output_of([options.programs / "trireme", "--version"]).split()[-1],
                     PEER: f"({options.peer_version})" if options.peer else None},
        "models": [pathlib.Path(variant.split("=", 1)[1]).name for variant in options.variant],
        "threads": options.threads,
        "quick": options.quick,
        "busy_before": busy,
    }


def busy_share():
    """Of all cores, in a second in which we do nothing."""
    def ticks():
        user, nice, system, idle, waiting, *rest = map(int, pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:])
        return user + nice + system, idle + waiting

    busy, idle = ticks()
    time.sleep(1)
    busy, idle = ticks()[0] - busy, ticks()[1] - idle
    return busy / max(busy + idle, 1)


def summary(head, rows):
    met = [row.met for row in rows]
    limits = ", ".join(f"{name} {value:g}" for name, value in head["limits"].items())
    runs = [len(row.ours) for row in rows]
    return (f"\n{head['date']}, {head['cpu']} ({head['cores']} cores, {' '.join(head['instruction_sets'])}), "
            f"{head['threads']} threads\nmedians of up to {max(runs, default=0)} runs; limits: {limits}\n"
            f"{met.count(True)} targets met, {met.count(False)} missed")


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(str(error))
