# SPDX-License-Identifier: Apache-2.0
"""A tiny T5 that has learned something, and what PyTorch answers with it: tests/golden/t5-trained.

  python tests/golden/train_t5.py [--stdlib FOLDER] [--steps N] [--continue FOLDER] [-o tests/golden/t5-trained]

The committed one came of two runs, of 3,000 steps and of 2,000 more with --continue, on Python 3.11.7's library: 87 %
right after the first, 99 % after the second, in which the rate of learning starts anew. That is 6 minutes of one core.

Needs torch 2.13, transformers 4.57, tokenizers 0.22 and safetensors 0.8. The task: lines of Python with one
`def` among them go in, the name it defines comes out. A network of this size can not know the names by heart, as
most of what it is trained on has a name made up for it: it has to find the place and copy from it.
Snippets are cut from Python's own standard library. Those of the files in `held_out` are never trained on, and most
of the examples have names that no trained file defines.

The model has CodeT5's form (config.json, vocab.json, merges.txt, <s> text </s> in, pad starts the decoder), stored
in f16. examples.json: {"accuracy", "accuracy_beam_4", "n_tested", "examples": [{"text", "answer", "ids",
"greedy", "greedy_text", "beam_4", "beam_4_text", "beam_4_score", "margin"}]}. `accuracy` is over all held-out
snippets, in padded batches, of answers that are the name exactly; the examples are drawn from them by a seed, right or wrong.
`greedy` and `beam_4` are ids as generate() gives them without the start token, up to the end token and with
it, in f32 on the weights as stored; `margin` is the smallest gap between the best two logits on the greedy way.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import sysconfig
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import T5Config, T5ForConditionalGeneration

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
PAD, BOS, EOS = 0, 1, 2
N_VOCAB = 1024
MAX_INPUT, MAX_ANSWER = 40, 12
SEED = 6
BATCH = 32
PEAK_RATE, WARM_STEPS = 2e-3, 100
MADE_UP = 0.75  # share of training snippets with another name
N_TESTED, N_EXAMPLES = 400, 60
LEAST_ACCURACY = 0.9
HEAD = re.compile(r"^(\s*def )([A-Za-z]\w*)(?=\()")
SHAPE = dict(vocab_size=N_VOCAB, d_model=96, d_kv=32, num_heads=3, d_ff=192, num_layers=2, num_decoder_layers=2,
             relative_attention_num_buckets=32, relative_attention_max_distance=128, feed_forward_proj="relu",
             dropout_rate=0.0, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, decoder_start_token_id=PAD)


def held_out(path):
    """One file in ten, by its name, so that it does not hang on the order."""
    return sum(path.name.encode()) % 10 == 0


def cut_snippets(files):
    """[(lines before, lines from the def on, name)]: windows in which one def stands."""
    snippets = []
    for path in files:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        heads = [i for i, line in enumerate(lines) if HEAD.match(line) and len(line) < 100]
        for at, i in enumerate(heads):
            first = max(i - 2, heads[at - 1] + 1 if at else 0)
            last = min(i + 5, heads[at + 1] if at + 1 < len(heads) else len(lines))
            indent = len(lines[i]) - len(lines[i].lstrip())
            window = [line[min(indent, len(line) - len(line.lstrip())):].rstrip() for line in lines[first:last]]
            snippets.append((window[:i - first], window[i - first:], HEAD.match(lines[i])[2]))
    return snippets


def train_tokenizer(texts):
    """Byte-level BPE with CodeT5's special tokens first."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=N_VOCAB, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", EOS), ("<s>", BOS), add_prefix_space=False)
    return tokenizer


def save_tokenizer(tokenizer, folder):
    """The files that CodeT5 has; RobertaTokenizer reads them."""
    tokenizer.model.save(str(folder))
    named = dict(bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>",
                 unk_token="<unk>", mask_token="<mask>")
    (folder / "special_tokens_map.json").write_text(json.dumps(named) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {**named, "add_prefix_space": False, "model_max_length": 512, "tokenizer_class": "RobertaTokenizer"}) + "\n")


def made_up_name(rng, words):
    chosen = [rng.choice(words) for _ in range(rng.choice((1, 2, 2, 3, 4)))]
    kind = rng.random()
    if kind < 0.6:
        name = "_".join(chosen)
    elif kind < 0.8:
        name = chosen[0] + "".join(word.capitalize() for word in chosen[1:])
    else:
        name = "".join(chosen[:2])
    return name


def encode(tokenizer, snippet, rng, n_before, name=None):
    """(ids, answer's ids, text, name), or None where the answer would be cut off."""
    before, lines, own = snippet
    lines = [HEAD.sub(lambda m: m[1] + (name or own), lines[0]), *lines[1:]]
    kept = before[len(before) - min(n_before, len(before)):]
    text = "\n".join([*kept, *lines])
    ids = tokenizer.encode(text).ids
    if len(ids) > MAX_INPUT:  # whole lines are left out at the end until it fits
        while len(ids) > MAX_INPUT and len(lines) > 1:
            lines = lines[:-1]
            text = "\n".join([*kept, *lines])
            ids = tokenizer.encode(text).ids
    # the name has a blank before it as in the snippet, so that the tokens are the same
    answer = tokenizer.encode(" " + (name or own), add_special_tokens=False).ids + [EOS]
    if len(ids) > MAX_INPUT or len(answer) > MAX_ANSWER:
        return None
    return ids, answer, text, name or own


