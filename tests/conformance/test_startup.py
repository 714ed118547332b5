"""What `serve` and `inspect` find out, and say, before a model is served: memory, sizes, addresses, files."""
import json
import os
import signal
import socket
import subprocess

import pytest

import tiny_model
from conftest import Server

MIB = 1 << 20


def run(binary, *arguments, **kwargs):
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=60, **kwargs)


def refusal(binary, *arguments):
    """What `serve` says when it does not start."""
    result = run(binary, "serve", *arguments)
    assert result.returncode == 1, (result.returncode, result.stderr[-2000:])
    return result.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny")


NO_MODEL = "/nonexistent.gguf"  # what is checked before the model is said, not that it is missing


# ---- Memory


@pytest.fixture(scope="module")
def long_context(tmp_path_factory):
    """A model whose 32 full contexts take 1 GiB."""
    config = {**tiny_model.CONFIG, "max_position_embeddings": 1 << 17}
    return tiny_model.write_directory(tmp_path_factory.mktemp("model") / "long", config,
                                      tiny_model.flat_tensors(lambda token: 0.0), None)


class ControlGroup:
    """Runs commands where the files below /sys/fs/cgroup are made up."""

    def __init__(self, folder, own_group, limits):
        files = [f"echo '{own_group}' >{folder}/own"]
        for path, text in limits.items():
            files.append(f"mkdir -p /sys/fs/cgroup{os.path.dirname(path)} && echo {text} >/sys/fs/cgroup{path}")
        self.script = " && ".join(["mount -t tmpfs none /sys/fs/cgroup", *files,
                                   f"mount --bind {folder}/own /proc/$$/cgroup", 'exec "$@"'])

    def __call__(self, *command):
        return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", self.script, "sh", *map(str, command)]


LIMITED = {
    "container": ("0::/", {"/memory.max": 64 * MIB, "/memory.current": 0}),
    "service": ("0::/system.slice/trireme.service", {"/system.slice/trireme.service/memory.max": 64 * MIB,
                                                     "/system.slice/trireme.service/memory.current": 0}),
    "v1": ("4:memory:/docker/0123", {"/memory/memory.limit_in_bytes": 64 * MIB}),
}


@pytest.fixture(params=LIMITED)
def limited(request, tmp_path):
    group = ControlGroup(tmp_path, *LIMITED[request.param])
    if subprocess.run(group("true"), capture_output=True).returncode != 0:
        pytest.skip("this machine lets nobody make namespaces")
    return group


def test_default_kv_cache_fits_what_the_control_group_leaves(binary, long_context, limited):
    command = limited(binary, "inspect", long_context, "--json", "--bandwidth", 1)
    plan = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert plan["kv_cache_from"].startswith("half of free memory") and plan["kv_cache_bytes"] <= 32 * MIB
    command = limited(binary, "serve", long_context, "--http-port", 0, "--grpc-port", -1, "--log-format", "json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        said = []
        for line in server.stderr:
            said.append(line)
            if '"serving"' in line:
                server.send_signal(signal.SIGTERM)
    assert server.returncode == 0, "".join(said)


# ---- Sizes


def test_a_device_that_is_not_there_is_said(binary, tiny):
    """A build without CUDA, or a machine without a GPU. (With both, tests/conformance/test_cuda.py has more to say.)"""
    said = refusal(binary, tiny, "--device", "cuda", "--http-port", "0", "--grpc-port", "0")
    assert "this build has no CUDA backend" in said or "no CUDA device" in said, said
    assert run(binary, "serve", tiny, "--device", "tpu").returncode == 2


def test_context_above_the_trained_one_is_refused(binary, tiny):
    for command in ("serve", "inspect"):
        result = run(binary, command, tiny, "--max-context", 257)
        assert result.returncode == 1
        assert "--max-context 257: the model was trained for contexts of 256 tokens" in result.stderr


def test_sizes_that_a_step_does_not_hold_are_warned_of_and_reported_as_they_are(binary, tiny, stubs):
    import grpc
    server = Server(binary, str(tiny), "--threads", "1", "--max-step-tokens", "8", "--max-running", "64",
                    "--max-prefill-chunk", "16")
    try:
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            info = stubs[1].InferenceStub(channel).GetServerInfo(stubs[0].GetServerInfoRequest(), timeout=30)
        assert info.max_running == 7  # one token of a step is left for a prefill
        cuts = [json.loads(line) for line in server.logs().splitlines() if "--max-step-tokens" in line]
        assert {(cut["setting"], cut["wanted"], cut["effective"]) for cut in cuts} == {
            ("--max-running", 64, 7), ("--max-prefill-chunk", 16, 8)}
    finally:
        server.stop()


# ---- Certificates and ports, before the model


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pems")
    for name in ("one", "other"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                        "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
                       check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-aes128", "-passout", "pass:word", "-in", folder / "one.key",
                    "-out", folder / "locked.key"], check=True, capture_output=True)
    (folder / "bad.pem").write_text("no certificate\n")
    return folder


