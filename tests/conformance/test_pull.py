"""trireme pull against local servers: a hub, a file server with faults, and S3 (moto)."""
import base64
import contextlib
import copy
import hashlib
import json
import os
import pathlib
import pty
import random
import re
import signal
import subprocess
import time

import boto3
import pytest

import tiny_model
from conftest import under
from range_server import Authority, RangeServer
from s3_front import S3Front

MIB = 1 << 20
COMMIT = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_S = 120


def content(size, seed=1):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def server():
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def tls_server(authority):
    running = RangeServer(authority)
    yield running
    running.close()


class Puller:
    """Runs `trireme pull` (and other commands) with a home, a cache and an environment of the test's own."""

    def __init__(self, binary, folder):
        self.binary, self.folder, self.cache = binary, folder, folder / "cache"
        dropped = ("TRIREME_", "HF_", "AWS_", "SSL_", "http", "https", "HTTP", "no_proxy", "NO_PROXY")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.env |= {"HOME": str(folder), "TRIREME_CACHE": str(self.cache), "AWS_EC2_METADATA_DISABLED": "true"}
        self.env.pop("XDG_CACHE_HOME", None)

    def start(self, *arguments, **kwargs):
        return subprocess.Popen([self.binary, *map(str, arguments)], env=self.env, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, **kwargs)

    def run(self, *arguments, code=0, **kwargs):
        process = self.start(*arguments, **kwargs)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == code, f"exit code {process.returncode}: {out}{err}"
        return out, err

    def pull(self, *arguments, **kwargs):
        """The path that is printed."""
        return pathlib.Path(self.run("pull", *arguments, **kwargs)[0].strip())

    def fails(self, *arguments, code=1, **kwargs):
        """What is said on standard error."""
        out, err = self.run("pull", *arguments, code=code, **kwargs)
        assert out == ""
        return err

    def events(self, *arguments, code=0):
        out, _ = self.run("pull", *arguments, "--json", code=code)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def puller(binary, tmp_path):
    return Puller(binary, tmp_path)


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def leftovers(folder):
    return [path for path in pathlib.Path(folder).rglob("*") if path.name.endswith((".part", ".part.json", ".new"))]


# ---- https


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


# ---- Hugging Face


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """The hub's API for one repository, and a second host that large files are redirected to."""

    def __init__(self, api, store, files, large=(), token=None):
        self.api, self.store, self.listing = api, store, []
        for name, data in files.items():
            entry = {"rfilename": name, "size": len(data), "blobId": blob_id(data)}
            resolve = f"/org/tiny/resolve/{COMMIT}/{name}"
            if name in large:
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                store.files[f"/blobs/{name}"] = data
                api.redirects[resolve] = f"{store.base}/blobs/{name}?signature=x"
            else:
                api.files[resolve] = data
            self.listing.append(entry)
        self.publish()

    def publish(self, revision="main", **changes):
        body = {"id": "org/tiny", "sha": COMMIT, "siblings": self.listing, **changes}
        self.api.files[f"/api/models/org/tiny/revision/{revision}"] = json.dumps(body).encode()


@pytest.fixture
def store():
    running = RangeServer()
    yield running
    running.close()


@pytest.fixture
def hub(server, store, puller, tmp_path):
    tiny = tiny_model.write(tmp_path / "tiny", {"temperature": 0.0})
    files = {path.name: path.read_bytes() for path in tiny.iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "README.md": b"text", "onnx/model.onnx": b"onnx", ".gitattributes": b""}
    puller.env |= {"HF_ENDPOINT": server.base, "HF_TOKEN": "hf_secret"}
    return Hub(server, store, files, large=("model.safetensors",))


def test_a_repository_becomes_a_model_that_runs(hub, puller, tmp_path):
    path = puller.pull("hf://org/tiny")
    assert path == puller.cache / "models/hf/org/tiny/main"
    names = {entry.name for entry in path.iterdir()}
    assert names == {entry.name for entry in (tmp_path / "tiny").iterdir()} | {".trireme-pull.json"}
    for entry in (tmp_path / "tiny").iterdir():
        assert (path / entry.name).read_bytes() == entry.read_bytes()
    manifest = json.loads((path / ".trireme-pull.json").read_text())
    assert manifest["revision"] == COMMIT and manifest["complete"] is True
    # Without a network from here on.
    puller.env["HF_ENDPOINT"] = "http://127.0.0.1:1"
    out, _ = puller.run("generate", "hf://org/tiny", "--raw", "-p", "x", "--max-tokens", 2, "--json")
    assert json.loads(out)["completion_tokens"] == 2
    assert puller.pull("hf://org/tiny", "--offline") == path


