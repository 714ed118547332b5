"""Hostile model files: refused at load, with a non-zero exit that names file and field, before memory is taken."""
import json
import os
import struct
import subprocess

import pytest

import tiny_model

FAR = 1 << 62


def serve(binary, path, *flags):
    """What `trireme serve` says of a model it must refuse. 4 GiB of addresses: no length is believed unchecked."""
    result = subprocess.run(["prlimit", f"--as={4 << 30}", binary, "serve", str(path), "--http-port", "0", "--grpc-port",
                             "-1", "--threads", "1", *flags], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1, (result.returncode, result.stderr[-2000:])
    assert len(result.stderr) < 4000
    return result.stderr


def edit_json(name, **changes):
    """Sets fields by their dotted paths."""
    def apply(directory):
        document = json.loads((directory / name).read_text())
        for path, value in changes.items():
            target = document
            *parents, last = path.split("__")
            for key in parents:
                target = target[int(key) if isinstance(target, list) else key]
            target[int(last) if isinstance(target, list) else last] = value
        (directory / name).write_text(json.dumps(document))
    return apply


def replace(name, data):
    return lambda directory: (directory / name).write_bytes(data)


def edit_header(change):
    """Changes the header of model.safetensors."""
    def apply(directory):
        path = directory / "model.safetensors"
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        header = change(json.loads(data[8:8 + length]))
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])
    return apply


def tensor(name="lm_head.weight", **fields):
    return edit_header(lambda header: {**header, name: {**header[name], **fields}})


