# SPDX-License-Identifier: Apache-2.0
"""How many answers change when prompts run together instead of one by one, for kvern and each peer.

  python3 bench/compare/answers.py [--kvern PATH] [--only NAME,...] [--markdown FILE] >answers.json

The prompts of prompts.txt, 64 greedy tokens each, with SmolLM2; the same program answers each prompt
alone, then all at once. Needs setup.sh and make_models.py to have run.
"""
import json
import pathlib
import sys

import command_line
import peers

MODEL = "smollm2-135m"
STEPS = 64


def both_ways(peer, prompts):
    """The answers alone and together."""
    try:
        return [peer.answers(prompts, STEPS, together) for together in (False, True)]
    finally:
        peer.close()


def same_start(left, right):
    """Units (tokens; characters for kvern) that two answers share before they part."""
    return next((i for i, (a, b) in enumerate(zip(left, right)) if a != b), min(len(left), len(right)))


def main():
    args = command_line.read(command_line.options(__doc__, peers.TITLES, "."), peers.TITLES)
    texts = (pathlib.Path(__file__).with_name("prompts.txt")).read_text().splitlines()
    tokenizer = peers.Kvern(args.kvern, args.models / MODEL / "kvern")
    ids = [tokenizer.token_ids(text) for text in texts]
    rows, result = [], {}
    for name in args.only:
        peer = peers.open_peer(name, args.models / MODEL, args.kvern)
        alone, together = both_ways(peer, texts if name == "kvern" else ids)
        if not len(alone) == len(together) == len(texts):
            raise SystemExit(f"{name} gave {len(alone)} and {len(together)} answers to {len(texts)} prompts")
        changed = [same_start(a, b) for a, b in zip(alone, together) if a != b]
        result[name] = {"changed": len(changed), "same_start": changed}
        rows.append(f"| {peers.TITLES[name]} | {len(changed)} of {len(texts)} |")
        print(rows[-1], file=sys.stderr, flush=True)
    lines = [f"| SmolLM2, {STEPS} greedy tokens, alone and {len(texts)} together | answers that change |",
             "|---|---|", *rows]
    if "genai" in args.only:
        lines += ["", "onnxruntime-genai pads prompts of a batch to one length, and its attention does not leave "
                  "the padding out."]
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
