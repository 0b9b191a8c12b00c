# SPDX-License-Identifier: Apache-2.0
"""Rounds the layers' matrices of a checkpoint to a form of 4 bit and writes them as floats again, so that
`kvern convert --weights q8` and `kvern eval` tell what the form costs (docs/quantisation.md).

  .deps/peers/hf/bin/python bench/round_weights.py SOURCE TOKENIZER FORM GROUP ERRORS OUT

SOURCE is a folder with one model.safetensors (.deps/models/compare/smollm2-135m/hf), TOKENIZER the
tokenizer.json to put beside it (that of the pulled smollm2). FORM: symmetric, minima or none; ERRORS: plain or
weighted by the value's square. The searches are those of src/convert/quantize.c.
"""
import pathlib
import shutil
import sys

import torch
from safetensors.torch import load_file, save_file


def nearest(x, scale, low, high):
    return torch.clamp(torch.round(x / torch.where(scale == 0, torch.ones_like(scale), scale)), low, high)


def keep_best(best, values, x, weight):
    error = (weight * (values - x) ** 2).sum(1, keepdim=True)
    if best is None:
        return error, values
    is_better = error < best[0]
    return torch.where(is_better, error, best[0]), torch.where(is_better, values, best[1])


def symmetric(x, weight):
    extreme = x.gather(1, x.abs().argmax(1, keepdim=True))
    best = None
    for i in range(19):
        q = nearest(x, extreme / (-9.5 + 0.25 * i), -8, 7)
        scale = (weight * q * x).sum(1, keepdim=True) / (weight * q * q).sum(1, keepdim=True).clamp(min=1e-20)
        scale = scale.half().float()
        best = keep_best(best, scale * nearest(x, scale, -8, 7), x, weight)
    return best[1]


def minima(x, weight):
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    best = None
    for i in range(-1, 8):
        scale, least = (high - low) / (15 if i < 0 else 13.5 + 0.5 * i), low
        if i >= 0:
            q = nearest(x - least, scale.clamp(min=1e-12), 0, 15)
            n, sq, sx = (s.sum(1, keepdim=True) for s in (weight, weight * q, weight * x))
            sqq, sqx = (weight * q * q).sum(1, keepdim=True), (weight * q * x).sum(1, keepdim=True)
            scale = (n * sqx - sq * sx) / (n * sqq - sq * sq).clamp(min=1e-20)
            least = (sx - scale * sq) / n
        scale, least = scale.half().float(), least.half().float()
        best = keep_best(best, scale * nearest(x - least, scale.clamp(min=1e-12), 0, 15) + least, x, weight)
    return best[1]


def main():
    source, tokenizer, form, group, errors, out = sys.argv[1:]
    shutil.copytree(source, out)
    shutil.copy(tokenizer, pathlib.Path(out) / "tokenizer.json")
    if form == "none":
        return
    tensors = load_file(pathlib.Path(source) / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.dim() != 2 or "embed" in name or "lm_head" in name:
            continue
        parts = []
        for x in tensor.float().reshape(-1, int(group)).split(1 << 16):
            weight = x * x + 1e-12 if errors == "weighted" else torch.ones_like(x)
            parts.append({"symmetric": symmetric, "minima": minima}[form](x, weight))
        tensors[name] = torch.cat(parts).reshape(tensor.shape).to(tensor.dtype).contiguous()
    save_file(tensors, pathlib.Path(out) / "model.safetensors")


if __name__ == "__main__":
    main()
