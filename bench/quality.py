# SPDX-License-Identifier: Apache-2.0
"""Perplexity of a GGUF's dequantised weights in torch, f32 throughout: what `kvern eval` is held against.

  kvern tokenize -m smollm2 --file tests/golden/eval.txt --json | python3 bench/quality.py [GGUF]

Needs torch 2.13, transformers 4.57 and gguf 0.19. The method is that of `kvern eval`: the ids on stdin
are cut into windows, each runs alone from an empty context and is scored from its second token on.
"""
import argparse
import json
import math
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[1]
DEFAULT_GGUF = ROOT / ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"


@torch.no_grad()
def score(model, ids, window):
    """(sum of negative log-probabilities, tokens scored)."""
    total, n_scored = 0.0, 0
    for begin in range(0, len(ids), window):
        part = torch.tensor([ids[begin:begin + window]])
        if part.shape[1] < 2:
            break
        logits = model(part).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, part[0, 1:], reduction="none")
                       .double().sum())
        n_scored += part.shape[1] - 1
    return total, n_scored


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", nargs="?", type=pathlib.Path, default=DEFAULT_GGUF)
    parser.add_argument("--window", type=int, default=512)
    args = parser.parse_args()
    ids = json.load(sys.stdin)["ids"]
    model = AutoModelForCausalLM.from_pretrained(
        str(args.gguf.resolve().parent), gguf_file=args.gguf.name, dtype=torch.float32).eval()
    total, n_scored = score(model, ids, args.window)
    print(json.dumps({"model": args.gguf.name, "weights": "torch f32", "window": args.window,
                      "tokens": n_scored, "perplexity": round(math.exp(total / n_scored), 6)}))


if __name__ == "__main__":
    main()
