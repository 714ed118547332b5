"""Completion scripts in the shells they are for, and the manual page in man and groff."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest

SHELLS = ("bash", "zsh", "fish")
COMMANDS = ("serve", "generate", "inspect", "bench", "doctor", "pull", "audit-verify", "completion", "man")


def output(binary, *arguments):
    return subprocess.run([binary, *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def need(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def flags_of_help(binary, command):
    """Every --flag that --help shows: the schema's rows, by another way."""
    shown = output(binary, command, "--help").split("Every setting")[0].split("Examples:")[0]
    return set(re.findall(r"^\s+(?:-\w,\s*)?(--[a-z][a-z0-9-]*)", shown, re.M)) | set(
        re.findall(r"(--no-[a-z][a-z0-9-]*)", shown))


@pytest.fixture(scope="module", params=SHELLS)
def script(request, binary, tmp_path_factory):
    need(request.param)
    path = tmp_path_factory.mktemp("completion") / "script"
    path.write_text(output(binary, "completion", request.param))
    return request.param, path


def test_scripts_are_sound(script):
    shell, path = script
    result = subprocess.run([shell, "-n", path], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


# ---- bash


@pytest.fixture
def bash(binary, tmp_path):
    """What bash offers when Tab is pressed at the end of a line."""
    (tmp_path / "completion").write_text(output(binary, "completion", "bash"))
    (tmp_path / "some model.gguf").touch()
    (tmp_path / "some-folder").mkdir()
    driver = tmp_path / "driver"
    driver.write_text("""
source "$1"
[[ $(complete -p trireme) == 'complete -F _trireme trireme' ]] || exit 1
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_trireme
printf '%s\\n' "${COMPREPLY[@]}"
""")

    def complete(*words):
        result = subprocess.run(["bash", "--norc", driver, tmp_path / "completion", "trireme", *words], check=True,
                                capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert result.stderr == ""
        return set(result.stdout.splitlines()) - {""}
    return complete


def test_bash_completes_commands(bash):
    assert bash("") == {*COMMANDS, "--help", "--version"}
    assert bash("se") == {"serve"} and bash("b") == {"bench"}


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_the_flags_of_each_command(bash, binary, command):
    flags = bash(command, "--")
    assert flags == flags_of_help(binary, command) | {"--help"}
    if command == "serve":
        assert {"--http-port", "--no-page", "--kv-cache-dtype"} <= flags and "--prompt" not in flags


def test_bash_completes_the_values_of_flags(bash):
    assert bash("serve", "--kv-cache-dtype", "") == {"auto", "f32", "f16", "bf16"}
    assert bash("serve", "--kv-cache-dtype", "f") == {"f32", "f16"}
    assert bash("serve", "--kv-cache-dtype", "=", "b") == {"bf16"} and bash("serve", "--block-size", "=") == {"8", "16", "32", "64"}
    assert bash("completion", "") == set(SHELLS)
    assert bash("serve", "--http-port", "") == set()


def test_bash_completes_files_where_files_are_meant(bash):
    here = {"some model.gguf", "some-folder"}
    assert bash("serve", "some") == here and bash("doctor", "--json", "some") == here
    assert bash("serve", "--api-keys", "some") == here and bash("pull", "hf://a/b", "--output", "some") == here
    assert bash("serve", "--host", "some") == set()


def type_in(command, folder, steps):
    """Types into an interactive shell; each step is what is typed, and what must then have been shown."""
    pid, master = pty.fork()
    if pid == 0:
        path = f"{folder}:{os.environ['PATH']}"
        os.execvpe(command[0], command, {**os.environ, "PATH": path, "PS1": "$ ", "TERM": "dumb", "HOME": str(folder)})
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    try:
        for typed, wanted in steps:
            os.write(master, typed)
            shown, deadline = b"", time.monotonic() + 60
            while wanted not in shown:
                assert time.monotonic() < deadline, f"{typed}: {shown}"
                if select.select([master], [], [], 0.1)[0]:
                    shown += os.read(master, 4096)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(master)


def test_bash_completes_as_users_meet_it(binary, tmp_path):
    (tmp_path / "trireme").symlink_to(os.path.abspath(binary))
    type_in(["bash", "--norc", "--noprofile", "-i"], tmp_path, [
        (b"source <(trireme completion bash); echo rea''dy\n", b"ready"),
        (b"trireme serv\t--kv-cache-dt\tbf\t", b"trireme serve --kv-cache-dtype bf16 ")])


# ---- fish, zsh


def test_fish_completes(binary, tmp_path):
    need("fish")
    (tmp_path / "trireme.fish").write_text(output(binary, "completion", "fish"))
    (tmp_path / "some-model.gguf").touch()

    def complete(line):
        result = subprocess.run(["fish", "--no-config", "-c", f"source trireme.fish; complete -C '{line}'"], cwd=tmp_path,
                                check=True, capture_output=True, text=True, timeout=60,
                                env={**os.environ, "HOME": str(tmp_path)})
        return {word.split("\t")[0] for word in result.stdout.splitlines()}
    assert set(COMMANDS) <= complete("trireme ")
    assert flags_of_help(binary, "serve") <= complete("trireme serve --")
    assert complete("trireme serve --kv-cache-dtype ") == {"auto", "f32", "f16", "bf16"}
    assert complete("trireme completion ") == set(SHELLS)
    assert "some-model.gguf" in complete("trireme serve some")


def test_zsh_completes(binary, tmp_path):
    need("zsh")
    (tmp_path / "trireme").symlink_to(os.path.abspath(binary))
    (tmp_path / "_trireme").write_text(output(binary, "completion", "zsh"))
    (tmp_path / "unique.gguf").touch()
    type_in(["zsh", "-f", "-i"], tmp_path, [
        (b"cd ~; fpath=(~ $fpath); autoload -U compinit; compinit -u -D; echo rea''dy\n", b"\nready"),
        (b"trireme serv\t--kv-cache-dt\tbf\t", b"bf16"), (b"\x15", b""),
        (b"trireme doct\t--api-k\tuniq\t", b"unique.gguf")])


# ---- The manual page


@pytest.fixture(scope="module")
def page(binary, tmp_path_factory):
    path = tmp_path_factory.mktemp("man") / "trireme.1"
    path.write_text(output(binary, "man"))
    return path


def test_manual_page_is_without_warnings(page):
    need("groff", "man")
    for command in (["groff", "-man", "-ww", "-Tutf8", "-rLL=78n", page], ["man", "-l", "--warnings=w", page]):
        result = subprocess.run(command, capture_output=True, text=True, timeout=60,
                                env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"})
        assert (result.returncode, result.stderr) == (0, "")


def test_manual_page_has_every_setting_and_command(page, binary):
    need("man")
    shown = subprocess.run(["man", "-l", "--nh", "--nj", page], check=True, capture_output=True, text=True, timeout=60,
                           env={**os.environ, "MANWIDTH": "200", "LC_ALL": "C.UTF-8"}).stdout
    shown = re.sub(".\x08", "", shown)  # bold by overstriking
    for command in COMMANDS:
        assert re.search(rf"^\s+trireme {command}\b", shown, re.M)
        for flag in flags_of_help(binary, command) - {"--help"}:
            assert re.search(rf"(^|\s){flag}\b", shown, re.M), flag
            if not flag.startswith("--no-"):
                assert "TRIREME_" + flag[2:].upper().replace("-", "_") in shown
    assert "hf://ORG/NAME[@REVISION][/FILE]" in shown and "EXIT STATUS" in shown
    assert "’" not in shown and "−" not in shown, "what is copied to a shell must be ASCII"


# ---- Both


def test_what_cmake_installs(binary, tmp_path):
    build = os.path.dirname(os.path.abspath(binary))
    assert os.path.exists(os.path.join(build, "shell/trireme.1")), "cmake --build . --target shell_texts comes first"
    subprocess.run(["cmake", "--install", build, "--prefix", tmp_path], check=True, capture_output=True, timeout=120)
    for path, arguments in (("share/man/man1/trireme.1", ["man"]),
                            ("share/bash-completion/completions/trireme", ["completion", "bash"]),
                            ("share/zsh/vendor-completions/_trireme", ["completion", "zsh"]),
                            ("share/fish/vendor_completions.d/trireme.fish", ["completion", "fish"])):
        assert (tmp_path / path).read_text() == output(binary, *arguments)


def test_the_shell_must_be_one_that_is_known(binary):
    for arguments in ((), ("tcsh",)):
        result = subprocess.run([binary, "completion", *arguments], capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and "bash" in result.stderr
