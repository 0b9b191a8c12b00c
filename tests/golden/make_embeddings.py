# SPDX-License-Identifier: Apache-2.0
"""Goldens of all-MiniLM-L6-v2: sentences with PyTorch's vectors, and a ranking of paragraphs.

  python tests/golden/make_embeddings.py [.deps/models/all-MiniLM-L6-v2] [-o tests/golden/embeddings]

Needs torch 2.13, transformers 4.57 and safetensors 0.8; the text was made with Python 3.11.7. The vector of
a text: mean over all its tokens, [CLS] and [SEP] too, of BertModel's last hidden state, each text alone in
f32, then divided by its length. No text is above 256 tokens, so nothing was truncated.

sentences.jsonl: {"text", "n_tokens"} for each of 1,000: odd ones first, then one of every length from 3.
sentences.i10: their vectors [1000, 384] in 10 bits: value j of a vector stands in bits 10 j to 10 j + 9 of its 480 bytes,
plus 512; the largest is 511 or -511. Their lengths are not kept. (The cosine lost so is printed: below 1e-5.)
paragraphs.jsonl: {"text"} for each of 200 paragraphs. queries.jsonl: {"query", "top": [[index of the paragraph,
cosine], ... 6, best first]}; the sixth shows how far the fifth is from being replaced.
"""
import argparse
import ast
import json
import pathlib
import pydoc_data.topics
import random
import re
import sysconfig

import numpy
import torch
from transformers import AutoTokenizer, BertModel

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 6
N_SENTENCES, N_PARAGRAPHS, N_TOP = 1000, 200, 6
MAX_TOKENS = 256
MODULES = ("argparse", "ast", "asyncio.events", "bisect", "calendar", "codecs", "collections", "configparser",
           "contextlib", "csv", "datetime", "decimal", "difflib", "doctest", "email.message", "enum", "fractions",
           "ftplib", "functools", "gettext", "glob", "gzip", "hashlib", "heapq", "http.client", "imaplib", "inspect",
           "ipaddress", "json", "locale", "mailbox", "optparse", "os", "pathlib", "pdb", "pickle", "random", "sched",
           "shelve", "shutil", "smtplib", "socket", "sqlite3.dbapi2", "ssl", "statistics", "string", "subprocess",
           "tarfile", "tempfile", "textwrap", "threading", "timeit", "trace", "typing", "unittest.case", "urllib.parse",
           "uuid", "warnings", "wave", "weakref", "zipfile")
ODD = [
    "a", "Hi", "kvern", "42", "?", "...", "The the THE tHe", "naïve café, Århus, Łódź, İstanbul, straße",
    "e\u0301le\u0300ve and élève", "磨盘", "中文没有空格，逐字切分。", "日本語のテキストとカタカナ", "한국어 문장입니다.",
    "Ελληνικά: μύλος", "Русский текст о мельнице", "עברית עם ניקוד: שָׁלוֹם", "العربية من اليمين إلى اليسار",
    "ภาษาไทยไม่มีช่องว่าง", "हिन्दी में एक वाक्य", "🌾🍞 bread emoji 👩‍🌾 joined", "🙂", "x\ty\nz\r\nlines and tabs",
    "  spaces   at both ends  ", "zero\u200bwidth and soft\u00adhyphen", "non\u00a0breaking\u3000wide spaces",
    "bell\u0007 and null-free control \u0001 characters", "\ufffd replacement \ufeff mark", "ｆｕｌｌ ｗｉｄｔｈ ＡＢＣ",
    "½ ² ³ ™ ℃ ﬁ ligature", "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋", "C++ & C# -- a/b\\c #tag @user $1,000.50 50%",
    "https://example.org/path?q=1&r=%20#part", "snake_case camelCase kebab-case __init__",
    "antidisestablishmentarianism", "a" * 100, "b" * 101, "[MASK] [SEP] in brackets", "##ing is a piece",
    "don't can't it's o'clock 'quoted' \"double\" “curly” ‘single’", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 beyond the first plane",
]
QUERIES = (
    "How do I catch an exception?", "What happens when a name is not defined?", "define a class with a metaclass",
    "difference between a list and a tuple", "formatting numbers with a fixed count of decimals",
    "integer division and remainder of negative numbers", "how are arguments passed to a function",
    "importing a module from a package", "setting a breakpoint in the debugger", "compare two objects for identity",
    "make an object usable in a with statement", "iterate over the items of a dictionary",
    "regular expression in a raw string", "remove white space from both ends of a string",
    "asynchronous generators and await", "delete an attribute of an instance", "what is a closure or free variable",
    "operator precedence", "matching patterns in a match statement", "complex numbers and imaginary literals")


def paragraphs_of(text):
    """Paragraphs as prose: lines joined, reST's markup and underlined titles taken out."""
    for block in re.split(r"\n\s*\n", text):
        block = " ".join(block.split())
        if not re.search(r"[*=~^-]{5,}|>>>", block):
            yield re.sub(r'"([^"]+)"', r"\1", block)


