# SPDX-License-Identifier: Apache-2.0
"""Makes corpus/export_graph and corpus/export_config out of the exports in build/golden.

Weights are left out of the graphs, and most nodes, so that a mutation meets structure. Run in this
folder, after a build; needs Python 3.11 only.
"""
import pathlib
import shutil

GOLDEN = pathlib.Path("../../build/golden/exports")
GRAPHS = {
    "gqa.onnx": "qwen2-gqa-f32/model.onnx",  # external data
    "merged.onnx": "llama-merged/decoder_model_merged.onnx",  # subgraphs
    "bert.onnx": "bert-sentence/model.onnx",
    "t5-first.onnx": "../t5-exports/codet5-split/decoder_model.onnx",
    "t5-next.onnx": "../t5-exports/codet5-split/decoder_with_past_model.onnx",
    "t5-merged.onnx": "../t5-exports/t5-v1.1-merged/decoder_model_merged.onnx",
}
CONFIGS = {"llama.json": "llama-merged/config.json", "genai.json": "qwen2-gqa-f32/genai_config.json"}
N_NODES = 40  # kept of each graph
MODEL_GRAPH, GRAPH_NODE, GRAPH_TENSOR, NODE_ATTRIBUTE, ATTRIBUTE_GRAPH = 7, 1, 5, 5, 6
TENSOR_EXTERNAL = 13


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def write_varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def fields(data):
    """(number, all bytes, content or None) of each field of a message."""
    at = 0
    while at < len(data):
        begin = at
        tag, at = read_varint(data, at)
        content = None
        if tag & 7 == 2:
            size, at = read_varint(data, at)
            content, at = data[at : at + size], at + size
        elif tag & 7 == 0:
            _, at = read_varint(data, at)
        else:
            at += 4 if tag & 7 == 5 else 8
        yield tag >> 3, data[begin:at], content


def field(number, content):
    return write_varint(number << 3 | 2) + write_varint(len(content)) + content


def change(data, number, function):
    """The message with each field of that number as the function gives it."""
    return b"".join(
        field(n, function(content)) if n == number else whole for n, whole, content in fields(data)
    )


def strip(graph):
    """Takes inline weights away and nodes after the first ones, here and in subgraphs."""
    out = b""
    n_nodes = 0
    for number, whole, content in fields(graph):
        if number == GRAPH_TENSOR:
            if not any(n == TENSOR_EXTERNAL for n, _, _ in fields(content)):
                continue
        elif number == GRAPH_NODE:
            n_nodes += 1
            attributes = lambda a: change(a, ATTRIBUTE_GRAPH, strip)
            if n_nodes > N_NODES and b"then_branch" not in content:
                continue
            whole = field(GRAPH_NODE, change(content, NODE_ATTRIBUTE, attributes))
        out += whole
    return out


def main():
    graphs = pathlib.Path("corpus/export_graph")
    configs = pathlib.Path("corpus/export_config")
    graphs.mkdir(parents=True, exist_ok=True)
    configs.mkdir(parents=True, exist_ok=True)
    for name, source in GRAPHS.items():
        (graphs / name).write_bytes(change((GOLDEN / source).read_bytes(), MODEL_GRAPH, strip))
    for name, source in CONFIGS.items():
        shutil.copyfile(GOLDEN / source, configs / name)


main()
