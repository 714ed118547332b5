"""trireme doctor on this very machine: its findings, its exit codes, its two outputs."""
import json
import os
import pty
import select
import signal
import socket
import subprocess
import time

import tiny_model
from conftest import under


def run(binary, *arguments, **kwargs):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIREME_")}
    return subprocess.run([binary, "doctor", *map(str, arguments)], capture_output=True, text=True, timeout=120,
                          env=clean, **kwargs)


ANY_PORTS = ("--http-port", 0, "--grpc-port", 0)


def findings(result, level=None):
    report = json.loads(result.stdout)
    assert report["ok"] == (result.returncode == 0) == (report["counts"]["error"] == 0)
    assert sum(report["counts"].values()) == len(report["findings"])
    return [finding for finding in report["findings"] if level in (None, finding["level"])]


def test_every_part_of_the_machine_is_looked_at(binary):
    result = run(binary, "--json", *ANY_PORTS)
    seen = {finding["check"].split(".")[0] for finding in findings(result)}
    assert seen >= {"cpu", "memory", "limits", "gpu", "fabric", "clock"} and result.returncode == 0
    for finding in findings(result):
        assert set(finding) == {"level", "check", "seen", "why", "mend"} and finding["seen"]
        assert finding["level"] in ("ok", "note") or (finding["why"] and finding["mend"])


def test_kernels_are_those_that_compute(binary):
    flags = open("/proc/cpuinfo").read().split()
    [kernels] = [f["seen"] for f in findings(run(binary, "--json", *ANY_PORTS)) if f["check"] == "cpu.kernels"]
    assert ("avx2" in kernels.split("has")[1]) == ("avx2" in flags)


def test_a_taken_port_is_an_error(binary):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run(binary, "--json", "--http-port", port, "--grpc-port", 0)
    [error] = findings(result, "error")
    assert result.returncode == 1 and str(port) in error["seen"] and "--http-port" in error["mend"]


def test_a_model_is_checked(binary, tmp_path):
    tiny = tiny_model.write(tmp_path / "tiny")
    result = run(binary, tiny, "--json", *ANY_PORTS)
    assert result.returncode == 0 and "model.memory" in {finding["check"] for finding in findings(result)}
    weights = tiny / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    [error] = findings(run(binary, tiny, "--json", *ANY_PORTS), "error")
    assert error["check"] == "model.files" and "model.safetensors" in error["seen"]


def test_key_files_are_checked(binary, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("sk-very-secret-very-long team-a\n")
    keys.chmod(0o644)
    result = run(binary, "--json", "--api-keys", keys, *ANY_PORTS)
    [warning] = [f for f in findings(result, "warning") if f["check"] == "keys.api"]
    assert warning["mend"] == f"chmod 600 {keys}" and "sk-very-secret" not in result.stdout
    subprocess.run(warning["mend"], shell=True, check=True)
    assert not [f for f in findings(run(binary, "--json", "--api-keys", keys, *ANY_PORTS), "warning")
                if f["check"] == "keys.api"]


def test_every_error_says_how_it_is_mended(binary, tmp_path):
    for arguments in (("--api-keys", tmp_path / "none"), ("hf://a/b",), (tmp_path / "none.gguf",),
                      ("--tls-cert", tmp_path / "c", "--tls-key", tmp_path / "k")):
        errors = findings(run(binary, "--json", *ANY_PORTS, *arguments), "error")
        assert errors and all(error["why"] and error["mend"] for error in errors), errors


def test_a_mend_can_be_pasted_whatever_the_path(binary, tmp_path):
    keys = tmp_path / "k'$(touch stolen) x.txt"
    keys.write_text("sk-very-secret-and-long-enough team-a\n")
    keys.chmod(0o644)
    [warning] = [f for f in findings(run(binary, "--json", "--api-keys", keys, *ANY_PORTS), "warning")
                 if f["check"] == "keys.api"]
    subprocess.run(["bash", "-c", warning["mend"]], check=True, cwd=tmp_path)
    assert keys.stat().st_mode & 0o777 == 0o600 and not (tmp_path / "stolen").exists()


def test_paths_do_not_steer_the_terminal(binary, tmp_path):
    model = tmp_path / "ev\033[31mil.gguf"
    model.write_bytes(b"no model")
    for path in (model, tmp_path / "not\033[2Jthere.gguf"):
        said = run(binary, path, *ANY_PORTS).stdout
        assert "\033" not in said and "\\x1b" in said


def test_nothing_is_waited_for(binary, tmp_path):
    """A pipe that nobody writes to, and a pass phrase that nobody types."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    [error] = findings(run(binary, "--json", "--api-keys", pipe, *ANY_PORTS), "error")
    assert "no regular file" in error["seen"]
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:phrase", "-days", "2", "-subj",
                    "/CN=x", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    process, terminal = pty.fork()  # a terminal of its own, which OpenSSL would ask
    if process == 0:
        os.execv(binary, [binary, "doctor", "--tls-cert", str(certificate), "--tls-key", str(key), *map(str, ANY_PORTS)])
    shown, deadline = b"", time.monotonic() + 120
    while select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the terminal's end
            break
        shown += piece
    else:
        os.kill(process, signal.SIGKILL)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 1, shown
    assert b"encrypted with a pass phrase" in shown and b"openssl pkey -in" in shown


def test_the_world_without_keys_is_an_error(binary):
    result = run(binary, "--json", "--host", "0.0.0.0", *ANY_PORTS)
    assert result.returncode == 1 and "without keys" in findings(result, "error")[0]["seen"]


def test_limits_of_the_process_are_seen(binary, tmp_path):
    result = run(under(tmp_path, binary, "prlimit", "--nofile=512"), "--json", "--max-connections", 4096, *ANY_PORTS)
    assert [f for f in findings(result, "warning") if f["check"] == "limits.open_files" and "512" in f["seen"]]


def test_colour_is_for_terminals(binary):
    plain = run(binary, *ANY_PORTS).stdout
    assert "\033" not in plain and "cpu.kernels: " in plain
    master, terminal = pty.openpty()
    with subprocess.Popen([binary, "doctor", *map(str, ANY_PORTS)], stdout=terminal, stderr=subprocess.DEVNULL) as doctor:
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # the terminal's end
            pass
    os.close(master)
    assert doctor.returncode == 0 and b"\033[32mok" in shown


def test_wrong_usage(binary):
    assert run(binary, "--http-port", "x").returncode == 2
    assert run(binary, "--tls-cert", "c.pem").returncode == 2
