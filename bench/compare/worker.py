# SPDX-License-Identifier: Apache-2.0
"""One peer with one model in one process; compare.py and answers.py drive it by JSON lines.

  .deps/peers/PEER/bin/python bench/compare/worker.py PEER MODEL_DIR

PEER is llama, genai or openvino; MODEL_DIR holds the forms made by make_models.py. Requests on stdin:
  {"op": "prefill", "length": L}                          -> {"tokens_per_s"}
  {"op": "decode", "length": L, "batch": B, "steps": N}   -> {"tokens_per_s"} of all sequences together
  {"op": "answers", "prompts": [[ids]], "steps": N, "together": bool} -> {"answers": [[ids]]}
Greedy, end tokens ignored, nothing cached between requests. Decode is timed from the second new token
on, so that no prefill is in it. A time counts from call to call: sampling and Python are part of it.
"""
import json
import os
import pathlib
import random
import sys
import time

N_THREADS = 2


def draw_ids(length, seed):
    """Prompts of plain ids, different for each sequence so that nothing can be shared."""
    rng = random.Random(seed)
    return [rng.randrange(1000, 40000) for _ in range(length)]


class Llama:
    """Q4_0, flash attention, one llama_batch for all sequences, argmax over the logits in numpy."""

    def __init__(self, folder):
        import llama_cpp
        import numpy
        self.api, self.numpy = llama_cpp, numpy
        self.quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self.quiet, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            str(folder / "gguf/q4_0.gguf").encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"llama.cpp does not open {folder}/gguf/q4_0.gguf")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = 32 * 512, 32, False
        params.n_batch, params.n_ubatch = 4096, 512
        params.n_threads = params.n_threads_batch = N_THREADS
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.params = params
        self.ctx, self.shape = None, None
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(4096, 0, 1)

    def open(self, n_sequences, n_tokens):
        """A context of the size asked for: one too large would slow the peer down."""
        shape = (n_sequences, -(-n_tokens // 256) * 256)
        if shape != self.shape:
            if self.ctx:
                self.api.llama_free(self.ctx)
            self.params.n_seq_max, self.params.n_ctx = n_sequences, shape[0] * shape[1]
            self.ctx, self.shape = self.api.llama_init_from_model(self.model, self.params), shape
        self.api.llama_memory_clear(self.api.llama_get_memory(self.ctx), True)

    def forward(self, rows):
        """rows: (token, position, sequence, wants logits); the greedy token of each row that wants."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wants) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
            batch.seq_id[i][0], batch.logits[i] = sequence, wants
        if self.api.llama_decode(self.ctx, batch) != 0:
            raise SystemExit("llama_decode failed")
        as_array = self.numpy.ctypeslib.as_array
        return [int(as_array(self.api.llama_get_logits_ith(self.ctx, i), (self.n_vocab,)).argmax())
                for i, row in enumerate(rows) if row[3]]

    def generate(self, prompts, steps):
        self.open(len(prompts), max(map(len, prompts)) + steps)
        rows = [(token, position, s, position == len(ids) - 1)
                for s, ids in enumerate(prompts) for position, token in enumerate(ids)]
        tokens = []
        for at in range(0, len(rows), 4096):
            tokens += self.forward(rows[at:at + 4096])
        answers, times = [[t] for t in tokens], [time.perf_counter()]
        for step in range(1, steps):
            tokens = self.forward([(t, len(ids) + step - 1, s, True)
                                   for s, (t, ids) in enumerate(zip(tokens, prompts))])
            for answer, token in zip(answers, tokens):
                answer.append(token)
            times.append(time.perf_counter())
        return answers, times


class GenAI:
    """int4 with accuracy level 4; batches are static, shorter prompts padded on the left."""

    def __init__(self, folder):
        import numpy
        import onnxruntime_genai as api
        self.api, self.numpy = api, numpy
        path = folder / "genai"
        self.pad = json.loads((path / "genai_config.json").read_text())["model"]["pad_token_id"]
        self.model = api.Model(str(path))

    def generate(self, prompts, steps):
        longest = max(map(len, prompts))
        params = self.api.GeneratorParams(self.model)
        params.set_search_options(batch_size=len(prompts), do_sample=False, max_length=longest + steps,
                                  min_length=longest + steps)
        generator = self.api.Generator(self.model, params)
        generator.append_tokens(self.numpy.array(
            [[self.pad] * (longest - len(ids)) + ids for ids in prompts], dtype=self.numpy.int32))
        answers, times = [[] for _ in prompts], []
        for _ in range(steps):
            generator.generate_next_token()
            for answer, token in zip(answers, generator.get_next_tokens()):
                answer.append(int(token))
            times.append(time.perf_counter())
        return answers, times


class OpenVINO:
    """ContinuousBatchingPipeline, bf16 by default, a whole prefill in one step, no prefix cache."""

    def __init__(self, folder):
        import numpy
        import openvino
        import openvino_genai as api
        self.api, self.numpy, self.openvino = api, numpy, openvino
        scheduler = api.SchedulerConfig()
        scheduler.max_num_batched_tokens = 8192
        scheduler.max_num_seqs = 64
        scheduler.enable_prefix_caching = False
        scheduler.cache_size = 2
        self.pipe = api.ContinuousBatchingPipeline(
            str(folder / "openvino"), scheduler, "CPU", {"INFERENCE_NUM_THREADS": N_THREADS})

    def generate(self, prompts, steps):
        config = self.api.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = steps, True, False
        handles = [self.pipe.add_request(
            i, self.openvino.Tensor(self.numpy.array([ids], dtype=self.numpy.int64)), config)
            for i, ids in enumerate(prompts)]
        times = []
        while self.pipe.has_non_finished_requests():
            self.pipe.step()
            times.append(time.perf_counter())
        return [list(handle.read_all()[0].generated_ids) for handle in handles], times


PEERS = {"llama": Llama, "genai": GenAI, "openvino": OpenVINO}


def answer(peer, request, seed):
    """What one request asks for."""
    if request["op"] == "prefill":
        ids = draw_ids(request["length"], seed)
        start = time.perf_counter()
        _, times = peer.generate([ids], 1)
        return {"tokens_per_s": len(ids) / (times[0] - start)}
    if request["op"] == "decode":
        prompts = [draw_ids(request["length"], seed * 1000 + i) for i in range(request["batch"])]
        _, times = peer.generate(prompts, request["steps"])
        return {"tokens_per_s": request["batch"] * (len(times) - 1) / (times[-1] - times[0])}
    if request["op"] == "answers":
        groups = [request["prompts"]] if request["together"] else [[p] for p in request["prompts"]]
        return {"answers": [a for group in groups for a in peer.generate(group, request["steps"])[0]]}
    raise SystemExit(f"no operation named {request['op']}")


def main():
    peer_name, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints must not mix with the replies
    peer = PEERS[peer_name](folder)
    peer.generate([draw_ids(64, 0)], 4)
    print(json.dumps({"ready": peer_name}), file=replies)
    for seed, line in enumerate(sys.stdin, 1):
        print(json.dumps(answer(peer, json.loads(line), seed)), file=replies)


if __name__ == "__main__":
    main()
