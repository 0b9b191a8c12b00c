# SPDX-License-Identifier: Apache-2.0
"""Tiny seeded ONNX exports, as exporters leave them, each with the answers ONNX Runtime gives for it.

  PYTHONHASHSEED=0 python tests/golden/make_exports.py [-o tests/golden/exports] [NAME...]

(The hash seed settles the order of initializers that optimum merges as sets.) The two exporters need different
environments, so a run makes the exports whose exporter it finds and names the others:
  optimum-onnx 0.1.0, transformers 4.57.6, torch 2.13.0, sentence-transformers 5.7.0, onnx 1.23.2,
    onnxruntime 1.31.1, tokenizers 0.22.2, accelerate 1.15.0, without which optimum stores tied weights twice
    (the peer `onnx` of bench/compare/setup.sh)
  onnxruntime-genai 0.18.0's model builder, transformers 5.18.0, torch 2.13.0, onnx 1.23.2, onnxruntime 1.31.1
    (the peer `genai` of bench/compare/setup.sh)
README.md lists what each directory is; `inputs.txt` in it names its inputs and outputs with types and shapes. The float
matrices of an export are drawn anew (seeded.py), so that they need not be stored; what is quantised is the exporter's.

Goldens are raw little-endian files, in one run without a past: a decoder's ids.i32 [n_tokens] and logits.f32
[9, n_vocab], of every 4th token from the first to the last ([1, n_vocab] where the export gives the last one's
only), hidden.f32 [n_tokens, hidden] where it gives hidden states, exact.f32 [1, n_vocab] where MatMulNBits rounds its input (the last logits
without that); an encoder's lengths.i32 [3], ids.i32 (the texts joined) and hidden.f32 [all tokens,
hidden], or embedding.f32 [3, hidden] where it pools by itself. Checkpoints for the converter have no
model.onnx, and torch made their goldens.
"""
import argparse
import collections
import importlib.util
import os
import pathlib
import random
import re
import shutil
import string
import subprocess
import sys
import tempfile

import numpy
import onnx
import seeded
import onnxruntime
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_VOCAB = 288
N_PROMPT = 33
LOGITS_STRIDE = 4
HEAD_DIM = 16
MAX_GAP = 1e-5
STORED = ("int4", "gqa-f16")  # whose weights the exporter has rounded, or runs in f16 from end to end
MIN_REDRAWN = 256  # values of a weight
TEXT_LENGTHS = (1, 13, 46)
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
COMMON = dict(num_hidden_layers=2, max_position_embeddings=512, rms_norm_eps=1e-6, vocab_size=N_VOCAB,
              bos_token_id=N_VOCAB - 3, eos_token_id=N_VOCAB - 1, pad_token_id=N_VOCAB - 3)
BERT = dict(num_hidden_layers=2, hidden_size=32, num_attention_heads=2, max_position_embeddings=64,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

# name: (configuration, model class, seed)
CHECKPOINTS = {
    "qwen2": (transformers.Qwen2Config(
        **COMMON, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        rope_theta=1000000.0, tie_word_embeddings=True), transformers.Qwen2ForCausalLM, 2000),
    "llama": (transformers.LlamaConfig(
        **COMMON, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, intermediate_size=80,
        rope_theta=10000.0, tie_word_embeddings=False), transformers.LlamaForCausalLM, 2001),
    "bert": (transformers.BertConfig(
        **BERT, intermediate_size=48, vocab_size=160, type_vocab_size=2), transformers.BertModel, 2002),
    "roberta": (transformers.RobertaConfig(
        **BERT, intermediate_size=48, vocab_size=261, type_vocab_size=1, bos_token_id=0, pad_token_id=1,
        eos_token_id=2), transformers.RobertaModel, 2003),
}


def randomize(model, seed):
    """Weights by fan-in, norms near 1 but not 1, biases not 0, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    tied = getattr(model.config, "tie_word_embeddings", False)
    for name, tensor in sorted(model.named_parameters()):
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("norm.weight") or "LayerNorm.weight" in name:
            tensor.data = 1.0 + 0.2 * noise
        elif name.endswith("bias"):
            tensor.data = 0.3 * noise
        elif "embed" in name:
            tensor.data = (0.3 if tied else 1.0) * noise
        else:
            adds = any(part in name for part in ("o_proj", "down_proj", "lm_head", "output.dense"))
            tensor.data = (2.0 if adds else 1.2) * noise * tensor.shape[1] ** -0.5


def byte_tokenizer(n_vocab, specials, first):
    """Byte-level BPE trained on a text of this repository; `specials` come first or last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - (0 if first else len(specials)), show_progress=False,
                                  special_tokens=specials if first else [],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator([(ROOT / "tests/golden/eval.txt").read_text()], trainer)
    tokenizer.add_special_tokens(specials)
    return tokenizer


def word_pieces(n_vocab):
    """BERT's own form: lower case, WordPiece, [CLS] text [SEP]."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    text = "".join(c for c in (ROOT / "tests/golden/eval.txt").read_text().lower() if c.isascii())
    letters = string.ascii_lowercase + string.digits
    pieces += [*letters, *("##" + c for c in letters), *".,:;!?'\"()-_"]
    # the trainer gives another order in each run; words and endings by how often they occur do not
    words = collections.Counter(re.findall("[a-z]{2,}", text))
    ends = collections.Counter("##" + word[-n:] for word in words.elements() for n in (2, 3) if len(word) > n + 1)
    common = sorted((words + ends).items(), key=lambda item: (-item[1], item[0]))
    pieces += [piece for piece, _ in common[:n_vocab - len(pieces)]]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(pieces[:5])
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return tokenizer


def make_tokenizer(family, n_vocab):
    """The tokenizer of a checkpoint, in transformers' form."""
    if family == "bert":
        return transformers.BertTokenizerFast(tokenizer_object=word_pieces(n_vocab))
    if family == "roberta":
        inner = byte_tokenizer(n_vocab, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], True)
        inner.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        return transformers.PreTrainedTokenizerFast(
            tokenizer_object=inner, bos_token="<s>", cls_token="<s>", pad_token="<pad>", eos_token="</s>",
            sep_token="</s>", unk_token="<unk>", mask_token="<mask>")
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(n_vocab, SPECIALS, False), bos_token=SPECIALS[0],
        pad_token=SPECIALS[0], eos_token=SPECIALS[2])


