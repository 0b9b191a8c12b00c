# SPDX-License-Identifier: Apache-2.0
"""CodeT5-small's exact shape in the form each peer of summaries.py wants, under .deps/models/compare/codet5-small.

  python3 bench/compare/make_summary_models.py [--kvern PATH] [-o FOLDER]

  hf               config.json, f32 safetensors, vocab.json and merges.txt, as CodeT5 has them; with the seeded
                   random weights of tests/golden/t5/codet5-small, as speed needs no sense
  openvino-int8    weights in 8 bits, as optimum-intel makes them                           optimum-intel
  openvino-f32     the same export without that
  ctranslate2-int8, ctranslate2-f32                                          ctranslate2's converter
  kvern            kvern convert --weights q8; only where --kvern is given

The tokenizer is a byte-level BPE of 32,100 entries trained on Python's standard library; as it has
the special tokens and file names of CodeT5, what reads one reads the other.
Each step runs in its peer's environment (setup.sh). What is there already is not made again.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / ".deps/peers"
SOURCE = ROOT / "tests/golden/t5/codet5-small"
CONFIG = json.loads((SOURCE / "config.json").read_text())
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
N_EXTRA_IDS = 100  # the last rows of CodeT5's table


def train_tokenizer(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    library = pathlib.Path(sysconfig.get_paths()["stdlib"])
    texts = (p.read_text(encoding="utf-8", errors="replace") for p in sorted(library.rglob("*.py"))
             if not {"site-packages", "test"} & set(p.parts))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"] - N_EXTRA_IDS, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    n_made = tokenizer.get_vocab_size()
    if n_made != CONFIG["vocab_size"] - N_EXTRA_IDS:
        raise SystemExit(f"the tokenizer has {n_made} entries, as the texts in {library} are too few")
    tokenizer.model.save(str(folder))
    extra = [f"<extra_id_{N_EXTRA_IDS - 1 - i}>" for i in range(N_EXTRA_IDS)]
    named = dict(bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>",
                 unk_token="<unk>", mask_token="<mask>", additional_special_tokens=extra)
    (folder / "added_tokens.json").write_text(json.dumps({t: n_made + i for i, t in enumerate(extra)}) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(named) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {**named, "add_prefix_space": False, "model_max_length": 512, "tokenizer_class": "RobertaTokenizer"}) + "\n")


def hf_form(_base, folder):
    sys.path.insert(0, str(ROOT / "tests/golden"))
    import seeded
    seeded.restore(SOURCE, folder)
    for golden in ("golden.json", "encoder.f32", "logits.f32"):
        (folder / golden).unlink()
    train_tokenizer(folder)


def openvino_form(weights):
    def make(base, folder):
        subprocess.run([sys.executable, "-m", "optimum.commands.optimum_cli", "export", "openvino", "-m", base / "hf",
                        "--task", "text2text-generation-with-past", "--weight-format", weights, folder],
                       check=True, stdout=sys.stderr)
    return make


def ctranslate2_form(quantization):
    def make(base, folder):
        from ctranslate2.converters import TransformersConverter
        TransformersConverter(str(base / "hf")).convert(str(folder), quantization=quantization)
    return make


# form: (environment, how it is made); all others read hf
FORMS = {"hf": ("hf", hf_form),
         "openvino-int8": ("openvino", openvino_form("int8")), "openvino-f32": ("openvino", openvino_form("fp32")),
         "ctranslate2-int8": ("ctranslate2", ctranslate2_form("int8")),
         "ctranslate2-f32": ("ctranslate2", ctranslate2_form("float32"))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvern", help="the command")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / ".deps/models/compare/codet5-small")
    parser.add_argument("--form", choices=FORMS, help="make this one only, in this very environment")
    args = parser.parse_args()
    base = args.output.resolve()
    if args.form:
        FORMS[args.form][1](base, base / (args.form + ".part"))
        return
    base.mkdir(parents=True, exist_ok=True)
    commands = {form: [PEERS / environment / "bin/python", "-W", "ignore", __file__, "-o", base, "--form", form]
                for form, (environment, _) in FORMS.items()}
    if args.kvern:
        commands["kvern"] = [args.kvern, "convert", base / "hf", "-o", base / "kvern.part", "--weights", "q8", "--name",
                             "codet5-small", "--quiet"]
    for form, command in commands.items():
        part = base / (form + ".part")
        if (base / form).exists():
            print(f"codet5-small/{form}: ready")
            continue
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run(command, check=True, stdout=sys.stderr)
        part.rename(base / form)
        print(f"codet5-small/{form}: made", flush=True)


if __name__ == "__main__":
    main()
