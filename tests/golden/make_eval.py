# SPDX-License-Identifier: Apache-2.0
"""The text of the quality measurements: prose and code in turn, no part twice.

  python3 tests/golden/make_eval.py [-o tests/golden/eval.txt]

Prose: topics of Python's language reference that `pydoc` carries, and the legal code of CC0. Code:
functions and classes of Python's standard library, docstrings and comments included. The committed
text was made with Python 3.11.7; another version gives another text, and so other figures.
"""
import argparse
import importlib
import inspect
import pathlib
import pydoc_data.topics

CC0 = pathlib.Path("/usr/share/common-licenses/CC0-1.0")
TOPICS = ("objects", "assignment", "execmodel", "attribute-access", "calls", "debugger", "comparisons",
          "formatstrings", "function", "identifiers", "import", "string-methods", "numeric-types", "strings",
          "try", "typesmapping", "typesseq")
SOURCES = (("heapq", "merge"), ("textwrap", "TextWrapper"), ("calendar", "TextCalendar"),
           ("statistics", "NormalDist"), ("shutil", "copytree"), ("fractions", "Fraction"),
           ("sched", "scheduler"), ("graphlib", "TopologicalSorter"), ("queue", "Queue"),
           ("string", "Formatter"), ("zipfile", "ZipExtFile"), ("gzip", "GzipFile"),
           ("functools", "singledispatchmethod"), ("shlex", "shlex"), ("contextlib", "ExitStack"),
           ("collections", "Counter"), ("random", "Random"))
TOPIC_CHARACTERS = 3200
SOURCE_CHARACTERS = 3000


def head(text, n_characters):
    """The first lines that hold about so many characters: no cut in the middle of a line."""
    lines, total = [], 0
    for line in text.strip().splitlines():
        if total > n_characters:
            break
        lines.append(line.rstrip())
        total += len(line) + 1
    return "\n".join(lines) + "\n"


def parts():
    """Prose and code in turn."""
    for topic, (module, name) in zip(TOPICS, SOURCES, strict=True):
        yield head(pydoc_data.topics.topics[topic], TOPIC_CHARACTERS)
        yield head(inspect.getsource(getattr(importlib.import_module(module), name)), SOURCE_CHARACTERS)
    yield CC0.read_text()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=pathlib.Path,
                        default=pathlib.Path(__file__).with_name("eval.txt"))
    args = parser.parse_args()
    text = "\n".join(parts())
    args.output.write_text(text, encoding="utf-8")
    print(f"{args.output}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