def test_serve_takes_a_pulled_model_by_its_name(hub, puller):
    puller.pull("hf://org/tiny")
    with puller.start("serve", "hf://org/tiny", "--http-port", 0, "--grpc-port", 0, "--log-format", "json") as server:
        for line in server.stderr:
            event = json.loads(line)
            if event.get("event") == "serving":
                server.terminate()
                assert event["model"] == "tiny"
    assert server.returncode == 0


def test_serve_does_not_fetch(hub, puller, server):
    for command in ("serve", "generate", "inspect"):
        _, said = puller.run(command, "hf://org/tiny", code=1, stdin=subprocess.DEVNULL)
        assert "run `trireme pull hf://org/tiny` first" in said
    out, _ = puller.run("doctor", "hf://org/tiny", "--json", "--http-port", 0, "--grpc-port", 0, code=1)
    assert any("trireme pull hf://org/tiny" in finding["seen"] for finding in json.loads(out)["findings"])
    assert server.requests == []


def test_the_token_goes_to_the_hub_and_nobody_else(hub, puller, server, store):
    puller.pull("hf://org/tiny")
    assert server.requests and all(fields.get("Authorization") == "Bearer hf_secret"
                                   for _, _, fields in server.requests)
    assert store.requests and all("Authorization" not in fields for _, _, fields in store.requests)


def test_the_token_comes_from_the_login_file_too(hub, puller, server):
    del puller.env["HF_TOKEN"]
    folder = puller.folder / ".cache/huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text("hf_of_file\n")
    puller.pull("hf://org/tiny")
    assert server.requests[0][2]["Authorization"] == "Bearer hf_of_file"


def test_the_token_is_not_sent_in_clear(puller):
    puller.env |= {"HF_ENDPOINT": "http://hub.invalid", "HF_TOKEN": "hf_secret"}
    said = puller.fails("hf://org/tiny")
    assert "use https" in said and "hf_secret" not in said


def test_gated_and_missing_repositories_say_what_to_do(hub, puller, server):
    server.answers = [(403, {}, b"{}")]
    assert "accept its licence" in puller.fails("hf://org/tiny")
    del puller.env["HF_TOKEN"]
    server.answers = [(401, {}, b"{}")]
    assert "set HF_TOKEN" in puller.fails("hf://org/tiny")
    assert "not found" in puller.fails("hf://org/none")


def test_revisions(hub, puller, server):
    hub.publish("v1.0")
    hub.publish("refs%2Fpr%2F1")
    assert puller.pull("hf://org/tiny@v1.0").name == "v1.0"
    assert puller.pull("hf://org/tiny", "--revision", "refs/pr/1").name == "refs%2Fpr%2F1"
    assert "not found" in puller.fails("hf://org/tiny@v2.0")
    for revision in ("..", "../..", "a/../b"):
        assert "--revision" in puller.fails("hf://org/tiny", "--revision", revision)


def test_what_is_here_already_is_kept_and_a_new_commit_fetched(hub, puller, server, store):
    path = puller.pull("hf://org/tiny")
    server.requests.clear()
    store.requests.clear()
    done = puller.events("hf://org/tiny")[-1]
    assert done["fetched_bytes"] == 0 and done["kept_files"] == done["files"] and store.requests == []
    new = json.dumps({"temperature": 0.5}).encode()
    server.files[f"/org/tiny/resolve/{COMMIT}/generation_config.json"] = new
    for entry in hub.listing:
        if entry["rfilename"] == "generation_config.json":
            entry |= {"size": len(new), "blobId": blob_id(new)}
    hub.publish()
    done = puller.events("hf://org/tiny")[-1]
    assert done["fetched_bytes"] == len(new) and store.requests == []
    assert (path / "generation_config.json").read_bytes() == new


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_files_are_refused(hub, puller, server, store, name):
    files = store.files if name == "model.safetensors" else server.files
    key = next(key for key in files if key.endswith(name))
    files[key] = bytes([files[key][0] ^ 1]) + files[key][1:]
    said = puller.fails("hf://org/tiny")
    assert name in said and "damaged" in said
    _, said = puller.run("inspect", "hf://org/tiny", code=1)
    assert "is not whole" in said


