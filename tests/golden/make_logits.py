# SPDX-License-Identifier: Apache-2.0
"""Goldens of SmolLM2-135M's logits and greedy answers: what an f32 run of the weights in the GGUF gives.

  python tests/golden/make_logits.py [GGUF] [-o tests/golden/logits/smollm2-135m.json]

Needs torch 2.13, transformers 4.57 and gguf 0.19. transformers dequantises the file to f32; before
any golden is written each tensor is compared with gguf's own dequantisation (query and key rows put
back into the order of a Hugging Face checkpoint), so a golden can not inherit a loader's mistake.

The JSON (jansson reads it): {"model", "n_vocab", "n_layers", "logit_ids": [1024 ids], "prompts": [
  {"name", "ids", "logits": [one for each of logit_ids], "max", "min", "range", "argmax", "std",
   "greedy": [64 ids], "margin": [64 gaps]}]}.
`logits` are those after the last token of `ids`. `range` is max - min over the whole vocabulary; the
test's bound is a share of it. `greedy` is plain argmax 64 times, with no stop at an end token.
`margin` holds, for each greedy step, the gap between the best and the second logit: a run that
rounds differently may part from `greedy` only where the margin is small.
"""
import argparse
import json
import pathlib

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_GGUF = ROOT / ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
N_GREEDY = 64
N_LOGITS = 1024

CODE = '''def merge(left, right):
    """Merge two sorted lists into one sorted list."""
    out, i, j = [], 0, 0
    while i < len(left) and j < len(right):
'''
STORY = (
    "A mill stands where the river bends. Every morning the miller opens the gate, the water falls on "
    "the wheel, and the stone begins to turn. Farmers bring rye, wheat and oats, and each sack has a "
    "name painted on it. ")


def prompts(tokenizer):
    """The prompts as (name, ids): text is tokenised here so that the test needs no tokenizer."""
    chat = [{"role": "user", "content": "What is a hand mill used for?"}]
    encode = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
    long_ids = encode(STORY * 20 + CODE * 6)
    assert len(long_ids) >= 700, len(long_ids)
    return [
        ("english", encode("The capital of France is")),
        ("code", encode(CODE)),
        ("unicode", encode("Norsk: kvern. 中文：磨盘。 Ελληνικά: μύλος. Emoji: 🌾🍞 – naïve café")),
        ("one_token", encode("The")),
        ("end_token", [2]),
        ("chat", encode(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))),
        ("block_edge", encode(STORY)[:48]),
        ("long_700", long_ids[:700]),
    ]


def hf_name(name):
    """A GGUF tensor name -> the Llama checkpoint's name."""
    fixed = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in fixed:
        return fixed[name]
    _, layer, rest = name.split(".", 2)
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj"}
    return f"model.layers.{layer}.{parts[rest.removesuffix('.weight')]}.weight"


def unpermute(rows, n_heads):
    """llama.cpp stores q and k rows so that rotary pairs are neighbours; checkpoints keep halves."""
    n_rows, width = rows.shape
    return rows.reshape(n_heads, n_rows // n_heads // 2, 2, width).swapaxes(1, 2).reshape(rows.shape)


def check_weights(model, path):
    """Every tensor of the file must equal the model's, bit for bit; so must the constants it runs by."""
    state = model.state_dict()
    config = model.config
    reader = gguf.GGUFReader(path)
    theta = reader.get_field("llama.rope.freq_base").contents()
    epsilon = reader.get_field("llama.attention.layer_norm_rms_epsilon").contents()
    if config.rope_theta != theta or config.rms_norm_eps != epsilon:
        raise SystemExit(f"rope theta {config.rope_theta} != {theta} or rms epsilon "
                         f"{config.rms_norm_eps} != {epsilon}")
    n_checked = 0
    for tensor in reader.tensors:
        want = gguf.dequantize(tensor.data, tensor.tensor_type)
        if tensor.name.endswith("attn_q.weight"):
            want = unpermute(want, config.num_attention_heads)
        elif tensor.name.endswith("attn_k.weight"):
            want = unpermute(want, config.num_key_value_heads)
        got = state[hf_name(tensor.name)].numpy()
        if got.shape != want.shape or not np.array_equal(got, want):
            raise SystemExit(f"{tensor.name}: transformers' weights differ from gguf.dequantize")
        n_checked += 1
    print(f"{n_checked} tensors equal gguf.dequantize")


@torch.no_grad()
def golden(model, name, ids, logit_ids):
    """Last-token logits at logit_ids and the greedy answer of one prompt."""
    out = model(torch.tensor([ids]), use_cache=True)
    logits = first = out.logits[0, -1]
    greedy, margin = [], []
    for _ in range(N_GREEDY):
        best = torch.topk(logits, 2)
        greedy.append(int(best.indices[0]))
        margin.append(round(float(best.values[0] - best.values[1]), 4))
        out = model(torch.tensor([[greedy[-1]]]), past_key_values=out.past_key_values, use_cache=True)
        logits = out.logits[0, -1]
    top, low = float(first.max()), float(first.min())
    print(f"{name:12} {len(ids):4} tokens, logits {low:.2f} .. {top:.2f}, "
          f"smallest margin {min(margin):.4f}")
    return {"name": name, "ids": ids, "logits": [round(float(first[i]), 5) for i in logit_ids],
            "max": top, "min": low, "range": top - low, "std": float(first.std()),
            "argmax": int(first.argmax()), "greedy": greedy, "margin": margin}


def write_json(path, document):
    """One line for each prompt: small, and a change shows as a changed line."""
    head = {k: v for k, v in document.items() if k != "prompts"}
    lines = [json.dumps(p, separators=(",", ":")) for p in document["prompts"]]
    text = json.dumps(head, separators=(",", ":"))[:-1]
    path.write_text(text + ',"prompts":[\n' + ",\n".join(lines) + "\n]}\n")
    print(f"{path}: {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gguf", nargs="?", type=pathlib.Path, default=DEFAULT_GGUF)
    parser.add_argument("-o", "--output", type=pathlib.Path,
                        default=ROOT / "tests/golden/logits/smollm2-135m.json")
    args = parser.parse_args()
    torch.manual_seed(0)
    folder, file = str(args.gguf.resolve().parent), args.gguf.name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    check_weights(model, args.gguf)
    n_vocab = model.config.vocab_size
    logit_ids = [i * n_vocab // N_LOGITS for i in range(N_LOGITS)]
    write_json(args.output, {
        "model": file, "n_vocab": n_vocab, "n_layers": model.config.num_hidden_layers,
        "logit_ids": logit_ids,
        "prompts": [golden(model, name, ids, logit_ids) for name, ids in prompts(tokenizer)]})


if __name__ == "__main__":
    main()
