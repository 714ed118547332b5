"""Writes cutlass_layouts.txt: what CUTLASS says about Hopper's and Blackwell's layouts.

    pip download --no-deps nvidia-cutlass==4.2.0.0 && unzip nvidia_cutlass-*.whl -d cutlass
    python3 cutlass_layouts.py cutlass/cutlass_library/source/include > cutlass_layouts.txt
"""
import pathlib
import subprocess
import sys
import tempfile

source = pathlib.Path(__file__).with_name("cutlass_layouts.cu")
with tempfile.TemporaryDirectory() as folder:
    program = pathlib.Path(folder) / "layouts"
    subprocess.run(["nvcc", "-std=c++17", "-arch=sm_100a", "--expt-relaxed-constexpr", "-w", "-I", sys.argv[1],
                    str(source), "-o", str(program)], check=True)
    text = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    # On the host CUTLASS complains about the address of shared memory, which is 0 here.
    sys.stdout.writelines(line for line in text.splitlines(True) if not line.startswith("ERROR"))
