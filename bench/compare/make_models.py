# SPDX-License-Identifier: Apache-2.0
"""Makes the two models of the comparison in the form each peer reads, all from the same weights.

  .deps/peers/hf/bin/python bench/compare/make_models.py [--kvern PATH] [-o FOLDER] [NAME...]

NAME: `smollm2-135m` (dequantised from the default GGUF) and `qwen2.5-0.5b` (seeded random weights in
the shape of Qwen2.5-0.5B, with the other model's tokenizer, as speed needs no sense). For each, under
the output folder:

  NAME/hf        config.json, bf16 safetensors, tokenizer files      kvern convert and the exporters
  NAME/gguf      f16.gguf and q4_0.gguf                              llama.cpp
  NAME/genai     int4, groups of 32, accuracy level 4                onnxruntime-genai's model builder
  NAME/openvino  int4, groups of 64, and OpenVINO's tokenizer        optimum-intel
  NAME/kvern     Q4_1 as it is in the GGUF; the other with --weights q4 --table q4 (symmetric, groups of 64)   kvern convert

The embedding table, which is the output layer too, decides much of decode. SmolLM2's has 8 bit in kvern's
GGUF, and so has it in the forms of llama.cpp and OpenVINO, whose default this is; the builder of
onnxruntime-genai makes 4 bit. In the other model it has 4 bit everywhere.

The exporters run in their peer's environment (setup.sh). What is there already is not made again, except a kvern
form that this kvern does not read.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
GGUF = ROOT / ".deps/models/SmolLM2-135M-Instruct.Q4_1.gguf"
PEERS = ROOT / ".deps/peers"
NAMES = ("smollm2-135m", "qwen2.5-0.5b")
QWEN_SHAPE = dict(vocab_size=151936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
                  num_attention_heads=14, num_key_value_heads=2, max_position_embeddings=32768,
                  rope_theta=1000000.0, rms_norm_eps=1e-6, tie_word_embeddings=True,
                  bos_token_id=1, eos_token_id=2)


def make_hf(name, folder):
    """The checkpoint, in bf16: the exporters quantise it themselves."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
    if name == "smollm2-135m":
        model = AutoModelForCausalLM.from_pretrained(
            str(GGUF.parent), gguf_file=GGUF.name, dtype=torch.bfloat16)
        model.config._name_or_path = name
    else:
        torch.manual_seed(1)
        config = Qwen2Config(**QWEN_SHAPE, initializer_range=0.02)
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
        for parameter_name, tensor in model.named_parameters():
            if parameter_name.endswith("bias"):
                tensor.data.normal_(0, 0.1)
    tokenizer = AutoTokenizer.from_pretrained(str(GGUF.parent), gguf_file=GGUF.name)
    tokenizer.save_pretrained(folder)
    # transformers writes the decoder of a SentencePiece model, which this is not
    path = folder / "tokenizer.json"
    tokenizer_json = json.loads(path.read_text())
    tokenizer_json["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                 "use_regex": True}
    path.write_text(json.dumps(tokenizer_json, ensure_ascii=False))
    model.save_pretrained(folder)


def gguf_name(name):
    """A checkpoint's tensor name -> GGUF's."""
    fixed = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in fixed:
        return fixed[name]
    _, _, layer, rest = name.split(".", 3)
    rest, kind = rest.rsplit(".", 1)
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
             "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down"}
    return f"blk.{layer}.{parts[rest]}.{kind}"


