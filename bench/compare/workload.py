# SPDX-License-Identifier: Apache-2.0
"""Output tokens/s of 64 requests of different lengths submitted at once, for kvern and its peers, in turn.

  python3 bench/compare/workload.py [--program PATH] [--only NAME,...] [--rounds 3] [--wait SECONDS]
                                    [--settings FILE] [--markdown FILE] >samples.json

The workload of nano-vllm's bench.py at a size for two cores: random token ids, prompts of 64 to 512 tokens, answers of 64
to 256, uniform, the same ones for all; greedy, end tokens ignored. The figure is all output tokens over the time from the
first submission to the last token. SmolLM2, 4 bit. Needs setup.sh, make_models.py and `ninja bench_engine` to have run.

Each program runs in the setting that was fastest in a search over SETTINGS with both lengths halved. FILE keeps what the
search found; where it is there already, nothing is searched. Every sample follows an uncounted run with an eighth of the
lengths. kvern runs as build/bench_workload in a new process; peers stay open and are stopped while others measure. Beside
each sample stands the share of all CPU time that other programs of the machine took meanwhile: where it is not near 0, the
sample says little, and least about llama.cpp, whose threads wait for each other in loops.
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

MODEL = "smollm2-135m"
N_REQUESTS, PROMPT, OUTPUT = 64, (64, 512), (64, 256)
SEED, WARM_SEED, SEARCH_SEED = 64, 65, 66
QUIET = 0.1  # of the CPUs' time
SETTINGS = {
    "llama": [{"n_parallel": n, "kv_unified": unified, "n_batch": 2048}
              for n, unified in ((16, True), (32, True), (64, True), (32, False), (64, False))],
    "genai": [{"batch_size": n, "sort_by": key}
              for n, key in ((8, "output"), (16, "output"), (32, "output"), (16, "prompt"))],
    "openvino": [{"max_num_batched_tokens": tokens, "max_num_seqs": n, "dynamic_split_fuse": fuse}
                 for tokens, n, fuse in ((4096, 64, True), (8192, 64, True), (8192, 32, True), (8192, 64, False))],
    "kvern": [{}],  # what a user gets
}


def draw_requests(seed, divisor=1):
    """The lengths are those of SEED, divided; the ids differ with the seed, so that no cache can know them."""
    lengths, ids = random.Random(SEED), random.Random(seed)
    requests = []
    for _ in range(N_REQUESTS):
        n_prompt, n_out = (lengths.randint(*limits) // divisor for limits in (PROMPT, OUTPUT))
        requests.append({"ids": [ids.randrange(1000, 40000) for _ in range(n_prompt)], "n_out": n_out})
    return requests


def n_output(requests):
    return sum(request["n_out"] for request in requests)


class KvernProgram:
    """build/bench_workload, a new process for each sample."""
    name = "kvern"

    def __init__(self, program, model, folder):
        self.program, self.model = program, str(model)
        self.file = pathlib.Path(folder) / "requests"

    def seconds(self, setting, *runs):
        """Of each run."""
        groups = ("".join(" ".join(map(str, (r["n_out"], *r["ids"]))) + "\n" for r in requests) for requests in runs)
        self.file.write_text("".join(group + "run\n" for group in groups))
        options = [str(setting.get(name, 0)) for name in ("step_tokens", "max_sequences")]
        done = subprocess.run([self.program, self.model, str(self.file), *options], text=True, check=True,
                              stdout=subprocess.PIPE)
        return [json.loads(line)["seconds"] for line in done.stdout.splitlines()]

    def cpu_seconds(self):
        times = os.times()
        return times.children_user + times.children_system

    def close(self):
        pass


class WorkloadWorker(peers.Worker):
    """A peer's process; the rules of requests stand in workload_worker.py."""

    def __init__(self, name, folder):
        super().__init__(name, folder, "workload_worker.py")

    def seconds(self, setting, *runs):
        return [self.ask({"setting": setting, "requests": requests})["seconds"] for requests in runs]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU time that the machine spent on anything, or that its host took away."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(limit_s):
    """Until the machine is idle for a second, or for limit_s."""
    end = time.time() + limit_s
    while time.time() < end:
        busy, start = busy_seconds(), time.time()
        time.sleep(1)
        if busy_seconds() - busy < QUIET * os.cpu_count() * (time.time() - start):
            return


