# SPDX-License-Identifier: Apache-2.0
"""Makes the tokenizer goldens: python make_tokens.py (in this folder).

Writes, deterministically (tokenizers 0.22.2 and a CPython 3.11 standard library were used):
  tokens/lines.json     one JSON string a line: real code and text, and seeded mixtures of scripts
  tokens/NAME.json      small tokenizers trained on the lines: gpt2, llama3 and qwen2 style
  tokens/NAME.digest    for each line: a CRC of its ids, written as "id,id,..."
  tokens/bert_lines.json  lines that are hard for WordPiece and Bert's normalizer
  tokens/bert.json, cased.json  small WordPiece tokenizers: uncased with "##", cased with "@@"
  tokens/bert.digest, cased.digest  for these lines, then every 5th of lines.json: a CRC of the ids, of the
                        offsets ("begin,end,begin,..." in bytes; 0: not to be compared), and of the ids where special
                        tokens are text
  tokens/variants.json, bert_variants.json  other configurations of these tokenizers: members that replace the base's, and for
                        every 61st line a CRC of its ids and of their decoded text (WordPiece: of the bert lines every 5th)
  tokens/files.json     directories without a tokenizer.json (vocabularies of bert.json and gpt2.json, some pieces renamed),
                        as transformers 4.57 reads them: for every 5th of the bert lines a CRC of its ids
A CRC is the lower 16 bits of a CRC-32: in hex in JSON, two bytes with the higher one first in a digest.
Another tokenizer's digest, to be compared by hand or in a system test:
  python make_tokens.py --digest TOKENIZER_JSON OUT       (as gpt2.digest)
  python make_tokens.py --digest-bert TOKENIZER_JSON OUT  (as bert.digest)
"""
import collections
import json
import pathlib
import random
import sys
import sysconfig
import tempfile
import unicodedata
import zlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent / "tokens"
N_CODE, N_MIXED = 4200, 6200
STRIDE = 61  # of the lines that the variants are run over
N_BERT, BERT_STRIDE, BERT_VARIANT_STRIDE = 2000, 5, 5
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


# what Bert's normalizer and WordPiece treat in a manner of their own
WORDS = [
    "[CLS]", "[SEP]", "[MASK]", "[UNK]", "[PAD]", "[cls]", "[ SEP ]", "[SEP", "SEP]", "[[SEP]]", "x[SEP]y", "##ing", "##", "@@", "@@s",
    "\u0130stanbul", "D\u0130YARBAKIR \u0131Ii\u0130", "I\u0307", "stra\u00dfe", "STRASSE \u1e9e", "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3",
    "\u00c5ngstr\u00f6m", "A\u030angstro\u0308m", "na\u00efve caf\u00e9", "CAF\u00c9", "e\u0301\u0323", "q\u0323\u0307", "\u1ed6\u1ea4\u01d5",
    "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab\u1100\u116e\u11a8", "\uff46\uff55\uff4c\uff4c", "\u4e2d\u6587\u5b57a", "\u65e5\u672c\u8a9e\u30c6\u30ad\u30b9\u30c8",
    "\u30ac\u304c\uff76\uff9e", "\uf900\ufa10\U0002f800", "\U00020000\U0002a700\U0002b740\U0002b820", "\u3400\u4dbf\u4dc0\u9fff\ua000", "\u2167\u01c5\ufb01",
    "\u05e2\u05b4\u05d1\u05b0\u05e8\u05b4\u05d9\u05ea", "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u064e\u0651\u0629", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e4c", "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd", "\u1780\u17d2\u1798\u17c2\u179a", "\u041c\u043e\u0441\u043a\u0432\u0430 \u0439\u0451",
    "a\u00adb", "a\u200bb", "\ufeffx", "a\u2028b", "a\u0085b", "a\u00a0b", "a\u3000b", "a\u180eb", "x\x00y", "x\x07y", "x\ufffdy", "\ue000", "\U000f0000", "\u0378",
    "\U0001d15e", "\U0001d165\u302e\u0302\U0001d16d\u302f\u0300", "o\u302f\U0001d165\u0323\U0001d16d\U0001d165", "x\u20dd\u0301", "\u0344\u0f73", "\u0958\u09dc",
    "\u2e52\u1b7d\u2e43x\u2e4e", "\u166d\u1734\U000111c9\u1735", "a\u1ac1b\u1dfbc\u0898d", "\U0001f469\u200d\U0001f467", "\u2764\ufe0f", "\U0001d4b3\U0001d4ce",
    "C++", "snake_case", "it's", "don't", "do not", "we've", "' s", " . , ! ?", "$1,000.00", "x[0]=y;", "a->b", "100%", "\u00bfqu\u00e9?", "\u201cx\u201d", "\u2014", "\u00a7\u00b6",
    "supercalifragilisticexpialidocious", "antidisestablishmentarianism", "unaffable", "tokenization", "embeddings", "HTTPServer2",
]


