# SPDX-License-Identifier: Apache-2.0
"""What the comparisons here have in common as commands: their options, the settings they keep, and how a result is
told. It measures nothing."""
import argparse
import contextlib
import json
import os
import pathlib
import sys
import time

import peers


def options(doc, names, models, program=None):
    """A parser for all of them: --kvern (or --program, kvern's part in build/), --only, --models, --markdown."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if program:
        parser.add_argument("--program", default=str(peers.ROOT / "build" / program), help="kvern's part")
    else:
        parser.add_argument("--kvern", default=str(peers.ROOT / "build/kvern"), help="the command")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[*names],
                        help=f"names out of {','.join(names)}")
    parser.add_argument("--models", type=pathlib.Path, default=peers.ROOT / ".deps/models/compare" / models)
    parser.add_argument("--markdown", type=pathlib.Path)
    return parser


def add_rounds(parser):
    parser.add_argument("--rounds", type=int, default=3)


def add_search(parser):
    """Of those that look for each peer's fastest setting."""
    add_rounds(parser)
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS",
                        help="before each sample wait up to this long for an idle machine")
    parser.add_argument("--settings", type=pathlib.Path, help="where the settings found are kept")


def read(parser, titles):
    """The arguments; --only holds names of `titles`, or the command ends."""
    args = parser.parse_args()
    for name in args.only:
        if name not in titles:
            parser.error(f"no program named {name}; there are {', '.join(titles)}")
    return args


@contextlib.contextmanager
def kept_settings(path):
    """{name: what was found}, from the file and, when all went well, back into it; path may be None."""
    found = json.loads(path.read_text()) if path and path.exists() else {}
    yield found
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n")


def tell(args, started, what, lines, result):
    """The table under a line about the machine on stderr and in --markdown, and the result on stdout."""
    load = os.getloadavg()[2]
    lines = [f"{peers.cpu_name()}, 2 threads; {what}; medians of {args.rounds} rounds; {time.time() - started:.0f} s, "
             f"load average {load:.1f} (2 when nothing else runs)", "", *lines]
    if args.markdown:
        args.markdown.write_text("\n".join(lines) + "\n")
    print("\n".join(lines), file=sys.stderr)
    print(json.dumps({"machine": peers.cpu_name(), "load": load, **result}))
