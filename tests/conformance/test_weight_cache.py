"""--weight-cache: a start that maps packed weights answers as one that packs them, whatever became of the file."""
import json
import os
import shlex
import subprocess
import time

import openai
import pytest

import tiny_model
from conftest import Server


@pytest.fixture
def tiny(tmp_path):
    return tiny_model.write_random(tmp_path / "tiny")


def say(binary, model, folder, until=None):
    """What a server says, whether it mapped packed weights, and its log."""
    server = Server(binary, model, "--threads", "2", "--device", "cpu", "--kv-cache-memory", "4MiB",
                    "--weight-cache", str(folder))
    client = openai.OpenAI(base_url=server.base + "/v1", api_key="none")
    answer = client.completions.create(model="demo", prompt="Once", max_tokens=16, temperature=0, logprobs=5)
    with open(f"/proc/{server.process.pid}/maps") as maps:
        mapped = any(".trireme-packed" in line for line in maps)
    deadline = time.monotonic() + 30
    while until is not None and not until():
        assert time.monotonic() < deadline, server.logs()
        time.sleep(0.01)
    server.stop()
    return answer.choices[0].model_dump(), mapped, server.logs()


def counts(logs):
    line, = [json.loads(line) for line in logs.splitlines() if '"packed weights"' in line]
    return {name: line[name] for name in ("mapped", "packed_anew")}


def packed(folder):
    return list(folder.glob("*.trireme-packed"))


def test_the_second_start_maps_what_the_first_one_wrote(binary, tiny, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    plain = say(binary, tiny, "off")
    first = say(binary, tiny, folder, until=lambda: packed(folder))
    assert (first[0], first[1]) == (plain[0], False)
    second = say(binary, tiny, folder)
    assert (second[0], second[1]) == (plain[0], True)
    assert [oct(file.stat().st_mode & 0o777) for file in packed(folder)] == ["0o600"]


@pytest.mark.parametrize("damage", ["weights", "head", "cut", "open to all", "model"])
def test_a_file_that_does_not_fit_is_told_of_and_written_anew(binary, tiny, tmp_path, damage):
    folder = tmp_path / "cache"
    folder.mkdir()
    want = say(binary, tiny, folder, until=lambda: packed(folder))[0]
    file, = packed(folder)
    before = file.stat()
    data = bytearray(file.read_bytes())
    if damage == "weights":
        data[-100] ^= 1
    elif damage == "head":
        data[44] ^= 1
    elif damage == "cut":
        data = data[:len(data) // 2]
    if damage == "open to all":
        file.chmod(0o666)
    elif damage == "model":
        os.utime(tiny / "model.safetensors")
    else:
        file.write_bytes(data)
    answer, _, logs = say(binary, tiny, folder, until=lambda: file.stat().st_ino != before.st_ino)
    assert answer == want
    assert "packed anew" in logs
    assert say(binary, tiny, folder)[:2] == (want, True)


def test_a_folder_that_is_not_there_is_refused(binary, tiny, tmp_path):
    result = subprocess.run([binary, "serve", str(tiny), "--weight-cache", str(tmp_path / "missing")],
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "there is no folder" in result.stderr


def test_a_file_that_cannot_be_written_is_told_of_and_removed(binary, tiny, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    limited = tmp_path / "limited"  # files of at most 8 KiB: as on a full disk, without one
    limited.write_text(f"#!/bin/bash\nulimit -f 8\nexec {shlex.quote(str(binary))} \"$@\"\n")
    limited.chmod(0o755)
    answer, mapped, logs = say(limited, tiny, folder)
    assert (answer, mapped) == (say(binary, tiny, "off")[0], False)
    assert "packed weights could not be written" in logs and not list(folder.iterdir())
    assert str(folder) not in logs


def test_the_log_tells_how_many_matrices_were_mapped(binary, tiny, tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    first = counts(say(binary, tiny, folder, until=lambda: packed(folder))[2])
    assert first["mapped"] == 0 and first["packed_anew"] > 0
    assert counts(say(binary, tiny, folder)[2]) == {"mapped": first["packed_anew"], "packed_anew": 0}
