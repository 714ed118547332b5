"""deploy/systemd: the unit, its log rotation, and that the program keeps within it."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from shipped import DEPLOY, FLUSH_S, free_port, run

UNIT = DEPLOY / "systemd/trireme.service"


@pytest.fixture(scope="module")
def default_drain_s(binary):
    return int(re.search(r"--drain-timeout \S+ \[(\d+)\]", run(binary, "serve", "--help").stdout)[1])


def unit_settings():
    settings = {}
    for line in UNIT.read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings


@pytest.fixture(params=["plain", "gpu"])
def unit_here(request, binary, tmp_path):
    """The unit, its program where this machine has one; with the drop-in for GPUs or without."""
    path = tmp_path / "trireme.service"
    path.write_text(UNIT.read_text().replace("/usr/local/bin/trireme", binary))
    if request.param == "gpu":
        (tmp_path / "trireme.service.d").mkdir()
        shutil.copy(DEPLOY / "systemd/gpu.conf", tmp_path / "trireme.service.d")
    return path


def test_unit_verifies(unit_here, tool):
    result = run(tool("systemd-analyze"), "verify", "--man=no", unit_here)
    assert result.returncode == 0 and result.stderr == "", result.stderr


def test_unit_is_hardened(unit_here, tool):
    result = run(tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=20", unit_here)
    assert result.returncode == 0, result.stdout[-200:]
    assert float(re.search(r"Overall exposure level.*: ([\d.]+)", result.stdout)[1]) <= 2.0


@pytest.fixture
def rotation_here(tmp_path):
    """The logrotate file, for a folder of this test and without a unit to signal."""
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o755)
    text = (DEPLOY / "logrotate/trireme").read_text().replace("/var/log/trireme", str(logs))
    path = tmp_path / "rotation"
    path.write_text(re.sub(r"systemctl kill .*", "true", text))
    path.chmod(0o644)
    return path, logs


def test_logrotate_moves_what_the_unit_may_write(rotation_here, tool):
    rotation = (DEPLOY / "logrotate/trireme").read_text()
    moved = set(re.findall(r"^(/\S+) {", rotation, re.M))
    named = re.findall(r"TRIREME_(?:ACCESS|AUDIT)_LOG=(\S+)", (DEPLOY / "systemd/trireme.env").read_text())
    folder = f"/var/log/{unit_settings()['LogsDirectory'][0]}/"
    assert len(named) == 2 and set(named) == moved and all(path.startswith(folder) for path in moved)
    assert rotation.count("--signal=HUP") == 2 and rotation.count(UNIT.name) >= 2
    path, logs = rotation_here
    result = run(tool("logrotate"), "-d", "-s", logs / "state", path)
    assert result.returncode == 0 and "error" not in result.stderr, result.stderr


def test_logrotate_leaves_the_audit_log_readable_and_whole(rotation_here, tool):
    path, logs = rotation_here
    old = [logs / f"audit.log-20200101-{number}" for number in range(1000, 1040)]
    for file in old:
        file.write_text(file.name)
    for name in ("audit.log", "access.log"):
        (logs / name).write_text("now\n")
    result = run(tool("logrotate"), "-f", "-s", logs / "state", path)
    assert result.returncode == 0, result.stderr
    assert not list(logs.glob("audit*.gz")) and all(file.read_text() == file.name for file in old)
    rotated = sorted(logs.glob("audit.log-*"))
    assert len(rotated) == len(old) + 1 and rotated[-1].read_text() == "now\n"  # by name: the oldest first
    assert not (logs / "audit.log").exists() and (logs / "access.log.1").exists()


def test_unit_waits_for_the_drain(default_drain_s):
    assert int(unit_settings()["TimeoutStopSec"][0]) > default_drain_s + FLUSH_S
    assert unit_settings()["KillSignal"] == ["SIGTERM"]


def test_unit_environment_names_settings(setting_names):
    used = set(re.findall(r"^#?(TRIREME_\w+)=", (DEPLOY / "systemd/trireme.env").read_text(), re.M))
    assert used and used <= setting_names
    assert unit_settings()["EnvironmentFile"] == ["/etc/trireme/trireme.env"]
    users = (DEPLOY / "systemd/trireme.sysusers").read_text()
    assert re.search(rf"^u {unit_settings()['User'][0]} ", users, re.M)


def allowed_calls(systemd_analyze):
    """What the unit's SystemCallFilter= lines add up to."""

    def members(name):
        if not name.startswith("@"):
            return {name}
        lines = run(systemd_analyze, "--no-pager", "syscall-filter", name).stdout.splitlines()[1:]
        words = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
        return set().union(*(members(word) for word in words))

    allowed = members("@default")
    for line in unit_settings()["SystemCallFilter"]:
        listed = set().union(*(members(name) for name in line.lstrip("~").split()))
        allowed = allowed - listed if line.startswith("~") else allowed | listed
    return allowed


def test_program_keeps_within_the_unit(binary, model, tool, tmp_path):
    """Load, serve, drain under strace: no system call, socket family or mapping that the unit forbids."""
    allowed, log = allowed_calls(tool("systemd-analyze")), tmp_path / "strace"
    if run(tool("strace"), "-o", "/dev/null", "true").returncode != 0:
        pytest.skip("strace may not trace here")
    port = free_port()
    process = subprocess.Popen(
        [tool("strace"), "-f", "-qq", "-o", log, binary, "serve", model, "--served-model-name", "m", "--http-port",
         str(port), "--grpc-port", "0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        body = json.dumps({"model": "m", "prompt": "hi", "max_tokens": 4}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body,
                                         {"content-type": "application/json"})
        deadline = time.monotonic() + 120
        while True:
            try:
                assert urllib.request.urlopen(request, timeout=60).status == 200
                break
            except urllib.error.URLError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        traced = int(log.read_text().split(None, 1)[0])  # the first process of the log is the program
        os.kill(traced, signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    text = log.read_text()
    made = set(re.findall(r"^\d+ +(\w+)\(", text, re.M))
    assert "futex" in made and made <= allowed, made - allowed
    families = set(re.findall(r" socket\((\w+)", text))
    assert families <= set(unit_settings()["RestrictAddressFamilies"][0].split())
    assert not re.findall(r"^.*(?:mmap\(.*PROT_WRITE\|PROT_EXEC|mprotect\(.*PROT_EXEC).*$", text, re.M)
