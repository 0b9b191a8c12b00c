# SPDX-License-Identifier: Apache-2.0
"""Makes the tokenizer goldens: python make_tokens.py (in this folder).

Writes, deterministically (tokenizers 0.22.2 and a CPython 3.11 standard library were used):
  tokens/lines.json     one JSON string a line: real code and text, and seeded mixtures of scripts
  tokens/NAME.json      small tokenizers trained on the lines: gpt2, llama3 and qwen2 style
  tokens/NAME.digest    for each line: count and CRC-32 of its ids, written as "id,id,..."
  tokens/variants.json  other configurations of these tokenizers: members that replace the base's, and for
                        every 61st line the CRC-32 of its ids and of their decoded text
Another tokenizer's digest, to be compared by hand or in a system test:
  python make_tokens.py --digest TOKENIZER_JSON OUT
"""
import json
import pathlib
import random
import sys
import sysconfig
import unicodedata
import zlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent / "tokens"
N_CODE, N_MIXED = 4200, 6200
STRIDE = 61  # of the lines that the variants are run over
# Unicode versions differ between libraries: only characters old enough for all are drawn
RANGES = [
    (0x20, 0x7E), (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x17F), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x4FF), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF),
    (0x1E00, 0x1EFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20BF), (0x2100, 0x218B),
    (0x2190, 0x22FF), (0x2460, 0x24FF), (0x2500, 0x257F), (0x3000, 0x303F), (0x3040, 0x30FF),
    (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xF900, 0xFAD9), (0xFB00, 0xFB06), (0xFF00, 0xFFEF),
    (0x10000, 0x1005D), (0x1D400, 0x1D7FF), (0x1F300, 0x1F64F), (0x20000, 0x2A6D6),
]
SPACES = [" ", "  ", "   ", "\t", "\t\t", "\n", "\r\n", "\r", "\n\n", "\n\n\n", " \n", "\n ", "\x0b", "\x0c",
          "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u2028", "\u2029", "\u202f", "\u3000", "\u200b", "\ufeff"]
BITS = ["'s", "'S", "'ll", "'LL", "'ve", "n't", "'\u017f", "don't", "I'M", "3.14159", "1,000,000", "0x7fff", "v1.2.3",
        "\u0661\u0662\u0663", "\u00bd", "\u2167", "\u00b2\u00b3", "\u3289", "e\u0301", "\u1112\u1161\u11ab", "\u212b", "\ufb01",
        "\u0958", "q\u0307\u0323", "q\u0323\u0307", "\U0001F469\u200d\U0001F469\u200d\U0001F467",
        "\U0001F3F3\ufe0f\u200d\U0001F308", "\U0001F1F3\U0001F1F4", "\U0001F44D\U0001F3FD", "\u2764\ufe0f", "a\u200db",
        "https://example.org/a?b=c&d=%20#e", "foo_bar(baz)", "x->y", "!=", "===", "...", "\u2026", "--", "<b>", "</s>",
        "\x00", "\x01", "\x1b[0m", "\x7f", "\ufffd", "\U0010fffd", "\ue000", "<|endoftext|>", "<|im_end|>", "<0x0A>"]


def code_lines():
    """Lines and short runs of lines of the standard library."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    names = ["argparse.py", "json/decoder.py", "textwrap.py", "decimal.py", "heapq.py", "this.py", "turtle.py"]
    rng = random.Random(1)
    lines = []
    for name in names + ["_pydecimal.py", "inspect.py", "tarfile.py"]:
        source = (root / name).read_text(encoding="utf-8").split("\n")
        at = 0
        while at < len(source):
            n = rng.choice([1, 1, 1, 2, 3])
            lines.append("\n".join(source[at:at + n]))
            at += n
    rng.shuffle(lines)
    return lines[:N_CODE]


def mixed_line(rng):
    kind = rng.randrange(10)
    if kind == 0:  # names of characters: English words in capitals
        return " ".join(unicodedata.name(chr(rng.randrange(0x20, 0x3000)), "NONE") for _ in range(2))
    if kind == 1:  # a long word
        return rng.choice(["a", "ab", "\u4e2d", "-", " ", "\n", "7", "\u00e9", "xyz"]) * rng.randrange(1, 60)
    if kind == 2:  # any bytes, decoded as Python does with errors="replace"
        return bytes(rng.randrange(256) for _ in range(rng.randrange(1, 30))).decode("utf-8", "replace")
    parts = []
    low, high = rng.choice(RANGES)
    for _ in range(rng.randrange(1, 9)):
        pick = rng.randrange(8)
        if pick < 3:
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randrange(1, 6))))
        elif pick < 5:
            parts.append(rng.choice(BITS))
        elif pick < 7:
            parts.append(rng.choice(SPACES))
        if rng.randrange(4) == 0:
            low, high = rng.choice(RANGES)
    return "".join(parts)


def is_old(text):
    """No character that some library's Unicode tables may not know yet."""
    return all(unicodedata.category(c) != "Cn" for c in text)


def corpus():
    rng = random.Random(2)
    lines = code_lines()
    while len(lines) < N_CODE + N_MIXED:
        line = mixed_line(rng)
        if is_old(line):
            lines.append(line)
    lines += ["", "x" * 1500, "\u00e9" * 700, " " * 1000 + "x", "ab" * 600, "\n" * 500, "1" * 600]
    return lines


