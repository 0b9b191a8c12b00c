# SPDX-License-Identifier: Apache-2.0
"""Makes the Unigram goldens: python make_unigram.py (in this folder, after make_tokens.py).

Writes, deterministically (tokenizers 0.22.2, transformers 4.57, sentencepiece 0.2, protobuf):
  tokens/unigram_lines.json  lines that are hard for the precompiled normalizer, Metaspace and Unigram
  tokens/unigram.json    a small Unigram tokenizer; its scores are multiples of 1/1024, exact in any JSON library
  tokens/unigram.digest  for every 10th line of lines.json and all unigram_lines: a CRC of the ids (see make_tokens.py)
  tokens/unigram_variants.json  other configurations of it: members that replace its own, and for every 10th of the
                         unigram_lines a CRC of the ids and of their decoded text
  tokens/t5.spiece.model a SentencePiece model trained on lines of lines.json, with the real map nmt_nfkc, as T5 has it
  tokens/spiece.json     directories with that model, as transformers' T5TokenizerFast reads them: for the first, of every
                         second line of lines.json and all unigram_lines, for the others of every 10th unigram_line, CRCs
tests/text/test_normalize_precompiled.c takes the map of SMALL_RULES from unigram_variants.json.
"""
import copy
import io
import json
import pathlib
import random
import tempfile
import zlib

import sentencepiece
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent / "tokens"
N_HARD, STRIDE, LINE_STRIDE, SPIECE_STRIDE = 1000, 10, 10, 2
MARKS = ["\u0301", "\u0300", "\u0308", "\u0323", "\u0327", "\u200d", "\u200c", "\ufe0f", "\u0903", "\u093f", "\u094d",
         "\u0488", "\u20dd", "\u3099", "\u1160", "\u11a8", "\U0001f3fd", "\U000e0061", "\u0610", "\u05b4", "\u0e33", "\u0897",
         "\U00010d69"]
FIRSTS = list("aeoE1 .-\t\n\r<\u2581") + [
    "\r\n", "\u00e9", "\u00a0", "\ufb01", "\ufb03", "\u00bd", "\u2460", "\uff21", "\uff1c", "\u3000", "\u2126", "\u00df", "\u0130",
    "\u1e9e", "\u0600", "\u06dd", "\u070f", "\u0661", "\u05d0", "\u0939", "\u0915", "\u1112", "\u1161", "\u11ab", "\uac00", "\u0e01",
    "\u4e2d", "\uf900", "\U0001d400", "\U0001f469", "\U0001f1e6", "\U0001f1e7", "\u2764", "\u200b", "\ufeff", "\x00", "\x01",
    "\x07", "\x7f", "\x85", "\u2028", "\ufffd", "\u00ad", "\u01c5", "\ufdfa", "\u3316", "\u33c7", "\u00b4", "\u2003", "\u0344",
    "\u0958", "\u212b", "\U000113d1"]
WORDS = ["the", "return", "self", "</s>", "<pad>", "<extra_id_0>", "<extra_id_99>", "<unk>", "def f(x):", "\uff26\uff35\uff2c\uff2c",
         "\uff76\uff9e", "  ", "   ", "\u2581\u2581", "\u2581", "\ufb01ne", "\uff21", "don't", "x" * 50, "-" * 37, "=" * 20, "aaaaaaa",
         "e\u0301e\u0301", "\U0001f469\u200d\U0001f469\u200d\U0001f467"]

MORE_PIECES = ["\u00e9", "\u0301", "\u0308", "\u4e2d", "\uac00", "\u0939", "\u0939\u094d", "\u05d0", "\u0661", "\u2764", "\U0001f469",
               "\U0001f469\u200d\U0001f469", "\u00e9\u0301", "\u2581\u00e9", "\u2581\u2581", "\u200d", "\ufe0f"]


def hard_lines():
    rng = random.Random(7)
    lines = ["", " ", "  ", "\n", "\x01", "\x01a", "\x01 a", " \x01", "a\x01", "<pad>a", "a <pad> b", "x" * 3000, "\u00e9\u0301" * 500,
             "\U0001f469" * 300, " a" * 400, "\x07" * 50 + "z", "</s>", "<extra_id_0>a", " <extra_id_0> a"]
    while len(lines) < N_HARD:
        line = ""
        for _ in range(rng.randrange(1, 8)):
            kind = rng.randrange(10)
            if kind < 4:
                line += rng.choice(FIRSTS)
            elif kind < 6:
                line += rng.choice(FIRSTS) + "".join(rng.choice(MARKS) for _ in range(rng.randrange(1, 3)))
            elif kind < 8:
                line += rng.choice(WORDS)
            elif kind < 9:
                line += " "
            else:
                line += chr(rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x300, 0x1200),
                                        rng.randrange(0x1200, 0xd7ff), rng.randrange(0xe000, 0x10ffff)]))
        lines.append(line)
    return lines


