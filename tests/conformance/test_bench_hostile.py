"""`trireme bench` against servers that answer as none should, and against limits of the machine it runs on."""
import json

import pytest

import conftest
import tiny_model
from hostile_server import HostileHttp, hostile_grpc
from test_bench import SMALL, free_port, report, run


@pytest.fixture(scope="module")
def hostile():
    with HostileHttp() as server:
        yield server


@pytest.fixture
def prompts(tmp_path):
    """A dataset needs no probes, which would fail before the run."""
    dataset = tmp_path / "prompts.txt"
    dataset.write_text("one\ntwo\n")
    return ("--dataset", dataset, "--output-tokens", 4)


@pytest.mark.parametrize("mode, kind, said", [
    ("garbage", "protocol", "no JSON"),
    ("no-finish", "protocol", "ended before"),
    ("no-stream", "protocol", "no event stream"),
    ("endless-line", "protocol", "longer than"),
    ("endless-event", "protocol", "longer than"),
    ("endless-answer", "protocol", "more than 128 events"),
    ("head", "protocol", ""),
    ("html", "http_500", "<html>"),
    ("redirect", "http_302", ""),
    ("dies", "closed", ""),
    ("dies-inside", "closed", ""),
])
def test_a_hostile_answer_is_counted_by_kind(binary, hostile, prompts, mode, kind, said):
    # The default timeout is longer than a test may take: the verdict must end the request.
    level, = report(binary, "--target", hostile.target(mode), "--requests", 3, *prompts, expect=1)["levels"]
    assert level["errors"] == {kind: 3}
    assert said in level["error_examples"][kind] and "\x1b" not in level["error_examples"][kind]
    assert level["requests"] == {"total": 3, "completed": 0, "failed": 3, "within_slo": 0, "resent": 0}


@pytest.mark.parametrize("mode", ["fine", "twice", "cased"])
def test_an_odd_answer_is_an_answer(binary, hostile, prompts, mode):
    level, = report(binary, "--target", hostile.target(mode), "--requests", 6, *prompts)["levels"]
    assert level["requests"]["completed"] == 6 and level["token_events"] == 6


def test_requests_that_met_a_closing_connection_are_counted(binary, hostile, prompts):
    level, = report(binary, "--target", hostile.target("drops-used"), "--requests", 6, *prompts)["levels"]
    assert level["requests"]["completed"] == 6 and level["errors"] == {}
    assert level["requests"]["resent"] == hostile.asked["drops-used"] - 6 >= 5
    text = run(binary, "--target", hostile.target("drops-used"), "--requests", 6, *prompts)
    assert "resent: " in text.stdout


def test_an_early_refusal_is_read(binary, hostile, tmp_path):
    big = tmp_path / "big.txt"
    big.write_text("x" * (3 << 20) + "\n")
    level, = report(binary, "--target", hostile.target("early-refusal"), "--requests", 10, "--dataset", big, expect=1)["levels"]
    assert level["errors"] == {"http_413": 10} and level["error_examples"]["http_413"] == "too big"


def test_a_silent_target_is_given_up_before_the_timeout_of_requests(binary, hostile):
    result = run(binary, "--target", hostile.target("silent"))  # which is 5 minutes
    assert result.returncode == 1 and "timeout" in result.stderr


def test_token_events_are_messages_with_text_at_both_doors(binary, hostile, prompts, stubs):
    with hostile_grpc(stubs, endless=False) as port:
        for target in (hostile.target("three"), f"grpc://127.0.0.1:{port}"):
            level, = report(binary, "--target", target, "--requests", 4, *prompts)["levels"]
            assert level["token_events"] == 12 and level["itl_ms"]["count"] == 8, target


def test_an_endless_answer_over_grpc_is_ended(binary, prompts, stubs):
    with hostile_grpc(stubs, endless=True) as port:
        level, = report(binary, "--target", f"grpc://127.0.0.1:{port}", "--requests", 2, *prompts, expect=1)["levels"]
    assert level["errors"] == {"protocol": 2} and "more than 128 events" in level["error_examples"]["protocol"]


