"""Priority: who goes before whom, who may ask for it, and that no tenant starves another with it."""
import contextlib
import datetime
import http.client
import json
import threading
import time

import pytest

from doors import Doors, call, post
from rule_p import CANARY
from test_observe import eventually

KEYS = {"alice": "key-of-alice", "bob": "key-of-bob", "ops": "key-of-ops"}
KEY_FILE = f"{KEYS['alice']} team-a\n{KEYS['bob']} team-b\n{KEYS['ops']} ops priority\n"
DEADLINE_S = 120


def headers(who):
    return {"authorization": f"Bearer {KEYS[who]}"}


def metadata(who):
    return tuple(headers(who).items())


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(KEY_FILE)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def shared(guard_server, key_file):
    """A node of several tenants that runs two requests at a time; witnesses are the operators'."""
    return guard_server("--api-keys", str(key_file), "--max-running", "2", key=KEYS["ops"])


def asked(rule_p, who, priority):
    """The verdicts of all three doors of generation."""
    fields = {"model": "demo", "prompt": CANARY, "max_tokens": 1, "priority": priority}
    chat = {"model": "demo", "messages": [{"role": "user", "content": CANARY}], "max_tokens": 1, "priority": priority}
    request = rule_p.pb.GenerateRequest(prompt=CANARY, max_tokens=1, priority=priority)
    return [post(rule_p.server, "/v1/completions", fields, headers=headers(who)),
            post(rule_p.server, "/v1/chat/completions", chat, headers=headers(who)),
            call(rule_p.stub.Generate, request, metadata(who))]


@pytest.mark.parametrize("who, priority, status", [
    ("bob", -1, 403), ("bob", -1000, 403), ("bob", 0, 200), ("bob", 1, 200), ("bob", 1000, 200),
    ("ops", -1, 200), ("ops", -1000, 200), ("ops", -1001, 400), ("bob", -1001, 400), ("bob", 1001, 400),
], ids=str)
def test_only_a_key_with_the_right_goes_before_others(shared, who, priority, status):
    with shared.holds(http=2, grpc=1):
        verdicts = asked(shared, who, priority)
    for verdict in verdicts:
        assert verdict.status == status, verdict
        if status == 403:
            assert (verdict.param, verdict.code) == ("priority", "priority_not_allowed")
            assert "key file" in verdict.message and "0, the default" in verdict.message
        elif status == 400:
            code = "integer_below_min_value" if priority < 0 else "integer_above_max_value"
            assert (verdict.param, verdict.code) == ("priority", code)


def test_without_keys_nobody_goes_before_others(rule_p):
    """All strangers are one tenant then."""
    doors = Doors(rule_p)
    with rule_p.holds(http=4, grpc=2):
        for door in doors.NAMES:
            verdict = doors.send(door, priority=-1)
            assert (verdict.status, verdict.param, verdict.code) == (403, "priority", "priority_not_allowed")
            assert doors.send(door, priority=1).status == 200


def test_the_right_is_given_and_taken_without_a_restart(shared, key_file):
    def status(who):
        return asked(shared, who, -1)[0].status

    def until(who, wanted):
        deadline = time.monotonic() + DEADLINE_S
        while status(who) != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    with shared.holds(http=None, grpc=None):
        key_file.write_text(KEY_FILE.replace("team-b", "team-b priority").replace("ops priority", "ops"))
        until("bob", 200)
        assert (status("ops"), status("alice")) == (403, 403)
        key_file.write_text(KEY_FILE)
        until("bob", 403)
        assert status("ops") == 200


class Stream:
    """One streamed completion of a tenant."""

    def __init__(self, rule_p, who, **fields):
        self.connection = http.client.HTTPConnection("127.0.0.1", rule_p.server.http_port, timeout=DEADLINE_S)
        body = {"model": "demo", "prompt": "x", "ignore_eos": True, "stream": True, **fields}
        self.connection.request("POST", "/v1/completions", json.dumps(body),
                                {"content-type": "application/json", **headers(who)})
        self.answer = self.connection.getresponse()
        self.status = self.answer.status

    def read(self):
        with contextlib.closing(self.connection):
            return self.answer.read()