def read_lines(name):
    return [json.loads(x) for x in (HERE / name).read_text(encoding="utf-8").split("\n")[:-1]]


def crc_of_text(text):
    return "%04x" % (zlib.crc32(text.encode()) & 0xffff)


def crc(ids):
    return crc_of_text(",".join(map(str, ids)))


def spiece(lines, **options):
    """A SentencePiece model; the ids are T5's: <pad>, </s>, <unk>."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        num_threads=1, minloglevel=2, hard_vocab_limit=False, **options)
    return out.getvalue()


def map_of_rules(rules):
    """The precompiled_charsmap of a few rules, in base64: characters -> text."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rules.tsv"
        path.write_text("".join("%s\t%s\n" % tuple(" ".join("%X" % ord(c) for c in x) for x in rule) for rule in rules))
        model = spiece(["a b X P Q b aX", "abX Pb Q"] * 20, vocab_size=30, normalization_rule_tsv=str(path))
        (pathlib.Path(folder) / "spiece.model").write_bytes(model)
        json_text = read_with_transformers(folder, {}).backend_tokenizer.to_str()
    return json.loads(json_text)["normalizer"]["normalizers"][0]["precompiled_charsmap"]


def read_with_transformers(folder, files):
    for name, members in files.items():
        (pathlib.Path(folder) / name).write_text(json.dumps(members))
    return transformers.T5TokenizerFast.from_pretrained(str(folder))


SMALL_RULES = [("a", "X"), ("\ufb01", "fi"), ("\x07", ""), ("\n", " "), ("\r", " "), ("e\u0301", "\u00e9"), ("\u00bd", "1/2"),
               ("\u0301", "")]


def train(lines):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    # the library's own trainer has no fixed order: its pieces are sorted, and the scores rounded
    tokenizer.train_from_iterator(lines, trainers.UnigramTrainer(
        vocab_size=700, special_tokens=specials, unk_token="<unk>", show_progress=False, max_piece_length=12))
    made = json.loads(tokenizer.to_str())
    pieces = [x for x in made["model"]["vocab"] if x[0] not in specials and "\0" not in x[0]]
    pieces += [[x, -9.0 - i / 64] for i, x in enumerate(MORE_PIECES)]
    pieces = sorted(([piece, round(score * 1024) / 1024] for piece, score in pieces), key=lambda x: (-x[1], x[0]))
    made["model"]["vocab"] = [[x, 0.0] for x in specials] + pieces
    made["model"]["unk_id"] = 2
    made["post_processor"] = json.loads(processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]).__getstate__())
    return made


