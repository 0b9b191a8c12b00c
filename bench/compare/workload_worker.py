# SPDX-License-Identifier: Apache-2.0
"""One peer with many requests of different lengths at once; workload.py drives it by JSON lines.

  .deps/peers/PEER/bin/python bench/compare/workload_worker.py PEER MODEL_DIR

PEER is a key of PEERS; MODEL_DIR holds the forms made by make_models.py. One kind of request on stdin:
  {"setting": {...}, "requests": [{"ids": [...], "n_out": N}]} -> {"seconds"}
from the first submission to the last token; greedy, end tokens ignored, every answer exactly n_out long. A peer's
`open` makes what a setting needs, outside the time; it is called when the setting changes.
"""
import collections
import time

from worker import GenAI, Llama, MAX_BATCH, OpenVINO
from worker_pipe import Pipe

MAX_TOKENS = 768  # of one sequence, prompt and answer: the context a slot of llama.cpp gets


class Slot:
    """A sequence of llama.cpp's context while a request has it."""

    def __init__(self, request, index):
        self.ids, self.n_out, self.index = request["ids"], request["n_out"], index
        self.n_run, self.answer = 0, []


class LlamaSlots(Llama):
    """Slots as in llama-server: each batch has a token of every slot that decodes, then as much of the
    prompts as there is room for; a slot that ends takes the next request."""

    def open(self, n_parallel, kv_unified, n_batch):
        self.n_parallel, self.n_batch = n_parallel, n_batch
        assert n_batch <= MAX_BATCH
        self.params.kv_unified, self.params.n_batch = kv_unified, n_batch
        self.shape = None
        super().open(n_parallel, MAX_TOKENS)

    def plan(self, slots):
        """[(slot, tokens to run)], decoding ones first."""
        parts, room = [], self.n_batch
        for slot in sorted(slots.values(), key=lambda s: not s.answer):
            tokens = slot.answer[-1:] or slot.ids[slot.n_run:slot.n_run + room]
            if room == 0:
                break
            parts.append((slot, tokens))
            room -= len(tokens)
        return parts

    def step(self, slots):
        """Runs one batch; gives the slots that ended."""
        tokens, positions, sequences, wants, ready = [], [], [], [], []
        for slot, part in self.plan(slots):
            tokens += part
            positions += range(slot.n_run, slot.n_run + len(part))
            sequences += [slot.index] * len(part)
            slot.n_run += len(part)
            is_ready = slot.n_run >= len(slot.ids)
            wants += [False] * (len(part) - 1) + [is_ready]
            if is_ready:
                ready.append(slot)
        self.fill(tokens, positions, sequences, wants)
        for slot, token in zip(ready, self.forward(), strict=True):
            slot.answer.append(token)
        return [slot for slot in ready if len(slot.answer) == slot.n_out]

    def answers(self, requests):
        memory = self.api.llama_get_memory(self.ctx)
        self.api.llama_memory_clear(memory, True)
        waiting, slots, answers = collections.deque(enumerate(requests)), {}, [None] * len(requests)
        owners, free = {}, list(range(self.n_parallel))
        while waiting or slots:
            while waiting and free:
                index, (owner, request) = free.pop(), waiting.popleft()
                slots[index], owners[index] = Slot(request, index), owner
            for slot in self.step(slots):
                answers[owners[slot.index]] = slot.answer
                self.api.llama_memory_seq_rm(memory, slot.index, -1, -1)
                del slots[slot.index]
                free.append(slot.index)
        return answers


class GenAIBatches(GenAI):
    """Static batches of neighbours in the order of `sort_by`: what is left over of a batch's longest answer
    is run and thrown away."""

    def open(self, batch_size, sort_by):
        self.batch_size = batch_size
        self.key = {"prompt": lambda r: len(r["ids"]), "output": lambda r: r["n_out"]}[sort_by]

    def answers(self, requests):
        order = sorted(range(len(requests)), key=lambda i: self.key(requests[i]))
        answers = [None] * len(requests)
        for at in range(0, len(order), self.batch_size):
            group = order[at:at + self.batch_size]
            outputs, _ = self.generate([requests[i]["ids"] for i in group],
                                       max(requests[i]["n_out"] for i in group))
            for i, output in zip(group, outputs):
                answers[i] = output[:requests[i]["n_out"]]
        return answers


class OpenVINOQueue(OpenVINO):
    """Everything is submitted; its own scheduler does the rest."""

    def answers(self, requests):
        handles = [self.submit(i, r["ids"], r["n_out"]) for i, r in enumerate(requests)]
        while self.pipe.has_non_finished_requests():
            self.pipe.step()
        return [handle.read_all()[0].generated_ids for handle in handles]


PEERS = {"llama": LlamaSlots, "genai": GenAIBatches, "openvino": OpenVINOQueue}


def main():
    pipe = Pipe()
    peer, setting = PEERS[pipe.name](pipe.folder), None
    for asked in pipe.requests():
        if asked["setting"] != setting:
            setting = asked["setting"]
            peer.open(**setting)
        start = time.perf_counter()
        answers = peer.answers(asked["requests"])
        seconds = time.perf_counter() - start
        for request, answer in zip(asked["requests"], answers, strict=True):
            if len(answer) != request["n_out"]:
                raise SystemExit(f"{pipe.name} gave {len(answer)} tokens where {request['n_out']} were asked for")
        pipe.reply({"seconds": seconds})


if __name__ == "__main__":
    main()
