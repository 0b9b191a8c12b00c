# SPDX-License-Identifier: Apache-2.0
"""optimum's exports of tiny T5 models, as it leaves them: tests/golden/t5-exports.

  PYTHONHASHSEED=0 python tests/golden/make_t5_exports.py [-o tests/golden/t5-exports] [NAME...]

Needs optimum-onnx 0.1.0, transformers 4.57.6, torch 2.13.0, onnx 1.23.2 and onnxruntime 1.31.1 (the peer `onnx` of
bench/compare/setup.sh), and what make_t5.py made.

  codet5-split    encoder_model.onnx, decoder_model.onnx, decoder_with_past_model.onnx of t5/codet5 (ReLU, tied,
                  32 wide), whose goldens are its own
  t5-v1.1-merged  encoder_model.onnx, decoder_model_merged.onnx (an If on use_cache_branch) of a smaller T5 v1.1 (gated
                  GELU, not tied, 32 wide, one decoder layer), with goldens in make_t5.py's form beside it

inputs.txt lists inputs and outputs of each graph with types and shapes. ONNX Runtime gives the goldens' encoder rows and
logits within MAX_GAP of range, in one call and token by token with the cache, or the script fails.
"""
import argparse
import json
import pathlib
import shutil
import tempfile

import numpy
import onnxruntime
import torch
from safetensors.torch import save_file

import make_t5

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHECKPOINTS = ROOT / "tests/golden/t5"
MAX_GAP = 1e-5
MERGED_SEED = 0
SPLIT = ("encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx")
MERGED = ("encoder_model.onnx", "decoder_model_merged.onnx")


def smaller_checkpoint(folder):
    """T5 v1.1 with mt5's tokenizer, which is the smaller one."""
    config = {**make_t5.PUBLISHED, **make_t5.VARIANTS["t5-v1.1"][0], "num_decoder_layers": 1, "d_ff": 32, "num_heads": 2,
              "vocab_size": 160}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    model = make_t5.model_of(config)
    recipe = make_t5.randomize(model, MERGED_SEED)
    save_file(make_t5.state_of("t5-v1.1", model, "model.safetensors", recipe), folder / "model.safetensors",
              metadata={"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINTS / "mt5" / name, folder / name)
    make_t5.write_golden(folder, config, MERGED_SEED)
    return folder


def describe(values):
    return "".join(f"  {v.name} {v.type.removeprefix('tensor(').removesuffix(')')} [{', '.join(map(str, v.shape))}]\n"
                   for v in values)


class Export:
    """What a program does with the graphs: encode once, one call without a past, then one for each token."""

    def __init__(self, folder, files):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.sessions = [onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
                         for file in files]

    def encode(self, ids):
        given = {"input_ids": numpy.array([ids], numpy.int64), "attention_mask": numpy.ones((1, len(ids)), numpy.int64)}
        return self.sessions[0].run(["last_hidden_state"], given)[0]

    def decode(self, ids, hidden, past=None):
        """(logits [n_ids, n_vocab], the keys and values after them)."""
        session = self.sessions[-1 if past else 1]
        given = {"input_ids": numpy.array([ids], numpy.int64), "encoder_hidden_states": hidden,
                 "encoder_attention_mask": numpy.ones(hidden.shape[:2], numpy.int64),
                 "use_cache_branch": numpy.array([past is not None])}
        fed = {}
        for value in session.get_inputs():
            if value.name in given:
                fed[value.name] = given[value.name]
            elif past:
                fed[value.name] = past[value.name.replace("past_key_values", "present")]
            else:
                fed[value.name] = numpy.zeros((1, value.shape[1], 0, value.shape[3]), numpy.float32)
        out = dict(zip([v.name for v in session.get_outputs()], session.run(None, fed)))
        # with a past, encoder keys and values do not come back, or come back empty from the merged graph
        kept = {name: v for name, v in out.items() if past is None or ".encoder." not in name}
        return out["logits"][0], {**(past or {}), **kept}


def check(export, source):
    """The export against the checkpoint's goldens."""
    golden = json.loads((source / "golden.json").read_text())
    rows = numpy.fromfile(source / "encoder.f32", "<f4").reshape(-1, golden["d_model"])
    logits = numpy.fromfile(source / "logits.f32", "<f4").reshape(-1, make_t5.N_ROWS, golden["n_vocab"])
    worst, at = 0.0, 0
    for one, wanted in zip(golden["inputs"], logits):
        hidden = export.encode(one["ids"])
        part = hidden[0, ::one["encoder_stride"]]
        worst = max(worst, abs(part - rows[at:at + len(part)]).max() / numpy.ptp(part))
        at += len(part)
        ids, every = golden["decoder_ids"][:one["n_decoder"]], one["n_decoder"] // make_t5.N_ROWS
        whole, past = export.decode(ids, hidden)
        steps, past = export.decode(ids[:3], hidden)
        for token in ids[3:]:
            row, past = export.decode([token], hidden, past)
            steps = numpy.concatenate([steps, row])
        for made in (whole, steps):
            worst = max(worst, abs(made[every - 1::every] - wanted).max() / one["range"])
    print(f"  {worst:.1e} of range from torch at most")
    if worst > MAX_GAP:
        raise SystemExit("which is too much")


def make(name, folder):
    from optimum.exporters.onnx import main_export
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{name}:", flush=True)
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        source = CHECKPOINTS / "codet5" if name == "codet5-split" else smaller_checkpoint(work / "hf")
        main_export(str(source), str(work / "onnx"), task="text2text-generation-with-past", do_validation=False,
                    library_name="transformers")
        files = SPLIT if name == "codet5-split" else MERGED
        for file in (*files, "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(work / "onnx" / file, folder / file)
        for file in () if name == "codet5-split" else ("golden.json", "encoder.f32", "logits.f32"):
            shutil.copy(source / file, folder / file)
        export = Export(folder, files)
        check(export, source)
        (folder / "inputs.txt").write_text("".join(
            f"{file}\ninputs\n{describe(session.get_inputs())}outputs\n{describe(session.get_outputs())}"
            for file, session in zip(files, export.sessions)))
    print(f"  {sum(f.stat().st_size for f in folder.iterdir())} bytes: {', '.join(sorted(f.name for f in folder.iterdir()))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ("codet5-split", "t5-v1.1-merged")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/t5-exports")
    args = parser.parse_args()
    unknown = set(args.names) - set(names)
    if unknown:
        parser.error(f"no export named {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    for name in args.names or names:
        make(name, args.output / name)


if __name__ == "__main__":
    main()
