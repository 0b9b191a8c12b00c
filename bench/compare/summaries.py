# SPDX-License-Identifier: Apache-2.0
"""Chunks/s of code summaries by CodeT5-small's shape, 512 tokens in, 32 out, 20 at once: kvern and its peers, in turn.

  python3 bench/compare/summaries.py [--program PATH] [--model DIR] [--only NAME,...] [--rounds 3] [--wait SECONDS]
                                     [--settings FILE] [--markdown FILE] >samples.json

Needs setup.sh and make_summary_models.py to have run. Two threads each, greedy, no end before 32 tokens. A
sample is 60 chunks of which 20 are in flight: seconds from the first submission to the last answer, each
chunk's latency from its own submission, and the process's peak memory. A peer is first tried in each of
its settings with 20 chunks, then opened anew in the fastest, so that its peak is that of one model. FILE keeps what
was found, and a peer in it is not searched again. Every sample follows an uncounted run of 20 other chunks. Quote the
ratios of one run: machines are shared, and beside each sample stands the share of the CPUs' time that others took.

kvern is a program, run anew for each sample:

  build/bench_summaries MODEL FILE [IN_FLIGHT [N_OUT]]        (20 and 32 by default; two threads)

Each line of FILE is one chunk: its token ids as decimal numbers with blanks between, <s> and </s> included. A line
`run` ends a group: its chunks are submitted in order, each as soon as fewer than IN_FLIGHT are unanswered, greedy, with
exactly N_OUT tokens each (end tokens are ignored). For each group it prints one line of JSON when the last answer is
complete: {"seconds", "latencies_ms": [of each chunk, in the order of the file], "peak_rss_mb": of the process so far,
"answers": [[ids]] (optional)}. The first group is the uncounted one; nothing of a group may be reused in another.

"same as PyTorch" counts tokens of equal place and value up to the first difference in each of the 20 answers of
the trial run, in f32: it shows that a peer runs the same model, as random weights have answers no rounding survives.
"""
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

import command_line
import peers
from workload import busy_seconds, wait_for_quiet

N_CHUNKS, IN_FLIGHT, N_IN, N_OUT = 60, 20, 512, 32
SEED, WARM_SEED = 512, 513
N_VOCAB, BOS, EOS = 32000, 1, 2
TITLES = {"openvino-int8": "OpenVINO int8 weights", "openvino-f32": "OpenVINO f32", "ctranslate2-int8": "CTranslate2 int8",
          "ctranslate2-f32": "CTranslate2 f32", "hf": "PyTorch", "kvern": "kvern"}


def draw_chunks(seed, n):
    """Any tokens will do: what they say does not change the time."""
    rng = random.Random(seed)
    return [[BOS, *(rng.randrange(5, N_VOCAB) for _ in range(N_IN - 2)), EOS] for _ in range(n)]


class KvernProgram:
    """build/bench_summaries, a new process for each sample."""
    name = "kvern"

    def __init__(self, program, model, folder):
        self.program, self.model = program, str(model)
        self.file = pathlib.Path(folder) / "chunks"
        self.setting, self.tried, self.first_answers = {}, {}, None

    def sample(self, warm, chunks):
        groups = ("".join(" ".join(map(str, ids)) + "\n" for ids in group) + "run\n" for group in (warm, chunks))
        self.file.write_text("".join(groups))
        done = subprocess.run([self.program, self.model, str(self.file), str(IN_FLIGHT), str(N_OUT)], text=True,
                              stdout=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"{self.program} ended with status {done.returncode}")
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        self.first_answers = replies[0].get("answers")
        return replies[-1]

    def cpu_seconds(self):
        times = os.times()
        return times.children_user + times.children_system

    def close(self):
        pass


class SummariesWorker:
    """A peer's process, which is replaced by a fresh one when its setting is found."""

    def __init__(self, name, folder, warm, found, limit_s):
        self.name = name
        if name not in found:
            found[name] = self.search(name, folder, warm, limit_s)
        self.setting, self.tried, self.first_answers = (found[name][key] for key in ("setting", "tried", "answers"))
        self.worker = peers.Worker(name, folder, "summaries_worker.py")
        self.worker.ask({"op": "open", "setting": self.setting})

    @classmethod
    def search(cls, name, folder, warm, limit_s):
        """The fastest setting, {setting: chunks/s}, and answers to `warm`."""
        worker, tried, answers = peers.Worker(name, folder, "summaries_worker.py"), {}, {}
        try:
            for setting in worker.ask({"op": "settings"})["settings"]:
                worker.ask({"op": "open", "setting": setting})
                wait_for_quiet(limit_s)
                cls.run(worker, warm[:setting["batch"]])
                reply, key = cls.run(worker, warm), json.dumps(setting)
                tried[key], answers[key] = round(len(warm) / reply["seconds"], 2), reply["answers"]
                print(f"{TITLES[name]}: {key}: {tried[key]} chunks/s", file=sys.stderr, flush=True)
        finally:
            worker.close()
        best = max(tried, key=tried.get)
        # PyTorch's are the reference, in f32 whatever is faster
        chosen = next((key for key in answers if "float32" in key), best)
        return {"setting": json.loads(best), "tried": tried, "answers": answers[chosen]}

    @staticmethod
    def run(worker, chunks):
        return worker.ask({"op": "run", "chunks": chunks, "in_flight": IN_FLIGHT, "n_out": N_OUT})

    def sample(self, warm, chunks):
        self.run(self.worker, warm)
        return self.run(self.worker, chunks)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.worker.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.worker.close()