@pytest.mark.parametrize("cert, key, words", [
    ("bad.pem", "one.key", "--tls-cert holds no PEM certificate"),
    ("one.pem", "bad.pem", "--tls-key holds no PEM private key"),
    ("one.pem", "locked.key", "--tls-key holds no PEM private key without a password"),
    ("one.pem", "other.key", "--tls-key does not belong to the certificate of --tls-cert"),
    ("none.pem", "one.key", "--tls-cert: cannot open"),
])
def test_wrong_certificates_are_refused_by_their_flag_before_the_model_loads(binary, pems, cert, key, words):
    said = refusal(binary, NO_MODEL, "--http-port", 0, "--grpc-port", 0, "--tls-cert", pems / cert, "--tls-key",
                   pems / key)
    assert words in said and NO_MODEL not in said


@pytest.mark.parametrize("flag, other", [("--http-port", "--grpc-port"), ("--grpc-port", "--http-port")])
def test_busy_port_is_refused_by_its_flag_before_the_model_loads(binary, flag, other):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refusal(binary, NO_MODEL, flag, taken.getsockname()[1], other, 0)
    assert f"(--host, {flag})" in said and "in use" in said and NO_MODEL not in said


# ---- Files


@pytest.mark.parametrize("flags", [["--chat-template", "{}"], ["--api-keys", "{}"], ["--config", "{}"],
                                   ["--tls-cert", "{}", "--tls-key", "{}"]])
@pytest.mark.parametrize("kind", ["device", "fifo"])
def test_what_never_ends_is_not_read(binary, tiny, tmp_path, flags, kind):
    path = tmp_path / "endless"
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    result = run("prlimit", f"--as={4 << 30}", binary, "serve", tiny, "--http-port", 0, "--grpc-port", -1,
                 *[flag.format(path) for flag in flags])
    assert result.returncode in (1, 2), result.stderr[-2000:]
    assert f"{flags[0]}: " in result.stderr and "is not a regular file" in result.stderr


def test_short_keys_are_warned_of_by_count_and_line(binary, tiny, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("# of the team\nshort-secret\n0123456789abcdef\n")
    keys.chmod(0o600)
    server = Server(binary, str(tiny), "--threads", "1", "--api-keys", str(keys))
    server.stop()
    warnings = [json.loads(line) for line in server.logs().splitlines() if "guessed" in line]
    assert [(warning["keys"], warning["first_line"]) for warning in warnings] == [(1, 2)]
    assert "short-secret" not in server.logs()


# ---- inspect refuses what serve refuses


@pytest.mark.parametrize("name, text, words", [
    ("generation_config.json", '{"temperature": 9}', "temperature"),
    ("chat_template.jinja", "{% if messages %}", "chat_template.jinja"),
    ("tokenizer.json", "{}", "tokenizer.json"),
])
def test_inspect_refuses_the_text_side_that_serve_refuses(binary, tmp_path, name, text, words):
    model = tiny_model.write(tmp_path / "model")
    (model / name).write_text(text)
    served = refusal(binary, model, "--http-port", 0, "--grpc-port", -1)
    result = run(binary, "inspect", model, "--bandwidth", 1)
    assert result.returncode == 1 and words in result.stderr and words in served
    if name.endswith(".jinja"):
        (tmp_path / "mine.jinja").write_text("{{ messages }}")
        assert run(binary, "inspect", model, "--bandwidth", 1, "--chat-template", tmp_path / "mine.jinja").returncode == 0
