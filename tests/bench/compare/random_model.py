"""A model of any size without a download: the shape of Llama 3.2 1B, random weights, the tokenizer of another file.

Its answers mean nothing; what it costs to compute them is what a real model of that shape costs.
"""
import dataclasses
import hashlib
import os
import random
import struct

import gguf
import variants

ALIGNMENT = 32
CHUNK_BLOCKS = 1 << 16


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model of the Llama family, output tied to the embedding."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    context: int


LIKE_1B = Shape(hidden=2048, layers=16, heads=32, kv_heads=8, head_size=64, ffn=8192, context=4096)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How a type stores 32 weights: a 16-bit scale, then the quants."""
    file_type: int  # general.file_type
    tensor_type: int
    bytes: int
    deviation: float  # of a weight, in scales, when the quants are uniform


TYPES = {"Q4_0": Blocks(file_type=2, tensor_type=2, bytes=18, deviation=4.61),
         "Q8_0": Blocks(file_type=7, tensor_type=8, bytes=34, deviation=73.6)}
VERSION = 1  # of what write() makes of a shape: a file of another one is not taken for it
F32 = 0
# -128 does not occur in Q8_0: quantised weights are symmetric, and kernels may rely on it.
NO_MINUS_128 = bytes(0x81 if byte == 0x80 else byte for byte in range(256))


def cached(folder, type_name, vocabulary_of):
    """A file of LIKE_1B in `folder`, written the first time."""
    made_of = hashlib.sha256(repr((VERSION, LIKE_1B, TYPES[type_name])).encode()).hexdigest()[:8]
    path = folder / f"random-1B-{made_of}-{variants.digest(vocabulary_of)}.{type_name}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(path, type_name, vocabulary_of)
    return path


def write(path, type_name, vocabulary_of, shape=LIKE_1B):
    """Writes the file, whole or not at all. vocabulary_of: the GGUF file whose tokenizer it gets."""
    blocks = TYPES[type_name]
    head = gguf.read_head(vocabulary_of)
    vocabulary = len(head.metadata["tokenizer.ggml.tokens"])
    tensors = _tensors(shape, vocabulary)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            pairs = _pairs(shape, vocabulary, blocks)
            pairs.update((key, value) for key, value in head.encoded.items() if key.startswith("tokenizer."))
            file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
            for key, value in pairs.items():
                file.write(_text(key) + value)
            offset = 0
            for name, dimensions in tensors:
                tensor_type = F32 if len(dimensions) == 1 else blocks.tensor_type
                file.write(_text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, tensor_type, offset))
                offset += _aligned(_bytes_of(dimensions, blocks))
            file.write(bytes(_aligned(file.tell()) - file.tell()))
            generator = random.Random(1)
            for _, dimensions in tensors:
                _write_weights(file, dimensions, blocks, generator)
                file.write(bytes(_aligned(file.tell()) - file.tell()))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _tensors(shape, vocabulary):
    """(name, dimensions, the fastest first)."""
    q, kv = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
    tensors = [("token_embd.weight", (shape.hidden, vocabulary)), ("output_norm.weight", (shape.hidden,))]
    for layer in range(shape.layers):
        tensors += [(f"blk.{layer}.{name}.weight", dimensions) for name, dimensions in (
            ("attn_norm", (shape.hidden,)), ("attn_q", (shape.hidden, q)), ("attn_k", (shape.hidden, kv)),
            ("attn_v", (shape.hidden, kv)), ("attn_output", (q, shape.hidden)), ("ffn_norm", (shape.hidden,)),
            ("ffn_gate", (shape.hidden, shape.ffn)), ("ffn_up", (shape.hidden, shape.ffn)),
            ("ffn_down", (shape.ffn, shape.hidden)))]
    return tensors


def _pairs(shape, vocabulary, blocks):
    numbers = {"block_count": shape.layers, "context_length": shape.context, "embedding_length": shape.hidden,
               "feed_forward_length": shape.ffn, "attention.head_count": shape.heads,
               "attention.head_count_kv": shape.kv_heads, "rope.dimension_count": shape.head_size, "vocab_size": vocabulary}
    floats = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 500000.0}
    return {"general.architecture": struct.pack("<I", gguf.STRING) + _text("llama"),
            "general.name": struct.pack("<I", gguf.STRING) + _text("random"),
            "general.file_type": struct.pack("<II", 4, blocks.file_type),
            **{f"llama.{key}": struct.pack("<II", 4, value) for key, value in numbers.items()},
            **{f"llama.{key}": struct.pack("<If", 6, value) for key, value in floats.items()}}


def _write_weights(file, dimensions, blocks, generator):
    if len(dimensions) == 1:  # of a norm
        file.write(struct.pack("<f", 1) * dimensions[0])
        return
    # Rows of length about 1, so that values neither grow nor vanish from layer to layer.
    scale = struct.pack("<e", dimensions[0] ** -0.5 / blocks.deviation)
    left = _bytes_of(dimensions, blocks) // blocks.bytes
    while left > 0:
        count = min(left, CHUNK_BLOCKS)
        data = bytearray(generator.randbytes(count * blocks.bytes).translate(NO_MINUS_128 if blocks.bytes == 34 else None))
        data[0::blocks.bytes] = scale[:1] * count
        data[1::blocks.bytes] = scale[1:] * count
        file.write(data)
        left -= count


def _bytes_of(dimensions, blocks):
    if len(dimensions) == 1:
        return 4 * dimensions[0]
    return dimensions[0] * dimensions[1] // 32 * blocks.bytes


def _aligned(size):
    return -(-size // ALIGNMENT) * ALIGNMENT


def _text(value):
    return struct.pack("<Q", len(value)) + value.encode()
