# SPDX-License-Identifier: Apache-2.0
"""Seeded T5 checkpoints of each variant, each with the answers transformers gives for it in f32.

  python tests/golden/make_t5.py [-o tests/golden/t5] [NAME...]

Needs torch 2.13, transformers 4.57, tokenizers 0.22, sentencepiece 0.2 and safetensors 0.8. README.md says
what each of VARIANTS shows. A directory holds what its authors publish: config.json with the fields they
write (the others have defaults), tokenizer files, and pytorch_model.bin or the weights.json that safetensors come from
(seeded.py). The weights are rounded to the stored type first, so f32 maths on them is the reference whatever the type.

golden.json: {"n_vocab", "d_model", "eos", "start", "logit_stride", "decoder_ids": [160, the first is the start token],
"inputs": [{"name", "ids", "encoder_stride", "n_decoder", "range", "best": [n_decoder], "lead": [n_decoder], "greedy": [32],
"margin": [32], "beams": [{"length_penalty", "early_stopping", "no_repeat_ngram_size", "sequences": [4 lists],
"scores": [4]}]}]}, and two raw little-endian files in which the inputs stand one after another:
  encoder.f32  rows 0, encoder_stride, 2 encoder_stride... of the encoder's output (after its final norm) [n_rows, d_model]
  logits.f32   8 rows for each input: teacher-forced with the first n_decoder of decoder_ids, the decoder's logits after
               each n_decoder / 8 of them, so that the last row is that of the last token; of these tokens 0, logit_stride,
               2 logit_stride...  [8, ceil(n_vocab / logit_stride)]
`range` is max - min of these rows' logits. `best` is the best token of every teacher-forced position, and `lead` its gap
to the second as a share of range. `greedy` takes the best token 32 times, and does not stop at eos; `margin` is each step's
gap to the second. Beams are generate(num_beams=4, max_new_tokens=32, num_return_sequences=4), without the
start token, up to eos and with it; fewer returned sequences are the first of these. Beams that a computation with other
roundings (double where the model is small, and NOISE of the logits' range added to each score) would answer differently are left out.
"""
import argparse
import io
import json
import pathlib
import shutil

import seeded
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (AutoModelForSeq2SeqLM, LogitsProcessor, LogitsProcessorList, MT5Config,
                          MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration)
from transformers.modeling_utils import no_init_weights

ROOT = pathlib.Path(__file__).resolve().parents[2]
N_STEPS, N_LONG, N_ROWS, N_BEAMS = 32, 160, 8, 4
LARGE = "codet5-small"
NOISE = 2e-4
PUBLISHED = dict(decoder_start_token_id=0, dropout_rate=0.1, initializer_factor=1.0, is_encoder_decoder=True,
                 layer_norm_epsilon=1e-6, num_layers=2, pad_token_id=0, relative_attention_num_buckets=32)
# Scores have a spread of sharpness squared: at 2.2 few keys count, and in a deep model every rounding is blown up. Less
# sharp, deep layers see nearly the same at each step, unless the feed-forward adds more than attention. The others are
# of tied models only.
TINY_GAINS = dict(sharpness=2.2, table=2.2, eos=2.4, o=4.0, wo=4.0)
LARGE_GAINS = dict(sharpness=1.3, table=1.0, eos=1.0, o=1.2, wo=4.0)
CODE_SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
UNREAD = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
N_EXTRA_IDS = 4
N_UNUSED = 8  # rows of T5's table beyond its tokenizer: 28 in the original