# ---- Open loops


def test_rates_are_of_the_whole_time_of_sending(binary, hostile, prompts):
    level, = report(binary, "--target", hostile.target("fine"), "--rate", 10, "--arrivals", "constant", "--duration", "450ms",
                    *prompts)["levels"]
    assert level["requests"]["completed"] == 5  # at 0, 0.1, 0.2, 0.3 and 0.4 s
    assert level["duration_s"] >= 0.45 and level["requests_per_s"] <= 5 / 0.45


def test_duration_ends_the_sending_of_what_waits(binary, hostile, prompts):
    before = hostile.asked["never"]
    level, = report(binary, "--target", hostile.target("never"), "--rate", 100, "--arrivals", "constant", "--max-in-flight", 2,
                    "--duration", "300ms", "--timeout", "2s", *prompts, expect=1)["levels"]
    assert level["errors"] == {"not_sent": 28, "timeout": 2} and hostile.asked["never"] == before + 2
    assert "2 were in flight" in level["error_examples"]["not_sent"]
    assert 275 < level["client"]["slot_wait_ms"]["max"] < 285  # the third was due after 20 of 300 ms
    assert level["client"]["send_lag_ms"]["count"] == 2


# ---- The machine


def test_the_soft_limit_of_descriptors_is_raised(binary, hostile, prompts, tmp_path):
    level, = report(conftest.under(tmp_path, binary, "prlimit", "--nofile=40:200"), "--target", hostile.target("fine"),
                    "--concurrency", 100, "--requests", 200, *prompts)["levels"]
    assert level["requests"]["completed"] == 200


@pytest.mark.parametrize("load", [("--concurrency", "100"), ("--rate", "1", "--max-in-flight", "100")])
def test_more_than_the_hard_limit_is_refused_before_anything_is_sent(binary, load, tmp_path):
    limited = conftest.under(tmp_path, binary, "prlimit", "--nofile=100:150")
    result = run(limited, "--target", f"http://127.0.0.1:{free_port()}", *load)
    assert result.returncode == 2 and f"{load[-2]} 100" in result.stderr and "limit of this process is 150" in result.stderr


def test_a_report_that_cannot_be_written_is_said_before_the_run(binary, tmp_path):
    for flag, name in (("--json", "report.json"), ("--plot", "plot.svg")):
        result = run(binary, "--target", f"http://127.0.0.1:{free_port()}", flag, tmp_path / "no" / name)
        assert result.returncode == 1 and f"{name}: No such file" in result.stderr
    kept = tmp_path / "kept.json"
    kept.write_text("of an earlier run")
    assert run(binary, "--target", f"http://127.0.0.1:{free_port()}", "--json", kept).returncode == 1
    assert kept.read_text() == "of an earlier run"


# ---- Workloads


def test_a_server_with_a_small_context_is_measured(binary, tmp_path):
    model = str(tiny_model.write_random(tmp_path / "tiny"))
    server = conftest.Server(binary, model, "--threads", "1", "--max-context", "176")
    level, = report(binary, "--target", server.base, "--requests", 10, *SMALL)["levels"]
    assert level["requests"]["completed"] == 10
    server.stop()


def test_a_dataset_may_be_an_array_with_a_byte_order_mark(binary, hostile, tmp_path):
    dataset = tmp_path / "sharegpt.json"
    dataset.write_text(json.dumps([{"id": "1", "conversations": [{"from": "human", "value": "Hi"}]},
                                   {"id": "2", "conversations": [{"from": "gpt", "value": "unasked"}]}], indent=2), "utf-8-sig")
    result = report(binary, "--target", hostile.target("fine"), "--dataset", dataset, "--requests", 2)
    assert result["workload"]["dataset_prompts"] == result["workload"]["dataset_skipped"] == 1
