# SPDX-License-Identifier: Apache-2.0
"""The reference's 51-input export with random weights: Qwen2.5-Coder-0.5B-Instruct's shape, by optimum.

  python tests/golden/make_reference_export.py [.deps/models/reference-51]

Needs optimum-onnx 0.1.0, transformers 4.57.6, torch 2.13.0, accelerate 1.15.0, onnx 1.23.2 and onnxruntime
1.31.1; 2 GB of disk, 8.4 GiB of memory and two minutes. The inputs are input_ids, attention_mask and
position_ids (int64) and 24 x (key, value). There is no tokenizer: the model is for logits and speed, and its
text is that of the byte fallback.

Beside the export, golden.json: {"n_vocab", "ids": [64 ids], "logit_ids": [1024 ids], "logits": [one for each of
logit_ids], "max", "min", "range", "std", "argmax"}, the logits after the last of `ids` as ONNX Runtime gives
them in one call; golden.f32 holds all n_vocab of them, little-endian.
"""
import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 51
N_INPUTS, N_LAYERS = 51, 24
N_PROMPT, N_LOGITS = 64, 1024
LOGITS_STD = 2.0
SHAPE = dict(
    vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=N_LAYERS,
    num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768, rope_theta=1000000.0,
    rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False, sliding_window=32768,
    max_window_layers=N_LAYERS, bos_token_id=151643, eos_token_id=151645)


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def export(folder):
    """Weights by fan-in, so that activations keep their size; the tied embedding sets the logits' spread."""
    import torch
    import transformers
    from optimum.exporters.onnx import onnx_export_from_model
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(SEED)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SHAPE)).eval()
    for name, tensor in sorted(model.named_parameters()):
        tensor.data.normal_(generator=generator)
        if name.endswith("norm.weight"):
            tensor.data.mul_(0.2).add_(1.0)
        elif name.endswith("bias"):
            tensor.data.mul_(0.3)
        else:
            tensor.data.mul_((LOGITS_STD if "embed" in name else 1.0) * tensor.shape[1] ** -0.5)
    model.config.architectures = ["Qwen2ForCausalLM"]
    onnx_export_from_model(model, folder, task="text-generation-with-past", do_validation=False)
    print(f"exported with a peak of {peak_gib():.1f} GiB")


def golden(folder):
    """Checks the inputs and runs the prompt, in a process without torch's copy of the weights."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    inputs = [value.name for value in session.get_inputs()]
    print(f"{len(inputs)} inputs: {', '.join(inputs[:5])}, ...")
    if len(inputs) != N_INPUTS:
        raise SystemExit(f"{len(inputs)} inputs instead of {N_INPUTS}")
    rng = random.Random(SEED)
    ids = [rng.randrange(151643) for _ in range(N_PROMPT)]
    given = {"input_ids": numpy.array([ids], numpy.int64),
             "attention_mask": numpy.ones((1, N_PROMPT), numpy.int64),
             "position_ids": numpy.arange(N_PROMPT, dtype=numpy.int64)[None]}
    for name in inputs[3:]:
        given[name] = numpy.zeros((1, 2, 0, 64), numpy.float32)
    logits = session.run(["logits"], given)[0][0, -1]
    n_vocab, top, low = len(logits), float(logits.max()), float(logits.min())
    logit_ids = [i * n_vocab // N_LOGITS for i in range(N_LOGITS)]
    logits.astype("<f4").tofile(folder / "golden.f32")
    (folder / "golden.json").write_text(json.dumps({
        "n_vocab": n_vocab, "ids": ids, "logit_ids": logit_ids,
        "logits": [round(float(logits[i]), 6) for i in logit_ids], "max": top, "min": low,
        "range": top - low, "std": float(logits.std()), "argmax": int(logits.argmax())}) + "\n")
    print(f"logits of {n_vocab}: std {logits.std():.2f}, {low:.2f} .. {top:.2f}; "
          f"run with a peak of {peak_gib():.1f} GiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=ROOT / ".deps/models/reference-51")
    parser.add_argument("--step", choices=("export", "golden"), help="one of the two steps; default: both")
    args = parser.parse_args()
    if args.step:
        {"export": export, "golden": golden}[args.step](args.folder)
        return
    started = time.time()
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    for step in ("export", "golden"):
        subprocess.run([sys.executable, "-W", "ignore", __file__, str(args.folder), "--step", step], check=True)
    print(f"{args.folder}: {sum(f.stat().st_size for f in args.folder.iterdir()) / 1e9:.2f} GB "
          f"in {time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
