# SPDX-License-Identifier: Apache-2.0
"""Makes the sampling golden: python make_sampling.py (in this folder).

Writes sampling.txt with transformers 4.57.6's own logits processors in float64 (torch 2.13.0), in kvern's order, which from the
temperature on is that of GenerationMixin; presence and frequency penalties, which transformers has not, by OpenAI's formula.
Numbers with spaces between them:
  n_rows n_vocab, then the logits [n_rows, n_vocab]
  n_cases, then for each case a line: row repetition presence frequency temperature top_k top_p min_p typical_p,
  n_prompt n_history, history; n_bias, (id, bias) each; n_barred, ids; n_left, (id, probability) each
A case of which a token stands so near a limit that float32 decides otherwise is drawn again.
"""
import pathlib
import random

import torch
from transformers.generation import logits_process as lp

N_ROWS, N_VOCAB, N_CASES = 6, 50, 120


class AnswerPenalty(lp.LogitsProcessor):
    """https://platform.openai.com/docs: mu[j] - c[j] * frequency - (c[j] > 0) * presence"""

    def __init__(self, n_prompt, presence, frequency):
        self.n_prompt, self.presence, self.frequency = n_prompt, presence, frequency

    def __call__(self, input_ids, scores):
        counts = torch.bincount(input_ids[0, self.n_prompt:], minlength=scores.shape[1])
        return scores - counts * self.frequency - (counts > 0) * self.presence


def processors(case):
    """The list of one case; off values leave a processor out, as GenerationMixin does."""
    made = lp.LogitsProcessorList()
    if case["repetition"] != 1:
        made.append(lp.RepetitionPenaltyLogitsProcessor(case["repetition"]))
    if case["presence"] or case["frequency"]:
        made.append(AnswerPenalty(case["n_prompt"], case["presence"], case["frequency"]))
    if case["bias"]:
        made.append(lp.SequenceBiasLogitsProcessor({(token,): bias for token, bias in case["bias"]}))
    if case["barred"]:
        made.append(lp.SuppressTokensLogitsProcessor(case["barred"]))
    if case["temperature"] != 1:
        made.append(lp.TemperatureLogitsWarper(case["temperature"]))
    if case["top_k"]:
        made.append(lp.TopKLogitsWarper(case["top_k"]))
    if case["top_p"] < 1:
        made.append(lp.TopPLogitsWarper(case["top_p"]))
    if case["min_p"]:
        made.append(lp.MinPLogitsWarper(case["min_p"]))
    if case["typical_p"] < 1:
        made.append(lp.TypicalLogitsWarper(case["typical_p"]))
    return made


def run(case, row, dtype):
    history = torch.tensor([case["history"]])
    scores = processors(case)(history, row.to(dtype).unsqueeze(0).clone())
    return torch.softmax(scores, -1)[0]


def draw(number, rng):
    """Every 8th case has everything; the others have each field with one chance in three."""
    def pick(off, choices):
        return rng.choice(choices) if number % 8 == 0 or rng.random() < 0.34 else off

    history = [rng.randrange(N_VOCAB) for _ in range(rng.randint(1, 30))]
    return {
        "row": rng.randrange(N_ROWS),
        "history": history,
        "n_prompt": rng.randint(1, len(history)),
        "repetition": pick(1, [0.5, 1.1, 1.3, 2.0, 10.0]),
        "presence": pick(0, [-2.0, -0.5, 0.3, 1.5]),
        "frequency": pick(0, [-1.0, 0.25, 0.7, 2.0]),
        "temperature": pick(1, [0.1, 0.5, 0.7, 1.5, 5.0]),
        "top_k": pick(0, [1, 3, 7, 20, 49]),
        "top_p": pick(1, [0.05, 0.5, 0.8, 0.95, 0.999]),
        "min_p": pick(0, [0.01, 0.05, 0.2, 0.9]),
        "typical_p": pick(1, [0.05, 0.2, 0.5, 0.9, 0.99]),
        "bias": [(token, round(rng.uniform(-8, 8), 4)) for token in pick([], [rng.sample(range(N_VOCAB), 4)])],
        "barred": pick([], [rng.sample(range(N_VOCAB), 3)]),
    }


def main():
    rng = random.Random(7)
    generator = torch.Generator().manual_seed(7)
    # from almost flat to peaked
    rows = torch.randn(N_ROWS, N_VOCAB, generator=generator) * torch.linspace(0.5, 6, N_ROWS).unsqueeze(1)
    lines = [f"{N_ROWS} {N_VOCAB}"] + [" ".join(f"{x:.9g}" for x in row.tolist()) for row in rows] + [f"{N_CASES}"]
    for number in range(N_CASES):
        while True:
            case = draw(number, rng)
            exact, narrow = (run(case, rows[case["row"]], dtype) for dtype in (torch.float64, torch.float32))
            if torch.equal(exact > 0, narrow > 0):
                break
        left = [(token, p) for token, p in enumerate(exact.tolist()) if p > 0]
        fields = [case[name] for name in ("row", "repetition", "presence", "frequency", "temperature", "top_k", "top_p", "min_p",
                                          "typical_p", "n_prompt")]
        for listed in (case["history"], case["bias"], case["barred"], left):
            fields.append(len(listed))
            for item in listed:
                fields.extend(f"{x:.6g}" for x in (item if isinstance(item, tuple) else (item,)))
        lines.append(" ".join(map(str, fields)))
    (pathlib.Path(__file__).parent / "sampling.txt").write_text("\n".join(lines) + "\n")


main()
