"""trireme pull against a file server with faults."""
import contextlib
import copy
import hashlib
import json
import os
import pathlib
import pty
import re
import signal
import subprocess

import pytest

from conftest import under
from puller import (  # fixtures, too
    COMMIT, DEADLINE_S, MIB, authority, content, leftovers, puller, server, tls_server, wait_for)


@pytest.fixture
def https(tls_server, puller, authority):
    """A puller that trusts the server, and the URL of a file of 20 MiB."""
    puller.env["SSL_CERT_FILE"] = str(authority.ca)
    tls_server.files["/m/model.gguf"] = content(20 * MIB + 5)
    return tls_server, puller, tls_server.base + "/m/model.gguf"


def test_a_file_comes_in_ranges_over_parallel_connections(https):
    server, puller, url = https
    path = puller.pull(url)
    assert path == puller.cache / f"models/https/127.0.0.1:{server.port}/m/model.gguf"
    assert path.read_bytes() == server.files["/m/model.gguf"] and not leftovers(puller.cache)
    ranges = [fields["Range"] for _, fields in server.asked("/m/model.gguf")]
    assert len(ranges) >= 3 and len(set(ranges)) == len(ranges)
    asked = len(server.requests)
    assert puller.pull(url, "--sha256", hashlib.sha256(path.read_bytes()).hexdigest()) == path
    assert len(server.requests) == asked, "it is here already"


def test_tls_is_verified(https):
    _, puller, url = https
    del puller.env["SSL_CERT_FILE"]
    assert "certificate" in puller.fails(url) and not list(puller.cache.rglob("*.gguf"))


def test_checksum_decides(https):
    server, puller, url = https
    good = hashlib.sha256(server.files["/m/model.gguf"]).hexdigest()
    assert "damaged" in puller.fails(url, "--sha256", "0" * 64)
    assert not list(puller.cache.rglob("*.gguf"))
    assert puller.pull(url, "--sha256", good.upper()).exists()
    assert "hexadecimal" in puller.fails(url, "--sha256", "abc")


def test_a_killed_fetch_goes_on_where_it_was(https):
    server, puller, url = https
    server.stall_after = 3 * MIB
    process = puller.start("pull", url)
    state = pathlib.Path(f"{puller.cache}/models/https/127.0.0.1:{server.port}/m/model.gguf.part.json")

    def saved():
        return sum(json.loads(state.read_text())["written"]) if state.exists() else 0
    wait_for(lambda: saved() >= 9 * MIB, "progress on the disk")
    process.kill()
    process.communicate()
    kept = saved()
    server.stall_after = None
    server.resume.set()
    server.requests.clear()
    events = puller.events(url)
    assert pathlib.Path(events[-1]["path"]).read_bytes() == server.files["/m/model.gguf"]
    ranges = [fields["Range"].split("=")[1].split("-") for _, fields in server.asked("/m/model.gguf")]
    assert sum(int(last) + 1 - int(first) for first, last in ranges) == 20 * MIB + 5 - kept
    assert all("If-Range" in fields for _, fields in server.asked("/m/model.gguf"))
    assert events[-1]["fetched_bytes"] == 20 * MIB + 5 - kept
    assert not leftovers(puller.cache)


def test_a_file_that_changed_after_the_kill_is_started_over(https):
    server, puller, url = https
    server.stall_after = 3 * MIB
    process = puller.start("pull", url)
    wait_for(lambda: list(puller.cache.rglob("*.part.json")), "a state")
    process.kill()
    process.communicate()
    server.files["/m/model.gguf"] = content(20 * MIB + 5, seed=2)
    server.stall_after = None
    server.resume.set()
    assert puller.pull(url).read_bytes() == server.files["/m/model.gguf"]


