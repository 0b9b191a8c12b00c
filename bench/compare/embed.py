# SPDX-License-Identifier: Apache-2.0
"""Texts/s of all-MiniLM-L6-v2 in kvern and in its peers, in turn, in one run; every sample as JSON.

  python3 bench/compare/embed.py [--kvern PATH] [--model DIR] [--only NAME,...] [--rounds 3]
                                 [--markdown FILE] >samples.json

Needs setup.sh and make_embed_models.py to have run. Two threads each; from token ids to normalised vectors. Two
cases: 32 texts of 128 tokens, and 256 texts of 5 to 250 tokens. Each peer first tries its settings on each
case and keeps the fastest. The lowest cosine is that between its vectors and PyTorch's own (f32) of 67 golden
sentences. Quote the ratios of one run: machines are shared.

kvern is asked `kvern bench -m MODEL --embed-file IDS.jsonl --threads 2 --repeats 1 --no-limits --quiet --json`,
where each line of the file is {"ids": [...]}, [CLS] and [SEP] included. It embeds all texts at once, one timed run
after an uncounted one, and prints {"results": [{"name": "embed", "texts_per_s": N, "tokens_per_s": N}]}.
"""
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import command_line
import peers

SEED = 32
GOLDEN = peers.ROOT / "tests/golden/embeddings"
N_CHECKED = 64
GOOD_COSINE = 0.999  # what kvern's own 8-bit form must keep; a peer under it is not ranked with it
TITLES = {"openvino-bf16": "OpenVINO bf16", "openvino-int8": "OpenVINO int8 weights",
          "openvino-w8a8": "OpenVINO int8 weights and activations", "onnx": "ONNX Runtime f32",
          "ctranslate2": "CTranslate2 int8", "hf": "PyTorch", "kvern": "kvern"}


def draw_cases():
    """Texts of plain word pieces between [CLS] and [SEP]: what they say does not change the time."""
    rng = random.Random(SEED)
    draw = lambda n: [101, *(rng.randrange(2000, 29000) for _ in range(n - 2)), 102]
    return {"32 texts x 128 tokens": [draw(128) for _ in range(32)],
            "256 texts x 5 to 250 tokens": [draw(rng.randint(5, 250)) for _ in range(256)]}


def cosine(a, b):
    """A golden vector's length is not kept."""
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


class KvernBench(peers.Kvern):
    """The command, with the texts of a case in a file."""

    def __init__(self, command, model, folder):
        super().__init__(command, model)
        self.folder = pathlib.Path(folder)

    def tune(self, case, texts):
        lines = "".join(json.dumps({"ids": ids}) + "\n" for ids in texts)
        (self.folder / f"{case}.jsonl").write_text(lines)
        return {"setting": "all texts at once", "rates": {}}

    def texts_per_s(self, case):
        out = self.run("bench", "--embed-file", str(self.folder / f"{case}.jsonl"), "--threads", "2",
                       "--repeats", "1", "--no-limits", "--quiet", "--json")
        results = [r for r in json.loads(out)["results"] if r["name"] == "embed"]
        return results[0]["texts_per_s"]


class EmbedWorker(peers.Worker):
    """A peer's process; the rules of requests stand in embed_worker.py."""

    def __init__(self, name, folder):
        super().__init__(name, folder, "embed_worker.py")

    def tune(self, case, texts):
        return self.ask({"op": "tune", "case": case, "texts": texts})

    def texts_per_s(self, case):
        return self.ask({"op": "embed", "case": case})["texts_per_s"]

    def lowest_cosine(self, case, texts, golden):
        vectors = self.ask({"op": "vectors", "case": case, "texts": texts})["vectors"]
        return min(cosine(v, g) for v, g in zip(vectors, golden, strict=True))


