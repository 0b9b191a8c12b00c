# SPDX-License-Identifier: Apache-2.0
"""Files of torch.save for the reader of state dicts, as torch writes them.

  python tests/golden/make_torch.py [-o tests/golden/torch]

Needs torch 2.13 and transformers 4.57. Value i of tensor number t is t + i / 8, exact in every type,
so that a test can say what it must read.

  types.bin      every stored type; tied, wrapped as a parameter, transposed, a slice, a scalar
  nested.bin     protocol 4; the same under "state_dict" beside what a training run keeps
  legacy.bin     the form of before torch 1.6
  code.bin       a whole module pickled, which asks for its class
  llama          a tiny model as one safetensors file
  llama-sharded  the same as two shards of torch.save with an index
"""
import argparse
import collections
import pathlib
import shutil

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]


def values(number, *shape, dtype=torch.float32):
    n = torch.Size(shape).numel()
    return (number + torch.arange(n) / 8).reshape(shape).to(dtype)


def state():
    """Names in file order. A slice and a transpose share the bytes of what they are made of."""
    whole = values(8, 4, 3)
    first = values(0, 2, 3)
    return collections.OrderedDict([
        ("f32", first),
        ("f16", values(1, 5, dtype=torch.float16)),
        ("bf16", values(2, 2, 2, dtype=torch.bfloat16)),
        ("ids", torch.arange(3)),
        ("flags", torch.tensor([True, False])),
        ("tied", first),
        ("parameter", torch.nn.Parameter(values(6, 3))),
        ("transposed", values(7, 3, 2).t()),
        ("slice", whole[1:3]),
        ("scalar", values(9)),
        ("cube", values(10, 2, 2, 2)),
        ("empty", values(11, 0, 4)),
    ])


def write_llama(folder, sharded):
    """Weights by a seed; shards of at most 9 KB, which makes two."""
    config = LlamaConfig(vocab_size=40, hidden_size=32, intermediate_size=16, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                         max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
                         tie_word_embeddings=True)
    torch.manual_seed(20)
    model = LlamaForCausalLM(config).half()
    state_dict = model.state_dict()
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, safe_serialization=not sharded,
                          max_shard_size=9000 if sharded else "1GB", state_dict=state_dict)
    (folder / "generation_config.json").unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/torch")
    out = parser.parse_args().output
    out.mkdir(exist_ok=True)
    torch.save(state(), out / "types.bin")
    small = torch.nn.Linear(3, 2)
    small.load_state_dict({"weight": values(0, 2, 3), "bias": values(1, 2)})
    torch.save({"epoch": 3, "lr": 1e-4, "steps": [1, 2], "best": None,
                "state_dict": small.state_dict()}, out / "nested.bin", pickle_protocol=4)
    torch.save(small.state_dict(), out / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(small, out / "code.bin")
    write_llama(out / "llama", sharded=False)
    write_llama(out / "llama-sharded", sharded=True)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            print(f"{path.relative_to(out)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