def test_a_file_that_changes_meanwhile_is_started_over(https):
    server, puller, url = https
    asked = []

    def changing():
        asked.append(1)
        return content(20 * MIB + 5, seed=1 if len(asked) < 3 else 2)
    server.files["/m/model.gguf"] = changing
    events = puller.events(url, "--jobs", 1)
    assert [event["file"] for event in events if event["event"] == "restarted"] == ["model.gguf"]
    assert pathlib.Path(events[-1]["path"]).read_bytes() == content(20 * MIB + 5, seed=2)


def test_a_file_that_never_stays_the_same_is_given_up(https):
    server, puller, url = https
    asked = []

    def changing():
        asked.append(1)
        return content(20 * MIB, seed=len(asked))
    server.files["/m/model.gguf"] = changing
    assert "again and again" in puller.fails(url, "--jobs", 1)


def test_weak_and_missing_validators_do(https):
    server, puller, url = https
    for tag in ('W/"1"', None):
        server.etags["/m/model.gguf"] = tag
        path = puller.pull(url)
        assert path.read_bytes() == server.files["/m/model.gguf"]
        path.unlink()


def test_connections_that_break_are_taken_up_again(https):
    server, puller, url = https
    server.drop_after, server.drops = 2 * MIB, 4
    events = puller.events(url)
    assert pathlib.Path(events[-1]["path"]).read_bytes() == server.files["/m/model.gguf"]
    assert events[-1]["retries"] == 4 and server.sent_bytes <= 21 * MIB + (4 << 16)


def test_retries_are_bounded(https):
    server, puller, url = https
    server.drop_after, server.drops = 0, 1000
    assert "gave up after 3 attempts" in puller.fails(url, "--retries", 2, "--jobs", 1)
    assert len(server.requests) == 3


def test_a_silent_server_is_given_up(https):
    server, puller, url = https
    server.stall_after = 0
    assert "gave up after 1 attempt" in puller.fails(url, "--retries", 0, "--timeout", "1s")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_asked_again_when_it_says(https, status):
    server, puller, url = https
    server.answers = [(status, {"Retry-After": "1"}, b"busy")] * 2
    events = puller.events(url)
    assert events[-1]["event"] == "done" and events[-1]["retries"] == 2


def test_a_server_that_asks_to_wait_for_hours_is_not_waited_for(https):
    server, puller, url = https
    server.answers = [(503, {"Retry-After": "7200"}, b"")] * 20
    assert "asks to wait 2h" in puller.fails(url)


def test_refusals_are_final(https):
    server, puller, url = https
    for status, word in ((403, "not allowed"), (404, "not found"), (410, "HTTP 410")):
        server.requests.clear()
        server.answers = [(status, {}, b"no")] * 20
        assert word in puller.fails(url) and len(server.requests) == 1


def test_a_server_without_ranges_will_do(https):
    server, puller, url = https
    server.ignore_ranges = True
    for chunked in (False, True):
        server.chunked = chunked
        server.drop_after, server.drops = 5 * MIB, 1
        path = puller.pull(url)
        assert path.read_bytes() == server.files["/m/model.gguf"]
        path.unlink()


def test_an_empty_file_is_a_file(https):
    server, puller, url = https
    server.files["/m/model.gguf"] = b""
    assert puller.pull(url).read_bytes() == b""


def test_without_validator_and_checksum_ranges_are_not_joined(server, puller):
    """Two versions of the same size: what comes out is one of them."""
    versions, asked = [content(30 * MIB, seed) for seed in (1, 2)], []

    def changing():
        asked.append(1)
        return versions[0 if len(asked) <= 2 else 1]
    name = f"/org/tiny/resolve/{COMMIT}/model.gguf"
    server.files[name], server.etags[name] = changing, None
    server.files["/api/models/org/tiny/revision/main"] = json.dumps(
        {"sha": COMMIT, "siblings": [{"rfilename": "model.gguf", "size": 30 * MIB}]}).encode()
    puller.env["HF_ENDPOINT"] = server.base
    assert puller.pull("hf://org/tiny").read_bytes() in versions
    assert "Range" not in server.asked(name)[-1][1]


