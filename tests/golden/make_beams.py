# SPDX-License-Identifier: Apache-2.0
"""Makes the beam search golden: python make_beams.py (in this folder).

Writes beams.txt with transformers 4.57.6's own generate() (torch 2.13.0) over a model that is a rule: the logits after a history are
made of its length and last two tokens by splitmix64's mixer, in steps of 2^-22 from 0 to 4, end tokens a bias higher. All
combinations of the options below. Numbers with spaces between them:
  n_vocab n_cases, then for each case a line: num_beams num_return_sequences length_penalty early_stopping (0 false, 1 true, 2 never)
  no_repeat_ngram_size repetition_penalty min_new_tokens max_new_tokens end_bias, n_ends, ids, n_prompt, ids, then for each answer:
  its score, n_tokens, ids
"""
import itertools
import pathlib

import torch
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

N_VOCAB, MAX_NEW = 24, 14
MASK = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def rule(history, ends, end_bias):
    state = mix(len(history) * 1000000 + history[-1] * 1000 + (history[-2] if len(history) > 1 else 0))
    return [(mix(state + i) >> 40) / (1 << 22) + (end_bias if i in ends else 0) for i in range(N_VOCAB)]


class Rule(PreTrainedModel, GenerationMixin):
    config_class = PretrainedConfig

    def __init__(self):
        super().__init__(PretrainedConfig(vocab_size=N_VOCAB, is_encoder_decoder=False))
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.ends, self.end_bias = [], 0.0

    def forward(self, input_ids=None, **_):
        rows = [rule(row, self.ends, self.end_bias) for row in input_ids.tolist()]
        return CausalLMOutput(logits=torch.tensor(rows).unsqueeze(1))


def main():
    model = Rule()
    lines = []
    grid = itertools.product([2, 4], [-0.5, 0.0, 1.0, 2.0], [False, True, "never"], [0, 1, 2], [1.0, 1.3], [0, 4])
    for number, (beams, penalty, early, ngram, repetition, min_new) in enumerate(grid):
        model.ends = [[2], [2, 5], []][min(number % 7, 2) if number % 7 < 3 else 0]
        model.end_bias = [0.5, 2.0, 3.5][number % 3]
        prompt = [3 + mix(number) % 20, 7, 3 + mix(number + 1) % 20]
        n_return = beams if number % 2 else 1
        config = GenerationConfig(num_beams=beams, num_return_sequences=n_return, length_penalty=penalty, early_stopping=early,
                                  no_repeat_ngram_size=ngram, repetition_penalty=repetition, do_sample=False,
                                  min_new_tokens=min_new, max_new_tokens=MAX_NEW, eos_token_id=model.ends or None,
                                  pad_token_id=0, use_cache=False, return_dict_in_generate=True, output_scores=True)
        with torch.no_grad():
            out = model.generate(torch.tensor([prompt]), generation_config=config)
        line = [beams, n_return, penalty, [False, True, "never"].index(early), ngram, repetition, min_new, MAX_NEW,
                model.end_bias, len(model.ends), *model.ends, len(prompt), *prompt]
        for i in range(n_return):
            n = int((out.beam_indices[i] >= 0).sum())
            line += ["%.9g" % float(out.sequences_scores[i]), n, *out.sequences[i, 3:3 + n].tolist()]
        lines.append(" ".join(str(x) for x in line))
    text = f"{N_VOCAB} {len(lines)}\n" + "\n".join(lines) + "\n"
    (pathlib.Path(__file__).parent / "beams.txt").write_text(text)


main()