def measure(args, found, folder):
    """The programs, closed, and {name: [sample]}; fills in what is not found yet."""
    warm, chunks = draw_chunks(WARM_SEED, IN_FLIGHT), draw_chunks(SEED, N_CHUNKS)
    samples, opened = {name: [] for name in args.only}, []
    try:
        for name in args.only:
            opened.append(KvernProgram(args.program, args.model or args.models / "kvern", folder) if name == "kvern"
                          else SummariesWorker(name, args.models, warm, found, args.wait))
        for round_number in range(args.rounds):
            for peer in opened:
                wait_for_quiet(args.wait)
                start, own, busy = time.time(), peer.cpu_seconds(), busy_seconds()
                reply = peer.sample(warm, chunks)
                others = (busy_seconds() - busy - (peer.cpu_seconds() - own)) / ((time.time() - start) * os.cpu_count())
                samples[peer.name].append({
                    "chunks_per_s": round(N_CHUNKS / reply["seconds"], 2), "peak_rss_mb": round(reply["peak_rss_mb"]),
                    "latencies_ms": [round(ms) for ms in reply["latencies_ms"]], "others_percent": round(100 * others)})
                shown = {k: v for k, v in samples[peer.name][-1].items() if k != "latencies_ms"}
                print(f"round {round_number + 1} of {args.rounds}: {peer.name}: {shown}", file=sys.stderr, flush=True)
    finally:
        for peer in opened:
            peer.close()
    return opened, samples


def same_tokens(answers, reference):
    """Share of tokens before each answer's first difference."""
    same = 0
    for one, other in zip(answers, reference, strict=True):
        ends = [i for i, (a, b) in enumerate(zip(one, other)) if a != b]
        same += ends[0] if ends else N_OUT
    return same / (N_OUT * len(answers))


def table(opened, samples):
    """A row for each program, then what kvern is to the best, and the settings."""
    rates = {name: statistics.median(s["chunks_per_s"] for s in some) for name, some in samples.items()}
    reference = next((p.first_answers for p in opened if p.name == "hf"), None)
    lines = ["| | chunks/s (lowest to highest) | a core | latency p50 | p95 | peak memory | same as PyTorch | CPU time of others |",
             "|---" * 8 + "|"]
    for peer in opened:
        some = samples[peer.name]
        every = sorted(ms for s in some for ms in s["latencies_ms"])
        spread = [s["chunks_per_s"] for s in some]
        same = f"{same_tokens(peer.first_answers, reference):.0%}" if peer.first_answers and reference else ""
        lines.append(
            f"| {TITLES[peer.name]} | {rates[peer.name]:.2f} ({min(spread):.2f} to {max(spread):.2f}) | "
            f"{rates[peer.name] / 2:.2f} | {every[len(every) // 2] / 1000:.2f} s | {every[len(every) * 95 // 100] / 1000:.2f} s | "
            f"{max(s['peak_rss_mb'] for s in some)} MB | {same} | "
            f"{statistics.median(s['others_percent'] for s in some):.0f} % |")
    best = {name: rate for name, rate in rates.items() if name != "kvern"}
    if "kvern" in rates and best:
        name = max(best, key=best.get)
        lines += ["", f"kvern is {rates['kvern'] / best[name]:.2f}x the best peer, {TITLES[name]}."]
    lines.append("")
    for peer in opened:
        if peer.tried:
            tried = "; ".join(f"{setting} {rate}" for setting, rate in peer.tried.items())
            lines.append(f"- {TITLES[peer.name]}: {json.dumps(peer.setting)} (tried: {tried})")
    return lines


def main():
    parser = command_line.options(__doc__, TITLES, "codet5-small", "bench_summaries")
    command_line.add_search(parser)
    parser.add_argument("--model", help="kvern's model, if not that of make_summary_models.py")
    args = command_line.read(parser, TITLES)
    started = time.time()
    with command_line.kept_settings(args.settings) as found, tempfile.TemporaryDirectory() as folder:
        opened, samples = measure(args, found, folder)
    what = f"CodeT5-small's shape, {N_CHUNKS} chunks of {N_IN} tokens, {N_OUT} out, {IN_FLIGHT} in flight"
    command_line.tell(args, started, what, table(opened, samples),
                      {"results": samples,
                       "settings": {peer.name: {"setting": peer.setting, "tried": peer.tried} for peer in opened}})


if __name__ == "__main__":
    main()