def checked_texts(folder):
    """The ids of golden sentences, tokenised in the environment of PyTorch, and their golden vectors."""
    lines = (GOLDEN / "sentences.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = range(0, len(lines), len(lines) // N_CHECKED)
    program = ("import json, sys, transformers\n"
               "tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[1])\n"
               "json.dump([tokenizer(json.loads(line)['text'])['input_ids'] for line in sys.stdin], sys.stdout)")
    done = subprocess.run([peers.LOGS / "hf/bin/python", "-c", program, folder], input="\n".join(lines[i] for i in chosen),
                          text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    stored = (GOLDEN / "sentences.i10").read_bytes()
    rows = [int.from_bytes(stored[480 * i:480 * i + 480], "little") for i in chosen]
    return json.loads(done.stdout), [[(row >> 10 * j & 1023) - 512 for j in range(384)] for row in rows]


def measure(args, cases, folder):
    """{case: {name: [texts/s]}}, {case: {name: setting and lowest cosine}} and {name: lowest cosine}."""
    samples, cosines = {case: {name: [] for name in args.only} for case in cases}, {}
    settings, opened = {case: {} for case in cases}, []
    checked = checked_texts(args.source) if any(name != "kvern" for name in args.only) else None
    try:
        for name in args.only:
            opened.append(KvernBench(args.kvern, args.model, folder) if name == "kvern"
                          else EmbedWorker(name, args.models))
            for case, texts in cases.items():
                tuned = opened[-1].tune(case, texts)
                settings[case][name] = tuned["setting"]
                if name != "kvern":
                    lowest = opened[-1].lowest_cosine(case, *checked)
                    cosines[name] = min(lowest, cosines.get(name, 1))
                    settings[case][name] += f" (lowest cosine {lowest:.5f})"
                print(f"{TITLES[name]}, {case}: {tuned['setting']}; {tuned['rates']}", file=sys.stderr, flush=True)
        for round_number in range(args.rounds):
            for case in cases:
                for peer in opened:
                    samples[case][peer.name].append(peer.texts_per_s(case))
            latest = {case: {name: round(rates[-1], 1) for name, rates in samples[case].items()} for case in cases}
            print(f"round {round_number + 1} of {args.rounds}: {latest}", file=sys.stderr, flush=True)
    finally:
        for peer in opened:
            peer.close()
    return samples, settings, cosines


def table(samples, settings, cosines):
    """A row for each case, then each peer's settings and cosines."""
    names = list(next(iter(samples.values())))
    lines = ["| case | " + " | ".join(TITLES[n] for n in names) +
             f" | kvern / best peer of cosine >= {GOOD_COSINE} | kvern / best of all |",
             "|---" * (len(names) + 3) + "|"]
    for case, by_name in samples.items():
        medians = {name: statistics.median(rates) for name, rates in by_name.items()}
        rates = {name: rate for name, rate in medians.items() if name != "kvern"}
        good = [rate for name, rate in rates.items() if cosines[name] >= GOOD_COSINE]
        ratios = [f"{medians['kvern'] / max(some):.2f}x" if "kvern" in medians and some else ""
                  for some in (good, [*rates.values()])]
        lines.append(f"| {case} | " + " | ".join(f"{rate:,.1f}" for rate in medians.values()) +
                     " | " + " | ".join(ratios) + " |")
    lines.append("")
    for name in names:
        used = "; ".join(f"{case}: {by_name[name]}" for case, by_name in settings.items())
        lines.append(f"- {TITLES[name]}: {used}")
    return lines


def main():
    parser = command_line.options(__doc__, TITLES, "minilm")
    command_line.add_rounds(parser)
    parser.add_argument("--model", default="minilm", help="kvern's model")
    parser.add_argument("--source", type=pathlib.Path, default=peers.ROOT / ".deps/models/all-MiniLM-L6-v2")
    args = command_line.read(parser, TITLES)
    started, cases = time.time(), draw_cases()
    with tempfile.TemporaryDirectory() as folder:
        samples, settings, cosines = measure(args, cases, folder)
    command_line.tell(args, started, "texts/s", table(samples, settings, cosines),
                      {"settings": settings, "tokens": {case: sum(map(len, texts)) for case, texts in cases.items()},
                       "results": samples})


if __name__ == "__main__":
    main()
