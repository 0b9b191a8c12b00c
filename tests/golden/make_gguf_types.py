# SPDX-License-Identifier: Apache-2.0
"""Writes gguf_types.bin beside this script: for each block type of GGUF, random blocks and what the
Python package gguf 0.19 says they mean. Read by tests/convert/test_quantize.c.

A record: u32 ggml type, rows, K, bytes of blocks; the blocks; f32 values [rows, K].
Run: python3 tests/golden/make_gguf_types.py   (needs gguf and numpy)
"""
import pathlib
import struct

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

ROWS, K = 2, 256
# where the f16 fields of a block stand: random bytes there would mean inf and nan
HALVES = {
    T.F16: [0], T.BF16: [], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}

rng = np.random.default_rng(1)
out = bytearray()
for kind, halves in HALVES.items():
    values, n_bytes = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (ROWS * K // values, n_bytes), dtype=np.uint8)
    for at in halves:
        scales = rng.normal(0, 0.05, len(blocks)).astype(np.float16)
        blocks[:, at:at + 2] = scales.reshape(-1, 1).view(np.uint8)
    if kind == T.BF16:
        floats = rng.normal(0, 1, len(blocks)).astype(np.float32)
        blocks = np.ascontiguousarray(floats.reshape(-1, 1).view(np.uint8)[:, 2:])
    golden = dequantize(blocks.reshape(ROWS, -1), kind).astype(np.float32)
    assert golden.shape == (ROWS, K) and np.isfinite(golden).all()
    out += struct.pack("<4I", int(kind), ROWS, K, blocks.size) + blocks.tobytes() + golden.tobytes()
pathlib.Path(__file__).with_name("gguf_types.bin").write_bytes(out)
