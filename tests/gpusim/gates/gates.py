#!/usr/bin/env python3
"""Static gates: what ptxas makes of our kernels, and what the machine code of their main loops is made of.

  gates.py             compiles every kernel of kernels.json; fails on spills, local memory, serialized wgmma, and where
                       registers, shared memory, occupancy or the main loop are not what table.txt says
  gates.py --update    writes table.txt anew; what has changed shows in the diff

Needs nvcc (PATH or CUDA_HOME) and nvdisasm (PyPI: nvidia-cuda-nvdisasm). Every .cu beside those listed must be listed,
but for mutants; one without architectures is not gated (printf takes a stack). The main loop is the innermost loop with
the most matrix instructions; loops inside of it without any (waits, copies) count as part of it, once.
"""
import argparse
import collections
import concurrent.futures
import difflib
import functools
import json
import operator
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FOLDERS = ("tests/gpusim/kernels", "kernels/cuda")  # each of their .cu is listed

# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; as cudart/architecture.cc has them.
SM_LIMITS = {  # shared memory in KiB, threads, CTAs
    "80": (164, 2048, 32), "89": (100, 1536, 24), "90a": (228, 2048, 32), "100a": (228, 2048, 32)}
REGISTERS_PER_SM, REGISTER_UNIT, SHARED_UNIT, SHARED_RESERVED = 65536, 256, 128, 1024

CLASSES = (  # of SASS mnemonics, first match
    ("mma", r"[HIQDO]?MMA|[HIQ]GMMA|BMMA|UTC\w*MMA"),
    ("ldsm", r"LDSM|STSM"),
    ("shared", r"LDS|STS|ATOMS|LDTM|STTM"),
    ("global", r"LDG|STG|LD|ST|RED|ATOMG?|LDGSTS|LDL|STL|CCTL"),
    ("tma", r"UTMA\w+|UBLK\w+"),
    ("mufu", r"MUFU"),
    ("fp32", r"F(ADD|MUL|FMA|MNMX3?|SETP|SEL|SWZADD)2?|H(ADD|MUL|FMA|MNMX|SETP)2?"),
    ("convert", r"F2\w+|I2\w+|FRND"),
    ("shuffle", r"SHFL|VOTE\w*|MATCH|REDUX|ELECT"),
    ("sync", r"BAR|SYNCS|WARPGROUP|WARPSYNC|DEPBAR|LDGDEPBAR|MEMBAR|FENCE|ERRBAR|ARRIVES|NANOSLEEP|B2R|R2B|UCGABAR\w*"),
    ("control", r"BRA|BRX|BSSY|BSYNC|EXIT|RET|CALL|NOP|YIELD|BREAK|BMOV|WARPSYNC"),
    ("uniform", r"U[A-Z]\w*|R2UR|S2UR|CS2UR|LDC\w*|ULDC"),
    ("integer", r".*"),
)


class GateError(Exception):
    """What is wrong with a kernel, for a person."""


def tool(name, hint="set CUDA_HOME"):
    places = [f"{p}/nvidia/cu13/bin" for p in sys.path] + [os.path.join(os.environ.get("CUDA_HOME", ""), "bin")]
    path = shutil.which(name) or shutil.which(name, path=os.pathsep.join(places))
    if path is None:
        sys.exit(f"gates: {name} was not found: {hint}")
    return path


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise GateError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def demangle(name):
    """Without parameters, the casts of enumerators and namespaces that stand in every name."""
    full = run(["c++filt", name]).strip().removeprefix("void ")
    plain = re.sub(r"trireme::(cuda::)?|\(anonymous namespace\)::", "", full)
    return re.sub(r"\(.*", "", re.sub(r"\(\w+\)(?=\d)", "", plain))


def read_ptxas(output, architecture):
    """ptxas -v: mangled name -> registers, static shared memory. Raises on what a kernel must not do."""
    kernels, name = {}, None
    for line in output.splitlines():
        if re.search(r"\(C75\d\d\)|serialized|warning", line):
            raise GateError(f"sm_{architecture}: {line.removeprefix('ptxas info    : ')}")
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, stores, loads = map(int, match.groups())
            if stores or loads:
                raise GateError(f"{demangle(name)}, sm_{architecture}: spills {stores} bytes, reads {loads} back")
            if stack:
                raise GateError(f"{demangle(name)}, sm_{architecture}: {stack} bytes of local memory a thread")
        elif match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name] = int(match[1]), int(shared[1]) if shared else 0
    return kernels