def test_a_file_is_looked_at_again(https):
    server, puller, url = https
    path = puller.pull(url)
    server.requests.clear()
    done = puller.events(url)[-1]
    assert done["kept_files"] == 1 and done["fetched_bytes"] == 0
    assert [fields.get("If-None-Match") for _, fields in server.asked("/m/model.gguf")] == [
        '"' + hashlib.md5(server.files["/m/model.gguf"]).hexdigest() + '"']
    server.files["/m/model.gguf"] = b"another version"
    assert puller.pull(url).read_bytes() == b"another version"


def test_a_file_that_was_cut_here_is_fetched_again(https):
    server, puller, url = https
    path = puller.pull(url)
    for damaged in (b"", path.read_bytes()[:-1]):
        path.write_bytes(damaged)
        assert puller.pull(url).read_bytes() == server.files["/m/model.gguf"]
    path.write_bytes(b"")
    assert "is not here" in puller.fails(url, "--offline")


def test_a_file_that_no_record_vouches_for_is_fetched(https):
    server, puller, url = https
    path = puller.cache / f"models/https/127.0.0.1:{server.port}/m/model.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(20 * MIB + 5))
    assert puller.pull(url, "--offline") == path, "copied here by hand: whoever did it vouches"
    assert puller.pull(url).read_bytes() == server.files["/m/model.gguf"]
    server.etags["/m/model.gguf"] = None  # nothing to ask with from here on
    path.unlink()
    puller.pull(url)
    path.write_bytes(bytes(20 * MIB + 5))
    assert puller.pull(url).read_bytes() == server.files["/m/model.gguf"]


def test_a_server_that_gives_a_byte_an_answer_is_given_up(https):
    server, puller, url = https

    def one_byte(status, fields, body):
        if status == 206:
            begin, size = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", fields["Content-Range"]).groups()
            fields["Content-Range"] = f"bytes {begin}-{begin}/{size}"
        return status, fields, body[:1]
    server.lie = one_byte
    assert "the answer ends before" in puller.fails(url, "--retries", 1, "--jobs", 1)
    assert len(server.requests) <= 2 * 3, "twice each segment"


