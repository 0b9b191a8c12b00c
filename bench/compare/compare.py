# SPDX-License-Identifier: Apache-2.0
"""Speed of kvern and of its peers, in turn, in one run: medians of rounds, and every sample as JSON.

  python3 bench/compare/compare.py [--kvern PATH] [--only NAME,...] [--model NAME] [--rounds 3]
                                   [--markdown FILE] >samples.json

Needs setup.sh and make_models.py to have run. Two threads each. Machines are shared, so quote the
ratios of one run, and the load average that the heading names.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

import peers

MODELS = ("smollm2-135m", "qwen2.5-0.5b")
CASES = [("prefill", 512, 1), ("decode", 512, 1), ("decode", 128, 8), ("decode", 128, 32)]
STEPS = 32  # tokens each sequence decodes


def measure(model, args):
    """All samples of one model: {case: {name: [tokens/s]}}."""
    samples = {case: {name: [] for name in args.only} for case in CASES}
    opened = []
    try:
        for name in args.only:
            opened.append(peers.open_peer(name, args.models / model, args.kvern))
        for round_number in range(args.rounds):
            for case in CASES:
                for peer in opened:
                    samples[case][peer.name].append(peer.rate(*case, STEPS))
            print(f"{model}: round {round_number + 1} of {args.rounds}", file=sys.stderr, flush=True)
    finally:
        for peer in opened:
            peer.close()
    return samples


def table_row(model, case, by_name):
    """Medians, and kvern's against the best peer's."""
    op, length, batch = case
    medians = {name: statistics.median(rates) for name, rates in by_name.items()}
    best = max((rate for name, rate in medians.items() if name != "kvern"), default=None)
    ratio = f"{medians['kvern'] / best:.2f}x" if "kvern" in medians and best else ""
    return (f"| {model} {op} {length}x{batch} | "
            + " | ".join(f"{rate:,.0f}" for rate in medians.values()) + f" | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kvern", default=str(peers.ROOT / "build/kvern"), help="the command")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*peers.PEERS, "kvern"],
                        help="names out of llama,genai,openvino,kvern")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=pathlib.Path, default=peers.ROOT / ".deps/models/compare")
    parser.add_argument("--model", choices=MODELS, action="append")
    parser.add_argument("--markdown", type=pathlib.Path)
    args = parser.parse_args()
    for name in args.only:
        if name not in peers.TITLES:
            parser.error(f"no peer named {name}; there are {', '.join(peers.TITLES)}")
    started = time.time()
    rows, result = [], []
    for model in args.model or MODELS:
        for case, by_name in measure(model, args).items():
            rows.append(table_row(model, case, by_name))
            result.append({"model": model, "name": case[0], "length": case[1], "batch": case[2],
                           "samples": by_name})
    load = os.getloadavg()[2]
    lines = [f"{peers.cpu_name()}, 2 threads; tokens/s, medians of {args.rounds} rounds; "
             f"{time.time() - started:.0f} s, load average {load:.1f} (2 when nothing else runs)", "",
             "| case (tokens x sequences) | " + " | ".join(peers.TITLES[n] for n in args.only)
             + " | kvern / best peer |", "|---" * (len(args.only) + 2) + "|", *rows]
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    print("\n".join(lines), file=sys.stderr)
    print(json.dumps({"machine": peers.cpu_name(), "load": load, "results": result}))


if __name__ == "__main__":
    main()
