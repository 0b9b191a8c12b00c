# SPDX-License-Identifier: Apache-2.0
"""Speed of kvern and of its peers, in turn, in one run: medians of rounds, and every sample as JSON.

  python3 bench/compare/compare.py [--kvern PATH] [--only NAME,...] [--model NAME] [--rounds 3]
                                   [--markdown FILE] >samples.json

Needs setup.sh and make_models.py to have run. Two threads each. Machines are shared, so quote the
ratios of one run, and the load average that the heading names.
"""
import statistics
import sys
import time

import command_line
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
    parser = command_line.options(__doc__, [*peers.PEERS, "kvern"], ".")
    command_line.add_rounds(parser)
    parser.add_argument("--model", choices=MODELS, action="append")
    args = command_line.read(parser, peers.TITLES)
    started = time.time()
    rows, result = [], []
    for model in args.model or MODELS:
        for case, by_name in measure(model, args).items():
            rows.append(table_row(model, case, by_name))
            result.append({"model": model, "name": case[0], "length": case[1], "batch": case[2],
                           "samples": by_name})
    lines = ["| case (tokens x sequences) | " + " | ".join(peers.TITLES[n] for n in args.only)
             + " | kvern / best peer |", "|---" * (len(args.only) + 2) + "|", *rows]
    command_line.tell(args, started, "tokens/s", lines, {"results": result})


if __name__ == "__main__":
    main()
