# SPDX-License-Identifier: Apache-2.0
"""What the 4-bit exports of make_exports.py answer when their activations stay f32.

  python tests/golden/make_exact.py

onnxruntime-genai's builder asks for 8-bit activations (accuracy_level 4), which round differently on each
machine. Here each MatMulNBits gets accuracy_level 1 (f32), and the same prompt gives exact.f32 beside
logits.f32, of the same shape: what a converter that keeps the weights must reproduce. Made with onnx
1.23.2 and onnxruntime 1.31.1.
"""
import pathlib

import numpy
import onnx
import onnxruntime

EXPORTS = pathlib.Path(__file__).resolve().parent / "exports"

for directory in sorted(EXPORTS.glob("*-gqa-int4*")):
    model = onnx.load(directory / "model.onnx")
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = numpy.fromfile(directory / "ids.i32", numpy.int32).astype(numpy.int64)[None]
    feeds = {"input_ids": ids, "attention_mask": numpy.ones_like(ids)}
    for value in session.get_inputs():
        if value.name.startswith("past_key_values"):
            feeds[value.name] = numpy.zeros((1, value.shape[1], 0, 16), numpy.float32)
    logits = session.run(["logits"], feeds)[0][0]
    logits.astype(numpy.float32).tofile(directory / "exact.f32")
    golden = numpy.fromfile(directory / "logits.f32", numpy.float32).reshape(logits.shape)
    worst = numpy.abs(logits - golden).max() / (logits.max() - logits.min())
    print(f"{directory.name}: {logits.shape}, 8-bit activations are off by {worst:.1e} of the range")
