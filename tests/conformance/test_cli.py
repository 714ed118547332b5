"""The command line itself: prompts, sources of settings, help, inspect."""
import json
import os
import pty
import re
import socket
import subprocess

import pytest

import tiny_model


def run(binary, *arguments, env=None, **kwargs):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIREME_")}
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, timeout=120,
                          env={**clean, **(env or {})}, **kwargs)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Says the letter A, whatever the prompt."""
    return tiny_model.write(tmp_path_factory.mktemp("model") / "tiny", {"temperature": 0.0},
                            lambda token: 5.0 if token == ord("A") else 0.0)


# ---- generate


def test_prompt_comes_from_standard_input(binary, tiny):
    for arguments in ((), ("-p", "-")):
        result = run(binary, "generate", tiny, "--raw", "--max-tokens", 3, "--json", *arguments, input=b"four\n")
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert (answer["text"], answer["prompt_tokens"]) == ("AAA", 4)  # less the final line break


def test_prompt_of_the_command_line_wins_over_standard_input(binary, tiny):
    result = run(binary, "generate", tiny, "--raw", "-p", "xy", "--max-tokens", 1, "--json", input=b"not this")
    assert json.loads(result.stdout)["prompt_tokens"] == 2


def test_empty_standard_input_is_an_error(binary, tiny):
    for text in (b"", b"\n"):
        result = run(binary, "generate", tiny, input=text)
        assert result.returncode == 1 and b"standard input is empty" in result.stderr


def test_empty_prompt_is_an_error(binary, tiny):
    result = run(binary, "generate", tiny, "-p", "", input=b"not this")
    assert result.returncode == 1 and b"-p is empty" in result.stderr


def test_system_message_without_chat_template_is_refused(binary, tiny):
    result = run(binary, "generate", tiny, "--raw", "--system", "Be brief.", "-p", "x")
    assert result.returncode == 2 and b"--system" in result.stderr


def test_without_a_prompt_a_terminal_is_not_waited_for(binary, tiny):
    master, terminal = pty.openpty()
    try:
        result = run(binary, "generate", tiny, stdin=terminal)
    finally:
        os.close(master)
        os.close(terminal)
    assert result.returncode == 1 and b"-p TEXT" in result.stderr


# ---- Sources of settings


def test_model_comes_from_environment_or_file(binary, tiny, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {tiny}\nraw: true\nprompt: abc\nmax-tokens: 2\njson: true\nhttp-port: 1\n")
    for arguments, env in ((("--config", config), {}), ((), {"TRIREME_CONFIG": str(config)}),
                           ((), {"TRIREME_MODEL": str(tiny), "TRIREME_RAW": "1", "TRIREME_PROMPT": "abc",
                                 "TRIREME_MAX_TOKENS": "2", "TRIREME_JSON": "true"})):
        result = run(binary, "generate", *arguments, env=env, stdin=subprocess.DEVNULL)
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert (answer["prompt_tokens"], answer["completion_tokens"]) == (3, 2)


def test_mistakes_name_their_source(binary, tiny, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("max-tokns: 5\n")
    result = run(binary, "generate", tiny, "--config", config, "-p", "x")
    assert result.returncode == 2
    assert str(config).encode() in result.stderr and b'did you mean "max-tokens"' in result.stderr
    result = run(binary, "inspect", tiny, env={"TRIREME_BLOCK_SIZE": "5"})
    assert result.returncode == 2 and b"TRIREME_BLOCK_SIZE" in result.stderr


def test_misspelt_variable_is_warned_of(binary, tiny):
    env = {"TRIREME_BLOK_SIZE": "8", "TRIREME_TEST_MODEL": "x"}
    result = run(binary, "inspect", tiny, "--bandwidth", 10, env=env)
    assert result.returncode == 0
    assert b"TRIREME_BLOK_SIZE" in result.stderr and b"TRIREME_BLOCK_SIZE" in result.stderr
    assert b"TRIREME_TEST_MODEL" not in result.stderr


@pytest.mark.parametrize("command, own, other", [("serve", "TRIREME_HTTP_PORT", "TRIREME_PROMPT"),
                                                 ("generate", "TRIREME_PROMPT", "TRIREME_HTTP_PORT"),
                                                 ("inspect", "TRIREME_BANDWIDTH", "TRIREME_PROMPT"),
                                                 ("bench", "TRIREME_TARGET", "TRIREME_HTTP_PORT"),
                                                 ("doctor", "TRIREME_HTTP_PORT", "TRIREME_PROMPT"),
                                                 ("pull", "TRIREME_REVISION", "TRIREME_HTTP_PORT")])
def test_help_of_each_command_teaches_its_settings(binary, command, own, other):
    result = run(binary, command, "--help")
    shown = result.stdout.decode().split("Every setting")[0]
    assert result.returncode == 0 and own in shown and other not in shown
    assert b"Examples:" in result.stdout and b"--config" in result.stdout


# ---- inspect


def test_inspect_predicts(binary, tiny):
    result = run(binary, "inspect", tiny, "--json", "--bandwidth", 10, "--kv-cache-memory", "1MiB")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    token = 2 * 2 * 16 * 4  # K and V, two heads of 16, F32 as the weights are
    assert plan["kv_bytes_per_token"] == token
    assert plan["kv_cache_from"] == "--kv-cache-memory"
    assert plan["kv_blocks"] == (1 << 20) // (16 * token) and plan["kv_tokens"] == 16 * plan["kv_blocks"]
    row = tiny_model.HIDDEN * 4
    assert plan["decode_bytes_per_token"] == plan["weight_bytes"] - (tiny_model.VOCAB - 1) * row
    full = plan["decode_bytes_per_token"] + 256 * token
    assert plan["decode_bytes_per_token_at_full_context"] == full
    assert plan["bandwidth_from"] == "--bandwidth"
    assert plan["ceiling_tokens_per_s"] == pytest.approx(1e10 / plan["decode_bytes_per_token"], rel=1e-6)
    assert plan["ceiling_tokens_per_s_at_full_context"] == pytest.approx(1e10 / full, rel=1e-6)


def test_inspect_sizes_activations_as_serve_does(binary, tiny):
    def plan(*flags):
        return json.loads(run(binary, "inspect", tiny, "--json", "--bandwidth", 10, *flags).stdout)
    default = plan()
    assert plan("--max-step-tokens", 256)["activation_bytes"] < default["activation_bytes"]
    assert plan("--max-running", 1)["activation_bytes"] < default["activation_bytes"]
    assert plan("--max-running", 64)["activation_bytes"] == default["activation_bytes"]  # 64 rows of logits at once
    assert plan()["kv_cache_from"] == "room for 32 full contexts"


def test_inspect_measures_the_bandwidth_and_says_so(binary, model):
    result = run(binary, "inspect", model, "--json")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["bandwidth_from"].startswith("measured") and plan["bandwidth_bytes_per_s"] > 1e8
    assert plan["kv_cache_from"].startswith(("room for 32", "half of free memory")) and plan["kv_blocks"] > 2
    text = run(binary, "inspect", model, "--bandwidth", "50").stdout.decode()
    assert "ceiling_tokens_per_s:" in text and "kv_bytes_per_token:" in text


def test_inspect_checks_the_tensors(binary, tiny, tmp_path):
    broken = tiny_model.write(tmp_path / "broken")
    config = {**tiny_model.CONFIG, "intermediate_size": 64}
    (broken / "config.json").write_text(json.dumps(config))
    result = run(binary, "inspect", broken, "--bandwidth", 10)
    assert result.returncode == 1
    assert str(broken).encode() in result.stderr and b"gate_proj.weight is [32, 32]" in result.stderr
    truncated = tiny_model.write(tmp_path / "truncated")
    weights = truncated / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    result = run(binary, "inspect", truncated)
    assert result.returncode == 1 and str(weights).encode() in result.stderr


# ---- serve


def test_banner_brackets_an_ipv6_address(binary, tiny):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with subprocess.Popen([binary, "serve", tiny, "--host", "::1", "--http-port", "0", "--grpc-port", "0"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                server.terminate()
    assert server.returncode == 0
    assert re.search(r"ready at http://\[::1\]:\d+/v1, gRPC at \[::1\]:\d+$", "".join(lines), re.M)
