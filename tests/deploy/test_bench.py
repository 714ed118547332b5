"""tests/bench/run.sh, without measuring: what is made of what the programs print."""
import json
import pathlib
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPARE = ROOT / "tests/bench/compare"
sys.path.insert(0, str(COMPARE))

import engine  # noqa: E402
import gguf  # noqa: E402
import rows  # noqa: E402

HEAD = {"date": "2026-01-02", "cpu": "A CPU", "instruction_sets": ["avx2"], "threads": 2, "versions": {"trireme": "1"}}


def some_rows():
    faster = rows.Row("decode", "tokens/s", rows.Target(ratio=3, roofline=0.7), "llama.cpp", [90, 300, 310], [100], ceiling=400)
    slower = rows.Row("TTFT", "ms", rows.Target(ratio=5), "llama.cpp", [40], [20])
    alone = rows.Row("binary", "MB", rows.Target(at_most=25), "llama.cpp", [5])
    return [faster, slower, alone]


def test_ratios_are_of_medians_and_above_one_is_better():
    faster, slower, alone = some_rows()
    assert (faster.value, faster.ratio, faster.roofline_fraction, faster.met) == (300, 3, 0.75, True)
    assert (slower.ratio, slower.met) == (0.5, False)
    assert (alone.ratio, alone.roofline_fraction, alone.met) == (None, None, True)


@pytest.mark.parametrize("theirs, ceiling, met", [([100], 400, True), ([200], 400, False), ([100], 1000, False),
                                                  ([], 400, None), ([], 1000, False)])
def test_a_target_is_met_when_all_of_it_was_measured_and_is_reached(theirs, ceiling, met):
    assert rows.Row("decode", "tokens/s", rows.Target(3, roofline=0.7), "llama.cpp", [300], theirs, ceiling).met is met


def test_table_has_a_line_for_each_row_and_no_figure_that_was_not_measured():
    lines = rows.table(some_rows()).splitlines()
    assert lines[2].split()[1:6] == ["tokens/s", "300", "100", "3.00x", "75%"]
    assert lines[4].split() == ["binary", "MB", "5", "-", "-", "-", "<=", "25", "MB", "yes"]


def test_json_has_the_head_and_rows_with_nothing_for_what_was_not_measured(tmp_path):
    rows.write_json(tmp_path / "out.json", HEAD, some_rows())
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["head"] == HEAD
    assert written["rows"][2] == {"name": "binary", "value": 5, "unit": "MB", "peer": None, "peer_value": None, "ratio": None,
                                  "target": "<= 25 MB", "roofline_fraction": None}


def test_chart_is_a_png_of_sensible_size(tmp_path):
    import chart
    chart.draw(tmp_path / "out.png", HEAD, some_rows())
    head = (tmp_path / "out.png").read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    assert 800 <= width <= 4000 and 200 <= height <= 4000


def write_gguf(path):
    """A model of one layer, with tied embeddings: a head alone, for nobody reads the weights."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    numbers = {"embedding_length": 64, "block_count": 1, "attention.head_count": 4, "attention.head_count_kv": 2}
    pairs = [text("general.architecture") + struct.pack("<I", 8) + text("llama"),
             text("general.file_type") + struct.pack("<II", 4, 7),
             text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")]
    pairs += [text(f"llama.{key}") + struct.pack("<II", 4, value) for key, value in numbers.items()]
    shapes = {"token_embd.weight": (64, 100), "blk.0.attn_norm.weight": (64,), "blk.0.attn_q.weight": (64, 64)}
    tensors = [text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0) for name, shape in shapes.items()]
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors))
    return path


def test_work_is_read_from_the_head_of_the_model(tmp_path):
    model = gguf.read(write_gguf(tmp_path / "model.gguf"))
    assert model == gguf.Model("Q8_0", layer_weights=64 * 64, head_weights=64 * 100, kv_bytes_per_token=2 * 2 * 16 * 2)


def test_a_damaged_model_is_refused(tmp_path):
    whole = write_gguf(tmp_path / "model.gguf").read_bytes()
    for damaged in (b"", b"GGUF", whole[:-9], b"GGML" + whole[4:]):
        (tmp_path / "damaged.gguf").write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged.gguf"):
            gguf.read(tmp_path / "damaged.gguf")


def test_roofline_is_the_lower_of_memory_and_arithmetic():
    limits = {"dram_gb_per_s": 10, "int8_gop_per_s": 100, "fp32_gflop_per_s": 50}
    model = gguf.Model("Q8_0", layer_weights=10**8, head_weights=0, kv_bytes_per_token=0)
    report = {"weight_bytes_per_step": 10**8, "kv_bytes_per_token": 0}
    ceilings = {test: engine.work_of(test, report, model, "Q8_0").ceiling(limits) for test in ("decode:1", "prefill:512")}
    assert ceilings == {"decode:1": 100, "prefill:512": 500}
    assert engine.work_of("prefill:512", report, model, "BF16").ceiling(limits) == 250


def program(path, script):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def compare(tmp_path, *arguments):
    """Runs main.py on programs that only print, and logs the order in which they run."""
    log = f'echo "$(basename $0)" >>{tmp_path}/order'
    report = '{"test":"prefill:512","tokens_per_s":50,"weight_bytes_per_step":1000,"kv_bytes_per_token":0}'
    program(tmp_path / "ours/engine_bench", f"""case "$1" in
--limits) echo '{{"dram_gb_per_s":10,"fp32_gflop_per_s":50,"int8_gop_per_s":100}}' ;;
*) {log}; echo '{report}' ;; esac""")
    program(tmp_path / "ours/trireme", "echo 1.2.3")
    model = write_gguf(tmp_path / "model.gguf")
    return subprocess.run([sys.executable, COMPARE / "main.py", "--programs", tmp_path / "ours", "--peer", tmp_path / "peer",
                           "--variant", f"Q8_0={model}", "--only", "^prefill", "--json", tmp_path / "out.json", *arguments],
                          capture_output=True, text=True, timeout=60)


def test_sides_run_by_turns_five_times(tmp_path):
    program(tmp_path / "peer/llama-bench", f"""echo llama-bench >>{tmp_path}/order; echo noise; echo '{{"avg_ts": 25}}'""")
    done = compare(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "order").read_text().split() == ["engine_bench", "llama-bench"] * 5
    row, = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["name"], row["value"], row["peer_value"], row["ratio"]) == ("prefill 512, Q8_0", 50, 25, 2)


def test_a_peer_that_fails_is_named_and_has_no_figure(tmp_path):
    program(tmp_path / "peer/llama-bench", f"echo llama-bench >>{tmp_path}/order; echo out of luck >&2; exit 3")
    done = compare(tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "order").read_text().split().count("llama-bench") == 1, "what has failed is not tried again"
    assert "prefill 512, Q8_0 (llama.cpp): llama-bench failed with exit code 3: out of luck" in done.stderr
    row, = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert (row["value"], row["peer"], row["peer_value"], row["ratio"]) == (50, None, None, None)


@pytest.mark.parametrize("arguments", [["--quik"], ["--model", "/none.gguf"], ["--json", "/none/out.json"], ["--threads", "0"],
                                       ["--plot"]])
def test_wrong_usage_is_refused_before_anything_is_built(arguments):
    done = subprocess.run([ROOT / "tests/bench/run.sh", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and arguments[0] in done.stderr and "--help" in done.stderr
