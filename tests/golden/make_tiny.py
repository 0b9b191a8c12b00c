# SPDX-License-Identifier: Apache-2.0
"""Tiny seeded checkpoints in Hugging Face form, each with the answers torch gives for it in f32.

  python tests/golden/make_tiny.py [-o tests/golden/tiny] [NAME...]

Needs torch 2.13, transformers 4.57 and safetensors 0.8. Each of MODELS becomes a directory with
config.json, weights.json, which the safetensors come from (seeded.py: one file, or shards with an
index), and golden.json, which a C test reads:
{"n_vocab", "prompts": [{"name", "ids", "logits": [n_vocab], "max", "min", "range", "argmax",
"greedy": [64 ids], "margin": [64 gaps]}]}, with the meaning given in make_logits.py. Shapes
are odd on purpose: hidden size and vocabulary are no multiple of 64, head sizes 16, 32 and 128, one
key-value head, so that each path for a remainder runs.

A bf16 or f16 checkpoint is stored in that type; the golden is f32 maths on the values as stored.
"""
import argparse
import json
import pathlib
import shutil

import seeded
import torch
from transformers import (LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

from make_logits import N_GREEDY, write_json

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_VOCAB = 203
COMMON = dict(vocab_size=N_VOCAB, hidden_size=96, num_hidden_layers=2, max_position_embeddings=256,
              rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}

# name: (configuration, model, stored type, number of shards). llama3's original window of 64 is
# shorter than the longest prompt, so all three of its frequency bands are in use. The widths differ
# so that each directory stays near 300 KB.
MODELS = {
    "llama-f32": (LlamaConfig(
        **COMMON, intermediate_size=32, num_attention_heads=4, num_key_value_heads=1, head_dim=16,
        rope_theta=10000.0, tie_word_embeddings=True), LlamaForCausalLM, torch.float32, 1),
    "llama3-rope-bf16": (LlamaConfig(
        **COMMON, intermediate_size=96, num_attention_heads=3, num_key_value_heads=1, head_dim=32,
        rope_theta=500000.0, rope_scaling=LLAMA3_SCALING, tie_word_embeddings=False),
        LlamaForCausalLM, torch.bfloat16, 1),
    "qwen2-f16-sharded": (Qwen2Config(
        **COMMON, intermediate_size=160, num_attention_heads=6, num_key_value_heads=2,
        rope_theta=1000000.0, tie_word_embeddings=True), Qwen2ForCausalLM, torch.float16, 2),
    "qwen3-bf16": (Qwen3Config(
        **COMMON, intermediate_size=32, num_attention_heads=2, num_key_value_heads=1, head_dim=128,
        rope_theta=1000000.0, tie_word_embeddings=True), Qwen3ForCausalLM, torch.bfloat16, 1),
}

MIN_MARGIN = 1e-3  # of logits with a spread of 2

# Chosen by trial: many seeds answer with one token for ever, which would test little.
SEEDS = {"llama-f32": 1001, "llama3-rope-bf16": 1000, "qwen2-f16-sharded": 1002, "qwen3-bf16": 1000}


def randomize(model, seed):
    """Weights by fan-in, so that activations keep their size and logits come out with a spread of
    about 2; norms near 1 but not 1, biases not 0: a forgotten one must show. What a layer adds is made
    larger than the embedding, or a tied model would answer with its last input for ever. Returns the
    recipe of the weights."""
    recipe = seeded.Recipe(seed)
    tied = model.config.tie_word_embeddings
    for name, tensor in model.named_parameters():
        if name.endswith("norm.weight"):
            drawn = dict(gain=0.2, mean=1.0)
        elif name.endswith("bias"):
            drawn = dict(gain=0.3)
        elif "embed_tokens" in name:
            drawn = dict(gain=0.2 if tied else 1.0)
        else:
            adds = any(part in name for part in ("o_proj", "down_proj", "lm_head"))
            drawn = dict(gain=(2.0 if adds else 1.2) * tensor.shape[1] ** -0.5)
        tensor.data = torch.from_numpy(recipe.draw(name, tensor.shape, **drawn))
    return recipe


def prompts():
    """One token, an odd number below a block of 16, and one that crosses several blocks."""
    generator = torch.Generator().manual_seed(7)
    draw = lambda n: torch.randint(3, N_VOCAB, (n,), generator=generator).tolist()
    return [("one_token", draw(1)), ("short_13", draw(13)), ("long_71", draw(71))]


@torch.no_grad()
def golden(model, name, ids):
    """Logits of the last token and 64 greedy tokens, without a cache: each step runs all tokens."""
    all_ids, greedy, margin, first = list(ids), [], [], None
    for _ in range(N_GREEDY):
        logits = model(torch.tensor([all_ids]), use_cache=False).logits[0, -1]
        first = logits if first is None else first
        best = torch.topk(logits, 2)
        greedy.append(int(best.indices[0]))
        margin.append(round(float(best.values[0] - best.values[1]), 4))
        all_ids.append(greedy[-1])
    top, low = float(first.max()), float(first.min())
    print(f"  {name:10} std {float(first.std()):.2f}, {len(set(greedy))} different greedy tokens, "
          f"smallest margin {min(margin):.4f}")
    if len(set(greedy)) < 8 or min(margin) < MIN_MARGIN:
        raise SystemExit(f"{name}: the greedy answer is nearly constant, or nearly another; change the seed")
    return {"name": name, "ids": ids, "logits": [round(float(x), 6) for x in first], "max": top,
            "min": low, "range": top - low, "argmax": int(first.argmax()), "greedy": greedy,
            "margin": margin}


def make(name, folder, seed):
    """Write one checkpoint, read it back in f32, and write its answers beside it."""
    config, model_class, stored, n_shards = MODELS[name]
    shutil.rmtree(folder, ignore_errors=True)
    model = model_class(config).eval()
    recipe = randomize(model, seed)
    model = model.to(stored)
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    model.save_pretrained(folder, max_shard_size=n_bytes if n_shards == 1 else n_bytes * 2 // 3)
    (folder / "generation_config.json").unlink(missing_ok=True)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != n_shards:
        raise SystemExit(f"{name}: {len(files)} weight files instead of {n_shards}")
    print(f"{name}: {sum(f.stat().st_size for f in folder.iterdir())} bytes")
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    write_json(folder / "golden.json", {
        "n_vocab": N_VOCAB, "prompts": [golden(model, p, ids) for p, ids in prompts()]})
    recipe.replace(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MODELS)}")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/tiny")
    args = parser.parse_args()
    unknown = set(args.names) - set(MODELS)
    if unknown:
        parser.error(f"no model named {', '.join(sorted(unknown))}")
    for name in MODELS:
        if not args.names or name in args.names:
            make(name, args.output / name, SEEDS[name])


if __name__ == "__main__":
    main()