def pad(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def train(model, tokenizer, snippets, n_steps, seed):
    rng = random.Random(seed)
    words = sorted({word for _, _, name in snippets for word in re.findall("[a-z]{2,10}", name)})
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(
        (step + 1) / WARM_STEPS, max(0.02, (n_steps - step) / (n_steps - WARM_STEPS))))
    started, total, n_right = time.time(), 0.0, 0
    model.train()
    for step in range(1, n_steps + 1):
        batch = []
        while len(batch) < BATCH:
            name = made_up_name(rng, words) if rng.random() < MADE_UP else None
            made = encode(tokenizer, rng.choice(snippets), rng, rng.randrange(3), name)
            batch += [made] if made else []
        ids = pad([b[0] for b in batch], PAD)
        labels = pad([b[1] for b in batch], -100)
        out = model(input_ids=ids, attention_mask=(ids != PAD).long(), labels=labels)
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += out.loss.item()
        n_right += int(((out.logits.argmax(-1) == labels) | (labels == -100)).all(1).sum())
        if step % 100 == 0:
            print(f"step {step}: loss {total / 100:.3f}, {n_right / BATCH / 100:.0%} right, {time.time() - started:.0f} s",
                  flush=True)
            total, n_right = 0.0, 0


def answer_ids(sequence):
    """Without the start token and what stands after the end."""
    ids = sequence.tolist()[1:]
    return ids[:ids.index(EOS) + 1] if EOS in ids else ids


@torch.no_grad()
def answers(model, cases, n_beams, batch):
    """[(ids, score or smallest margin)]; batches are padded, which rounds a little differently."""
    made = []
    for at in range(0, len(cases), batch):
        ids = pad([case[0] for case in cases[at:at + batch]], PAD)
        out = model.generate(ids, attention_mask=(ids != PAD).long(), max_new_tokens=MAX_ANSWER, num_beams=n_beams,
                             do_sample=False, return_dict_in_generate=True, output_scores=True)
        best = torch.stack([torch.topk(row, 2).values for row in out.scores])  # [n_steps, batch (of beams), 2]
        margins = (best[..., 0] - best[..., 1]).T
        for i, sequence in enumerate(out.sequences):
            answer = answer_ids(sequence)
            made.append((answer, float(out.sequences_scores[i] if n_beams > 1 else margins[i, :len(answer)].min())))
    return made


def write_examples(folder, tokenizer, cases, trained_names):
    """Answers of the model as it lies in the folder."""
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    text = lambda ids: tokenizer.decode(ids, skip_special_tokens=True)
    right = [[text(ids) == " " + case[3] for (ids, _), case in zip(answers(model, cases, n_beams, BATCH), cases)]
             for n_beams in (1, 4)]
    shares = [sum(some) / len(some) for some in right]
    is_new = [case[3] not in trained_names for case in cases]
    n_new = sum(is_new)
    print(f"held out: {len(cases)} snippets, greedy {shares[0]:.1%}, beam 4 {shares[1]:.1%} right; "
          f"{n_new} with names never trained on, greedy "
          f"{sum(r for r, new in zip(right[0], is_new) if new) / n_new:.1%}")
    if min(shares) < LEAST_ACCURACY:
        raise SystemExit(f"fewer than {LEAST_ACCURACY:.0%} are right: train longer")
    # half of the examples at least are names that had to be copied
    order = sorted(range(len(cases)), key=lambda i: not is_new[i])
    chosen = sorted(order[:min(n_new, N_EXAMPLES * 2 // 3)])
    chosen += [i for i in range(len(cases)) if i not in chosen][:N_EXAMPLES - len(chosen)]
    shown = [cases[i] for i in sorted(chosen)]
    lines = [json.dumps({
        "text": case[2], "answer": " " + case[3], "ids": case[0],
        "greedy": greedy, "greedy_text": text(greedy), "margin": round(margin, 4),
        "beam_4": beam, "beam_4_text": text(beam), "beam_4_score": round(score, 5)})
        for case, (greedy, margin), (beam, score) in zip(shown, answers(model, shown, 1, 1), answers(model, shown, 4, 1))]
    head = json.dumps({"accuracy": shares[0], "accuracy_beam_4": shares[1], "n_tested": len(cases)})[:-1]
    (folder / "examples.json").write_text(head + ', "examples": [\n' + ",\n".join(lines) + "\n]}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stdlib", type=pathlib.Path, default=pathlib.Path(sysconfig.get_paths()["stdlib"]))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--continue", dest="earlier", type=pathlib.Path, metavar="FOLDER",
                        help="go on with a model that this script made, on other snippets")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/t5-trained")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    files = sorted(p for p in args.stdlib.rglob("*.py")
                   if not {"site-packages", "lib2to3", "idlelib", "test", "tests"} & set(p.parts))
    snippets = cut_snippets([p for p in files if not held_out(p)])
    tested = cut_snippets([p for p in files if held_out(p)])
    tokenizer = train_tokenizer("\n".join([*before, *lines]) for before, lines, _ in snippets)
    print(f"{len(files)} files, {len(snippets)} snippets to train on, {len(tested)} held out", flush=True)
    if args.earlier:
        model = T5ForConditionalGeneration.from_pretrained(args.earlier, dtype=torch.float32)
        train(model, tokenizer, snippets, args.steps, SEED + 1)
    else:
        model = T5ForConditionalGeneration(T5Config(**SHAPE))
        train(model, tokenizer, snippets, args.steps, SEED)
    shutil.rmtree(args.output, ignore_errors=True)
    model.half().save_pretrained(args.output)
    (args.output / "generation_config.json").unlink(missing_ok=True)
    save_tokenizer(tokenizer, args.output)
    rng = random.Random(SEED)
    rng.shuffle(tested)
    cases = [made for s in tested[:N_TESTED] if (made := encode(tokenizer, s, rng, rng.randrange(3)))]
    write_examples(args.output, tokenizer, cases, {name for _, _, name in snippets})
    print(f"{args.output}: {sum(f.stat().st_size for f in args.output.iterdir())} bytes")


if __name__ == "__main__":
    main()