def variants(base, small_map):
    def metaspace(scheme, splits=True):
        return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": splits}

    def sequence(*steps):
        return {"type": "Sequence", "pretokenizers": list(steps)}

    def normalizer(*steps):
        return {"type": "Sequence", "normalizers": list(steps)}

    precompiled = {"type": "Precompiled", "precompiled_charsmap": small_map}
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}
    vocab = base["model"]["vocab"]
    ascii_pieces = [x for x in vocab[3:] if x[0].isascii()]
    fallback = [["<0x%02X>" % i, -9.0] for i in range(256)]
    out = [("Metaspace %s %s" % (scheme, splits), {"pre_tokenizer": metaspace(scheme, splits), "decoder": metaspace(scheme)})
           for scheme in ["always", "first", "never"] for splits in [True, False]]
    out += [("older T5", {"pre_tokenizer": sequence({"type": "WhitespaceSplit"}, {
                "type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True})}),
            ("WhitespaceSplit, never", {"pre_tokenizer": sequence({"type": "WhitespaceSplit"}, metaspace("never"))}),
            ("no pre_tokenizer", {"pre_tokenizer": None}),
            ("Nmt", {"normalizer": {"type": "Nmt"}}),
            ("small map", {"normalizer": precompiled}),
            ("small map, first", {"normalizer": normalizer(precompiled, strip, spaces), "pre_tokenizer": metaspace("first")}),
            ("no normalizer", {"normalizer": None}),
            ("no added tokens", {"added_tokens": []})]
    # equal scores, and scores that make the sum of any cut the same: the first offer counts
    short = [x for x in ascii_pieces if len(x[0]) < 6][:150]
    out += [("ties", {"model": {"vocab": vocab[:3] + [[x, -1.0] for x, _ in short]}}),
            ("ties of sums", {"model": {"vocab": vocab[:3] + [[x, -0.5 * len(x)] for x, _ in short]}}),
            ("unlikely pieces", {"model": {"vocab": vocab[:3] + short[:40] + [["ab", -500.0], ["//", -1000.0], ["=====", -99.0]]}}),
            ("no byte is missing", {"model": {"vocab": vocab[:3] + short[:60] + fallback, "byte_fallback": True},
                                    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, metaspace("always")]}}),
            ("some bytes are missing", {"model": {"vocab": vocab[:3] + short[:60] + fallback[:0xe0], "byte_fallback": True}})]
    return out


def add_variants(base, small_map, lines):
    made = []
    for name, members in variants(base, small_map):
        whole = dict(copy.deepcopy(base), **{k: v for k, v in members.items() if k != "model"})
        whole["model"].update(members.get("model", {}))
        tokenizer = Tokenizer.from_str(json.dumps(whole))
        ids = [tokenizer.encode(line).ids for line in lines]
        made.append({"base": "unigram", "name": name, "members": members, "ids": "".join(map(crc, ids)),
                     "texts": "".join(crc_of_text(tokenizer.decode(x)) for x in ids)})
    return made


def file_cases(n_pieces):
    """Files beside spiece.model."""
    def added(content, **options):
        return dict({"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                     "special": True}, **options)

    config, special = "tokenizer_config.json", "special_tokens_map.json"
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    sentinels = ["<extra_id_%d>" % i for i in range(100)]
    return [
        {config: {"tokenizer_class": "T5Tokenizer"}},
        {config: dict(names, extra_ids=0, additional_special_tokens=None, tokenizer_class="MT5Tokenizer")},
        {config: {"extra_ids": 10}},
        {config: {"legacy": False, "tokenizer_class": "T5TokenizerFast"}},
        {config: {"legacy": False, "add_prefix_space": False}},
        {config: {"additional_special_tokens": sentinels}, special: dict(names, additional_special_tokens=sentinels)},
        {config: {"extra_ids": 2, "additional_special_tokens": ["<extra_id_0>", "<extra_id_1>"], "added_tokens_decoder": {
            "0": added("<pad>"), "1": added("</s>"), "2": added("<unk>"),
            str(n_pieces): added("<extra_id_1>", lstrip=True, rstrip=True), str(n_pieces + 1): added("<extra_id_0>", rstrip=True)}}},
        {"added_tokens.json": {"<new>": n_pieces + 100, "the": n_pieces + 101}},
    ]


def add_files(model, n_pieces, lines, hard):
    made = []
    for i, files in enumerate(file_cases(n_pieces)):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "spiece.model").write_bytes(model)
            tokenizer = read_with_transformers(folder, files)
        of = lines[::SPIECE_STRIDE] + hard if i == 0 else hard[::STRIDE]
        files.setdefault("config.json", {"model_type": "t5"})
        made.append({"files": files, "ids": "".join(crc(tokenizer(line)["input_ids"]) for line in of)})
    return made


def main():
    transformers.logging.set_verbosity_error()
    lines = read_lines("lines.json")
    hard = hard_lines()
    text = "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in hard)
    (HERE / "unigram_lines.json").write_text(text, encoding="utf-8", newline="")

    base = train([x for x in lines if x.strip() and x.isascii() and "\0" not in x])
    compact = json.dumps(base, ensure_ascii=False, separators=(",", ":"))
    (HERE / "unigram.json").write_text(compact + "\n", encoding="utf-8")
    tokenizer = Tokenizer.from_str(compact)
    crcs = [crc(tokenizer.encode(x).ids) for x in lines[::LINE_STRIDE] + hard]
    (HERE / "unigram.digest").write_bytes(bytes.fromhex("".join(crcs)))

    small_map = map_of_rules(SMALL_RULES)
    rows = add_variants(base, small_map, hard[::STRIDE])
    (HERE / "unigram_variants.json").write_text("[\n%s\n]\n" % ",\n".join(json.dumps(x) for x in rows))

    data = [x.replace("\n", " ") for x in lines if x.strip() and "\0" not in x]
    model = spiece([x for x in data if x.isascii()] + data[::20], vocab_size=1100, character_coverage=0.985,
                   normalization_rule_name="nmt_nfkc")
    (HERE / "t5.spiece.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    rows = add_files(model, processor.get_piece_size(), lines, hard)
    (HERE / "spiece.json").write_text("[\n%s\n]\n" % ",\n".join(json.dumps(x) for x in rows))


main()
