"""What tests/bench/run.sh makes to measure with: random models, texts, a tokenizer.json."""
import pathlib
import struct
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/bench/compare"))

import gguf  # noqa: E402
import random_model  # noqa: E402
import texts  # noqa: E402
import tokenizers_peer  # noqa: E402

SMALL = random_model.Shape(hidden=64, layers=2, heads=4, kv_heads=2, head_size=16, ffn=96, context=128)
TOKENS = ["a", "b", "ab", "<|end|>"]


def write_vocabulary(path):
    """A GGUF file that has a tokenizer and nothing else."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    def strings(values):
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(text, values))

    pairs = {"general.architecture": struct.pack("<I", 8) + text("llama"),
             "tokenizer.ggml.model": struct.pack("<I", 8) + text("gpt2"),
             "tokenizer.ggml.pre": struct.pack("<I", 8) + text("smollm"),
             "tokenizer.ggml.tokens": strings(TOKENS),
             "tokenizer.ggml.merges": strings(["a b"]),
             "tokenizer.ggml.token_type": struct.pack("<IIQ4i", 9, 5, 4, 1, 1, 1, 3)}
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) +
                     b"".join(text(key) + value for key, value in pairs.items()))
    return path


@pytest.mark.parametrize("type_name, block_bytes", [("Q4_0", 18), ("Q8_0", 34)])
def test_random_model_has_its_shape_and_the_tokenizer_of_the_other_file(tmp_path, type_name, block_bytes):
    vocabulary = write_vocabulary(tmp_path / "vocabulary.gguf")
    random_model.write(tmp_path / "model.gguf", type_name, vocabulary, SMALL)
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96
    assert gguf.read(tmp_path / "model.gguf") == gguf.Model(type_name, 2 * layer, 64 * 4, 2 * 2 * 2 * 16 * 2)
    head = gguf.read_head(tmp_path / "model.gguf")
    assert head.metadata["tokenizer.ggml.tokens"] == TOKENS
    assert head.metadata["llama.context_length"] == 128
    blocks = (2 * layer + 64 * 4) // 32 * block_bytes
    norms = (2 * 2 + 1) * 64 * 4
    size = (tmp_path / "model.gguf").stat().st_size
    assert blocks + norms < size < blocks + norms + 8192, "weights and a head"
    assert not list(tmp_path.glob("*.part"))


def test_random_weights_have_the_deviation_that_keeps_values_in_range(tmp_path):
    vocabulary = write_vocabulary(tmp_path / "vocabulary.gguf")
    random_model.write(tmp_path / "model.gguf", "Q8_0", vocabulary, SMALL)
    block = (tmp_path / "model.gguf").read_bytes()[-3 * 34:-2 * 34]  # of the last matrix, whose rows have 96 weights
    scale, = struct.unpack("<e", block[:2])
    assert scale == pytest.approx(96 ** -0.5 / 73.6, rel=0.001)
    assert -128 not in struct.unpack("32b", block[2:])


def test_a_model_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(KeyError):
        random_model.write(tmp_path / "model.gguf", "Q4_0", write_nothing(tmp_path / "empty.gguf"), SMALL)
    assert not list(tmp_path.glob("model*"))


def write_nothing(path):
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    return path


def test_texts_are_long_and_do_not_repeat_themselves():
    made = texts.make()
    assert list(made) == texts.scripts()
    for script in set(made) - {"english", "code"}:
        text = made[script]
        assert len(text.encode()) >= texts.TEXT_BYTES
        sample = text[:100]
        assert text.count(sample) == 1, script
    assert made["greek"] == texts.make()["greek"], "the same each time"


def test_tokenizer_json_has_the_vocabulary_of_the_model(tmp_path):
    made = tokenizers_peer.tokenizer_json(gguf.read_head(write_vocabulary(tmp_path / "v.gguf")).metadata)
    assert made["model"]["vocab"] == {"a": 0, "b": 1, "ab": 2, "<|end|>": 3}
    assert made["model"]["merges"] == [["a", "b"]]
    assert [(token["id"], token["special"]) for token in made["added_tokens"]] == [(3, True)]


def test_a_vocabulary_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="llama-bpe"):
        tokenizers_peer.tokenizer_json({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"})
