#!/usr/bin/env python3
"""Writes quant_golden.bin: random blocks of every quantised type and what the `gguf` package decodes them to.

    pip install gguf==0.19.0 numpy; tests/golden/make_quant_golden.py

Records, little-endian: type name (8 bytes, zero-padded) | u32 block bytes | u32 elements | blocks | f32 elements.
Read by tests/runtime/base/quant_formats_test.cc.
"""
import pathlib
import struct

import numpy as np
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

# Byte offsets of the F16 scales of a block: they get ordinary values (any bit pattern is a valid payload, but a
# random F16 is often infinite).
SCALES = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
}


def main() -> None:
    rng = np.random.default_rng(1)
    out = bytearray()
    for name, offsets in SCALES.items():
        qtype = GGMLQuantizationType[name]
        block_size, block_bytes = GGML_QUANT_SIZES[qtype]
        num_blocks = 4 if block_size == 32 else 2
        blocks = rng.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)
        for offset in offsets:
            scale = rng.normal(0, 0.02, (num_blocks, 1)).astype(np.float16)
            blocks[:, offset:offset + 2] = scale.view(np.uint8)
        values = quants.dequantize(blocks, qtype).astype("<f4")
        out += struct.pack("<8sII", name.encode(), blocks.size, values.size)
        out += blocks.tobytes() + values.tobytes()
    pathlib.Path(__file__).with_name("quant_golden.bin").write_bytes(out)


if __name__ == "__main__":
    main()
