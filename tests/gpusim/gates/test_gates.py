"""The static gates pass for our kernels, and stop each thing that they are there to stop."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
BAD = "tests/gpusim/gates/bad"

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc was not found")


def gates(*arguments):
    return subprocess.run([sys.executable, HERE / "gates.py", *map(str, arguments)], capture_output=True, text=True)


def gates_of(folder, source, architecture, *arguments):
    kernels = folder / "kernels.json"
    kernels.write_text(json.dumps([{"source": source, "architectures": [architecture], "dynamic_shared_bytes": 0}]))
    return gates("--kernels", kernels, "--table", folder / "table.txt", *arguments)


def test_our_kernels_are_what_the_table_says():
    done = gates()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name, architecture, says", [
    ("spills", "80", r"Spills, sm_80: spills \d+ bytes"),
    ("local_memory", "80", r"LocalMemory, sm_80: 64 bytes of local memory"),
    ("serialized_wgmma", "90a", r"sm_90a: \(C75\d\d\)"),
    ("no_bounds", "80", r"NoBounds has no __launch_bounds__"),
])
def test_a_bad_kernel_is_stopped(tmp_path, name, architecture, says):
    done = gates_of(tmp_path, f"{BAD}/{name}.cu", architecture, "--update")
    assert done.returncode == 1
    assert re.search(says, done.stderr), done.stderr
    assert not (tmp_path / "table.txt").exists()


def test_a_change_is_shown_until_the_table_is_updated(tmp_path):
    source = "tests/gpusim/kernels/attention.cu"
    assert gates_of(tmp_path, source, "80", "--update").returncode == 0
    table = tmp_path / "table.txt"
    written = table.read_text()
    # A FlashAttention-2 tile of 64 x 64 with head_dim 128: 64 mma for Q K^T and 64 for P V of a warp's 16 rows.
    assert re.search(r"PagedAttention<0> +sm_80 .* 128 +\d\.\d\d +ldsm 72,", written), written
    table.write_text(re.sub(r"(sm_80 +)\d+", r"\g<1>99", written))
    done = gates_of(tmp_path, source, "80")
    assert done.returncode == 1
    assert "gates.py --update" in done.stderr and "sm_80  99" in done.stderr
    assert gates_of(tmp_path, source, "80", "--update").returncode == 0
    assert table.read_text() == written