def test_a_flood_of_one_tenant_does_not_stop_anothers_stream(shared):
    """Bob keeps every slot that he can get busy until Alice is served, and asks for priority all the time."""
    served = threading.Event()
    seen, failures = set(), []

    def flood(priority):
        with contextlib.suppress(ConnectionError):
            while not served.is_set():
                stream = Stream(shared, "bob", max_tokens=100, priority=priority)
                seen.add((priority, stream.status))
                stream.read()

    def alice():
        try:
            for _ in range(3):
                answer = Stream(shared, "alice", max_tokens=400).read()
                assert answer.endswith(b"data: [DONE]\n\n"), answer[-500:]
        except BaseException as error:
            failures.append(error)
        finally:
            served.set()

    with shared.holds(http=None, grpc=None, witnessed=False):
        threads = [threading.Thread(target=flood, args=(priority,)) for priority in [0] * 6 + [-1000] * 2]
        for thread in threads:
            thread.start()
        waiter = threading.Thread(target=alice)
        waiter.start()
        served.wait(DEADLINE_S)
        in_time = served.is_set()
        served.set()
        for thread in [*threads, waiter]:
            thread.join()
    assert in_time and not failures, failures
    assert seen == {(0, 200), (-1000, 403)}


def test_a_running_stream_is_not_pushed_out_by_anothers_requests(shared):
    before = shared.scrape().sum("trireme_preemptions_total")
    with shared.holds(http=7, grpc=0):
        mine = Stream(shared, "alice", max_tokens=600)
        assert mine.answer.readline().startswith(b"data: ")
        others = [Stream(shared, "bob", max_tokens=50) for _ in range(5)]
        assert Stream(shared, "bob", max_tokens=50, priority=-5).status == 403
        assert mine.read().endswith(b"data: [DONE]\n\n")
        for other in others:
            other.read()
    assert shared.scrape().sum("trireme_preemptions_total") == before


def test_a_lower_number_is_served_first_through_both_doors(guard_server, key_file, tmp_path):
    """By the server's clock: a client's threads may see the answers in another order. Each length is one priority's."""
    log = tmp_path / "access.log"
    narrow = guard_server("--api-keys", str(key_file), "--max-running", "1", "--access-log", str(log), key=KEYS["ops"])

    def over_http(priority):
        Stream(narrow, "ops", max_tokens=300 + priority, priority=priority).read()

    def over_grpc(priority):
        request = narrow.pb.GenerateRequest(prompt="x", max_tokens=300 + priority, ignore_eos=True, priority=priority)
        list(narrow.stub.Generate(request, metadata=metadata("ops"), timeout=DEADLINE_S))

    with narrow.holds(http=None, grpc=None, witnessed=False):
        first = narrow.stub.Generate(narrow.pb.GenerateRequest(prompt="x", max_tokens=1900, ignore_eos=True, priority=-100),
                                     metadata=metadata("ops"), timeout=DEADLINE_S)
        next(first)
        threads = []
        for door, priority in ((over_http, 7), (over_grpc, 3), (over_http, -2), (over_grpc, -6), (over_http, 0)):
            threads.append(threading.Thread(target=door, args=(priority,)))
            threads[-1].start()
            deadline = time.monotonic() + DEADLINE_S
            while narrow.scrape().sum("trireme_requests_waiting") < len(threads):
                assert time.monotonic() < deadline
                time.sleep(0.005)
        first.cancel()
        for thread in threads:
            thread.join()

    def order():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        began = {line["completion_tokens"] - 300: datetime.datetime.fromisoformat(line["time"])
                 + datetime.timedelta(milliseconds=line["ttft_ms"]) for line in lines
                 if line.get("finish_reason") == "length" and line["completion_tokens"] > 250}
        return len(began) == 5 and sorted(began, key=began.get)

    assert eventually(order) == [-6, -2, 0, 3, 7]


def test_an_answer_tells_the_room_in_the_queue(shared):
    """In the headers that OpenAI's clients read; a refusal of what was asked has them, too."""
    def room():
        verdict = post(shared.server, "/v1/completions", {"model": "demo", "prompt": "x", "n": 0}, headers=headers("bob"))
        assert verdict.status == 400
        names = [f"x-ratelimit-{part}-{what}" for what in ("requests", "tokens") for part in ("limit", "remaining", "reset")]
        return [verdict.headers[name] for name in names]

    with shared.holds(http=None, grpc=None, witnessed=False):
        limit, remaining, reset, token_limit, tokens_remaining, token_reset = room()
        assert (remaining, tokens_remaining, reset, token_reset) == (limit, token_limit, "0ms", "0ms")
        body = json.dumps({"model": "demo", "prompt": [5] * 7, "ignore_eos": True, "stream": True, "max_tokens": 1900})
        waiting = []
        for _ in range(3):  # two run
            connection = http.client.HTTPConnection("127.0.0.1", shared.server.http_port, timeout=DEADLINE_S)
            connection.request("POST", "/v1/completions", body, {"content-type": "application/json", **headers("alice")})
            waiting.append(connection)
        deadline = time.monotonic() + DEADLINE_S
        while shared.scrape().sum("trireme_requests_waiting") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        seen = room()
        assert [int(limit) - int(seen[1]), int(token_limit) - int(seen[4])] == [1, 7]
        assert seen[2] == seen[5] == "1000ms"
        for connection in waiting:
            connection.close()