# name: (what its config.json adds to PUBLISHED, stored type, weight files, seed). Widths differ so that the
# heads together are narrower than, as wide as and wider than the model.
VARIANTS = {
    "t5": (dict(model_type="t5", architectures=["T5WithLMHeadModel"], d_model=64, d_kv=16, num_heads=2, d_ff=96,
                vocab_size=256, n_positions=512, output_past=True, eos_token_id=1),
           torch.bfloat16, ("model.safetensors",), 43),
    "t5-v1.1": (dict(model_type="t5", architectures=["T5ForConditionalGeneration"], d_model=32, d_kv=16, num_heads=4,
                     d_ff=96, vocab_size=320, n_positions=512, output_past=True, eos_token_id=1,
                     num_decoder_layers=2, feed_forward_proj="gated-gelu", relative_attention_max_distance=128,
                     tie_word_embeddings=False),
                torch.bfloat16, ("model.safetensors",), 7),
    "mt5": (dict(model_type="mt5", architectures=["MT5ForConditionalGeneration"], d_model=64, d_kv=16, num_heads=2,
                 d_ff=64, vocab_size=160, num_decoder_layers=2, feed_forward_proj="gated-gelu", eos_token_id=1,
                 tie_word_embeddings=False, tokenizer_class="T5Tokenizer"),
            torch.bfloat16, ("model.safetensors",), 13),
    "codet5": (dict(model_type="t5", architectures=["T5ForConditionalGeneration"], d_model=32, d_kv=16, num_heads=2,
                    d_ff=32, vocab_size=288, n_positions=512, num_decoder_layers=2, feed_forward_proj="relu",
                    bos_token_id=1, eos_token_id=2, torch_dtype="float32", use_cache=True),
               torch.float32, ("pytorch_model.bin",), 6),
    "codet5p": (dict(model_type="t5", architectures=["T5ForConditionalGeneration"], d_model=64, d_kv=16, num_heads=2,
                     d_ff=96, vocab_size=320, n_positions=512, num_decoder_layers=2, feed_forward_proj="relu",
                     dense_act_fn="relu", is_gated_act=False, relative_attention_max_distance=128,
                     bos_token_id=1, eos_token_id=2, torch_dtype="float16", use_cache=True),
                torch.float16, ("model.safetensors",), 34),
    # as Salesforce/codet5-small publishes it, without its tokenizer, which is too large to commit
    LARGE: (dict(model_type="t5", architectures=["T5ForConditionalGeneration"], d_model=512, d_kv=64, num_heads=8, d_ff=2048,
                 vocab_size=32100, n_positions=512, num_layers=6, num_decoder_layers=6, feed_forward_proj="relu",
                 output_past=True, gradient_checkpointing=False, id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0},
                 bos_token_id=1, eos_token_id=2, torch_dtype="float32", use_cache=True),
            torch.float32, ("model.safetensors",), 60),
}


def model_of(config, dtype=torch.float32):
    if config["model_type"] == "mt5":
        return MT5ForConditionalGeneration(MT5Config(**config)).to(dtype).eval()
    return T5ForConditionalGeneration(T5Config(**config)).to(dtype).eval()


def randomize(model, seed, gains=TINY_GAINS):
    """By fan-in, with what layers add larger than the embedding, or a tied model answers with its last
    token for ever; norms near 1 but not 1, a bias of positions that matters. eos has a longer row than the others, so that
    it comes up often enough to end beams at different lengths. Returns the recipe of the weights."""
    recipe = seeded.Recipe(seed)
    tied = model.config.tie_word_embeddings
    sharp = gains["sharpness"] * model.config.d_kv ** -0.25
    for name, tensor in sorted(model.named_parameters()):
        part = name.split(".")[-2]
        if name.endswith("norm.weight"):
            drawn = dict(gain=0.2, mean=1.0)
        elif part == "relative_attention_bias":
            drawn = dict(gain=1.0)
        elif part in ("shared", "lm_head"):
            gain = 2.2 * tensor.shape[1] ** -0.5 if part == "lm_head" else gains["table"] if tied else 1.0
            drawn = dict(gain=gain)
            if tied or part == "lm_head":
                drawn |= dict(row=model.config.eos_token_id, row_gain=gains["eos"] * gain)
        else:
            gain = {"q": sharp, "k": sharp, "v": 1.5, "o": 2.0, "wo": 2.0}.get(part, 1.2)
            if part in ("o", "wo"):
                gain *= (gains[part] if tied else 1.5) * (1.3 if "EncDecAttention" in name else 1.0)
            # ReLU's mean would come out of wo as one constant vector
            drawn = dict(gain=gain * tensor.shape[1] ** -0.5, centred=part == "wo")
        tensor.data = torch.from_numpy(recipe.draw(name, tensor.shape, **drawn))
    return recipe


