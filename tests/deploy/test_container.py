"""deploy/container: what the image is made of."""
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest
from shipped import DEPLOY, ROOT, UID, free_port, run

CONTAINER = DEPLOY / "container"


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
