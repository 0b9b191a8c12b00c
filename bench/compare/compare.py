# SPDX-License-Identifier: Apache-2.0
"""Speed of kvern and of its peers, in turn, in one run: medians of rounds, and every sample as JSON.

  python3 bench/compare/compare.py [--kvern PATH] [--only NAME,...] [--rounds 3] [--markdown FILE]

Needs setup.sh and make_models.py to have run. Machines are shared, so quote the ratios of one run.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ("smollm2-135m", "qwen2.5-0.5b")
CASES = [("prefill", 512, 1), ("decode", 512, 1), ("decode", 128, 8), ("decode", 128, 32)]


def ask_peer(worker, op, length, batch):
    """One sample of a running worker, in tokens/s."""
    request = {"op": op, "length": length, "batch": batch, "steps": 32}
    worker.stdin.write(json.dumps(request) + "\n")
    worker.stdin.flush()
    return json.loads(worker.stdout.readline())["tokens_per_s"]


def ask_kvern(kvern, model):
    """One sample of each case: {(op, length, batch): tokens/s}."""
    out = subprocess.run([kvern, "bench", "-m", str(model), "--prefill", "512", "--decode",
                          "512x1,128x8,128x32", "--json"], check=True, stdout=subprocess.PIPE)
    return {(r["name"], r["length"], r["batch"]): r["tokens_per_s"]
            for r in json.loads(out.stdout)["results"]}


def measure(model, names, args):
    """All samples of one model: {case: {name: [tokens/s]}}."""
    folder = args.models / model
    workers = {name: subprocess.Popen(
        [str(ROOT / f".deps/peers/{name}/bin/python"), str(ROOT / "bench/compare/worker.py"), name,
         str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True) for name in names if name != "kvern"}
    samples = {case: {name: [] for name in names} for case in CASES}
    try:
        for name, worker in workers.items():
            if not worker.stdout.readline():
                raise SystemExit(f"{name} did not start with {folder}")
        for _ in range(args.rounds):
            for case in CASES:
                for name, worker in workers.items():
                    samples[case][name].append(ask_peer(worker, *case))
            if "kvern" in names:
                for case, rate in ask_kvern(args.kvern, folder / "kvern").items():
                    samples[case]["kvern"].append(rate)
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return samples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvern", help="the command; left out, only peers run")
    parser.add_argument("--only", default="llama,genai,openvino,kvern")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / ".deps/models/compare")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    names = [n for n in args.only.split(",") if n != "kvern" or args.kvern]
    cpu = next(line.split(":")[1].strip() for line in subprocess.check_output(
        ["lscpu"], text=True).splitlines() if line.startswith("Model name"))
    lines = [f"{cpu}; tokens/s, medians of {args.rounds} rounds", "",
             "| case | " + " | ".join(names) + " | kvern / best |", "|---" * (len(names) + 2) + "|"]
    result = []
    for model in args.model or MODELS:
        for case, by_name in measure(model, names, args).items():
            medians = {name: statistics.median(v) for name, v in by_name.items()}
            best = max((v for n, v in medians.items() if n != "kvern"), default=None)
            ratio = f"{medians['kvern'] / best:.2f}x" if "kvern" in medians and best else ""
            op, length, batch = case
            lines.append(f"| {model} {op} {length}x{batch} | "
                         + " | ".join(f"{medians[n]:.0f}" for n in names) + f" | {ratio} |")
            result.append({"model": model, "name": op, "length": length, "batch": batch,
                           "samples": by_name})
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    print("\n".join(lines), file=sys.stderr)
    print(json.dumps({"machine": cpu, "results": result}))


if __name__ == "__main__":
    main()