def bert_lines():
    rng = random.Random(4)
    lines = list(WORDS)
    for n in [99, 100, 101, 250]:  # around max_input_chars_per_word
        lines += [c * n for c in ["x", "\u00e9", "e\u0301", "\u4e2d", "\ud55c", "\u00df", "-", "ab"]]
        lines += ["x" * n + " the " + "y" * (n - 1) + "-" + "z" * n]
    while len(lines) < N_BERT:
        parts = []
        for _ in range(rng.randrange(1, 8)):
            pick = rng.randrange(8)
            word = rng.choice(WORDS)
            if pick == 0:
                word = word.upper() if rng.randrange(2) else word.title()
            elif pick == 1:
                word = unicodedata.normalize(rng.choice(["NFC", "NFD", "NFKC"]), word)
            elif pick == 2:
                word = word[rng.randrange(len(word)):]
            parts += [word, rng.choice(["", " ", " ", " ", "-", "\t", "\n", ". ", ", ", "\u0301", "s"])]
        lines.append("".join(parts))
    return lines


def make_wordpiece(lines, name):
    """The most frequent characters, beginnings, insides and words: the library's own trainer has no fixed order."""
    is_cased = name == "cased"
    prefix = "@@" if is_cased else "##"
    normalizer = normalizers.BertNormalizer(lowercase=not is_cased)
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts = {"": collections.Counter(), prefix: collections.Counter()}
    for line in lines:
        for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(line)):
            for begin in range(min(len(word), 12)):
                for n in [1, 2, 3, 4, len(word) - begin]:
                    counts[prefix if begin else ""][word[begin:begin + n]] += 1
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for before, counter in counts.items():
        singles = [x for x in counter if len(x) == 1]
        longer = [x for x in counter if 1 < len(x) < 20]
        for pieces, n in [(singles, 300), (longer, 500)]:
            vocab += [before + x for x in sorted(pieces, key=lambda x: (-counter[x], x))[:n]]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(vocab))}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    if is_cased:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece(prefix=prefix, cleanup=not is_cased)
    made = json.loads(tokenizer.to_str())
    made["model"]["continuing_subword_prefix"] = prefix
    made["model"]["vocab"] = vocab
    return Tokenizer.from_str(json.dumps(made))


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


