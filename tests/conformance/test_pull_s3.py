"""trireme pull s3://... against moto."""
import base64
import hashlib
import json
import pathlib

import boto3
import pytest

import tiny_model
from puller import MIB, content, puller, server, store  # fixtures, too
from s3_front import S3Front


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