def threads_of(ptx):
    """.maxntid or .reqntid: mangled name -> threads."""
    found = {}
    for match in re.finditer(r"\.entry (\w+)\([^)]*\)([^{]*)\{", ptx):
        if bounds := re.search(r"\.(?:maxntid|reqntid) (\d+)(?:, (\d+))?(?:, (\d+))?", match[2]):
            found[match[1]] = int(bounds[1]) * int(bounds[2] or 1) * int(bounds[3] or 1)
    return found


def ctas_per_sm(architecture, registers, threads, shared):
    shared_kib, max_threads, max_ctas = SM_LIMITS[architecture]
    warps = -(-threads // 32)
    a_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS_PER_SM // 4 // a_warp * 4 // warps  # four partitions
    by_shared = shared_kib * 1024 // (-(-(shared + SHARED_RESERVED) // SHARED_UNIT) * SHARED_UNIT)
    return min(by_registers, by_shared, max_threads // (warps * 32), max_ctas)


def class_of(mnemonic):
    return next(name for name, pattern in CLASSES if re.fullmatch(pattern, mnemonic))


def parse_sass(lines):
    """A kernel's instructions: class, and which may come next."""
    labels, code = {}, []
    for line in lines:
        if match := re.match(r"(\.L_x_\d+):", line):
            labels[match[1]] = len(code)
        elif match := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+ +)?([A-Z]\w*)([.\w]*) *([^;]*?) *;", line):
            guard, name, _, operands = match.groups()
            target = re.fullmatch(r"(.*)`\((\.L_x_\d+)\)", operands) if name == "BRA" else None
            ends = name in ("EXIT", "RET", "BRA") and not guard and not (target and target[1])
            code.append((class_of(name), target and target[2], ends))
    return [kind for kind, _, _ in code], [
        [to for to in (labels.get(target), None if ends else at + 1) if to is not None and to < len(code)]
        for at, (_, target, ends) in enumerate(code)]


def natural_loops(successors):
    """Sets of instructions (Aho, Sethi, Ullman 1986, 10.4): a jump back to what dominates it closes one."""
    size = len(successors)
    predecessors = [[] for _ in range(size)]
    for at, nexts in enumerate(successors):
        for to in nexts:
            predecessors[to].append(at)
    order, stack = [], [0]
    seen = {0}
    while stack:  # reachable ones, roughly from the top
        order.append(stack.pop())
        for to in successors[order[-1]]:
            if to not in seen:
                seen.add(to)
                stack.append(to)
    order.sort()
    dominators = {at: None for at in order}  # as bits; None: all
    dominators[0] = 1
    changed = True
    while changed:
        changed = False
        for at in order[1:]:
            known = [dominators[p] for p in predecessors[at] if dominators.get(p) is not None]
            now = (1 << at) | (functools.reduce(operator.and_, known) if known else 0)
            if known and now != dominators[at]:
                dominators[at], changed = now, True
    loops = {}
    for at in order:
        for head in successors[at]:
            if dominators[at] >> head & 1:
                body, stack = loops.setdefault(head, {head}), [at]
                while stack:
                    if (one := stack.pop()) not in body:
                        body.add(one)
                        stack += [p for p in predecessors[one] if p in seen]
    return list(loops.values())


def main_loop(lines):
    """Instructions of a kernel's main loop by class; None where no loop multiplies matrices."""
    kinds, successors = parse_sass(lines)
    loops = [body for body in natural_loops(successors) if any(kinds[at] == "mma" for at in body)]
    mixes = [collections.Counter(kinds[at] for at in a) for a in loops if not any(b < a for b in loops)]
    return max(mixes, key=lambda mix: mix["mma"], default=None)


def disassemble(cubin):
    """Mangled name -> lines."""
    functions, name = {}, None
    for line in run([tool("nvdisasm", "pip install nvidia-cuda-nvdisasm"), "-c", str(cubin)]).splitlines():
        if match := re.match(r"\.text\.(\w+):", line):
            name = match[1]
        functions.setdefault(name, []).append(line)
    return functions


def dynamic_bytes(entry, kernel):
    """One number for all kernels of a source, or pairs of a pattern in the kernel's name and a number."""
    bytes_of = entry["dynamic_shared_bytes"]
    if isinstance(bytes_of, int):
        return bytes_of
    for pattern, number in bytes_of.items():
        if re.search(pattern, kernel):
            return number
    raise GateError(f"{kernel}: {entry['source']} does not say its dynamic shared memory")


def measure(entry, architecture):
    """The table's rows of one source for one architecture."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = pathlib.Path(folder) / "kernel.cubin"
        output = run([tool("nvcc"), "-std=c++20", "-O2", "-lineinfo", f"-I{ROOT}", "-Xptxas", "-v", "-gencode",
                      f"arch=compute_{architecture},code=sm_{architecture}", "-cubin", "--keep", "--keep-dir", folder,
                      str(ROOT / entry["source"]), "-o", str(cubin)])
        threads = threads_of("".join(p.read_text() for p in pathlib.Path(folder).glob("*.ptx")))
        sass = disassemble(cubin)
    rows = []
    for name, (registers, static) in read_ptxas(output, architecture).items():
        if (count := threads.get(name)) is None:
            raise GateError(f"{demangle(name)} has no __launch_bounds__: how many of its CTAs fit is not known")
        dynamic = dynamic_bytes(entry, demangle(name))
        ctas = ctas_per_sm(architecture, registers, count, static + dynamic)
        if ctas == 0:
            raise GateError(f"{demangle(name)}, sm_{architecture}: no CTA fits on an SM ({registers} registers, {count} "
                            f"threads, {static + dynamic} bytes of shared memory)")
        row = [demangle(name), f"sm_{architecture}", registers, count, static, dynamic, ctas,
               ctas * -(-count // 32)]
        mix = main_loop(sass[name])
        if mix is None:
            row += ["-", "-", ""]
        else:
            others = ", ".join(f"{name} {mix[name]}" for name, _ in CLASSES[1:] if mix[name])
            row += [mix["mma"], f"{(mix.total() - mix['mma']) / mix['mma']:.2f}", others]
        rows.append(row)
    return rows


def table(rows):
    version = re.search(r"release [\d.]+, V([\d.]+)", run([tool("nvcc"), "--version"]))[1]
    head = ["kernel", "arch", "regs", "threads", "static", "dynamic", "CTAs/SM", "warps/SM", "mma", "other/mma",
            "main loop beside mma"]
    cells = [head] + [[str(cell) for cell in row] for row in sorted(rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return f"# Written by gates.py --update with nvcc {version}. Shared memory in bytes.\n" + "\n".join(lines) + "\n"


def unlisted(entries):
    listed = {entry["source"] for entry in entries}
    return [path for folder in FOLDERS for path in sorted(p.relative_to(ROOT).as_posix()
            for p in (ROOT / folder).rglob("*.cu")) if path not in listed and not path.endswith("_mutants.cu")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write the table anew")
    parser.add_argument("--kernels", type=pathlib.Path, default=HERE / "kernels.json", help="another list of kernels")
    parser.add_argument("--table", type=pathlib.Path, default=HERE / "table.txt", help="another table")
    arguments = parser.parse_args()
    entries = json.loads(arguments.kernels.read_text())
    problems, rows = [], []
    if arguments.kernels == HERE / "kernels.json":
        problems += [f"{path} is not listed in {arguments.kernels.name}" for path in unlisted(entries)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(measure, entry, a) for entry in entries for a in entry["architectures"]]
        for job in jobs:
            try:
                rows += job.result()
            except GateError as error:
                problems.append(str(error))
    if not problems:
        now = table(rows)
        before = arguments.table.read_text() if arguments.table.exists() else ""
        if arguments.update:
            arguments.table.write_text(now)
        elif now != before:
            diff = difflib.unified_diff(before.splitlines(), now.splitlines(), "table", "now", lineterm="", n=0)
            problems.append("the kernels are not what the table says; if that is meant, run gates.py --update and commit "
                            "the table\n" + "\n".join(diff))
    for problem in problems:
        print(f"gates: {problem}", file=sys.stderr)
    print(f"gates: {len(rows)} kernels, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