def train(lines, name):
    llama3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
              r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "gpt2")
    if name == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    else:
        pattern = llama3 if name == "llama3" else llama3.replace("{1,3}", "")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), behavior="isolated"), byte_level])
    if name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=2000, special_tokens=specials, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if name == "llama3":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    return tokenizer


def train_spm(lines):
    """Llama 2's manner: no pre-tokenizer, characters, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    specials = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % i for i in range(256)]
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")  # for training only
    lines = [line for line in lines if "\0" not in line]  # JSON readers in C refuse it in a name
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=1200, special_tokens=specials, show_progress=False, limit_alphabet=150))
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = made["added_tokens"][:3]
    made["pre_tokenizer"] = None
    made["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return Tokenizer.from_str(json.dumps(made))


def variants():
    """(base, name, members) of configurations that are not a base's own."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    no_regex = dict(byte_level, use_regex=False)

    def split(pattern, behavior, invert=False, kind="Regex"):
        step = {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step, no_regex]}}

    def steps(*list_):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [*list_, no_regex]}}

    def added(content, **options):
        token = {"id": 2000, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}
        return dict(token, **options)

    out = [("gpt2", "normalizer " + n, {"normalizer": {"type": n}})
           for n in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"]]
    out += [("gpt2", "Strip", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}}),
            ("gpt2", "Strip left", {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": False}}),
            ("gpt2", "Replace", {"normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFKD"}, {"type": "Replace", "pattern": {"Regex": r"\s{2,}|\d"}, "content": "_"},
                {"type": "Replace", "pattern": {"String": "e"}, "content": "EE"}]}})]
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        for invert in [False, True]:
            out.append(("gpt2", "Split %s%s" % (behavior, " inverted" * invert),
                        split(r"[\p{Lu}\s]|\w\d", behavior, invert)))
        out.append(("gpt2", "Punctuation " + behavior, steps({"type": "Punctuation", "behavior": behavior})))
    out += [("gpt2", "Split String", split("e", "Isolated", kind="String")),
            ("gpt2", "Digits runs", steps({"type": "Digits", "individual_digits": False})),
            ("gpt2", "Whitespace", steps({"type": "Whitespace"})),
            ("gpt2", "WhitespaceSplit", steps({"type": "WhitespaceSplit"})),
            ("gpt2", "prefix space", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True}, dict(byte_level, add_prefix_space=True)]}}),
            ("gpt2", "no regex", {"pre_tokenizer": no_regex}),
            ("gpt2", "Metaspace decoder", {"decoder": {"type": "Metaspace", "replacement": "e",
                                                       "prepend_scheme": "always", "split": True}}),
            ("gpt2", "no decoder", {"decoder": None})]
    for options in [{}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}, {"single_word": True},
                    {"normalized": True}]:
        for content in ["the", "re", "\u00e9"]:
            out.append(("qwen2", "added %s %s" % (content, " ".join(options)), {"added_tokens": [
                added(content, **options), added(content + "tu", id=2001), added(" " + content, id=2002)]}))
    for scheme in ["always", "first", "never"]:
        for is_split in [True, False]:
            metaspace = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": is_split}
            out.append(("spm", "Metaspace %s %s" % (scheme, is_split),
                        {"normalizer": None, "pre_tokenizer": metaspace, "decoder": metaspace}))
    out.append(("spm", "Llama 2", {}))
    return out


def add_variants(bases, lines):
    made = []
    for base, name, members in variants():
        tokenizer = Tokenizer.from_str(json.dumps(dict(json.loads(bases[base].to_str()), **members)))
        if "added_tokens" in members:  # with the ids it gave them
            members["added_tokens"] = json.loads(tokenizer.to_str())["added_tokens"]
        ids = [tokenizer.encode(line).ids for line in lines[::STRIDE]]
        texts = [tokenizer.decode(x) for x in ids]
        made.append({"base": base, "name": name, "members": members,
                     "ids": "".join("%08x" % zlib.crc32(",".join(map(str, x)).encode()) for x in ids),
                     "texts": "".join("%08x" % zlib.crc32(x.encode()) for x in texts)})
    return made


def digest(tokenizer, lines):
    out = []
    for line in lines:
        ids = tokenizer.encode(line).ids
        out.append("%d %08x\n" % (len(ids), zlib.crc32(",".join(map(str, ids)).encode())))
    return "".join(out)


def main():
    HERE.mkdir(exist_ok=True)
    if len(sys.argv) == 4 and sys.argv[1] == "--digest":
        lines = [json.loads(x) for x in (HERE / "lines.json").read_text(encoding="utf-8").split("\n")[:-1]]
        pathlib.Path(sys.argv[3]).write_text(digest(Tokenizer.from_file(sys.argv[2]), lines))
        return
    lines = corpus()
    # newline="" and no raw U+2028 and the like: the file must split at \n only
    text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
    (HERE / "lines.json").write_text(text, encoding="utf-8", newline="")
    bases = {name: train(lines, name) for name in ["gpt2", "llama3", "qwen2"]}
    bases["spm"] = train_spm(lines)
    for name, tokenizer in bases.items():
        compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        (HERE / (name + ".json")).write_text(compact + "\n", encoding="utf-8")
        if name != "spm":
            (HERE / (name + ".digest")).write_text(digest(tokenizer, lines))
    (HERE / "variants.json").write_text("[\n%s\n]\n" % ",\n".join(json.dumps(x) for x in add_variants(bases, lines)))


main()
