#!/usr/bin/env python3
"""Writes logits_golden.bin: what Transformers computes for the tiny models of tests/fakes/tiny_model.cc.

    pip install torch==2.5.1 transformers==4.57.1; tests/golden/make_logits_golden.py

The weights follow from the formula that tiny_model.cc has too. All cases compute in F32 ("bf16" on weights rounded to
BF16), with eager attention. Records, little-endian: case name (16 bytes, zero-padded) | u32 tokens | u32 positions |
u32 vocabulary | i32 token ids | i32 positions | f32 logits [positions, vocabulary]. Read by
tests/runtime/model/decoder_test.cc, which lists the same cases.
"""
import pathlib
import struct

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

VOCABULARY = 259
NUM_TOKENS = 40
POSITIONS = [0, 1, 9, 24, 39]
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
CASES = {
    "f32": {"seed": 1, "rope_scaling": LLAMA3},
    "f32_tied": {"seed": 2, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True,
                 "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "f32_window": {"seed": 3, "sliding_window": 8},
    "bf16": {"seed": 4, "rope_scaling": LLAMA3},
    "bf16_tied": {"seed": 5, "tie_word_embeddings": True},
}


def splitmix(stream: int, count: int) -> np.ndarray:
    """SplitMix64: the first `count` elements of a stream."""
    with np.errstate(over="ignore"):
        z = np.uint64(stream) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def stream_of(seed: int, name: str) -> int:
    """FNV-1a."""
    value = 0xCBF29CE484222325 ^ seed
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def weight(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    bits = (splitmix(stream_of(seed, name), int(np.prod(shape))) >> np.uint64(40)).astype(np.int64)
    u = (bits - 2**23).astype(np.float32) * np.float32(2.0**-23)
    if name.endswith("norm.weight"):
        values = np.float32(1.0) + np.float32(0.25) * u
    else:
        values = u * np.float32(1.0 if name == "model.embed_tokens.weight" else 0.25)
    return values.reshape(shape)


def logits(case: str, seed: int, **options) -> tuple[np.ndarray, np.ndarray]:
    common = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, head_dim=16, max_position_embeddings=512,
                  rms_norm_eps=1e-5, rope_theta=10000.0, attn_implementation="eager", **options)
    if "sliding_window" in options:
        model = MistralForCausalLM(MistralConfig(**common))
    else:
        model = LlamaForCausalLM(LlamaConfig(**common))
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.from_numpy(weight(seed, name, tuple(parameter.shape)))
            if case.startswith("bf16"):
                values = values.to(torch.bfloat16).to(torch.float32)
            parameter.copy_(values)
        tokens = (splitmix(seed, NUM_TOKENS) % np.uint64(VOCABULARY)).astype(np.int32)
        result = model(torch.from_numpy(tokens.astype(np.int64))[None], use_cache=False).logits[0]
    return tokens, result[POSITIONS].numpy().astype("<f4")


def main() -> None:
    torch.set_num_threads(1)
    out = bytearray()
    for case, options in CASES.items():
        tokens, values = logits(case, **options)
        out += struct.pack("<16sIII", case.encode(), NUM_TOKENS, len(POSITIONS), VOCABULARY)
        out += tokens.astype("<i4").tobytes() + np.array(POSITIONS, "<i4").tobytes() + values.tobytes()
    pathlib.Path(__file__).with_name("logits_golden.bin").write_bytes(out)


if __name__ == "__main__":
    main()