def docstrings():
    """Docstrings of MODULES in the order of the source."""
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    for module in MODULES:
        path = folder / (module.replace(".", "/") + ".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
                yield from paragraphs_of(text)


def cut(text, n_tokens, tokenizer):
    """The start of a text that has at most so many tokens, cut where a word ends."""
    offsets = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    if len(offsets) <= n_tokens - 2:
        return text
    end = offsets[n_tokens - 2][0]
    while end > 0 and not text[end - 1].isspace():
        end -= 1
    return text[:end].strip()


def make_sentences(tokenizer):
    """The odd ones, one of every length up to the limit, and the rest as long as a sentence or two."""
    rng = random.Random(SEED)
    topics = [text for name in sorted(pydoc_data.topics.topics)
              for text in paragraphs_of(pydoc_data.topics.topics[name])]
    pool = list(dict.fromkeys(text for text in [*topics, *docstrings()] if len(text) > 20))
    rng.shuffle(pool)
    made, at = dict.fromkeys(ODD), 0
    lengths = [(n, True) for n in range(3, MAX_TOKENS + 1)]
    lengths += [(rng.randrange(5, 75), False) for _ in range(N_SENTENCES - len(ODD) - len(lengths))]
    for n_tokens, exact in lengths:
        text = ""
        while not text or text in made or (exact and len(tokenizer(text)["input_ids"]) != n_tokens):
            text, at = pool[at % len(pool)], at + 1
            while len(text) < 6 * n_tokens:
                text, at = text + " " + pool[at % len(pool)], at + 1
            text = cut(text[:12 * n_tokens + 50], n_tokens, tokenizer)
        made[text] = None
    return [*made]


def make_paragraphs():
    """Paragraphs of 25 to 90 words of the language reference, spread over its topics."""
    rng = random.Random(SEED)
    found = {}
    for name in sorted(pydoc_data.topics.topics):
        for text in paragraphs_of(pydoc_data.topics.topics[name]):
            if 25 <= len(text.split()) <= 90 and text[0].isupper():
                found[text] = None
    return [text for _, text in sorted(rng.sample(list(enumerate(found)), N_PARAGRAPHS))]


@torch.no_grad()
def embed(model, tokenizer, texts):
    rows = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        if not 2 < len(ids) <= MAX_TOKENS:
            raise SystemExit(f"{len(ids)} tokens: {text[:60]!r}")
        hidden = model(torch.tensor([ids])).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    return numpy.stack(rows)


def write_lines(path, objects):
    path.write_text("".join(json.dumps(o, ensure_ascii=False) + "\n" for o in objects), encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


def pack(vectors, path):
    """Writes vectors in 10 bits; returns what can be read of them."""
    back = numpy.rint(vectors * (511 / abs(vectors).max(1, keepdims=True))).astype(numpy.int64)
    bits = (back + 512)[..., None] >> numpy.arange(10) & 1
    numpy.packbits(bits.reshape(len(vectors), -1).astype(bool), axis=1, bitorder="little").tofile(path)
    return back


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=pathlib.Path, default=ROOT / ".deps/models/all-MiniLM-L6-v2")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=ROOT / "tests/golden/embeddings")
    args = parser.parse_args()
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = BertModel.from_pretrained(args.model, attn_implementation="eager", dtype=torch.float32).eval()
    args.output.mkdir(parents=True, exist_ok=True)

    sentences = make_sentences(tokenizer)
    vectors = embed(model, tokenizer, sentences)
    lengths = [len(tokenizer(text)["input_ids"]) for text in sentences]
    write_lines(args.output / "sentences.jsonl",
                [{"text": text, "n_tokens": n} for text, n in zip(sentences, lengths, strict=True)])
    back = pack(vectors, args.output / "sentences.i10")
    lost = 1 - (back * vectors).sum(1) / numpy.linalg.norm(back, axis=1) / numpy.linalg.norm(
        vectors.astype(numpy.float64), axis=1)
    print(f"{len(sentences)} sentences, {min(lengths)} to {max(lengths)} tokens, mean {numpy.mean(lengths):.1f}, "
          f"{len(set(lengths))} lengths; cosine lost by 10 bits: at most {lost.max():.1e}")

    paragraphs = make_paragraphs()
    write_lines(args.output / "paragraphs.jsonl", [{"text": text} for text in paragraphs])
    scores = embed(model, tokenizer, QUERIES) @ embed(model, tokenizer, paragraphs).T
    ranked = []
    for query, row in zip(QUERIES, scores, strict=True):
        best = numpy.argsort(-row, kind="stable")[:N_TOP]
        ranked.append({"query": query, "top": [[int(i), round(float(row[i]), 6)] for i in best]})
    write_lines(args.output / "queries.jsonl", ranked)
    gaps = [a[1] - b[1] for r in ranked for a, b in zip(r["top"], r["top"][1:])]
    print(f"smallest gaps between neighbours: {', '.join(f'{gap:.5f}' for gap in sorted(gaps)[:5])}")
    for r in ranked:
        print(f"  {r['top'][0][1]:.2f} {r['query']} -> {paragraphs[r['top'][0][0]][:90]}")


if __name__ == "__main__":
    main()