def index(weight_map):
    def apply(directory):
        (directory / "model.safetensors").rename(directory / "a.safetensors")
        (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return apply


def twice(header):
    text = json.dumps(header)
    return text[:-1] + ', "lm_head.weight": ' + json.dumps(header["lm_head.weight"]) + "}"


ADDED = {"id": 256, "content": "x", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
CASES = {  # what is done to a sound directory -> words that the refusal holds
    "no config": (lambda d: (d / "config.json").unlink(), "config.json"),
    "config is no JSON": (replace("config.json", b"{"), "config.json"),
    "config is deep": (replace("config.json", b'{"a":' * 100000), "config.json"),
    "config is binary": (replace("config.json", bytes(range(256)) * 100), "config.json"),
    "unknown architecture": (edit_json("config.json", architectures=["Nonsense"], model_type="nonsense"), "config.json"),
    "negative size": (edit_json("config.json", hidden_size=-1), "config.json", "hidden_size"),
    "huge size": (edit_json("config.json", hidden_size=2**62), "config.json", "hidden_size"),
    "huge layers": (edit_json("config.json", num_hidden_layers=2**31 - 1), "config.json", "num_hidden_layers"),
    "heads do not divide": (edit_json("config.json", num_attention_heads=3), "config.json", "heads"),
    "no heads": (edit_json("config.json", num_attention_heads=0), "config.json", "num_attention_heads"),
    "a string for a number": (edit_json("config.json", vocab_size="many"), "config.json", "vocab_size"),
    "huge vocabulary": (edit_json("config.json", vocab_size=2**40), "config.json", "vocab_size"),
    "NaN": (edit_json("config.json", rms_norm_eps=float("nan")), "config.json"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "tokenizer.json"),
    "tokenizer is empty": (replace("tokenizer.json", b""), "tokenizer.json"),
    "tokenizer is deep": (replace("tokenizer.json", b"[" * 1000000), "tokenizer.json"),
    "unknown tokenizer": (edit_json("tokenizer.json", model__type="Unigram"), "tokenizer.json", "model.type"),
    "id beyond any": (edit_json("tokenizer.json", model__vocab__a=2**40), "tokenizer.json", "model.vocab"),
    "id twice": (edit_json("tokenizer.json", model__vocab__a=66), "tokenizer.json", "model.vocab"),
    "negative id": (edit_json("tokenizer.json", model__vocab__a=-1), "tokenizer.json", "model.vocab"),
    "merge of nothing": (edit_json("tokenizer.json", model__merges=["x yz"]), "tokenizer.json", "merges"),
    "added id far away": (edit_json("tokenizer.json", added_tokens__0={**ADDED, "id": 2**31 - 1}), "tokenizer.json", "added_tokens"),
    "larger than the model": (edit_json("tokenizer.json", added_tokens__0={**ADDED, "id": 5000}), "tokenizer"),
    "unknown normalizer": (edit_json("tokenizer.json", normalizer={"type": "Precompiled"}), "tokenizer.json", "normalizer"),
    "bos is no token": (edit_json("tokenizer_config.json", bos_token="nothing"), "tokenizer_config.json", "bos_token"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors"),
    "weights are empty": (replace("model.safetensors", b""), "model.safetensors"),
    "header longer than the file": (replace("model.safetensors", struct.pack("<Q", FAR) + b"{}"), "model.safetensors", "header"),
    "header is no JSON": (edit_header(lambda h: "{" * 1000), "model.safetensors", "header"),
    "a tensor twice": (edit_header(twice), "model.safetensors", "lm_head.weight"),
    "no tensor": (edit_header(lambda h: {k.replace("model.norm", "norm"): v for k, v in h.items()}), "model.norm.weight"),
    "unknown type": (tensor(dtype="F3"), "model.safetensors", "lm_head.weight", "F3"),
    "shape overflows": (tensor(shape=[2**33, 2**33]), "model.safetensors", "lm_head.weight"),
    "negative shape": (tensor(shape=[-1, 64]), "model.safetensors", "lm_head.weight"),
    "offsets beyond the file": (tensor(data_offsets=[FAR, FAR + 66304]), "model.safetensors", "lm_head.weight"),
    "offsets backwards": (tensor(data_offsets=[100, 0]), "model.safetensors", "lm_head.weight"),
    "overlap": (tensor(data_offsets=[0, 66304]), "model.safetensors", "lm_head.weight"),
    "another shape": (tensor(shape=[64, 259]), "lm_head.weight"),
    "truncated": (lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-1]), "model.safetensors"),
    "index leads out": (index({"lm_head.weight": "../../etc/passwd"}), "index.json"),
    "index is absolute": (index({"lm_head.weight": "/etc/passwd"}), "index.json"),
    "index of nothing": (index({}), "model.embed_tokens.weight"),
    "index of what is not there": (index({"lm_head.weight": "b.safetensors"}), "b.safetensors"),
    "generation config is no JSON": (replace("generation_config.json", b"[]"), "generation_config.json"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_directory_is_refused(binary, tmp_path, name):
    damage, *words = CASES[name]
    directory = tiny_model.write_random(tmp_path / "model")
    damage(directory)
    said = serve(binary, directory)
    for word in words:
        assert word in said, said[-800:]


# ---- GGUF (ggml docs/gguf.md).

STRING, ARRAY, UINT32, F32 = 8, 9, 4, 0


def text(value):
    return struct.pack("<Q", len(value)) + value


def gguf(*entries, tensors=(), magic=b"GGUF", version=3, num_tensors=None, num_entries=None):
    head = magic + struct.pack("<IQQ", version, len(tensors) if num_tensors is None else num_tensors,
                               len(entries) if num_entries is None else num_entries)
    return head + b"".join(entries) + b"".join(tensors) + b"\0" * 4096


def entry(key, kind, value):
    return text(key) + struct.pack("<I", kind) + value


def info(name, shape, kind=F32, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


NAME = entry(b"general.architecture", STRING, text(b"llama"))
GGUFS = {
    "empty": (b"",), "short": (b"GGUF",), "magic": (gguf(magic=b"GGML"), "GGUF"), "version": (gguf(version=99), "version"),
    "tensors beyond the file": (gguf(num_tensors=FAR), "tensor"), "entries beyond the file": (gguf(num_entries=FAR),),
    "string beyond the file": (gguf(struct.pack("<Q", FAR) + b"a"),),
    "value beyond the file": (gguf(entry(b"k", STRING, struct.pack("<Q", FAR))), "k"),
    "array beyond the file": (gguf(entry(b"k", ARRAY, struct.pack("<IQ", UINT32, FAR))), "k"),
    "array in array": (gguf(entry(b"k", ARRAY, struct.pack("<IQ", ARRAY, 1) * 100)), "k"),
    "unknown kind": (gguf(entry(b"k", 77, b"")), "k"),
    "a key twice": (gguf(NAME, NAME), "general.architecture"),
    "no architecture": (gguf(), "general.architecture"),
    "shape overflows": (gguf(NAME, tensors=[info(b"t", [1 << 33, 1 << 33])]), "t"),
    "zero shape": (gguf(NAME, tensors=[info(b"t", [0])]), "t"),
    "many dimensions": (gguf(NAME, tensors=[text(b"t") + struct.pack("<I", 2**31)]), "t"),
    "unknown type": (gguf(NAME, tensors=[info(b"t", [32], kind=999)]), "t"),
    "offset beyond the file": (gguf(NAME, tensors=[info(b"t", [32], offset=1 << 40)]), "t"),
    "offset not aligned": (gguf(NAME, tensors=[info(b"t", [32], offset=1)]), "t"),
    "a tensor twice": (gguf(NAME, tensors=[info(b"t", [32]), info(b"t", [32], offset=128)]), "t"),
    "overlap": (gguf(NAME, tensors=[info(b"t", [64]), info(b"u", [64], offset=32)]), "u"),
}


@pytest.mark.parametrize("name", GGUFS)
def test_a_hostile_gguf_is_refused(binary, tmp_path, name):
    data, *words = GGUFS[name]
    path = tmp_path / "hostile.gguf"
    path.write_bytes(data)
    said = serve(binary, path)
    for word in ["hostile.gguf", *words]:
        assert word in said, said[-800:]


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_refused(binary, tmp_path, kind):
    path = tmp_path / "x.gguf"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert "x.gguf" in serve(binary, path)


def test_more_kv_memory_than_there_is_names_the_bytes(binary, tmp_path):
    directory = tiny_model.write_random(tmp_path / "model")
    said = serve(binary, directory, "--kv-cache-memory", "16GiB")
    assert "bytes" in said and "--kv-cache-memory" in said