def make_checkpoint(family, folder, dtype=torch.float32):
    config, model_class, seed = CHECKPOINTS[family]
    tokenizer = make_tokenizer(family, config.vocab_size)
    if len(tokenizer) > config.vocab_size:
        raise SystemExit(f"{family}: {len(tokenizer)} tokens, {config.vocab_size} rows")
    model = model_class(config).eval()
    randomize(model, seed)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def export_optimum(folder, checkpoint, task="text-generation-with-past", **options):
    from optimum.exporters.onnx import main_export
    main_export(str(checkpoint), str(folder), task=task, do_validation=False,
                **{"library_name": "transformers", **options})


def llama_config(checkpoint, use_past_in_inputs, with_positions):
    """Optimum's own description of a Llama export, or that of its releases before 1.14, without positions."""
    from optimum.exporters.onnx.model_configs import LlamaOnnxConfig

    class WithoutPositions(LlamaOnnxConfig):
        @property
        def inputs(self):
            return {name: axes for name, axes in super().inputs.items() if name != "position_ids"}

    kind = LlamaOnnxConfig if with_positions else WithoutPositions
    return kind(transformers.AutoConfig.from_pretrained(checkpoint), task="text-generation", use_past=True,
                use_past_in_inputs=use_past_in_inputs)


def qwen2_f32(folder, work):
    make_checkpoint("qwen2", work)
    export_optimum(folder, work)


def qwen2_f16(folder, work):
    make_checkpoint("qwen2", work, torch.float16)
    export_optimum(folder, work, dtype="fp16")


def llama_merged(folder, work):
    """What optimum wrote before it had one graph for both cases: two exports joined by an If."""
    from optimum.onnx import merge_decoders
    make_checkpoint("llama", work / "hf")
    for i, name in enumerate(("decoder", "decoder_with_past")):
        export_optimum(work / name, work / "hf", custom_onnx_configs={
            "model": llama_config(work / "hf", i == 1, True)})
    shutil.copytree(work / "decoder", folder, dirs_exist_ok=True)
    (folder / "model.onnx").unlink()
    merge_decoders(work / "decoder/model.onnx", work / "decoder_with_past/model.onnx",
                   save_path=folder / "decoder_model_merged.onnx")


def llama_no_positions(folder, work):
    make_checkpoint("llama", work)
    export_optimum(folder, work, custom_onnx_configs={"model": llama_config(work, True, False)})


def bert_f32(folder, work):
    make_checkpoint("bert", work)
    export_optimum(folder, work, task="feature-extraction")