def permute(rows, n_heads):
    """llama.cpp wants the rotary pairs of a Llama's q and k rows to be neighbours."""
    n_rows, width = rows.shape
    return rows.reshape(n_heads, 2, n_rows // n_heads // 2, width).swapaxes(1, 2).reshape(rows.shape)


def make_f16_gguf(name, hf, path):
    """The checkpoint as GGUF, with the tokenizer of the default model's own file."""
    import gguf
    import numpy as np
    from safetensors import safe_open
    from transformers import AutoConfig
    config = AutoConfig.from_pretrained(hf)
    arch = "llama" if config.model_type == "llama" else "qwen2"
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    fields = gguf.GGUFReader(GGUF).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    n_pad = config.vocab_size - len(tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens + [f"<|pad_{i}|>" for i in range(n_pad)])
    writer.add_token_types(types + [int(gguf.TokenType.UNUSED)] * n_pad)
    writer.add_token_merges(fields["tokenizer.ggml.merges"].contents())
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    with safe_open(hf / "model.safetensors", "pt") as tensors:
        for key in tensors.keys():
            value = tensors.get_tensor(key).float().numpy()
            if arch == "llama" and ".q_proj." in key:
                value = permute(value, config.num_attention_heads)
            elif arch == "llama" and ".k_proj." in key:
                value = permute(value, config.num_key_value_heads)
            value = value.astype(np.float16 if value.ndim == 2 else np.float32)
            writer.add_tensor(gguf_name(key), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


QUANTIZE = """
import sys, llama_cpp
params = llama_cpp.llama_model_quantize_default_params()
params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
params.nthread = 2
params.pure = sys.argv[3] == "pure"
if llama_cpp.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), params) != 0:
    sys.exit("llama_model_quantize failed")
"""


def run(*command):
    """One exporter; its words go to stderr, so that stdout stays ours."""
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)


def opens(kvern, folder):
    """Whether this kvern reads the model: one that an older kvern made may have another form."""
    return subprocess.run([kvern, "inspect", folder], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def make(name, base, kvern):
    """All forms of one model. Each is made beside its place and moved there when whole."""
    hf = base / "hf"
    is_smollm2 = name == "smollm2-135m"

    def gguf(folder):
        folder.mkdir()
        make_f16_gguf(name, hf, folder / "f16.gguf")
        run(PEERS / "llama/bin/python", "-c", QUANTIZE, folder / "f16.gguf", folder / "q4_0.gguf",
            "mixed" if is_smollm2 else "pure")

    def genai(folder):
        run(PEERS / "genai/bin/python", "-m", "onnxruntime_genai.models.builder", "-i", hf, "-o", folder,
            "-p", "int4", "-e", "cpu", "-c", base / "cache", "--extra_options",
            "int4_block_size=32", "int4_accuracy_level=4")

    def openvino(folder):
        run(PEERS / "openvino/bin/optimum-cli", "export", "openvino", "-m", hf, "--task",
            "text-generation-with-past", "--weight-format", "int4", "--group-size", "64", "--ratio",
            "1.0", "--sym", *([] if is_smollm2 else ["--all-layers"]), folder)

    def kvern_model(folder):
        source = [GGUF] if is_smollm2 else [hf, "--weights", "q4", "--table", "q4"]
        run(kvern, "convert", *source, "-o", folder, "--name", name, "--quiet")

    for form, make_form in (("hf", lambda folder: make_hf(name, folder)), ("gguf", gguf),
                            ("genai", genai), ("openvino", openvino), ("kvern", kvern_model)):
        if form == "kvern" and not opens(kvern, base / form):
            shutil.rmtree(base / form, ignore_errors=True)
        if (base / form).exists():
            print(f"{name}/{form}: ready")
            continue
        part = base / (form + ".part")
        shutil.rmtree(part, ignore_errors=True)
        base.mkdir(parents=True, exist_ok=True)
        make_form(part)
        part.rename(base / form)
        print(f"{name}/{form}: made", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    parser.add_argument("--kvern", default=str(ROOT / "build/kvern"), help="the command")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / ".deps/models/compare")
    args = parser.parse_args()
    for name in args.names:
        if name not in NAMES:
            parser.error(f"no model named {name}; there are {', '.join(NAMES)}")
        make(name, args.output.resolve() / name, args.kvern)


if __name__ == "__main__":
    main()