def test_a_size_that_differs_from_the_listing_is_refused(hub, puller, store):
    store.files["/blobs/model.safetensors"] += b"x"
    assert "where the listing says" in puller.fails("hf://org/tiny")


def test_one_file_is_taken_alone(hub, puller, server):
    server.files[f"/org/tiny/resolve/{COMMIT}/q/a.gguf"] = b"GGUF-a"
    hub.listing += [{"rfilename": "q/a.gguf", "size": 6, "blobId": blob_id(b"GGUF-a")}]
    hub.publish()
    path = puller.pull("hf://org/tiny/q/a.gguf")
    assert path == puller.cache / "models/hf/org/tiny/main/q/a.gguf" and path.read_bytes() == b"GGUF-a"
    copy = puller.pull("hf://org/tiny/q/a.gguf", "--output", puller.folder / "out")
    assert copy == puller.folder / "out/a.gguf"
    assert "there is no b.gguf" in puller.fails("hf://org/tiny/b.gguf")
    assert "pickle" in puller.fails("hf://org/tiny/pytorch_model.bin")


def test_the_one_gguf_of_a_repository_is_the_model(server, store, puller):
    puller.env["HF_ENDPOINT"] = server.base
    hub = Hub(server, store, {"a.gguf": b"GGUF-a", "README.md": b""})
    assert puller.pull("hf://org/tiny").name == "a.gguf"
    hub.listing += [{"rfilename": "b.gguf", "size": 1, "blobId": blob_id(b"b")}]
    hub.publish()
    assert "name one after a slash, of a.gguf, b.gguf" in puller.fails("hf://org/tiny")
    hub.listing = [{"rfilename": "pytorch_model.bin", "size": 1, "blobId": blob_id(b"b")}]
    hub.publish()
    assert "only pickles" in puller.fails("hf://org/tiny")


def test_names_that_leave_the_folder_are_passed_over(hub, puller, server):
    for name in ("../evil.safetensors", "/etc/evil.safetensors", "a\\..\\evil.safetensors", ".evil.safetensors",
                 "evil\n.safetensors", ""):
        hub.listing.append({"rfilename": name, "size": 4, "blobId": blob_id(b"evil")})
    hub.publish()
    puller.pull("hf://org/tiny")
    assert not [path for path in puller.folder.rglob("*evil*")]


def test_hostile_listings_are_bounded(hub, puller, server):
    api = "/api/models/org/tiny/revision/main"
    server.files[api] = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "a"}] * 1_000_000}).encode()
    assert "1000000 files; at most 100000" in puller.fails("hf://org/tiny")
    server.files[api] = b" " * (33 << 20)
    assert "larger than" in puller.fails("hf://org/tiny")
    server.files[api] = b"[" * (1 << 20)
    assert "does not answer as a Hugging Face hub" in puller.fails("hf://org/tiny")
    for sha in ("../..", "", "a/b", 5):
        hub.publish(sha=sha)
        assert "does not answer as a Hugging Face hub" in puller.fails("hf://org/tiny")
    hub.publish()
    hub.listing[0]["size"] = 10 ** 18
    hub.publish()
    said = puller.fails("hf://org/tiny")
    assert "at most" in said or "the disk is too full" in said