def test_answers_shorter_than_asked_for_are_joined(https):
    server, puller, url = https

    def a_mebibyte(status, fields, body):
        begin, last, size = map(int, re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", fields["Content-Range"]).groups())
        last = min(last, begin + MIB - 1)
        return status, {**fields, "Content-Range": f"bytes {begin}-{last}/{size}"}, body[:MIB]
    server.lie = a_mebibyte
    done = puller.events(url, "--retries", 0)[-1]
    assert pathlib.Path(done["path"]).read_bytes() == server.files["/m/model.gguf"] and done["retries"] == 0


def wrong_range(status, fields, body):
    return status, {**fields, "Content-Range": "bytes 7-9/20971525"}, body


def ten_exabytes(status, fields, body):
    return status, {**fields, "Content-Range": f"bytes 0-{len(body) - 1}/{10 ** 19}"}, body


def ten_terabytes(status, fields, body):
    return status, {**fields, "Content-Range": f"bytes 0-{len(body) - 1}/{10 ** 13}"}, body


def three_terabytes(status, fields, body):
    return status, {**fields, "Content-Range": f"bytes 0-{len(body) - 1}/{3 * 10 ** 12}"}, body


def encoded(status, fields, body):
    return status, {**fields, "Content-Encoding": "gzip"}, body


def endless_head(status, fields, body):
    return status, {**fields, **{f"X-{i}": "x" * 8000 for i in range(64)}}, body


@pytest.mark.parametrize("lie, words", [
    (wrong_range, "another range"), (ten_exabytes, "another range"), (ten_terabytes, "at most"),
    (three_terabytes, "the disk is too full: 30000"), (encoded, "encoded"), (endless_head, "header")])
def test_lies_are_refused(https, lie, words):
    server, puller, url = https
    server.lie = lie
    assert words in puller.fails(url, "--retries", 1) and not list(puller.cache.rglob("*.gguf"))


def test_a_body_shorter_than_announced_is_no_file(https):
    server, puller, url = https
    server.ignore_ranges = True
    server.lie = lambda status, fields, body: (status, {**fields, "Content-Length": str(10 << 30)}, body)
    assert "gave up" in puller.fails(url, "--retries", 1) and not list(puller.cache.rglob("*.gguf"))


def test_redirects_are_followed_and_bounded(https):
    server, puller, url = https
    server.redirects["/old.gguf"] = "/m/model.gguf"
    assert puller.pull(server.base + "/old.gguf").read_bytes() == server.files["/m/model.gguf"]
    server.redirects["/loop.gguf"] = "/loop.gguf"
    server.requests.clear()
    assert "redirects" in puller.fails(server.base + "/loop.gguf") and len(server.requests) == 6
    server.redirects["/plain.gguf"] = "http://127.0.0.1:1/x"
    assert "redirects from https" in puller.fails(server.base + "/plain.gguf")
    server.redirects["/local.gguf"] = "file:///etc/passwd"
    assert "not followed" in puller.fails(server.base + "/local.gguf")


def test_a_full_disk_names_the_bytes(https, tmp_path):
    server, puller, url = https
    limited = copy.copy(puller)
    limited.binary = under(tmp_path, puller.binary, "prlimit", f"--fsize={4 * MIB}")
    said = limited.fails(url)
    assert "more bytes are needed" in said and "--output" in said
    assert puller.pull(url).read_bytes() == server.files["/m/model.gguf"], "goes on with room"


def test_an_interrupt_keeps_what_is_there(https):
    server, puller, url = https
    server.stall_after = 2 * MIB
    process = puller.start("pull", url)
    wait_for(lambda: list(puller.cache.rglob("*.part.json")), "a state")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3 and "run the same command again" in err
    server.stall_after = None
    server.resume.set()
    done = puller.events(url)[-1]
    assert pathlib.Path(done["path"]).read_bytes() == server.files["/m/model.gguf"]
    assert done["fetched_bytes"] < 20 * MIB


def test_two_pulls_do_not_write_the_same_file(https):
    server, puller, url = https
    server.stall_after = MIB
    process = puller.start("pull", url)
    wait_for(lambda: list(puller.cache.rglob("*.part")), "the first one")
    assert "another pull" in puller.fails(url)
    server.stall_after = None
    server.resume.set()
    out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0 and pathlib.Path(out.strip()).exists()


def test_progress_is_a_line_on_a_terminal_and_plain_elsewhere(https):
    server, puller, url = https
    _, plain = puller.run("pull", url)
    assert "\033" not in plain and "\r" not in plain and "model.gguf: 20 MiB" in plain
    server.drop_after, server.drops = MIB, 2  # pauses long enough for a line
    master, terminal = pty.openpty()
    process = subprocess.Popen([puller.binary, "pull", url, "--output", str(puller.folder / "b")], env=puller.env,
                               stdout=subprocess.DEVNULL, stderr=terminal)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    assert process.wait(DEADLINE_S) == 0
    assert b"\r\033[K" in shown and b" of 20 MiB" in shown and b"/s" in shown


@pytest.mark.parametrize("source", [
    "http://127.0.0.1/x", "ftp://h/x", "model.gguf", "hf://", "hf://name", "hf://a/../b", "hf://a/b/../c",
    "hf://a/b@", "s3://", "s3://../x", "s3://b/../c", "https://h", "https://h/", "https://h/../x",
    "https://user:secret@h/x", "https://../x", "hf://a/b/.hidden"])
def test_what_is_no_source_is_refused(puller, source):
    said = puller.fails(source)
    assert "is no source: write" in said and not puller.cache.exists()


def test_usage_errors(puller):
    assert "SOURCE is missing" in puller.run("pull", code=2)[1]
    assert "--jobs" in puller.run("pull", "hf://a/b", "--jobs", 0, code=2)[1]