def bert_sentence(folder, work):
    """sentence-transformers' form: mean pooling and normalisation inside the graph."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer
    make_checkpoint("bert", work / "bert")
    module = Transformer(str(work / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[module, Pooling(32, "mean"), Normalize()], device="cpu").save(str(work / "st"))
    export_optimum(folder, work / "st", task="feature-extraction", library_name="sentence_transformers")
    for part in ("modules.json", "sentence_bert_config.json", "1_Pooling"):
        if (work / "st" / part).is_dir():
            shutil.copytree(work / "st" / part, folder / part)
        else:
            shutil.copy(work / "st" / part, folder / part)


def bert_checkpoint(folder, _work):
    make_checkpoint("bert", folder)


def roberta_checkpoint(folder, _work):
    make_checkpoint("roberta", folder)


def build_genai(family, precision, provider, *extra):
    def build(folder, work):
        make_checkpoint(family, work / "hf")
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(work / "hf"), "-o",
                   str(folder), "-p", precision, "-e", provider, "-c", str(work / "cache")]
        # it would write the commit of the repository that its environment stands in into the graph
        done = subprocess.run(command + (["--extra_options", *extra] if extra else []), text=True,
                              env={**os.environ, "GIT_DIR": os.devnull}, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise SystemExit(f"{folder.name}: the builder failed:\n{done.stdout[-2000:]}")
        for name in ("config.json", "generation_config.json"):  # an export of the hub carries them
            shutil.copy(work / "hf" / name, folder / name)
    return build


# name: (the exporter's package, how it is made)
EXPORTS = {
    "qwen2-f32": ("optimum", qwen2_f32),
    "qwen2-f16": ("optimum", qwen2_f16),
    "llama-merged": ("optimum", llama_merged),
    "llama-no-positions": ("optimum", llama_no_positions),
    "bert-f32": ("optimum", bert_f32),
    "bert-sentence": ("optimum", bert_sentence),
    "bert-checkpoint": ("optimum", bert_checkpoint),
    "roberta-checkpoint": ("optimum", roberta_checkpoint),
    "qwen2-gqa-f32": ("onnxruntime_genai", build_genai("qwen2", "fp32", "cpu")),
    "qwen2-gqa-int4": ("onnxruntime_genai", build_genai("qwen2", "int4", "cpu")),
    "llama-gqa-int4-last": ("onnxruntime_genai", build_genai(
        "llama", "int4", "cpu", "block_size=64", "is_symmetric=false",
        "matmul_mixed_precision=last_matmul:int8", "prune_lm_head=true")),
    "llama-gqa-int4-hidden": ("onnxruntime_genai", build_genai(
        "llama", "int4", "cpu", "include_hidden_states=true")),
    "llama-gqa-f16": ("onnxruntime_genai", build_genai("llama", "fp16", "cuda")),
}


def draw_ids(n_tokens, n_vocab, seed):
    rng = random.Random(seed)
    return [rng.randrange(5, n_vocab - 3) for _ in range(n_tokens)]


def describe(values):
    return "".join(f"  {v.name} {v.type.removeprefix('tensor(').removesuffix(')')} "
                   f"[{', '.join(map(str, v.shape))}]\n" for v in values)


def feeds(session, ids, n_past=0, present=None):
    """One call: `ids` after the `n_past` tokens whose keys and values are in `present`."""
    n_all = n_past + len(ids)
    given = {"input_ids": numpy.array([ids], numpy.int64),
             "attention_mask": numpy.ones((1, n_all), numpy.int64),
             "position_ids": numpy.arange(n_past, n_all, dtype=numpy.int64)[None],
             "token_type_ids": numpy.zeros((1, len(ids)), numpy.int64),
             "use_cache_branch": numpy.array([n_past > 0])}
    made = {}
    for value in session.get_inputs():
        if value.name in given:
            made[value.name] = given[value.name]
        elif present:
            made[value.name] = present[value.name.replace("past_key_values", "present")]
        else:
            dtype = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16}[value.type]
            made[value.name] = numpy.zeros((1, value.shape[1], 0, HEAD_DIM), dtype)
    return made


def write_golden(folder, name, rows):
    array = numpy.concatenate(rows) if isinstance(rows, list) else rows
    if array.dtype.kind == "f" and not numpy.isfinite(array).all():
        raise SystemExit(f"{folder.name}: {name} has values that are not finite")
    array.astype("<f4" if array.dtype.kind == "f" else "<i4").tofile(folder / name)


def golden_exact(folder, graph, ids):
    """MatMulNBits of accuracy level 4 rounds its input to 8 bits; this is the same graph without that."""
    model, is_rounded = onnx.load(graph), False
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "MatMulNBits" and attribute.name == "accuracy_level":
                attribute.i, is_rounded = 1, True
    if is_rounded:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        write_golden(folder, "exact.f32", session.run(["logits"], feeds(session, ids))[0][0, -1:])


def redraw(folder, graph):
    """Other weights in the place of the exporter's floats, of the same spread, that need not be stored: a recipe."""
    recipe = seeded.Recipe(sum(folder.name.encode()))
    tensors = [t for t in onnx.load(graph, load_external_data=False).graph.initializer
               if len(t.dims) == 2 and numpy.prod(t.dims) >= MIN_REDRAWN and not t.name.endswith("_cache")]
    file, data, spans = graph, graph.read_bytes(), {"F32": [], "F16": []}
    for tensor in tensors:
        dtype = {onnx.TensorProto.FLOAT: "F32", onnx.TensorProto.FLOAT16: "F16"}.get(tensor.data_type)
        if dtype and tensor.external_data:
            place = {one.key: one.value for one in tensor.external_data}
            file = folder / place["location"]
            spans[dtype].append((tensor.name, list(tensor.dims), int(place["offset"])))
        elif dtype and data.count(tensor.raw_data) == 1:
            spans[dtype].append((tensor.name, list(tensor.dims), data.index(tensor.raw_data)))
    dtype = max(spans, key=lambda dtype: len(spans[dtype]))
    recipe.redraw(file, spans[dtype], dtype)
    return recipe