def test_a_folder_of_another_model_is_left_alone(hub, puller, server, store):
    out = puller.folder / "out"
    puller.pull("hf://org/tiny", "--output", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    server.files["/api/models/org/other/revision/main"] = json.dumps({"sha": COMMIT, "siblings": [
        {"rfilename": name, "size": 1, "blobId": blob_id(b"b")} for name in ("b.gguf", "config.json")]}).encode()
    said = puller.fails("hf://org/other", "--output", out)
    assert "was pulled from hf://org/tiny: give --output another folder" in said
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert "was pulled from hf://org/tiny" in puller.fails("hf://org/other/config.json", "--output", out)
    # Beside it, under a name that is nobody's, is room; and the same repository stays welcome.
    server.files[f"/org/other/resolve/{COMMIT}/b.gguf"] = b"b"
    assert puller.pull("hf://org/other/b.gguf", "--output", out).read_bytes() == b"b"
    assert puller.pull("hf://org/tiny", "--output", out) == out and (out / "b.gguf").exists()
    server.files["/org/tiny/resolve/" + COMMIT + "/b.gguf"] = b"B"
    hub.listing.append({"rfilename": "b.gguf", "size": 1, "blobId": blob_id(b"B")})
    hub.publish()
    assert "was pulled from hf://org/other/b.gguf" in puller.fails("hf://org/tiny/b.gguf", "--output", out)


def test_a_listing_that_names_a_file_twice_is_refused(hub, puller, store):
    hub.listing.append(next(entry for entry in hub.listing if entry["rfilename"] == "model.safetensors"))
    hub.publish()
    assert "lists model.safetensors twice" in puller.fails("hf://org/tiny") and store.requests == []


def test_sizes_whose_sum_overflows_are_refused(hub, puller):
    for i in range(4):
        hub.listing.append({"rfilename": f"model-{i}.safetensors", "size": 2 ** 63 - 1})
    hub.publish()
    assert "at most" in puller.fails("hf://org/tiny")


def test_names_that_steer_a_terminal_are_passed_over(hub, puller, server):
    for name in ("model-\u009b2J.safetensors", "model-\u202e.safetensors", "model-\u2066.safetensors"):
        hub.listing.append({"rfilename": name, "size": 4, "blobId": blob_id(b"evil")})
    hub.publish()
    out, err = puller.run("pull", "hf://org/tiny", "--json")
    assert not re.search("[\u0080-\u009f\u202a-\u202e\u2066-\u2069]", out + err)
    assert not list(puller.cache.rglob("model-*"))


def test_an_interrupt_ends_a_listing(hub, puller, server):
    server.stall_after = 0
    process = puller.start("pull", "hf://org/tiny", "--timeout", "600s")
    wait_for(lambda: server.requests, "the listing's request")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 3 and "interrupted" in err


def test_offline_says_what_to_do(puller):
    for env in ({"TRIREME_OFFLINE": "1"}, {"HF_HUB_OFFLINE": "1"}):
        puller.env |= env
        said = puller.fails("hf://org/tiny")
        assert "trireme pull hf://org/tiny --output" in said
        assert f"{puller.cache}/models/hf/org/tiny/main" in said
        for name in env:
            del puller.env[name]
    puller.env["HF_ENDPOINT"] = "http://127.0.0.1:1"
    said = puller.fails("hf://org/tiny", "--retries", 0)
    assert "Without a network" in said and f"{puller.cache}/models/hf/org/tiny/main" in said


def test_a_folder_that_was_copied_by_hand_is_a_model(puller, tmp_path):
    tiny = tiny_model.write(tmp_path / "tiny")
    target = puller.cache / "models/hf/org/copied/main"
    target.parent.mkdir(parents=True)
    os.rename(tiny, target)
    puller.run("inspect", "hf://org/copied", "--bandwidth", 10)
    (target / "model-00002.safetensors.part").touch()
    assert "is not whole" in puller.run("inspect", "hf://org/copied", code=1)[1]


# ---- S3


@pytest.fixture(scope="module")
def front():
    running = S3Front()
    yield running
    running.close()


@pytest.fixture
def s3(front, puller):
    """boto3's client of a bucket "models", through the same door as the puller."""
    front.reset()
    secret = front.keys["reader"]
    puller.env |= {"AWS_ENDPOINT_URL_S3": front.base, "AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": secret}
    client = boto3.client("s3", endpoint_url=front.base, region_name="us-east-1", aws_access_key_id="reader",
                          aws_secret_access_key=secret)
    client.create_bucket(Bucket="models")
    assert front.refused == []
    return client


def test_an_object_comes_with_its_checksum(s3, puller):
    data = content(20 * MIB)
    s3.put_object(Bucket="models", Key="a b+c/é~(1).gguf", Body=data, ChecksumAlgorithm="SHA256")
    events = puller.events("s3://models/a b+c/é~(1).gguf")
    assert pathlib.Path(events[-1]["path"]).read_bytes() == data
    [file] = [event for event in events if event["event"] == "file"]
    assert file["checksum"] == "sha256:" + hashlib.sha256(data).hexdigest()
    s3.put_object(Bucket="models", Key="plain.gguf", Body=b"GGUF", ChecksumAlgorithm="CRC32")
    events = puller.events("s3://models/plain.gguf")
    [file] = [event for event in events if event["event"] == "file"]
    assert file["checksum"] == "md5:" + hashlib.md5(b"GGUF").hexdigest()


def test_a_prefix_becomes_a_model(s3, puller, tmp_path):
    tiny = tiny_model.write(tmp_path / "tiny")
    for path in tiny.iterdir():
        s3.put_object(Bucket="models", Key=f"llama/{path.name}", Body=path.read_bytes())
    for name in ("llama/pytorch_model.bin", "llama/deeper/model.safetensors", "llama-2/config.json"):
        s3.put_object(Bucket="models", Key=name, Body=b"other")
    path = puller.pull("s3://models/llama/")
    assert {entry.name for entry in path.iterdir()} == {e.name for e in tiny.iterdir()} | {".trireme-pull.json"}
    assert puller.pull("s3://models/llama") == path
    puller.env["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:1"
    puller.run("inspect", "s3://models/llama", "--bandwidth", 10)


def test_long_listings_are_read_to_their_end(s3, puller, tmp_path):
    for i in range(1005):
        s3.put_object(Bucket="models", Key=f"many/a{i:04}.txt", Body=b"")
    for path in tiny_model.write(tmp_path / "tiny").iterdir():
        s3.put_object(Bucket="models", Key=f"many/{path.name}", Body=path.read_bytes())
    assert (puller.pull("s3://models/many/") / "tokenizer.json").exists()


def test_credentials_of_the_profile_file(s3, puller):
    s3.put_object(Bucket="models", Key="m.gguf", Body=b"GGUF")
    folder = puller.folder / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n[work]\n"
        f"aws_access_key_id = {puller.env.pop('AWS_ACCESS_KEY_ID')}\n"
        f"aws_secret_access_key={puller.env.pop('AWS_SECRET_ACCESS_KEY')}\n")
    assert "do not allow it" in puller.fails("s3://models/m.gguf")
    puller.env["AWS_PROFILE"] = "work"
    assert puller.pull("s3://models/m.gguf").read_bytes() == b"GGUF"


def role(puller, front):
    """What a metadata service answers; from then on requests must carry the session's token."""
    front.session_token = "session/token+=="
    return json.dumps({"AccessKeyId": puller.env.pop("AWS_ACCESS_KEY_ID"),
                       "SecretAccessKey": puller.env.pop("AWS_SECRET_ACCESS_KEY"), "Token": front.session_token,
                       "Expiration": "2099-01-01T00:00:00Z"}).encode()


def test_credentials_of_the_container(s3, front, puller, server):
    s3.put_object(Bucket="models", Key="m.gguf", Body=b"GGUF")
    server.files["/role"] = role(puller, front)
    puller.env |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.base + "/role",
                   "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pod"}
    assert puller.pull("s3://models/m.gguf").exists()
    assert server.requests[0][2]["Authorization"] == "pod"
    for host in ("elsewhere.invalid", "169.254.170.2.elsewhere.invalid", "169.254.170.2@elsewhere.invalid",
                 "169.254.170.200", "169.254.170.2:81"):
        puller.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"http://{host}/role"
        assert "not trusted" in puller.fails("s3://models/m.gguf", "--output", puller.folder / "x"), host
    puller.env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "@elsewhere.invalid/role"
    assert "must begin with /" in puller.fails("s3://models/m.gguf", "--output", puller.folder / "x")


