"""`trireme bench` against the real server: both doors, every loop, what it reports and what it counts as an error."""
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import time
import xml.etree.ElementTree as tree
import zlib

import pytest

import conftest
import tiny_model

SMALL = ("--prompt-tokens", "40", "--output-tokens", "8")


def run(binary, *arguments, env=None, **kwargs):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TRIREME_")}
    return subprocess.run([binary, "bench", *map(str, arguments)], capture_output=True, timeout=180, text=True,
                          env={**clean, **(env or {})}, **kwargs)


def report(binary, *arguments, expect=0, **kwargs):
    result = run(binary, *arguments, "--json", "-", **kwargs)
    assert result.returncode == expect, result.stderr + result.stdout
    assert result.stderr == "" or "--ramp" in arguments  # no terminal: no progress
    return json.loads(result.stdout)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Tiny, whatever the other tests serve: what is measured here is the load generator."""
    return str(tiny_model.write_random(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="session")
def server(binary, model):
    running = conftest.Server(binary, model, "--threads", "1")
    yield running
    running.wait_idle()
    running.stop()


def targets(server):
    return {"http": server.base, "grpc": f"grpc://127.0.0.1:{server.grpc_port}"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_answers(server, before):
    """Until a bench has had its two probes answered, and several requests of its run. `before`: finished without it."""
    deadline = time.monotonic() + 60
    while server.metric("trireme_requests_finished_total") < before + 8:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_latency(numbers):
    assert 0 < numbers["p50"] <= numbers["p90"] <= numbers["p99"] <= numbers["max"]
    assert 0 < numbers["mean"] <= numbers["max"]


# ---- Loops


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_closed_loop_reports_every_request(binary, server, protocol, endpoint):
    result = report(binary, "--target", targets(server)[protocol], "--endpoint", endpoint, "--concurrency", 3,
                    "--requests", 12, "--warmup", 2, *SMALL)
    assert (result["protocol"], result["model"], result["trireme_bench"]) == (protocol, "demo", 1)
    level, = result["levels"]
    assert level["load"] == {"mode": "closed", "concurrency": 3}
    assert level["requests"] == {"total": 12, "completed": 12, "failed": 0, "within_slo": 12, "resent": 0}
    assert level["tokens_out"] == 12 * 8 and level["tokens_from"] == "usage"
    assert 1 <= level["token_events"] <= 12 * 8 == level["tokens_out"]
    assert level["token_events"] == sum(level["token_events_by_second"])
    assert level["requests_per_s"] == pytest.approx(12 / level["duration_s"], rel=1e-4)
    assert level["tokens_out_per_s"] == pytest.approx(96 / level["duration_s"], rel=1e-4)
    assert level["e2e_ms"]["count"] == 12 and level["errors"] == {}
    check_latency(level["ttft_ms"])
    check_latency(level["e2e_ms"])
    assert level["client"]["cpu_s_per_1000_token_events"] > 0
    server.wait_idle()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_open_loop_sends_at_its_rate(binary, server, protocol, arrivals):
    level, = report(binary, "--target", targets(server)[protocol], "--rate", 20, "--arrivals", arrivals, "--requests", 20,
                    *SMALL, "--slo", "ttft=60s,itl=60s,e2e=120s")["levels"]
    assert (level["load"]["mode"], level["load"]["rate"], level["load"]["arrivals"]) == ("open", 20, arrivals)
    assert level["requests"]["within_slo"] == 20 and level["slo_met_share"] == 1
    if arrivals == "constant":
        # The last of 20 is due after 19 twentieths of a second, by the schedule, and its answer ends after that.
        assert level["duration_s"] > 19 / 20


def test_made_up_prompts_have_the_tokens_that_were_asked_for(binary, server):
    for protocol, target in targets(server).items():
        level, = report(binary, "--target", target, "--requests", 10, "--prompt-tokens", 100,
                        "--output-tokens", 1)["levels"]
        assert 90 * 10 <= level["tokens_in"] <= 110 * 10, protocol


def test_shared_prefixes_are_found_in_the_cache(binary, server):
    level, = report(binary, "--target", server.base, "--requests", 10, "--prompt-tokens", 40, "--output-tokens", 1,
                    "--shared-prefix-share", 1, "--shared-prefix-tokens", 200)["levels"]
    assert level["tokens_in_cached"] >= 9 * 150


def test_equal_seeds_send_equal_requests(binary, server):
    def tokens(seed):
        level, = report(binary, "--target", server.base, "--requests", 6, "--seed", seed, "--prompt-tokens",
                        "uniform:20:200", "--output-tokens", "lognormal:6:0.5")["levels"]
        return level["tokens_in"], level["tokens_out"]
    assert tokens(1) == tokens(1) != tokens(2)


def test_ramp_names_its_knee(binary, server):
    result = report(binary, "--target", server.base, "--ramp", "--requests", 4, *SMALL)
    levels = [level["load"]["concurrency"] for level in result["levels"]]
    highest = levels.index(max(levels))
    assert levels[:highest + 1] == [2 ** i for i in range(highest + 1)]
    knee = result["knee"]["concurrency"]  # found between the two highest of these
    assert knee in levels and all(max(levels) / 2 <= level <= max(levels) for level in levels[highest:] + [knee])
    assert "goodput" in result["knee"]["reason"]
    broken = report(binary, "--target", server.base, "--ramp", "--rate", 5, "--ramp-step", 5, "--requests", 4, *SMALL,
                    "--slo", "ttft=1us")
    assert len(broken["levels"]) == 1 and broken["knee"]["rate"] is None
    assert "SLO" in broken["knee"]["reason"]


# ---- Datasets


def test_datasets_of_every_form(binary, server, tmp_path):
    lines = [{"prompt": "Hello there", "output_tokens": 3},
             {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
             {"conversations": [{"from": "human", "value": "How are you?"}, {"from": "gpt", "value": "Fine"}]},
             {"conversations": [{"from": "gpt", "value": "nothing asked"}]}]
    dataset = tmp_path / "prompts.jsonl"
    dataset.write_text("\n".join(map(json.dumps, lines)) + "\n")
    result = report(binary, "--target", server.base, "--dataset", dataset, "--requests", 3)
    assert result["workload"]["dataset_prompts"] == 3 and result["workload"]["dataset_skipped"] == 1
    assert result["levels"][0]["tokens_out"] == 3 + 128 + 128
    text = tmp_path / "prompts.txt"
    text.write_text("one\ntwo\n")
    level, = report(binary, "--target", targets(server)["grpc"], "--dataset", text, "--requests", 4, "--output-tokens",
                    2)["levels"]
    assert level["tokens_out"] == 8


def test_a_broken_dataset_is_named(binary, server, tmp_path):
    dataset = tmp_path / "prompts.jsonl"
    dataset.write_text('{"prompt": "fine"}\n{"prompt": \n')
    result = run(binary, "--target", server.base, "--dataset", dataset)
    assert result.returncode == 1 and f"{dataset}: line 2: no JSON" in result.stderr


# ---- Reports


def test_plots_are_pictures(binary, server, tmp_path):
    svg, png, report_file = tmp_path / "run.svg", tmp_path / "ramp.png", tmp_path / "report.json"
    common = ("--target", server.base, "--requests", 4, *SMALL)
    result = run(binary, *common, "--plot", svg, "--json", report_file)
    assert result.returncode == 0 and "TTFT" in result.stdout, result.stderr
    assert json.loads(report_file.read_text())["levels"][0]["requests"]["completed"] == 4
    root = tree.parse(svg).getroot()
    assert root.tag.endswith("svg") and len(root.findall(".//{*}polyline")) > 4
    assert run(binary, *common, "--ramp", "--plot", png).returncode == 0
    data = png.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    size, = struct.unpack(">I", data[33:37])
    assert len(zlib.decompress(data[41:41 + size])) == height * (1 + 3 * width)


def test_progress_shows_on_a_terminal_only(binary, server):
    master, terminal = pty.openpty()
    process = subprocess.Popen([binary, "bench", "--target", server.base, "--rate", "5", "--duration", "1500ms", *SMALL],
                               stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    assert process.wait(60) == 0
    shown = os.read(master, 65536).decode()
    os.close(master)
    assert "in flight" in shown and "tokens/s" in shown


def test_a_report_that_cannot_be_written_is_an_error(binary, server, tmp_path):
    result = run(binary, "--target", server.base, "--requests", 1, *SMALL, "--json", tmp_path / "no" / "report.json")
    assert result.returncode == 1 and "report.json: No such file" in result.stderr


# ---- Errors


def test_an_absent_server_is_said_at_once(binary):
    for scheme in ("http", "grpc"):
        result = run(binary, "--target", f"{scheme}://127.0.0.1:{free_port()}")
        assert result.returncode == 1 and "connect" in result.stderr, result.stderr


def test_connections_that_fail_are_counted(binary, tmp_path):
    dataset = tmp_path / "prompts.txt"
    dataset.write_text("one\n")
    level, = report(binary, "--target", f"http://127.0.0.1:{free_port()}", "--model-name", "demo", "--dataset", dataset,
                    "--requests", 5, expect=1)["levels"]
    assert level["errors"] == {"connect": 5} and level["requests"]["completed"] == 0
    assert "refused" in level["error_examples"]["connect"]


def test_a_full_server_is_counted_by_status(binary, start_server):
    full = start_server("--max-running", "1", "--max-waiting", "1", "--threads", "1")
    for protocol, kind in (("http", "http_429"), ("grpc", "grpc_RESOURCE_EXHAUSTED")):
        level, = report(binary, "--target", targets(full)[protocol], "--concurrency", 16, "--requests", 64,
                        "--prompt-tokens", 40, "--output-tokens", 100)["levels"]
        assert set(level["errors"]) == {kind} and level["requests"]["completed"] > 0
        assert level["errors"][kind] == level["requests"]["failed"] > 0
        assert level["slo_met_share"] < 1
    full.wait_idle()
    full.stop()


def test_keys_are_sent_and_their_absence_is_an_error(binary, start_server, tmp_path):
    keys = tmp_path / "keys.txt"
    keys.write_text("sesame-0123456789abcdef\n")
    keys.chmod(0o600)
    guarded = start_server("--api-keys", str(keys))
    for protocol, target in targets(guarded).items():
        refused = run(binary, "--target", target, "--requests", 1, *SMALL)
        assert refused.returncode == 1
        assert ("http_401" if protocol == "http" else "grpc_UNAUTHENTICATED") in refused.stderr
        report(binary, "--target", target, "--requests", 1, *SMALL, env={"TRIREME_API_KEY": "sesame-0123456789abcdef"})
    guarded.stop()


def test_tls_targets(binary, start_server, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    key.chmod(0o600)
    secure = start_server("--tls-cert", str(cert), "--tls-key", str(key))
    # An address for gRPC: the packaged c-ares leaks ten bytes on a name, which LeakSanitizer calls an error.
    for target in (f"https://localhost:{secure.http_port}", f"grpcs://127.0.0.1:{secure.grpc_port}"):
        level, = report(binary, "--target", target, "--ca-file", cert, "--concurrency", 2, "--requests", 4,
                        *SMALL)["levels"]
        assert level["requests"]["completed"] == 4
        assert run(binary, "--target", target, "--requests", 1).returncode == 1  # nobody vouches for it
    secure.stop()


def test_requests_that_take_too_long_are_timeouts(binary, server):
    for target in targets(server).values():
        level, = report(binary, "--target", target, "--model-name", "demo", "--prompt-tokens", 40, "--output-tokens",
                        "1500", "--requests", 2, "--concurrency", 2, "--timeout", "30ms",
                        expect=1)["levels"]
        assert level["errors"] == {"timeout": 2}
    server.wait_idle()


def test_a_server_that_goes_away_is_counted_and_the_run_ends(binary, start_server):
    for protocol in ("http", "grpc"):
        doomed = start_server("--threads", "1")
        process = subprocess.Popen([binary, "bench", "--target", targets(doomed)[protocol], "--rate", "50",
                                    "--duration", "4s", "--json", "-", *SMALL],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_answers(doomed, before=0)
        doomed.process.kill()
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err  # some requests succeeded
        level, = json.loads(out)["levels"]
        assert level["errors"]["connect"] > 0
        assert level["requests"]["total"] == level["requests"]["completed"] + sum(level["errors"].values())


def test_interrupt_reports_what_was_measured(binary, server):
    for target in targets(server).values():
        before = server.metric("trireme_requests_finished_total")
        process = subprocess.Popen([binary, "bench", "--target", target, "--concurrency", "2", "--duration", "10m",
                                    "--json", "-", *SMALL], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_for_answers(server, before)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, err
        result = json.loads(out)
        assert result["interrupted"] and result["levels"][0]["requests"]["completed"] > 0
    server.wait_idle()


def test_wrong_usage_is_refused_before_anything_is_sent(binary):
    for arguments, said in (((), "--target is missing"),
                            (("--target", "x"), "--target"),
                            (("--target", "http://h", "--rate", "1", "--concurrency", "2"), "--rate"),
                            (("--target", "http://h", "--slo", "p99=1s"), "--slo"),
                            (("--target", "http://h", "--plot", "x.gif"), "--plot")):
        result = run(binary, *arguments)
        assert result.returncode == 2 and said in result.stderr
