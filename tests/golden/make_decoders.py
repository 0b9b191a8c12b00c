# SPDX-License-Identifier: Apache-2.0
"""Makes tokens/decoders.json: python make_decoders.py (in this folder; tokenizers 0.22.2 was used).

What Hugging Face's decoders give in every order: {"pieces": the vocabulary, "sequences": lists of ids, "decoders":
[[names, the lower 16 bits of the CRC-32 of each sequence's decoded text in hex, all joined]]}. The names are those of
"members".
"""
import itertools
import json
import pathlib
import random
import zlib

from tokenizers import Tokenizer

MEMBERS = {
    "byte_fallback": {"type": "ByteFallback"},
    "fuse": {"type": "Fuse"},
    "replace": {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
    "replace_two": {"type": "Replace", "pattern": {"String": "ab"}, "content": "-"},
    "byte_level": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "strip": {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    "metaspace": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True},
}
PIECES = ["<0xE2>", "<0x96>", "<0x81>", "<0xC3>", "<0xA9>", "<0xFF>", "<0x41>", "<0x20>", "<0x4>", "\u2581", "\u2581a",
          "\u2581\u2581d", "a", "b", "ab", " ", "  x", "\u0120b", "\u00c3", "\u00a9", "\u00c3\u00a9", "\u4e2d", "\u010a", "!"]
N_SEQUENCES = 48


def orders():
    for n in (1, 2, 3):
        yield from itertools.permutations(MEMBERS, n)
    yield from itertools.permutations(["byte_fallback", "fuse", "replace", "byte_level"])
    yield from itertools.permutations(["byte_fallback", "fuse", "replace", "strip"])
    yield ("fuse", "strip", "replace", "strip")
    yield ("fuse", "fuse", "strip")


def main():
    rng = random.Random(1)
    vocab = {piece: i for i, piece in enumerate(PIECES)}
    sequences = [[i] for i in range(len(PIECES))]
    sequences += [[vocab[p] for p in run] for run in (
        ["<0xE2>", "<0x96>", "<0x81>"], ["<0xC3>", "<0xA9>", "a"], ["<0xC3>", "a"], ["\u2581", "\u2581", "a"])]
    while len(sequences) < N_SEQUENCES:
        sequences.append([rng.randrange(len(PIECES)) for _ in range(rng.randrange(2, 12))])
    made = []
    for names in orders():
        tokenizer = Tokenizer.from_str(json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
            "pre_tokenizer": None, "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [MEMBERS[name] for name in names]},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "a"}}))
        crcs = (zlib.crc32(tokenizer.decode(ids, skip_special_tokens=False).encode()) for ids in sequences)
        made.append([" ".join(names), "".join(f"{crc & 0xffff:04x}" for crc in crcs)])
    lines = [json.dumps({"pieces": PIECES, "members": MEMBERS})[:-1],
             '"sequences": ' + json.dumps(sequences), '"decoders": [' + ",\n".join(json.dumps(m) for m in made) + "]}"]
    path = pathlib.Path(__file__).parent / "tokens" / "decoders.json"
    path.write_text(",\n".join(lines) + "\n")


main()