def test_credentials_do_not_follow_redirects(s3, front, puller, server, store):
    """What proves who we are goes to the service that was named, and to nobody it points at."""
    store.files["/steal"] = role(puller, front)
    server.redirects["/role"] = store.base + "/steal"
    puller.env |= {"AWS_CONTAINER_CREDENTIALS_FULL_URI": server.base + "/role",
                   "AWS_CONTAINER_AUTHORIZATION_TOKEN": "pod"}
    assert "HTTP 302" in puller.fails("s3://models/m.gguf") and store.requests == []
    del puller.env["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    base = "/latest/meta-data/iam/security-credentials/"
    server.files |= {"/latest/api/token": b"imds-token"}
    server.redirects[base] = store.base + "/steal"
    puller.env |= {"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.base, "AWS_EC2_METADATA_DISABLED": "false"}
    puller.fails("s3://models/m.gguf")
    assert server.asked(base) and store.requests == []


def test_a_session_token_is_not_sent_in_clear(puller):
    puller.env |= {"AWS_ENDPOINT_URL_S3": "http://s3.invalid", "AWS_ACCESS_KEY_ID": "a",
                   "AWS_SECRET_ACCESS_KEY": "b", "AWS_SESSION_TOKEN": "session-secret"}
    said = puller.fails("s3://models/m.gguf")
    assert "AWS_SESSION_TOKEN is not sent over http://s3.invalid:80" in said and "session-secret" not in said


@pytest.mark.parametrize("right", [True, False])
def test_a_checksum_of_the_whole_object_is_verified(puller, server, right):
    """Of an object of several parts, whose ETag is no MD5, S3 names the CRC-64."""
    data = b"123456789"
    sum_ = base64.b64encode(bytes.fromhex("ae8b14860a799888" if right else "ae8b14860a799889")).decode()
    server.files["/models/m.gguf"], server.etags["/models/m.gguf"] = data, '"0123-2"'
    server.lie = lambda status, fields, body: (
        status, {**fields, "x-amz-checksum-crc64nvme": sum_, "x-amz-checksum-type": "FULL_OBJECT"}, body)
    puller.env |= {"AWS_ENDPOINT_URL_S3": server.base, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    if right:
        [file] = [event for event in puller.events("s3://models/m.gguf") if event["event"] == "file"]
        assert file["checksum"] == "crc64nvme:ae8b14860a799888"
    else:
        assert "crc64nvme" in puller.fails("s3://models/m.gguf")


def test_credentials_of_the_instance(s3, front, puller, server):
    s3.put_object(Bucket="models", Key="m.gguf", Body=b"GGUF")
    base = "/latest/meta-data/iam/security-credentials/"
    server.files |= {"/latest/api/token": b"imds-token", base: b"node-role", base + "node-role": role(puller, front)}
    puller.env |= {"AWS_EC2_METADATA_SERVICE_ENDPOINT": server.base, "AWS_EC2_METADATA_DISABLED": "false"}
    assert puller.pull("s3://models/m.gguf").exists()
    assert [(method, path) for method, path, _ in server.requests] == [
        ("PUT", "/latest/api/token"), ("GET", base), ("GET", base + "node-role")]
    assert server.requests[2][2]["X-aws-ec2-metadata-token"] == "imds-token"


def test_a_bucket_of_another_region_is_found_there(s3, front, puller):
    s3.put_object(Bucket="models", Key="m/m.gguf", Body=b"GGUF")
    front.region = "eu-west-1"
    assert puller.pull("s3://models/m/").read_bytes() == b"GGUF"


def test_credentials_of_the_environment_may_be_temporary(s3, front, puller):
    s3.put_object(Bucket="models", Key="m.gguf", Body=b"GGUF")
    front.session_token = puller.env["AWS_SESSION_TOKEN"] = "session"
    assert puller.pull("s3://models/m.gguf").exists()


def test_what_s3_refuses_is_explained(s3, puller):
    s3.put_object(Bucket="models", Key="m.gguf", Body=b"GGUF")
    puller.env["AWS_SECRET_ACCESS_KEY"] = "wrong-secret"
    said = puller.fails("s3://models/m.gguf")
    assert "do not allow it" in said and "wrong-secret" not in said
    del puller.env["AWS_SECRET_ACCESS_KEY"]
    assert "go together" in puller.fails("s3://models/m.gguf")
    del puller.env["AWS_ACCESS_KEY_ID"]
    assert "no credentials were found" in puller.fails("s3://models/m.gguf")


def test_hostile_lists_of_buckets_are_bounded(puller, server):
    puller.env |= {"AWS_ENDPOINT_URL": server.base, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}

    def page(token, keys):
        entries = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
        return (f"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{token}"
                f"</NextContinuationToken>{entries}</ListBucketResult>").encode()
    server.files["/bucket/"] = page("same", ["p/a"])
    assert "does not end" in puller.fails("s3://bucket/p/")
    server.files["/bucket/"] = page("t", [f"p/{i}" for i in range(100_001)])
    assert "more than 100000 objects" in puller.fails("s3://bucket/p/")
    counter = []

    def endless():
        counter.append(1)
        return page(len(counter), ["p/a"])
    server.files["/bucket/"] = endless
    assert "does not end" in puller.fails("s3://bucket/p/") and len(counter) <= 201
    server.files["/bucket/"] = b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><ListBucketResult>&a;"
    assert "no list of a bucket" in puller.fails("s3://bucket/p/")
    names = ["p/../evil.safetensors", "p//evil.safetensors", "q/evil.safetensors", "p/.evil.safetensors"]
    server.files["/bucket/"] = page("", names).replace(b"true", b"false")
    assert "neither safetensors nor GGUF" in puller.fails("s3://bucket/p/")
