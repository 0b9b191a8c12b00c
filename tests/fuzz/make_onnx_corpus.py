# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz_onnx_graph: exports of two models of one layer, a few kB each, tensors inside.

  PYTHONHASHSEED=0 python tests/fuzz/make_onnx_corpus.py

with onnxruntime-genai 0.18.0, transformers 5.18.0, torch 2.13.0 and onnx 1.23.2 (the peer `genai` of
bench/compare/setup.sh). What a graph can hold beyond that (subgraphs, numbers spelled out) is made by hand.
"""
import pathlib
import sys
import tempfile

import numpy
import onnx
import torch
from onnx import TensorProto, helper
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE / "corpus" / "onnx_graph"
SIZES = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
             vocab_size=40, max_position_embeddings=8, tie_word_embeddings=True, rms_norm_eps=1e-6)
MODELS = {
    "qwen2-int4": (Qwen2ForCausalLM(Qwen2Config(**SIZES)), "int4"),
    "qwen3-fp32": (Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8)), "fp32"),
}


def by_hand():
    """An If with a subgraph, tensors of every spelling, symbolic dims."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "inner"], ["y"])], "then", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("inner", TensorProto.FLOAT, [2], [1.0, 2.0])])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "else", [],
                              [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)])
    nodes = [helper.make_node("Constant", [], ["axes"], value_ints=[0, -1]),
             helper.make_node("Constant", [], ["one"], value_int=1),
             helper.make_node("If", ["flag"], ["out"], "choose", then_branch=inner, else_branch=other),
             helper.make_node("Reshape", ["out", "shape"], ["logits"], "last", allowzero=1)]
    graph = helper.make_graph(
        nodes, "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
         helper.make_tensor_value_info("flag", TensorProto.BOOL, [1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1]),
         helper.make_tensor("halves", TensorProto.FLOAT16, [2], numpy.array([1, 2], numpy.float16)),
         helper.make_tensor("bytes", TensorProto.UINT8, [3], [1, 2, 255])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def export(model, precision):
    sys.path.insert(0, str(HERE.parent / "golden"))
    import make_exports
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as name:
        work = pathlib.Path(name)

        def make_checkpoint(_family, folder):
            make_exports.randomize(model, 1)
            model.save_pretrained(folder)
            make_exports.make_tokenizer("qwen2", 288).save_pretrained(folder)

        make_exports.make_checkpoint = make_checkpoint
        make_exports.build_genai("", precision, "cpu")(work / "out", work / "work")
        return onnx.load(work / "out" / "model.onnx")


OUT.mkdir(parents=True, exist_ok=True)
(OUT / "by-hand").write_bytes(by_hand().SerializeToString())
for file, (network, kind) in MODELS.items():
    (OUT / file).write_bytes(export(network, kind).SerializeToString())
