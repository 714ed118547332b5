"""tests/bench/run.sh --scaling, without measuring: the knee, what is written and drawn, and how the levels are run."""
import json
import pathlib
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMPARE = ROOT / "tests/bench/compare"
sys.path.insert(0, str(COMPARE))

import main  # noqa: E402
import scaling  # noqa: E402
from processes import Failed  # noqa: E402


def curve(*tokens_per_s):
    return [scaling.Level(2 ** i, rate, 10, 1, 2) for i, rate in enumerate(tokens_per_s)]


@pytest.mark.parametrize("rates, at", [((100, 190, 300, 400, 390), 4),  # 8 gives a third more than 4: too little
                                       ((100, 150, 225), 4),  # half of what the load grew by is just enough
                                       ((100, 149, 400), 1),  # beyond the knee nothing counts
                                       ((100,), 1)])
def test_the_knee_is_the_last_level_that_was_worth_it(rates, at):
    assert scaling.knee(curve(*rates)).streams == at


def test_no_levels_have_no_knee():
    assert scaling.knee([]) is None


def test_a_side_that_fails_keeps_its_curve_up_to_there_and_the_other_goes_on(monkeypatch):
    def level_of(side, programs, streams, seed):
        if side == "theirs" and streams > 2:
            raise Failed("no room")
        return scaling.Level(streams, streams, 1, 1, 1)

    failures = {}

    def attempt(name, measurement):
        return main.attempt(name, measurement, failures)

    monkeypatch.setattr(scaling, "measure_level", level_of)
    curves = {}
    scaling.measure({"trireme": "ours", "llama.cpp": "theirs"}, None, (1, 2, 4, 8), attempt, curves)
    assert {side: [level.streams for level in levels] for side, levels in curves.items()} == {
        "trireme": [1, 2, 4, 8], "llama.cpp": [1, 2]}
    assert failures == {"scaling (llama.cpp)": "no room"}


def test_a_full_disk_fails_one_measurement_and_not_the_run():
    def measurement():
        raise OSError(28, "No space left on device", "/models/random-1B")

    failures = {}
    assert main.attempt("1B", measurement, failures) is None
    assert "No space left" in failures["1B"]


def test_table_names_the_knee_of_each_server():
    lines = scaling.table({"trireme": curve(100, 190, 200), "llama.cpp": curve(50)}).splitlines()
    assert [line.split()[:3] for line in lines if line.endswith("knee")] == [["trireme", "2", "190"], ["llama.cpp", "1", "50"]]


def test_json_has_levels_and_knee(tmp_path):
    scaling.write_json(tmp_path / "out.json", {"cpu": "A CPU"}, {"trireme": curve(100, 190), "llama.cpp": []})
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["scaling"]["trireme"]["knee_streams"] == 2
    assert written["scaling"]["trireme"]["levels"][1] == {"streams": 2, "tokens_per_s": 190, "ttft_p50_ms": 10, "itl_p50_ms": 1,
                                                          "itl_p99_ms": 2}
    assert written["scaling"]["llama.cpp"] == {"levels": [], "knee_streams": None}


def test_chart_is_a_png_of_sensible_size(tmp_path):
    import scaling_chart
    head = {"model": "m (Q8_0)", "versions": {"trireme": "1"}, "cpu": "A CPU", "threads": 2, "date": "2026-01-02"}
    scaling_chart.draw(tmp_path / "out.png", head, {"trireme": curve(100, 190, 200), "llama.cpp": []})
    written = (tmp_path / "out.png").read_bytes()[:24]
    assert written[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", written[16:])
    assert 800 <= width <= 4000 and 500 <= height <= 4000


def test_only_goes_with_the_table():
    done = subprocess.run([ROOT / "tests/bench/run.sh", "--scaling", "--only", "prefill"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 2 and "--only" in done.stderr
