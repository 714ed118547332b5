"""What deploy/ ships for operators, checked with the tools that will read it and against a running server."""
import contextlib
import http.server
import importlib.util
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
CONTAINER = DEPLOY / "container"
KUBERNETES = DEPLOY / "kubernetes"
UID = 64000
FLUSH_S = 8  # kFlushTime and kTelemetryFlushTime of server/cli/serve.cc, and what libcurl takes to notice


def run(*command, **kwargs):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **kwargs)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def default_drain_s(binary):
    return int(re.search(r"--drain-timeout \S+ \[(\d+)\]", run(binary, "serve", "--help").stdout)[1])


# ---- The container image


def instructions(text):
    """[(instruction, arguments)], continued lines joined, comments dropped."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def dockerfile():
    return instructions((CONTAINER / "Dockerfile").read_text())


def of(dockerfile, instruction):
    return [arguments for name, arguments in dockerfile if name == instruction]


def test_image_steps_are_scripts_of_this_tree(dockerfile):
    steps = of(dockerfile, "RUN")
    assert len(steps) == 3
    for step in steps:
        script = step.split()[0].replace("/usr/local/lib/trireme/", "deploy/container/")
        assert not re.search(r"[;&|`]|\$\(", step), f"more than one command: {step}"
        assert os.access(ROOT / script, os.X_OK), script
        assert run("bash", "-n", ROOT / script).returncode == 0
        assert "set -euo pipefail" in (ROOT / script).read_text()
    for arguments in of(dockerfile, "COPY"):
        for source in [word for word in arguments.split() if not word.startswith("--")][:-1]:
            if "--from=" not in arguments:
                assert (ROOT / source).exists(), source


def test_image_is_built_by_the_commands_of_quickstart(dockerfile):
    commands = [set(re.findall(r"cmake [^|>&]*?(?= >&2)", path.read_text()))
                for path in (DEPLOY / "quickstart.sh", CONTAINER / "build.sh")]
    assert len(commands[0]) == 2 and commands[0] <= commands[1]
    assert "deploy/dependencies.sh build" in of(dockerfile, "RUN")
    assert "deploy/dependencies.sh build" in (DEPLOY / "quickstart.sh").read_text()


@pytest.mark.parametrize("path", [CONTAINER / "build.sh", DEPLOY / "README.md"], ids=lambda path: path.name)
def test_what_is_built_is_all_that_is_installed(binary, tmp_path, path):
    """From a build folder that has the program alone (deploy/README.md's comes after quickstart.sh)."""
    build = pathlib.Path(binary).parent
    assert (build / "CMakeCache.txt").exists(), "--binary must lie in its build folder"
    shutil.rmtree(build / "shell", ignore_errors=True)
    (build / "trireme.spdx.json").unlink(missing_ok=True)
    targets = re.findall(r'^cmake --build "?build/(?:release|\$preset)"? --target (\w+)', path.read_text(), re.M)
    assert targets and re.search(r'cmake --install "?build/(release|\$preset)"? --prefix /usr/local', path.read_text())
    for target in targets:
        result = run("cmake", "--build", build, "--target", target)
        assert result.returncode == 0, result.stdout + result.stderr
    result = run("cmake", "--install", build, "--prefix", "/usr/local", env={**os.environ, "DESTDIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    installed = {str(file.relative_to(tmp_path / "usr/local")) for file in tmp_path.rglob("*") if file.is_file()}
    assert installed >= {"bin/trireme", "share/man/man1/trireme.1", "share/bash-completion/completions/trireme",
                         "share/doc/trireme/LICENSE"}
    assert ("share/doc/trireme/trireme.spdx.json" in installed) == ("sbom" in targets)


def test_image_rules(dockerfile):
    names = [name for name, _ in dockerfile]
    defaults = dict(word.split("=", 1) for word in of(dockerfile, "ARG") if "=" in word)
    assert defaults["BASE"] == "debian:bookworm-slim" and defaults["BACKEND"] == "cpu"
    stages = [words.split() for words in of(dockerfile, "FROM")]
    known = {stage[2] for stage in stages if len(stage) == 3}
    for stage in stages:
        assert ":latest" not in stage[0]
        assert stage[0] == "${BASE}" or stage[0] in known or stage[0] == "runtime-${BACKEND}", stage
    assert {"runtime-cpu", "runtime-cuda"} <= known
    assert "ADD" not in names and "MAINTAINER" not in names
    final = dockerfile[max(i for i, name in enumerate(names) if name == "FROM"):]
    assert of(final, "USER") == [f"{UID}:{UID}"] and not of(final, "RUN")
    assert of(final, "STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(of(final, "ENTRYPOINT")[0]) == ["/usr/local/bin/trireme"]
    assert json.loads(of(final, "CMD")[0]) == ["serve"]
    check = of(final, "HEALTHCHECK")[0]
    assert json.loads(check[check.index("CMD") + 3:]) == ["/usr/local/lib/trireme/healthcheck.sh"]
    labels = dict(re.findall(r'([\w.]+)="([^"]*)"', of(final, "LABEL")[0]))
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    version = re.search(r"project\(trireme VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert f"VERSION={version}" in of(final, "ARG")
    installs = (CONTAINER / "install_runtime.sh").read_text()
    assert "--no-install-recommends" in installs and "/var/lib/apt/lists/*" in installs
    assert "-dev" not in installs


def test_image_settings_exist(dockerfile, setting_names):
    used = re.findall(r"(TRIREME_\w+)=", " ".join(of(dockerfile, "ENV")))
    assert used and set(used) <= setting_names
    health = set(re.findall(r"TRIREME_\w+", (CONTAINER / "healthcheck.sh").read_text()))
    assert health <= setting_names


def test_build_context_holds_what_the_build_reads_and_no_more():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    needed = set(re.findall(r"^add_subdirectory\((\w+)\)", (ROOT / "CMakeLists.txt").read_text(), re.M))
    assert needed | {"CMakeLists.txt", "CMakePresets.json", "LICENSE"} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_runtime_packages_are_those_of_the_linked_libraries(binary, tmp_path):
    result = run(CONTAINER / "runtime_packages.sh", binary)
    assert result.returncode == 0, result.stderr
    packages = result.stdout.split()
    assert packages == sorted(set(packages)) and {"libc6", "libstdc++6", "libssl3"} <= set(packages)
    assert not [name for name in packages if name.endswith("-dev")]
    stray = tmp_path / "program"
    stray.write_text("#!/bin/sh\n")
    assert run(CONTAINER / "runtime_packages.sh", stray).returncode != 0


def test_unknown_backend_is_refused_before_anything_is_built(tmp_path):
    for arguments in ((), ("cpu",), ("rocm", tmp_path / "out")):
        result = run(CONTAINER / "build.sh", *arguments)
        assert result.returncode == 2 and "usage" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_cuda_toolkit_is_found_where_it_is_said_to_be(tmp_path):
    nvcc = tmp_path / "toolkit/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho compute_90 compute_100\n")
    nvcc.chmod(0o755)
    script = DEPLOY / "cuda_toolkit.sh"
    environment = {"HOME": str(tmp_path), "PATH": f"{nvcc.parent}:/usr/bin:/bin"}
    assert subprocess.run([script], env=environment, capture_output=True, text=True).stdout == f"{tmp_path}/toolkit\n"
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "CUDA_HOME": str(tmp_path / "toolkit")}
    assert subprocess.run([script], env=environment, capture_output=True, text=True).stdout == f"{tmp_path}/toolkit\n"
    old = tmp_path / "old/nvcc"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho compute_80\n")
    old.chmod(0o755)
    cached = tmp_path / ".cache/trireme/cuda-13.0/nvidia/cu13/bin/nvcc"  # so that nothing is fetched
    cached.parent.mkdir(parents=True)
    shutil.copy(nvcc, cached)
    result = subprocess.run([script], env={"HOME": str(tmp_path), "PATH": f"{old.parent}:/usr/bin:/bin"},
                            capture_output=True, text=True)
    assert result.returncode == 0 and f"{old} is too old" in result.stderr
    assert (pathlib.Path(result.stdout.strip()) / "bin/nvcc").exists() and str(old.parent.parent) != result.stdout.strip()
    result = subprocess.run([script], env={**environment, "CUDA_HOME": "/nowhere"}, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr == "CUDA_HOME: there is no /nowhere/bin/nvcc\n"


def test_nccl_is_found_where_it_is_said_to_be(tmp_path):
    header = tmp_path / "nccl/include/nccl.h"
    header.parent.mkdir(parents=True)
    header.touch()
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    found = subprocess.run([DEPLOY / "nccl.sh"], env={**environment, "NCCL_HOME": str(tmp_path / "nccl")},
                           capture_output=True, text=True)
    assert found.stdout == f"{tmp_path}/nccl\n"
    result = subprocess.run([DEPLOY / "nccl.sh"], env={**environment, "NCCL_HOME": "/nowhere"}, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr == "NCCL_HOME: there is no /nowhere/include/nccl.h\n"


def test_a_library_that_is_installed_with_the_program_needs_no_package(binary, tmp_path):
    packages = run(CONTAINER / "runtime_packages.sh", binary).stdout.split()
    assert "libssl3" in packages
    (tmp_path / "libssl.so.3").touch()
    (tmp_path / "libcrypto.so.3").touch()
    assert set(packages) - set(run(CONTAINER / "runtime_packages.sh", binary, tmp_path).stdout.split()) == {"libssl3"}


@contextlib.contextmanager
def answers_with(code):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        yield fake.server_port
        fake.shutdown()


def healthy(port, **env):
    return run(CONTAINER / "healthcheck.sh", env={"TRIREME_HTTP_PORT": str(port), **env}).returncode == 0


def test_health_check_tells_a_serving_program_from_others(server):
    assert healthy(server.http_port)
    assert not healthy(free_port())
    with answers_with(503) as port:
        assert not healthy(port)
        assert healthy(port, TRIREME_TLS_CERT="cert.pem")  # with TLS, a port that accepts has to do
    assert not healthy(free_port(), TRIREME_TLS_CERT="cert.pem")


# ---- systemd


UNIT = DEPLOY / "systemd/trireme.service"


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


# ---- Kubernetes


def kustomize(folder):
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed (no test needs it: Debian 12 has 1.20, kubernetes-client)")
    result = run(kubectl, "kustomize", folder)
    assert result.returncode == 0, result.stderr
    return {item["kind"]: item for item in yaml.safe_load_all(result.stdout)}


def raw(folder="base"):
    """The files that a kustomization names, before kustomize; by kind."""
    listed = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["resources"]
    return {item["kind"]: item for name in listed for item in yaml.safe_load_all((KUBERNETES / folder / name).read_text())}


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("kustomization.yaml")), ids=lambda p: p.parent.name)
def test_kustomizations_name_files_that_are_there(path):
    content = yaml.safe_load(path.read_text())
    assert content["kind"] in ("Kustomization", "Component")
    listed = content.get("resources", []) + [patch["path"] for patch in content.get("patches", [])]
    assert listed
    for name in listed:
        target = path.parent / name
        assert target.is_file() or (target / "kustomization.yaml").is_file(), name
    others = {p.name for p in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert others <= set(listed), "a file that nothing uses"


def documents(path):
    """Every manifest that a kustomization gives, patches and components included; by kind."""
    content = yaml.safe_load((path / "kustomization.yaml").read_text())
    listed = [name for key in ("resources", "components") for name in content.get(key, [])]
    listed += [patch["path"] for patch in content.get("patches", [])]
    for name in listed:
        if (path / name).is_dir():
            yield from documents((path / name).resolve())
        else:
            yield from yaml.safe_load_all((path / name).read_text())


@pytest.mark.parametrize("path", sorted(KUBERNETES.rglob("kustomization.yaml")), ids=lambda p: p.parent.name)
def test_manifests_are_whole_without_kubectl(path):
    for item in documents(path.parent):
        assert item["apiVersion"] and item["kind"] and item["metadata"]["name"] in ("trireme", "trireme-group", "trireme-group-http"), item
    content = yaml.safe_load(path.read_text())
    given = [item["kind"] for item in raw_documents(path.parent, "resources")]
    assert len(given) == len(set(given)), "a manifest twice"
    inherited = {item["kind"]: item for name in content.get("resources", []) if (path.parent / name).is_dir()
                 for item in documents((path.parent / name).resolve())}
    for patch in raw_documents(path.parent, "patches"):
        target = inherited[patch["kind"]]  # a patch of nothing is an error of kustomize
        assert patch["apiVersion"] == target["apiVersion"]
        if patch["kind"] == "Deployment":
            assert container_of(patch)["name"] == container_of(target)["name"]
    generators = {generator["name"]: generator for generator in content.get("configMapGenerator", [])}
    for generator in generators.values():
        assert all(re.fullmatch(r"TRIREME_[A-Z_]+=.+", literal) for literal in generator["literals"])
        assert (generator.get("behavior") == "merge") == bool(inherited)
    for image in content.get("images", []):
        assert image["name"] == container_of(raw()["Deployment"])["image"] and image["newTag"] != "latest"


def raw_documents(folder, key):
    """Those of the files that one kustomization names itself."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    for entry in content.get(key, []):
        name = entry["path"] if isinstance(entry, dict) else entry
        if (folder / name).is_file():
            yield from yaml.safe_load_all((folder / name).read_text())


def test_references_between_manifests_agree():
    base, content = raw(), yaml.safe_load((KUBERNETES / "base/kustomization.yaml").read_text())
    labels = {name: value for entry in content["labels"] for name, value in entry["pairs"].items()}
    selected = [entry["pairs"] for entry in content["labels"] if entry.get("includeSelectors")]
    assert selected == [{"app.kubernetes.io/name": "trireme"}], "of Deployment and Service, which name no selector"
    pod = base["Deployment"]["spec"]["template"]["spec"]
    for selector in (base["PodDisruptionBudget"]["spec"]["selector"], base["NetworkPolicy"]["spec"]["podSelector"],
                     pod["topologySpreadConstraints"][0]["labelSelector"]):
        assert selector["matchLabels"].items() <= labels.items()
    container = container_of(base["Deployment"])
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in base["Service"]["spec"]["ports"]} <= ports
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} <= ports
    assert [source["configMapRef"]["name"] for source in container["envFrom"]] == [
        generator["name"] for generator in content["configMapGenerator"]]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    target = base["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (base["Deployment"]["apiVersion"], "Deployment")
    # What the operator must bring is in the README by name.
    steps = (DEPLOY / "README.md").read_text()
    assert volumes["keys"]["secret"]["secretName"] in steps
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] in steps
    component = KUBERNETES / "components/service-monitor"
    monitor = next(raw_documents(component, "resources"))["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in base["Service"]["spec"]["ports"]}
    assert labels[monitor["jobLabel"]] == "trireme" and monitor["endpoints"][0]["authorization"]["credentials"]["name"] in steps


def container_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]


def test_pod_is_restricted():
    """Pod Security Standards, level "restricted"."""
    pod, container = raw()["Deployment"]["spec"]["template"]["spec"], container_of(raw()["Deployment"])
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] == UID
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
                                            "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False
    assert {next(iter(set(volume) - {"name"})) for volume in pod["volumes"]} == {"persistentVolumeClaim", "secret"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert container["resources"]["requests"] == container["resources"]["limits"]  # Guaranteed


def test_probes_ask_routes_that_answer(server):
    container = container_of(raw()["Deployment"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8000, "grpc": 8001}
    for probe, route in (("startupProbe", "/ready"), ("readinessProbe", "/ready"), ("livenessProbe", "/health")):
        assert container[probe]["httpGet"] == {"path": route, "port": "http"}
        assert server.get(route)[0] == 200
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 600


def settings_of(folder="base"):
    generators = yaml.safe_load((KUBERNETES / folder / "kustomization.yaml").read_text())["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generators[0]["literals"])


def test_pod_has_time_to_drain():
    pod, container = raw()["Deployment"]["spec"]["template"]["spec"], container_of(raw()["Deployment"])
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = int(settings_of()["TRIREME_DRAIN_TIMEOUT"])
    assert pod["terminationGracePeriodSeconds"] > pause_s + drain_s + FLUSH_S


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
def test_pod_settings_exist(folder, setting_names):
    assert set(settings_of(folder)) <= setting_names
    container = container_of(raw()["Deployment"])
    assert {variable["name"] for variable in container["env"]} <= setting_names
    # Kubernetes' own TRIREME_PORT and the like must not stand among the settings.
    assert raw()["Deployment"]["spec"]["template"]["spec"]["enableServiceLinks"] is False
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(pathlib.Path(settings_of()["TRIREME_MODEL"]).parent) in mounts
    assert str(pathlib.Path(settings_of()["TRIREME_API_KEYS"]).parent) in mounts


def test_network_is_two_ports_in_and_nothing_out():
    policy = raw()["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "trireme"}}  # {} would be every pod
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"] and policy["egress"] == []
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "grpc"]
    assert [port["targetPort"] for port in raw()["Service"]["spec"]["ports"]] == ["http", "grpc"]


def test_autoscaler_and_budget_fit_the_deployment(metrics):
    scaler = raw()["HorizontalPodAutoscaler"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == raw()["Deployment"]["metadata"]["name"]
    assert "replicas" not in raw()["Deployment"]["spec"]  # every apply would undo the autoscaler
    names = {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]}
    assert names == {"trireme_requests_waiting", "trireme_kv_cache_usage_ratio"} and names <= metrics
    assert raw()["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("folder", ["base", "overlays/gpu"])
def test_kustomize_builds(folder):
    built = kustomize(KUBERNETES / folder)
    assert set(built) == {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy",
                          "HorizontalPodAutoscaler"}
    pods = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [built["Deployment"]["spec"]["selector"]["matchLabels"], built["Service"]["spec"]["selector"],
                 built["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
                 built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    for selector in selectors:
        assert selector and selector.items() <= pods.items()
    config = built["ConfigMap"]["metadata"]["name"]  # carries a hash: a changed setting rolls the pods
    assert container_of(built["Deployment"])["envFrom"] == [{"configMapRef": {"name": config}}]
    assert config != "trireme-settings" and built["ConfigMap"]["data"]["TRIREME_HOST"] == "0.0.0.0"


def test_gpu_overlay_asks_for_a_gpu_and_keeps_the_rest():
    built, base = kustomize(KUBERNETES / "overlays/gpu"), kustomize(KUBERNETES / "base")
    container, plain = container_of(built["Deployment"]), container_of(base["Deployment"])
    for kind in ("requests", "limits"):
        assert container["resources"][kind]["nvidia.com/gpu"] == "1"
    assert container["image"].endswith("-cuda") and not plain["image"].endswith(":latest")
    assert container["securityContext"] == plain["securityContext"]
    assert built["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_service_monitor_component_adds_to_the_base(tmp_path):
    tree = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, tree)
    (tree / "mine").mkdir()
    (tree / "mine/kustomization.yaml").write_text(
        "resources: [../base]\ncomponents: [../components/service-monitor]\n")
    built = kustomize(tree / "mine")
    monitor = built["ServiceMonitor"]["spec"]
    assert monitor["selector"]["matchLabels"].items() <= built["Service"]["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in built["Service"]["spec"]["ports"]]
    # The alerts know the job by this name.
    assert built["Service"]["metadata"]["labels"][monitor["jobLabel"]] == "trireme"


# ---- Metrics, dashboard, alerts


def post(server, path, body):
    request = urllib.request.Request(server.base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=60).read()


def traffic(server):
    """Good and bad requests through both doors, so that every metric has something to tell."""
    grpc = pytest.importorskip("grpc")
    post(server, "/v1/completions", {"model": "demo", "prompt": "the same long beginning " * 4, "max_tokens": 8})
    post(server, "/v1/completions", {"model": "demo", "max_tokens": -1})
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        channel.unary_unary("/trireme.v1.Inference/GetServerInfo")(b"", timeout=30)
        with pytest.raises(grpc.RpcError):  # no prompt
            list(channel.unary_stream("/trireme.v1.Inference/Generate")(b"", timeout=30))


@pytest.fixture(scope="module")
def metrics(server):
    """Names of the series that a running server's /metrics shows."""
    traffic(server)
    deadline = time.monotonic() + 30
    while True:  # a gRPC call is counted when it is over, a moment after its client has the answer
        text = server.get("/metrics")[2].decode()
        if "trireme_grpc_requests_total{" in text or time.monotonic() > deadline:
            return set(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{| )", text, re.M))
        time.sleep(0.05)


def names_in(query):
    return set(re.findall(r"\b(?:trireme_|vllm:)\w+", query))


def load_dashboard_maker():
    spec = importlib.util.spec_from_file_location("make_dashboard", DEPLOY / "grafana/make_dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((DEPLOY / "grafana/trireme.json").read_text())


def queries(dashboard):
    return [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]


def test_dashboard_is_what_its_source_makes(dashboard):
    assert dashboard == load_dashboard_maker().dashboard()


def test_dashboard_is_laid_out(dashboard):
    panels = dashboard["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Traffic", "Latency", "Queue", "KV cache", "Engine steps", "Errors", "gRPC"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [(x, y) for panel in panels for p in [panel["gridPos"]]
             for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    for title in ("Time to first token", "Inter-token latency", "End to end"):
        panel = next(panel for panel in panels if panel["title"] == title)
        assert [target["legendFormat"] for target in panel["targets"]] == ["p50", "p90", "p99"]


def test_dashboard_uses_metrics_that_exist(dashboard, metrics):
    used = set().union(*(names_in(query) for _, query in queries(dashboard)))
    used |= set().union(*(names_in(v["query"]) for v in dashboard["templating"]["list"]))
    assert len(used) > 20 and used <= metrics, used - metrics


def test_alerts_use_metrics_that_exist(metrics):
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    used = set().union(*(names_in(rule["expr"]) for group in groups for rule in group["rules"]))
    assert len(used) > 10 and used <= metrics, used - metrics


def test_every_alert_has_a_test_that_fires_it():
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    names = {rule["alert"] for group in groups for rule in group["rules"]}
    assert names == set(re.findall(r'alertname="(\w+)"', (DEPLOY / "prometheus/alerts_test.yaml").read_text()))
    for group in groups:
        for rule in group["rules"]:
            assert rule["for"] and rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["summary"]


def test_alerts_check_and_fire(tool):
    promtool = tool("promtool")
    result = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml", cwd=DEPLOY / "prometheus")
    assert result.returncode == 0, result.stdout + result.stderr
    result = run(promtool, "test", "rules", "alerts_test.yaml", cwd=DEPLOY / "prometheus")
    assert result.returncode == 0, result.stdout + result.stderr


def test_metrics_are_well_formed(server, metrics, tool):
    text = server.get("/metrics")[2].decode()
    # promtool keeps colons for recording rules; the vllm: aliases have theirs from the tools that read them.
    own = "".join(line for line in text.splitlines(True) if "vllm:" not in line)
    result = run(tool("promtool"), "check", "metrics", input=own)
    assert result.returncode == 0, result.stdout + result.stderr


@contextlib.contextmanager
def prometheus_of(program, server, folder):
    """A Prometheus that scrapes the server every second; gives query(promql) -> samples."""
    port = free_port()
    (folder / "prometheus.yml").write_text(yaml.safe_dump({
        "scrape_configs": [{"job_name": "trireme", "scrape_interval": "1s",
                            "static_configs": [{"targets": [f"127.0.0.1:{server.http_port}"]}]}],
        "rule_files": [str(DEPLOY / "prometheus/alerts.yaml")]}))
    process = subprocess.Popen(
        [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def query(promql):
        url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{promql}: {error.read().decode()}") from error

    def answers():  # listening, past its start (503 until then), and with a scrape
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=30).close()
            return bool(query('up{job="trireme"} == 1'))
        return False

    try:
        deadline = time.monotonic() + 60
        while not answers():
            assert process.poll() is None and time.monotonic() < deadline, "Prometheus does not scrape"
            time.sleep(0.2)
        yield query
    finally:
        process.terminate()
        process.wait(30)


def shows(samples):
    return bool(samples) and any(sample["value"][1] != "NaN" for sample in samples)


def test_every_panel_shows_data_of_a_running_server(server, metrics, dashboard, tool, tmp_path):
    values = {"$__rate_interval": "1m", "$model": ".*", "$instance": ".*"}
    with prometheus_of(tool("prometheus"), server, tmp_path) as query:
        traffic(server)
        for title, text in queries(dashboard):
            for name, value in values.items():
                text = text.replace(name, value)
            assert "$" not in text
            # A rate needs a scrape before the traffic and one after it; each kind of traffic may be seen by another.
            deadline = time.monotonic() + 30
            while not shows(query(text)):
                assert time.monotonic() < deadline, f"{title}: {text} shows nothing"
                time.sleep(0.2)


# ---- SBOM


@pytest.fixture(scope="module")
def sbom(binary, tmp_path_factory):
    out = tmp_path_factory.mktemp("sbom") / "trireme.spdx.json"
    build = pathlib.Path(binary).parent
    more = ["--build-directory", build] if (build / ".ninja_deps").exists() else []
    result = run(sys.executable, DEPLOY / "sbom.py", binary, "--version", "0.1.0", "--output", out, *more)
    assert result.returncode == 0, result.stderr
    return out


def test_sbom_has_spdx_structure(sbom):
    document = json.loads(sbom.read_text())
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["creationInfo"]["created"])
    assert document["documentNamespace"].startswith("urn:uuid:") and document["creationInfo"]["creators"]
    for package in document["packages"]:
        assert {"SPDXID", "name", "downloadLocation", "licenseDeclared", "versionInfo"} <= set(package)
    elements = [document, *document["packages"], *document["files"]]
    ids = [element["SPDXID"] for element in elements]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", i) for i in ids)
    used = set()
    for link in document["relationships"]:
        used |= {link["spdxElementId"], link["relatedSpdxElement"]}
    assert used == set(ids)  # every end is there, and nothing stands alone
    known = {entry["licenseId"] for entry in document.get("hasExtractedLicensingInfos", [])}
    named = {n for p in document["packages"] for n in re.findall(r"LicenseRef-[A-Za-z0-9.-]+", p["licenseDeclared"])}
    assert named <= known


def test_sbom_tells_the_program_and_its_libraries(sbom, binary):
    document = json.loads(sbom.read_text())
    digest = run("sha256sum", binary).stdout.split()[0]
    own = next(package for package in document["packages"] if package["name"] == "trireme")
    assert {"algorithm": "SHA256", "checksumValue": digest} in own["checksums"]
    linked = {link["relatedSpdxElement"] for link in document["relationships"] if link["relationshipType"] == "DEPENDS_ON"}
    names = {package["name"] for package in document["packages"] if package["SPDXID"] in linked}
    assert names == set(run(CONTAINER / "runtime_packages.sh", binary).stdout.split())
    openssl = next(package for package in document["packages"] if package["name"] == "libssl3")
    version = run("dpkg-query", "-W", "-f", "${Version}", "libssl3").stdout
    assert openssl["versionInfo"] == version and "Apache-2.0" in openssl["licenseDeclared"]
    assert openssl["externalRefs"][0]["referenceLocator"].startswith("pkg:deb/debian/libssl3@")


def test_sbom_is_reproducible(binary, tmp_path):
    texts = [run(sys.executable, DEPLOY / "sbom.py", binary, "--version", "0.1.0",
                 env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}).stdout for _ in range(2)]
    assert texts[0] == texts[1] and json.loads(texts[0])["creationInfo"]["created"] == "2023-11-14T22:13:20Z"


def test_sbom_satisfies_the_spdx_validator(sbom):
    pytest.importorskip("spdx_tools")
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
    assert [message.validation_message for message in validate_full_spdx_document(parse_file(str(sbom)))] == []


@pytest.mark.parametrize("field, expected", [
    ("Expat", "MIT"), ("GPL-2+ or Artistic", "GPL-2.0-or-later OR Artistic-1.0-Perl"),
    ("Expat or ISC, and Zlib", "(MIT OR ISC) AND Zlib"), ("Odd One", "LicenseRef-source-Odd-One")])
def test_debian_licences_become_spdx_expressions(field, expected):
    spec = importlib.util.spec_from_file_location("sbom", DEPLOY / "sbom.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    licences = module.Licences()
    assert licences._expression(field, "source", {"odd one": " Do as you like.\n"}) == expected
    assert all(entry["extractedText"] == "Do as you like." for entry in licences.extracted.values())


def test_release_builds_make_the_sbom():
    presets = json.loads((ROOT / "CMakePresets.json").read_text())["configurePresets"]
    release = next(preset for preset in presets if preset["name"] == "release")
    assert release["cacheVariables"]["TRIREME_SBOM"] == "ON"