def golden_decoder(folder, graph, session):
    ids = draw_ids(N_PROMPT, N_VOCAB, 1)
    names = [v.name for v in session.get_outputs()]
    out = dict(zip(names, session.run(None, feeds(session, ids))))
    write_golden(folder, "ids.i32", numpy.array(ids))
    write_golden(folder, "logits.f32", out["logits"][0][::LOGITS_STRIDE])
    golden_exact(folder, graph, ids)
    if "hidden_states" in out:
        write_golden(folder, "hidden.f32", out["hidden_states"][0])
    last = out["logits"][0, -1].astype(numpy.float32)
    n_past = 0
    for n in (N_PROMPT - 6, 1, 5):  # the export must give the same from its own cache
        out = dict(zip(names, session.run(None, feeds(session, ids[n_past:n_past + n], n_past, n_past and out))))
        n_past += n
    gap = abs(out["logits"][0, -1].astype(numpy.float32) - last).max() / (last.max() - last.min())
    if gap > MAX_GAP:
        raise SystemExit(f"{folder.name}: three calls with the cache differ by {gap:.1e} of range")
    print(f"  logits std {last.std():.2f}, {last.min():.2f} .. {last.max():.2f}; "
          f"in three calls {gap:.1e} of range off")


def golden_encoder(folder, run, n_vocab):
    """Each text alone; `run` gives {output name: array} for one list of ids."""
    texts = [draw_ids(n, n_vocab, 10 + n) for n in TEXT_LENGTHS]
    outs = [run(ids) for ids in texts]
    write_golden(folder, "lengths.i32", numpy.array(TEXT_LENGTHS))
    write_golden(folder, "ids.i32", numpy.concatenate([numpy.array(ids) for ids in texts]))
    hidden = "token_embeddings" if "token_embeddings" in outs[0] else "last_hidden_state"
    write_golden(folder, "hidden.f32", [out[hidden][0] for out in outs])
    if "sentence_embedding" in outs[0]:
        write_golden(folder, "embedding.f32", [out["sentence_embedding"] for out in outs])
    print(f"  {', '.join(outs[0])}, std {outs[-1][hidden].std():.2f}")


@torch.no_grad()
def golden_checkpoint(folder):
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    golden_encoder(folder, lambda ids: {
        "last_hidden_state": model(torch.tensor([ids])).last_hidden_state.numpy()}, model.config.vocab_size)


def make(name, folder):
    """One directory: the export, what nobody reads taken out, the goldens."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        EXPORTS[name][1](folder, pathlib.Path(work))
    graphs = sorted(folder.glob("*.onnx"))
    for unused in ("vocab.json", "merges.txt", "vocab.txt", "README.md", "special_tokens_map.json"):
        (folder / unused).unlink(missing_ok=True)
    print(f"{name}:")
    recipe = None
    if graphs:
        if not any(kept in name for kept in STORED):
            recipe = redraw(folder, graphs[0])
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(graphs[0], options, providers=["CPUExecutionProvider"])
        (folder / "inputs.txt").write_text(
            f"inputs\n{describe(session.get_inputs())}outputs\n{describe(session.get_outputs())}")
        if name.startswith("bert"):
            names = [v.name for v in session.get_outputs()]
            golden_encoder(folder, lambda ids: dict(zip(names, session.run(None, feeds(session, ids)))),
                           CHECKPOINTS["bert"][0].vocab_size)
        else:
            golden_decoder(folder, graphs[0], session)
    else:
        golden_checkpoint(folder)
    if recipe:
        recipe.replace(folder)
    print(f"  {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file())} bytes: "
          f"{', '.join(sorted(f.name for f in folder.iterdir()))}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPORTS)}")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/exports")
    args = parser.parse_args()
    unknown = set(args.names) - set(EXPORTS)
    if unknown:
        parser.error(f"no export named {', '.join(sorted(unknown))}")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    left = []
    for name in args.names or EXPORTS:
        if importlib.util.find_spec(EXPORTS[name][0]) is None:
            left.append(name)
        else:
            make(name, args.output / name)
    if left:
        print(f"not made, their exporter is not in this environment: {', '.join(left)}")


if __name__ == "__main__":
    main()
