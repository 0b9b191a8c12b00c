# SPDX-License-Identifier: Apache-2.0
"""test_ops_python.py SOURCE BUILD: libkvern_ops.so in Python's onnxruntime.

Runs the graph of a converted model (docs/graph.md) over numpy arrays, with no part of kvern but the
operator library: the prompt in one prefill, then greedy decode steps, two sequences in one run. The
logits must be those of transformers (golden.json), the tokens too; of encoders the hidden states
(hidden.f32), all texts in one run. Exit status 77: skipped.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import onnxruntime
except ImportError as problem:
    print(f"skipped: {problem}")
    sys.exit(77)

SOURCE, BUILD = sys.argv[1:3]
sys.path.insert(0, os.path.join(SOURCE, "tests", "golden"))
import seeded  # noqa: E402: beside the goldens
TOLERANCE = 2e-3  # of the logits' range
BLOCK = 16
N_BLOCKS = 32
N_DECODE = 20


def open_session(directory):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(os.path.join(BUILD, "libkvern_ops.so"))
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(
        os.path.join(directory, "model.onnx"), options, providers=["CPUExecutionProvider"])


def new_pool(config):
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    block_bytes = 2 * config["num_key_value_heads"] * BLOCK * head_size * 4  # f32 keys and values
    shape = (config["num_hidden_layers"], N_BLOCKS, block_bytes)
    # bound as a device value: the operator writes into it, and a copy would lose that
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.uint8))


def run(session, pool, sequences):
    """sequences: (new ids, tokens before them, blocks). Returns each one's last logits."""
    counts = [len(ids) for ids, _, _ in sequences]
    ends = np.cumsum(counts)
    width = max(len(blocks) for _, _, blocks in sequences)
    feeds = {
        "input_ids": np.array([i for ids, _, _ in sequences for i in ids], dtype=np.int64),
        "positions": np.concatenate(
            [np.arange(before, before + len(ids)) for ids, before, _ in sequences]).astype(np.int64),
        "query_start": np.concatenate([[0], ends]).astype(np.int32),
        "context_len": np.array([b + n for n, (_, b, _) in zip(counts, sequences)], dtype=np.int32),
        "block_table": np.array([b + [0] * (width - len(b)) for _, _, b in sequences], dtype=np.int32),
        "output_rows": (ends - 1).astype(np.int64),
        "logit_rows": np.arange(len(ends), dtype=np.int64),
    }
    binding = session.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_ortvalue_input("kv_pool", pool)
    binding.bind_output("logits")
    session.run_with_iobinding(binding)
    return binding.copy_outputs_to_cpu()[0]


def check(name, directory):
    folder = os.path.join(SOURCE, "tests", "golden", "tiny", name)
    with open(os.path.join(folder, "golden.json")) as file:
        prompts = json.load(file)["prompts"]
    with open(os.path.join(folder, "config.json")) as file:
        pool = new_pool(json.load(file))
    session = open_session(directory)
    per_sequence = N_BLOCKS // len(prompts)
    blocks = [list(range(i * per_sequence, (i + 1) * per_sequence)) for i in range(len(prompts))]
    lengths = [len(p["ids"]) for p in prompts]
    assert max(lengths) + N_DECODE <= per_sequence * BLOCK

    # all prompts in one packed run
    logits = run(session, pool, [(p["ids"], 0, b) for p, b in zip(prompts, blocks)])
    for prompt, row in zip(prompts, logits):
        worst = np.abs(row - np.array(prompt["logits"])).max() / prompt["range"]
        print(f"  {name} {prompt['name']}: worst logit off by {worst:.1e} of the range")
        assert worst <= TOLERANCE, f"{name} {prompt['name']}: off by {worst}"

    # one token of each sequence a step, over the keys and values that the pool has kept
    for step in range(N_DECODE):
        tokens = logits.argmax(axis=1)
        for prompt, token in zip(prompts, tokens):
            expected = prompt["greedy"][step]
            assert token == expected, f"{name} {prompt['name']} step {step}: {token} != {expected}"
        logits = run(session, pool,
                     [([int(t)], n + step, b) for t, n, b in zip(tokens, lengths, blocks)])


def convert(source, directory):
    if os.path.exists(os.path.join(source, "weights.json")):  # its weights are a seed
        seeded.restore(pathlib.Path(source), pathlib.Path(directory + "-hf"))
        source = directory + "-hf"
    subprocess.run([os.path.join(BUILD, "kvern"), "convert", "--quiet", "--weights", "f32", "-o", directory, source],
                   check=True, stdout=subprocess.DEVNULL)


def check_encoder(name, directory):
    folder = os.path.join(SOURCE, "tests", "golden", "exports", name)
    ids, lengths = (np.fromfile(os.path.join(folder, part), dtype=np.int32) for part in ("ids.i32", "lengths.i32"))
    expected = np.fromfile(os.path.join(folder, "hidden.f32"), dtype=np.float32).reshape(len(ids), -1)
    hidden, = open_session(directory).run(None, {
        "input_ids": ids.astype(np.int64),
        "positions": np.concatenate([np.arange(n) for n in lengths]).astype(np.int64),
        "query_start": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
    })
    worst = np.abs(hidden - expected).max() / np.abs(expected).max()
    print(f"  {name}: worst value off by {worst:.1e} of the range")
    assert worst <= 1e-4, f"{name}: off by {worst}"


def main():
    print(f"onnxruntime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as work:
        for name in ("llama-f32", "qwen2-f16-sharded", "qwen3-bf16"):
            directory = os.path.join(work, name)
            convert(os.path.join(SOURCE, "tests", "golden", "tiny", name), directory)
            check(name, directory)
        for name in ("bert-checkpoint", "roberta-checkpoint"):
            directory = os.path.join(work, name)
            convert(os.path.join(SOURCE, "tests", "golden", "exports", name), directory)
            check_encoder(name, directory)


main()