def sample(peer, setting, requests, limit_s):
    """{tokens/s, percent of the CPUs' time that others took}."""
    wait_for_quiet(limit_s)
    start, own, busy = time.time(), peer.cpu_seconds(), busy_seconds()
    seconds = peer.seconds(setting, draw_requests(WARM_SEED, 8), requests)[-1]
    others = (busy_seconds() - busy - (peer.cpu_seconds() - own)) / ((time.time() - start) * os.cpu_count())
    return {"tokens_per_s": round(n_output(requests) / seconds, 1), "others_percent": round(100 * others)}


def search(peer, limit_s):
    """The fastest setting, and {setting: tokens/s with halved lengths}."""
    rates, settings = {}, SETTINGS[peer.name]
    for setting in settings if len(settings) > 1 else ():
        tried = sample(peer, setting, draw_requests(SEARCH_SEED, 2), limit_s)
        rates[json.dumps(setting)] = tried["tokens_per_s"]
        print(f"{peer.name}: {setting}: {tried}", file=sys.stderr, flush=True)
    return {"setting": json.loads(max(rates, key=rates.get)) if rates else settings[0], "tried": rates}


def measure(args, found, folder):
    """{name: [sample]}; fills in what is not found yet."""
    requests, samples, opened = draw_requests(SEED), {name: [] for name in args.only}, []
    try:
        for name in args.only:
            opened.append(KvernProgram(args.program, args.models / MODEL / "kvern", folder) if name == "kvern"
                          else WorkloadWorker(name, args.models / MODEL))
            if name not in found:
                found[name] = search(opened[-1], args.wait)
        for round_number in range(args.rounds):
            for peer in opened:
                samples[peer.name].append(sample(peer, found[peer.name]["setting"], requests,
                                                   args.wait))
                print(f"round {round_number + 1} of {args.rounds}: {peer.name}: {samples[peer.name][-1]}",
                      file=sys.stderr, flush=True)
    finally:
        for peer in opened:
            peer.close()
    return samples


def table(samples, found):
    """One row, then each program's setting and what else was tried."""
    rates = {name: [one["tokens_per_s"] for one in taken] for name, taken in samples.items()}
    others = [statistics.median(one["others_percent"] for one in taken) for taken in samples.values()]
    medians = {name: statistics.median(some) for name, some in rates.items()}
    best = max((rate for name, rate in medians.items() if name != "kvern"), default=None)
    ratio = f"{medians['kvern'] / best:.2f}x" if "kvern" in medians and best else ""
    lines = ["| | " + " | ".join(peers.TITLES[name] for name in samples) + " | kvern / best peer |",
             "|---" * (len(samples) + 2) + "|",
             "| output tokens/s | " + " | ".join(f"{rate:,.0f}" for rate in medians.values()) + f" | {ratio} |",
             "| lowest to highest | "
             + " | ".join(f"{min(some):,.0f} to {max(some):,.0f}" for some in rates.values()) + " | |",
             "| CPU time taken by others | " + " | ".join(f"{share:.0f} %" for share in others) + " | |", ""]
    for name in samples:
        tried = "; ".join(f"{setting} {rate:,.0f}" for setting, rate in found[name]["tried"].items())
        lines.append(f"- {peers.TITLES[name]}: {json.dumps(found[name]['setting'])}"
                     + (f" (tried with half the lengths: {tried})" if tried else ""))
    return lines


def main():
    parser = command_line.options(__doc__, SETTINGS, ".", "bench_workload")
    command_line.add_search(parser)
    args = command_line.read(parser, SETTINGS)
    started, requests = time.time(), draw_requests(SEED)
    with command_line.kept_settings(args.settings) as found, tempfile.TemporaryDirectory() as folder:
        samples = measure(args, found, folder)
    what = (f"{N_REQUESTS} requests at once, {sum(len(r['ids']) for r in requests):,} prompt and "
            f"{n_output(requests):,} output tokens")
    command_line.tell(args, started, what, table(samples, found), {"settings": found, "results": samples})


if __name__ == "__main__":
    main()