def bert_variants():
    def bert(**options):
        return {"normalizer": dict({"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                                    "strip_accents": None, "lowercase": True}, **options)}

    def added(content, **options):
        token = {"id": 9000, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": False}
        return dict(token, **options)

    out = [("bert", "BertNormalizer", bert()), ("bert", "case and accents stay", bert(lowercase=False)),
           ("bert", "accents stay", bert(strip_accents=False)), ("bert", "case stays", bert(strip_accents=True, lowercase=False)),
           ("bert", "not cleaned", bert(clean_text=False)), ("bert", "not cleaned, all stays", bert(clean_text=False, lowercase=False)),
           ("bert", "Chinese together", bert(handle_chinese_chars=False)), ("cased", "strip_accents", bert(strip_accents=True)),
           ("bert", "after NFKC", {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, bert()["normalizer"]]}}),
           ("bert", "Strip after", {"normalizer": {"type": "Sequence", "normalizers": [
               bert()["normalizer"], {"type": "Strip", "strip_left": True, "strip_right": True}]}}),
           ("bert", "no normalizer", {"normalizer": None}), ("bert", "no pre_tokenizer", {"pre_tokenizer": None}),
           ("bert", "truncation and padding", {
               "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
               "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                           "pad_type_id": 0, "pad_token": "[PAD]"}}),
           ("bert", "decoder as it is", {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}),
           ("bert", "decoder without prefix", {"decoder": {"type": "WordPiece", "prefix": "", "cleanup": True}}),
           ("bert", "decoder after Replace", {"decoder": {"type": "Sequence", "decoders": [
               {"type": "Replace", "pattern": {"String": "e"}, "content": " ' "},
               {"type": "WordPiece", "prefix": "##", "cleanup": True}]}}),
           ("bert", "no decoder", {"decoder": None})]
    for step in ["Whitespace", "WhitespaceSplit", "BertPreTokenizer"]:
        out.append(("cased", step, {"pre_tokenizer": {"type": step}}))
    for n, prefix in [(0, "##"), (1, "##"), (5, "##"), (100, ""), (100, "e"), (1 << 40, "##")]:
        out.append(("bert", "%d characters, prefix %s" % (n, prefix), {
            "model": {"max_input_chars_per_word": n, "continuing_subword_prefix": prefix}}))
    for options in [{"lstrip": True}, {"rstrip": True}, {"single_word": True}, {"normalized": True}, {"special": True}]:
        out.append(("bert", "added " + " ".join(options), {"added_tokens": [
            added("caf\u00e9", **options), added("Str", id=9001, **options), added("[SEP]", id=3, **dict(options, special=True))]}))
    return out


def crc(values):
    return crc_of_text(",".join(map(str, values)))


def crc_of_text(text):
    return "%04x" % (zlib.crc32(text.encode()) & 0xffff)


def byte_offsets(line, encoding):
    """Python counts characters."""
    ends = [0]
    for c in line:
        ends.append(ends[-1] + len(c.encode()))
    return [ends[x] for pair in encoding.offsets for x in pair]


def crc_of_offsets(line, encoding):
    """0 where NFD reorders marks that stay: Python's offsets go by place, kvern's by where a mark came from."""
    nfd = unicodedata.normalize("NFD", line)
    is_ordered = nfd == "".join(unicodedata.normalize("NFD", c) for c in line)
    has_marks_that_stay = any(unicodedata.combining(c) and unicodedata.category(c) != "Mn" for c in nfd)
    return "0000" if has_marks_that_stay and not is_ordered else crc(byte_offsets(line, encoding))


def as_is(tokenizer):
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def digest_bert(tokenizer, lines):
    as_is(tokenizer)
    rows = []
    for line in lines:
        tokenizer.encode_special_tokens = True
        as_text = tokenizer.encode(line).ids
        tokenizer.encode_special_tokens = False
        encoding = tokenizer.encode(line)
        rows.append(crc(encoding.ids) + crc_of_offsets(line, encoding) + crc(as_text))
    return bytes.fromhex("".join(rows))


def add_variants(bases, variants_, lines):
    made = []
    for base, name, members in variants_:
        members = dict(members)
        if "model" in members:
            members["model"] = dict(json.loads(bases[base].to_str())["model"], **members["model"])
        tokenizer = Tokenizer.from_str(json.dumps(dict(json.loads(bases[base].to_str()), **members)))
        if "added_tokens" in members:  # with the ids it gave them
            members["added_tokens"] = json.loads(tokenizer.to_str())["added_tokens"]
        if "model" in members:
            del members["model"]["vocab"]  # the base's
        as_is(tokenizer)
        ids = [tokenizer.encode(line).ids for line in lines]
        texts = [tokenizer.decode(x) for x in ids]
        made.append({"base": base, "name": name, "members": members,
                     "ids": "".join(map(crc, ids)),
                     "texts": "".join(map(crc_of_text, texts))})
    return made


def file_cases():
    """(base, class that transformers reads it with, pieces renamed, files)"""
    def added(content, **options):
        return dict({"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True,
                     "__type": "AddedToken"}, **options)

    mpnet = {"[CLS]": "<s>", "[SEP]": "</s>", "[MASK]": "<mask>", "[PAD]": "<pad>"}
    roberta = {"<|endoftext|>": "<s>", "<|im_start|>": "</s>", "<|im_end|>": "<mask>"}
    config, special, more = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
    codet5 = {"bos_token": added("<s>"), "eos_token": added("</s>"), "sep_token": added("</s>"), "cls_token": added("<s>"),
              "mask_token": added("<mask>", lstrip=True)}
    return [
        ("bert", "BertTokenizerFast", {}, {}),
        ("bert", "BertTokenizerFast", {}, {config: {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}}),
        ("bert", "BertTokenizerFast", {}, {config: {"do_lower_case": True, "strip_accents": False,
                                                    "tokenize_chinese_chars": False}}),
        ("bert", "BertTokenizerFast", {}, {"config.json": {"tokenizer_class": "DistilBertTokenizerFast"},
                                           config: {"strip_accents": True, "do_lower_case": False}}),
        ("bert", "BertTokenizerFast", {"[SEP]": "[END]"}, {config: {"sep_token": "[END]"}}),
        ("bert", "BertTokenizerFast", {}, {config: {"cls_token": "[MASK]"}, special: {"cls_token": "[PAD]"}}),
        ("bert", "BertTokenizerFast", {}, {more: {"caf\u00e9": 1605, "[X]": 1606}, config: {
            "additional_special_tokens": ["[X]", "the"]}}),
        ("bert", "BertTokenizerFast", {}, {special: {"sep_token": "[MASK]"}, config: {
            "added_tokens_decoder": {
                "0": added("[PAD]", special=True, normalized=False), "1606": added("str", rstrip=True, special=False),
                "1605": added("caf\u00e9", special=True, normalized=False, lstrip=True)}}}),
        ("bert", "MPNetTokenizerFast", mpnet, {config: {"tokenizer_class": "MPNetTokenizer", "do_lower_case": True}}),
        ("gpt2", "GPT2TokenizerFast", {}, {}),
        ("gpt2", "GPT2TokenizerFast", {}, {config: {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}}),
        ("gpt2", "GPT2TokenizerFast", {}, {config: {"add_bos_token": True, "bos_token": "<|im_start|>"}}),
        ("gpt2", "RobertaTokenizerFast", roberta, {}),
        ("gpt2", "RobertaTokenizerFast", roberta, {config: {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": True}}),
        ("gpt2", "RobertaTokenizerFast", roberta, {config: dict(codet5, tokenizer_class="RobertaTokenizer"), special: codet5}),
    ]


def add_files(bases, lines):
    import transformers
    made = []
    for base, class_, renamed, files in file_cases():
        model = json.loads(bases[base].to_str())["model"]
        vocab = {renamed.get(piece, piece): id_ for piece, id_ in model["vocab"].items()}
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for name, members in files.items():
                (folder / name).write_text(json.dumps(members))
            if base == "bert":
                (folder / "vocab.txt").write_text("".join(x + "\n" for x in sorted(vocab, key=vocab.get)), newline="")
            else:
                (folder / "vocab.json").write_text(json.dumps(vocab))
                merges = [" ".join(x) if isinstance(x, list) else x for x in model["merges"]]
                (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), newline="")
            tokenizer = getattr(transformers, class_).from_pretrained(str(folder))
        ids = [tokenizer(line)["input_ids"] for line in lines]
        made.append({"base": base, "renamed": renamed, "files": files, "ids": "".join(map(crc, ids))})
    return made


def digest(tokenizer, lines):
    return bytes.fromhex("".join(crc(tokenizer.encode(line).ids) for line in lines))


def read_lines(name):
    return [json.loads(x) for x in (HERE / name).read_text(encoding="utf-8").split("\n")[:-1]]


def write_lines(name, lines):
    # newline="" and no raw U+2028 and the like: the file must split at \n only
    text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
    (HERE / name).write_text(text, encoding="utf-8", newline="")


def main():
    HERE.mkdir(exist_ok=True)
    if len(sys.argv) == 4:
        lines = read_lines("lines.json")
        tokenizer = Tokenizer.from_file(sys.argv[2])
        made = (digest(tokenizer, lines) if sys.argv[1] == "--digest"
                else digest_bert(tokenizer, read_lines("bert_lines.json") + lines[::BERT_STRIDE]))
        pathlib.Path(sys.argv[3]).write_bytes(made)
        return
    lines = corpus()
    hard = bert_lines()
    write_lines("lines.json", lines)
    write_lines("bert_lines.json", hard)
    bases = {name: train(lines, name) for name in ["gpt2", "llama3", "qwen2"]}
    bases["spm"] = train_spm(lines)
    hard_and_plain = hard + lines[::BERT_STRIDE]
    bases.update({name: make_wordpiece(hard_and_plain, name) for name in ["bert", "cased"]})
    for name, tokenizer in bases.items():
        compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
        (HERE / (name + ".json")).write_text(compact + "\n", encoding="utf-8")
        if name in ["bert", "cased"]:
            (HERE / (name + ".digest")).write_bytes(digest_bert(tokenizer, hard_and_plain))
        elif name != "spm":
            (HERE / (name + ".digest")).write_bytes(digest(tokenizer, lines))
    made = add_variants(bases, variants(), lines[::STRIDE])
    made_bert = add_variants(bases, bert_variants(), hard[::BERT_VARIANT_STRIDE])
    made_files = add_files(bases, hard[::BERT_VARIANT_STRIDE])
    for name, rows in [("variants.json", made), ("bert_variants.json", made_bert), ("files.json", made_files)]:
        (HERE / name).write_text("[\n%s\n]\n" % ",\n".join(json.dumps(x) for x in rows))


main()
