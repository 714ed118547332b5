#!/usr/bin/env python3
"""Fails on an include that goes up the dependency order, or on a device header outside its folders."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> folders it may include besides itself. The most specific prefix of a file's path decides.
ALLOWED = {
    "runtime/base": [],
    "kernels": ["runtime/base"],
    "runtime/text": ["runtime/base"],
    "runtime/kv": ["runtime/base"],
    "runtime/scheduler": ["runtime/kv", "runtime/base"],
    "runtime/weights": ["runtime/base"],
    "runtime/backend": ["kernels", "runtime/base"],
    "runtime/model": ["runtime/backend", "runtime/weights", "kernels", "runtime/base"],
    "runtime/engine": ["runtime/scheduler", "runtime/kv", "runtime/model", "runtime/backend", "runtime/weights",
                       "kernels", "runtime/base"],
    "server/observe": ["runtime/engine", "runtime/scheduler", "runtime/text", "runtime/base"],
    "server/admission": ["runtime/base"],
    "server/ranks": ["runtime"],
    "server/node": ["server/ranks", "runtime", "kernels"],
    "server/dialects": ["server/node", "runtime"],
    "server/page": [],
    "server/net": ["runtime/base"],
    "server/http": ["server/dialects", "server/page", "server/net", "server/node", "server/admission", "server/observe", "runtime"],
    "server/grpc": ["server/net", "server/node", "server/admission", "server/observe", "runtime"],
    "server/loadgen": ["runtime/text", "runtime/base"],
    "server/doctor": ["server/node", "server/admission", "runtime", "kernels"],
    "server/pull": ["runtime/base"],
    "server/cli": ["server", "runtime", "kernels"],
    # The GPU simulator stands beside the product: it knows runtime/base only.
    "tests/gpusim/ptx": ["runtime/base"],
    "tests/gpusim/vm": ["tests/gpusim/ptx", "runtime/base"],
    "tests/gpusim/semantics": ["tests/gpusim/vm", "tests/gpusim/ptx", "runtime/base"],
    "tests/gpusim/vm_test": ["tests/gpusim", "tests/gpusim/vm", "tests/gpusim/ptx", "runtime/base"],
    "tests/gpusim/cudart": ["tests/gpusim", "runtime/base"],
    "tests/gpusim/nccl": ["tests/gpusim/cudart", "tests/gpusim", "runtime/base"],
    "tests/gpusim/nccl_test": ["tests/gpusim"],
    "tests/gpusim/cublaslt": ["tests/gpusim/cudart", "tests/gpusim", "runtime/base"],
    "tests/gpusim/cublaslt_test": ["tests/gpusim"],
    "tests/gpusim/kernels": ["tests/gpusim", "kernels/cuda/primitives"],
    "tests/gpusim": ["tests/gpusim/vm"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"((?:kernels|runtime|server|tests)/[^"]+)"')
DEVICE = re.compile(r'^\s*#\s*include\s+[<"](cuda|nccl|cublas)')
DEVICE_FOLDERS = ("kernels/cuda/", "runtime/backend/cuda_", "runtime/comm/nccl_", "tests/gpusim/cudart/",
                  "tests/gpusim/kernels/", "tests/gpusim/nccl/", "tests/gpusim/nccl_test/",
                  "tests/gpusim/cublaslt/", "tests/gpusim/cublaslt_test/", "tests/kernels/cuda/")


def under(path, folder):
    return path == folder or path.startswith(folder + "/")


def owner(path):
    matches = [folder for folder in ALLOWED if under(path, folder)]
    return max(matches, key=len) if matches else None


def violations():
    for folder in ("kernels", "runtime", "server", "tests/gpusim"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix not in (".h", ".cc", ".cu", ".cuh"):
                continue
            path = file.relative_to(ROOT).as_posix()
            home = owner(path)
            if home is None:
                yield f"{path}: its folder is not in the dependency order of {pathlib.Path(__file__).name}"
                continue
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if DEVICE.match(line) and not path.startswith(DEVICE_FOLDERS):
                    yield f"{path}:{number}: device headers belong to {', '.join(DEVICE_FOLDERS)}"
                match = INCLUDE.match(line)
                if match and not any(under(match[1], f) for f in [home, *ALLOWED[home]]):
                    yield f"{path}:{number}: {home} must not include {match[1]}"


def self_test():
    """The rule itself: an upward include is seen, a downward one is not."""
    assert owner("runtime/engine/engine.h") == "runtime/engine"
    assert not any(under("runtime/engine/engine.h", f) for f in ALLOWED["runtime/model"])
    assert any(under("runtime/base/status.h", f) for f in ALLOWED["runtime/model"])


if __name__ == "__main__":
    self_test()
    found = list(violations())
    print("\n".join(found) if found else "include order: ok")
    sys.exit(1 if found else 0)