def state_of(name, model, file, recipe):
    """Tensors under the names that the authors' files have: a .bin repeats the tied table, and T5's first
    release has a bias for cross attention that no code reads."""
    state = {k: v for k, v in model.state_dict().items()}
    if file == "model.safetensors":
        seen, kept = set(), {}
        for key in sorted(state, key=lambda k: (k != "shared.weight", k)):
            if state[key].data_ptr() not in seen:
                kept[key] = state[key].contiguous()
            seen.add(state[key].data_ptr())
        state = kept
    if name == "t5":
        bias = state["decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        state[UNREAD] = torch.from_numpy(recipe.draw(UNREAD, bias.shape, 0.0, mean=7.0)).to(bias.dtype)
    return state


def field(message, wanted):
    """The bytes of one length-delimited field of a protobuf message."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte, at = message[at], at + 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            number()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or number()
        if key >> 3 == wanted:
            return message[at:at + size]
        at += size
    raise SystemExit(f"sentencepiece's model has no field {wanted}")


def write_sentencepiece(n_vocab, folder):
    """Unigram with a small Precompiled table of its own: pad, eos, unk first as T5 has them."""
    import sentencepiece  # not in every environment that uses the rest of this file
    words = (ROOT / "tests/golden/eval.txt").read_text().splitlines()
    rules = folder / "rules.tsv"
    # source and target as code points; NFKC's own table would weigh 300 KB
    rules.write_text("".join(f"{a}\t{b}\n" for a, b in (
        ("A0", "20"), ("3000", "20"), ("2019", "27"), ("201C", "22"), ("201D", "22"), ("2026", "2E 2E 2E"),
        ("FB01", "66 69"), ("FF21", "41"), ("BD", "31 2F 32"), ("E9", "65 301"), ("AD", ""))))
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words), model_writer=made, model_type="unigram", vocab_size=n_vocab - N_EXTRA_IDS - N_UNUSED,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_tsv=str(rules), character_coverage=0.995,
        num_threads=1, minloglevel=2)
    rules.unlink()
    # written as the published tokenizer.json is; the converter of transformers would need protobuf
    spec = field(field(made.getvalue(), 3), 2)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    extra = [f"<extra_id_{i}>" for i in range(N_EXTRA_IDS)]
    vocab = [(pieces.id_to_piece(i), pieces.get_score(i)) for i in range(len(pieces))]
    tokenizer = Tokenizer(models.Unigram(vocab + [(piece, 0.0) for piece in reversed(extra)], 2))
    tokenizer.normalizer = normalizers.Precompiled(spec)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *extra])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": N_EXTRA_IDS,
        "additional_special_tokens": extra, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}) + "\n")


def write_byte_level(n_vocab, folder):
    """What CodeT5 has: no tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator([(ROOT / "tests/golden/eval.txt").read_text()], trainers.BpeTrainer(
        vocab_size=n_vocab, special_tokens=CODE_SPECIALS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.model.save(str(folder))
    named = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token", "mask_token"), CODE_SPECIALS))
    named |= {"cls_token": "<s>", "sep_token": "</s>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(named) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {**named, "add_prefix_space": False, "model_max_length": 512, "tokenizer_class": "RobertaTokenizer"}) + "\n")


class Noise(LogitsProcessor):
    """Stands for another computation's roundings."""

    def __init__(self, scale):
        self.scale, self.generator = scale, torch.Generator().manual_seed(9)

    def __call__(self, _ids, scores):
        return scores + self.scale * (2 * torch.rand(scores.shape, generator=self.generator) - 1)


def beam(model, ids, setting, noise=0.0):
    """[(sequence, score)] of the four beams."""
    out = model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), max_new_tokens=N_STEPS,
        num_beams=N_BEAMS, num_return_sequences=N_BEAMS, do_sample=False, return_dict_in_generate=True,
        output_scores=True, logits_processor=LogitsProcessorList([Noise(noise)] if noise else []), **setting)
    eos, made = model.config.eos_token_id, []
    for sequence, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        ids = sequence[1:]
        made.append((ids[:ids.index(eos) + 1] if eos in ids else ids, score))
    return made


def settings(name, is_large):
    """All of them where beams end at different lengths, a few for the shortest and longest input, one for the large model."""
    if is_large:
        n_apart = 0 if name in ("one", "middle") else 3
        return [dict(length_penalty=1.0, early_stopping=n_apart > 0, no_repeat_ngram_size=n_apart)]
    all_of_it = name in ("short", "middle")
    made = []
    for no_repeat in (0, 2) if all_of_it else (0, 3):
        for penalty in (1.0, 0.6, 2.0) if all_of_it else (1.0,):
            for early in (False, True, "never") if all_of_it else (False, True):
                made.append(dict(length_penalty=penalty, early_stopping=early, no_repeat_ngram_size=no_repeat))
    return made


def beams(models, name, ids, value_range, is_large):
    single, double = models
    kept, n_left_out = [], 0
    for setting in settings(name, is_large):
        made = beam(single, ids, setting)
        wanted = [sequence for sequence, _ in made]
        others = [beam(single, ids, setting, NOISE * value_range)] + ([] if is_large else [beam(double, ids, setting)])
        if any([sequence for sequence, _ in other] != wanted for other in others):
            n_left_out += 1
            continue
        kept.append({**setting, "sequences": wanted, "scores": [round(score, 6) for _, score in made]})
    lengths = sorted({len(sequence) for one in kept for sequence in one["sequences"]})
    n_answers = len({json.dumps(one["sequences"]) for one in kept})
    print(f"  {name}: {len(kept)} beam settings, {n_answers} different answers of lengths {lengths}; {n_left_out} left out")
    return kept, n_answers, lengths


def draw(generator, n, low, high):
    return torch.randint(low, high, (n,), generator=generator).tolist()


def greedy_of(model, ids, start):
    tokens, margin = [start], []
    encoded, past = model.get_encoder()(input_ids=torch.tensor([ids])), None
    for _ in range(N_STEPS):
        out = model(encoder_outputs=encoded, decoder_input_ids=torch.tensor([tokens[-1:]]), past_key_values=past, use_cache=True)
        logits, past = out.logits[0, -1], out.past_key_values
        best = torch.topk(logits, 2)
        tokens.append(int(best.indices[0]))
        margin.append(round(float(best.values[0] - best.values[1]), 4))
    return tokens[1:], margin


def check_parts_matter(model, ids, decoder_ids, logits):
    """A part that can be forgotten without a trace would make the golden worthless."""
    run = lambda net, inputs: net(input_ids=torch.tensor([inputs]), decoder_input_ids=decoder_ids).logits[0]
    span = float(logits.max() - logits.min())
    moved = {"input": float((run(model, list(reversed(ids))) - logits).abs().mean()) / span}
    state = model.state_dict()
    for key in [k for k in state if "relative_attention_bias" in k]:
        kept = state[key].clone()
        state[key].zero_()
        moved[key.split(".")[0] + " bias"] = float((run(model, ids) - logits).abs().mean()) / span
        state[key].copy_(kept)
        state[key][-1].zero_()  # the bucket of the farthest, behind
        moved[key.split(".")[0] + " farthest bucket"] = float((run(model, ids) - logits).abs().mean()) / span
        state[key].copy_(kept)
    return {what: round(share, 4) for what, share in moved.items()}


def leads_of(logits, span):
    """Best token of each row, and by what share of the range it leads."""
    best = torch.topk(logits, 2)
    return best.indices[:, 0].tolist(), [round(float(a - b) / span, 4) for a, b in best.values]


@torch.no_grad()
def write_golden(folder, config, seed, is_large=False):
    """A large model has fewer beams, and few columns of its logits."""
    load = lambda dtype: AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
    single, double = load(torch.float32), None if is_large else load(torch.float64)
    generator = torch.Generator().manual_seed(seed)
    n_vocab, eos, start = config["vocab_size"], config["eos_token_id"], config["decoder_start_token_id"]
    logit_stride = 100 if is_large else 1
    decoder_ids = [start] + draw(generator, N_LONG - 1, 3, n_vocab)
    rows, logits, documents = [], [], []
    n_ended = n_lively = n_different = 0
    for name, length, stride in ((("one", 1, 1), ("short", 7, 4), ("middle", 40, 16), ("long", 512, 128)) if is_large else
                                 (("one", 1, 1), ("short", 7, 1), ("middle", 40, 4), ("long", 200, 8))):
        ids = draw(generator, length - 1, 3, n_vocab) + [eos if length > 1 else 7]
        forced = torch.tensor([decoder_ids[:N_LONG if name == "long" else N_STEPS]])
        every = forced.shape[1] // N_ROWS
        out = single(input_ids=torch.tensor([ids]), decoder_input_ids=forced, use_cache=False)
        exact = (double or single)(input_ids=torch.tensor([ids]), decoder_input_ids=forced, use_cache=False)
        rows.append(out.encoder_last_hidden_state[0, ::stride])
        shown = out.logits[0, every - 1::every]
        logits.append(shown[:, ::logit_stride].contiguous())
        span = float(shown.max() - shown.min())
        best, lead = leads_of(out.logits[0], span)
        greedy, margin = greedy_of(single, ids, start)
        found, n_answers, lengths = beams((single, double), name, ids, span, is_large)
        off = float((exact.logits - out.logits).abs().max()) / span
        print(f"  {name}: logits std {float(out.logits.std()):.2f}, range {span:.1f}, double {off:.0e} of range off; "
              f"{len(set(greedy))} different greedy tokens, eos at "
              f"{greedy.index(eos) if eos in greedy else None}, margins {min(margin):.3f} to {max(margin):.2f}, "
              f"leads of 1 % of range at {sum(one >= 0.01 for one in lead)} of {len(lead)}")
        if not is_large or name == "middle":
            moved = check_parts_matter(single, ids, forced, out.logits[0])
            print(f"    moves logits by a share of range: {moved}", flush=True)
        if min(margin) < NOISE / 4 * span:
            raise SystemExit(f"{folder.name}: a greedy step of {name} is nearly a tie; change the seed")
        n_ended += len(lengths) > 1
        documents.append({"name": name, "ids": ids, "encoder_stride": stride,
                          "n_decoder": forced.shape[1], "range": round(span, 5), "best": best, "lead": lead,
                          "greedy": greedy, "margin": margin, "beams": found})
        n_lively += len(set(greedy)) >= 8
        n_different += n_answers
    if n_lively < 1 or (not is_large and (n_lively < 2 or n_ended < 3 or n_different < 14)):
        raise SystemExit(f"{folder.name}: beams end for {n_ended} inputs and have {n_different} different answers, greedy "
                         f"ones are not nearly constant for {n_lively}; change the seed")
    for file, parts in (("encoder.f32", rows), ("logits.f32", logits)):
        torch.cat(parts).numpy().astype("<f4").tofile(folder / file)
    head = json.dumps({"n_vocab": n_vocab, "d_model": config["d_model"], "eos": eos, "start": start,
                       "logit_stride": logit_stride, "decoder_ids": decoder_ids})[:-1]
    lines = [json.dumps(one, separators=(",", ":")) for one in documents]
    (folder / "golden.json").write_text(head + ', "inputs": [\n' + ",\n".join(lines) + "\n]}\n")


def make(name, folder, seed=None):
    """Write one checkpoint, read it back in f32 as anybody would, and write its answers beside it."""
    fields, stored, files, own_seed = VARIANTS[name]
    seed = own_seed if seed is None else seed
    config = {**PUBLISHED, **fields}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with no_init_weights():
        model = model_of(config)
    model.tie_weights()
    recipe = randomize(model, seed, LARGE_GAINS if name == LARGE else TINY_GAINS)
    model = model.to(stored)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    for file in files:
        state = state_of(name, model, file, recipe)
        if file.endswith(".bin"):
            torch.save(state, folder / file)
        else:
            save_file(state, folder / file, metadata={"format": "pt"})
            (folder / file).chmod(0o644)
    if name != LARGE:
        (write_byte_level if name.startswith("code") else write_sentencepiece)(config["vocab_size"], folder)
    print(f"{name}, seed {seed}:", flush=True)
    write_golden(folder, config, seed, name == LARGE)
    if "model.safetensors" in files:
        recipe.replace(folder)
    sizes = {p.name: p.stat().st_size for p in sorted(folder.iterdir())}
    print(f"  {sum(sizes.values())} bytes: {sizes}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/t5")
    parser.add_argument("--seed", type=int, help="another one than the variant's own, to try it")
    args = parser.parse_args()
    unknown = set(args.names) - set(VARIANTS)
    if unknown:
        parser.error(f"no variant named {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    for name in args.names or VARIANTS:
        make(name, args.output / name, args.seed)


if __name__ == "__main__":
    main()
