# SPDX-License-Identifier: Apache-2.0
"""Makes the golden of beams on a real model: python make_model_beams.py (in this folder).

Writes model_beams.json with transformers 4.57.6's generate() (torch 2.13.0) on tiny/llama-f32. A case that
float64 answers otherwise is left out, since its beams stand too near to each other for a test.
  {"cases": [{"prompt": [ids], "num_beams", "length_penalty", "early_stopping": "false" | "true" | "never", "no_repeat_ngram_size",
    "repetition_penalty", "min_tokens", "max_tokens", "ends": [ids], "answers": [{"score", "tokens": [ids]}]}]}
"""
import itertools
import json
import pathlib
import tempfile

import seeded
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

HERE = pathlib.Path(__file__).parent
ENDS = [5, 9, 40, 77, 101, 160]


def answers(model, case):
    early = {"false": False, "true": True, "never": "never"}[case["early_stopping"]]
    config = GenerationConfig(num_beams=case["num_beams"], num_return_sequences=case["num_beams"], do_sample=False,
                              length_penalty=case["length_penalty"], early_stopping=early,
                              no_repeat_ngram_size=case["no_repeat_ngram_size"], repetition_penalty=case["repetition_penalty"],
                              min_new_tokens=case["min_tokens"], max_new_tokens=case["max_tokens"], eos_token_id=case["ends"],
                              bos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_scores=True)
    n = len(case["prompt"])
    with torch.no_grad():
        prompt = torch.tensor([case["prompt"]])
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=config)
    counts = (out.beam_indices >= 0).sum(1).tolist()
    return [{"score": float("%.7g" % score), "tokens": row[n:n + count]}
            for score, row, count in zip(out.sequences_scores.tolist(), out.sequences.tolist(), counts)]


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work:
        path = pathlib.Path(work) / "llama-f32"
        seeded.restore(HERE / "tiny/llama-f32", path)
        models = [AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval() for dtype in (torch.float32, torch.float64)]
    cases = []
    grid = itertools.product([2, 4, 8], ["false", "true", "never"], [0.0, 1.5], [(0, 1.0), (3, 1.3)])
    for number, (beams, early, penalty, (ngram, repetition)) in enumerate(grid):
        case = {"prompt": [(number * 31 + 13 * i * i) % 180 for i in range(1 + number % 40)], "num_beams": beams,
                "length_penalty": penalty, "early_stopping": early, "no_repeat_ngram_size": ngram,
                "repetition_penalty": repetition, "min_tokens": number % 3, "max_tokens": 20, "ends": ENDS}
        case["answers"], exact = (answers(model, case) for model in models)
        if [a["tokens"] for a in case["answers"]] == [a["tokens"] for a in exact]:
            cases.append(case)
    print(len(cases), "of", number + 1)
    (HERE / "model_beams.json").write_text('{"cases": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]}\n")


main()
