"""Holds the host's work for one token to a number of instructions, which says more than a time on a shared machine.

    python3 tests/bench/instructions.py build/test/instructions             # ctest: instructions
    python3 tests/bench/instructions.py build/test/instructions --update    # after an intended change

Counts with callgrind what instructions.cc runs and compares with instructions.json, which holds the counts of one
repetition as they were measured last. More than MARGIN above fails: the margin is for other versions of the C library
and its allocator. What the counts depend on is held still: the build (the `test` preset's flags; ctest runs this there
only), the instruction set (valgrind shows every program one and the same AVX2 processor wherever the machine has AVX2,
so libc and our kernels choose the same functions; TRIREME_CPU_ISA says it once more) and where memory lies (Abseil seeds
its hash tables with an address; valgrind does not vary addresses).

Exit code 77 means skipped: no valgrind, no AVX2, or another processor than x86-64.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "instructions.json"
MARGIN = 0.10
FLAT = 0.02  # the step with 10,000 waiting may cost this much more than that with 10
SKIPPED = 77


def why_not():
    if platform.machine() != "x86_64":
        return "the counts are those of x86-64"
    if not re.search(r"^flags\s*:.*\bavx2\b", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE):
        return "the counts are those of a processor with AVX2"
    if not shutil.which("valgrind"):
        return "valgrind is not installed (deploy/dependencies.sh test)"
    return None


def count(program):
    """Instructions of one repetition, by part."""
    environment = os.environ | {"TRIREME_CPU_ISA": "avx2", "LC_ALL": "C"}
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet",
                   f"--callgrind-out-file={folder}/out", program, str(HERE.parent / "golden" / "tokenizer")]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode != 0:
            sys.exit(f"FAILED: the program ended with {ran.returncode}\n{ran.stdout}{ran.stderr}")
        counts = {}
        for profile in pathlib.Path(folder).iterdir():
            text = profile.read_text(errors="replace")
            part = re.search(r"^desc: Trigger: Client Request: (\w+) (\d+)$", text, re.MULTILINE)
            if part:  # the last profile, at the program's end, has no name
                total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
                counts[part[1]] = int(total[1]) // int(part[2]) if total else 0
        return counts


def judge(counts, table):
    """Prints a line for each part; returns what is wrong."""
    wrong = []
    for part in sorted(counts.keys() | table.keys()):
        measured, known = counts.get(part, 0), table.get(part)
        print(f"{part:38} {measured:>12,} instructions; {known or 0:>12,} in the table")
        if measured == 0:
            wrong.append(f"{part}: nothing was measured")
        elif known is None:
            wrong.append(f"{part}: not in {TABLE.name}")
        elif measured > known * (1 + MARGIN):
            wrong.append(f"{part}: {measured:,} instructions, {measured / known - 1:+.0%} of the table's {known:,}; "
                         f"the bound is {MARGIN:+.0%}")
        elif measured < known * (1 - MARGIN):
            print(f"  {measured / known - 1:+.0%}: good. --update, so that it stays")
    few, many = counts.get("scheduler_step_10_waiting", 0), counts.get("scheduler_step_10000_waiting", 0)
    if many > few * (1 + FLAT):
        wrong.append(f"the scheduler's step is not flat: {few:,} instructions with 10 waiting, {many:,} with 10,000")
    return wrong


def main():
    program = sys.argv[1]
    if reason := why_not():
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    counts = count(program)
    if "--update" in sys.argv and counts and all(counts.values()):
        TABLE.write_text(json.dumps(counts, indent=2, sort_keys=True) + "\n")
    if wrong := judge(counts, json.loads(TABLE.read_text())):
        sys.exit("\n".join(["FAILED", *wrong, "If the change means it:",
                            f"  python3 tests/bench/instructions.py {program} --update   # and say why in the commit"]))


if __name__ == "__main__":
    main()
