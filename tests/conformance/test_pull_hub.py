"""trireme pull hf://... against a hub of our own."""
import hashlib
import json
import os
import re
import signal
import subprocess

import pytest

import tiny_model
from puller import COMMIT, DEADLINE_S, puller, server, store, wait_for  # fixtures, too


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
