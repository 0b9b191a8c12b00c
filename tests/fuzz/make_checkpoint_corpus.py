# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_gguf and fuzz_safetensors: valid files of two tiny models, a few kB each.
Run: python3 tests/fuzz/make_checkpoint_corpus.py   (standard library only)
"""
import json
import pathlib
import random
import struct

HERE = pathlib.Path(__file__).parent / "corpus"
RANDOM = random.Random(1)


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(key, item):
    if isinstance(item, bool):
        body = struct.pack("<I?", 7, item)
    elif isinstance(item, int):
        body = struct.pack("<II", 4, item)
    elif isinstance(item, float):
        body = struct.pack("<If", 6, item)
    elif isinstance(item, str):
        body = struct.pack("<I", 8) + string(item)
    elif isinstance(item[0], str):
        body = struct.pack("<IIQ", 9, 8, len(item)) + b"".join(map(string, item))
    else:
        body = struct.pack("<IIQ", 9, 5, len(item)) + struct.pack(f"<{len(item)}i", *item)
    return string(key) + body


def gguf(name, family, pre, types):
    tokens = ["a", "b", "c", "ab", "abc", "\u0120", "\u0120a", "<|bos|>", "<|eos|>", "<tool>"]
    values = {
        "general.architecture": family, "general.alignment": 32,
        f"{family}.block_count": 1, f"{family}.context_length": 64,
        f"{family}.embedding_length": 32, f"{family}.feed_forward_length": 32,
        f"{family}.attention.head_count": 2, f"{family}.attention.head_count_kv": 1,
        f"{family}.rope.freq_base": 1e4, f"{family}.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * 7 + [3, 3, 4],
        "tokenizer.ggml.merges": ["a b", "ab c", "\u0120 a"],
        "tokenizer.ggml.bos_token_id": 7, "tokenizer.ggml.eos_token_id": 8,
        "tokenizer.ggml.add_bos_token": True, "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    dims = {
        "token_embd.weight": (32, 10), "blk.0.attn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32), "blk.0.attn_k.weight": (32, 16),
        "blk.0.attn_k.bias": (16,), "blk.0.ffn_down.weight": (256, 2),
        "output_norm.weight": (32,), "rope_freqs.weight": (8,),
    }
    sizes = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
             12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)}
    infos, data = b"", b""
    for tensor, shape in dims.items():
        kind = types.get(tensor, 0)
        per_block, n_bytes = sizes[kind]
        count = 1
        for dim in shape:
            count *= dim
        infos += string(tensor) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        if tensor == "rope_freqs.weight":
            data += struct.pack("<8f", *[1.0] * 4, *[8.0] * 4)
        else:
            data += RANDOM.randbytes(count // per_block * n_bytes)
        data += bytes(-len(data) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(dims), len(values))
    head += b"".join(value(*pair) for pair in values.items()) + infos
    (HERE / "gguf" / name).write_bytes(head + bytes(-len(head) % 32) + data)


def safetensors(name, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for tensor, (dtype, shape, n_bytes) in tensors.items():
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + n_bytes]}
        offset += n_bytes
    text = json.dumps(header).encode()
    (HERE / "safetensors" / name).write_bytes(
        struct.pack("<Q", len(text)) + text + RANDOM.randbytes(offset))


for folder in ("gguf", "safetensors"):
    (HERE / folder).mkdir(parents=True, exist_ok=True)
gguf("llama", "llama", "llama-bpe", {
    "token_embd.weight": 8, "blk.0.attn_q.weight": 2, "blk.0.attn_k.weight": 3,
    "blk.0.ffn_down.weight": 12})
gguf("qwen2", "qwen2", "qwen2", {
    "token_embd.weight": 6, "blk.0.attn_q.weight": 7, "blk.0.attn_k.weight": 30,
    "blk.0.ffn_down.weight": 14})
gguf("smollm", "llama", "smollm", {
    "token_embd.weight": 1, "blk.0.attn_q.weight": 2, "blk.0.ffn_down.weight": 13})
safetensors("three", {"w": ("F32", [4, 8], 128), "v": ("BF16", [16], 32), "u": ("F16", [2, 2, 2], 16)})
safetensors("skipped", {"ids": ("I64", [1, 4], 32), "mask": ("BOOL", [3], 3), "e": ("F16", [0], 0)})
