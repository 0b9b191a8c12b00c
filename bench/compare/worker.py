# SPDX-License-Identifier: Apache-2.0
"""One peer with one model in one process; peers.py drives it by JSON lines.

  .deps/peers/PEER/bin/python bench/compare/worker.py PEER MODEL_DIR

PEER is a key of PEERS; MODEL_DIR holds the forms made by make_models.py. Requests on stdin:
  {"op": "prefill", "length": L}                          -> {"tokens_per_s"}
  {"op": "decode", "length": L, "batch": B, "steps": N}   -> {"tokens_per_s"} of all sequences together
  {"op": "answers", "prompts": [[ids]], "steps": N, "together": bool} -> {"answers": [[ids]]}
Greedy, end tokens ignored, nothing cached between requests. A peer's `generate` returns the answers and
the times: when it began to run, then after each new token. Decode is timed from the second new token
on, so that no prefill is in it; choosing the tokens is part of the time. Each sample follows an uncounted
run of the same shape, as in `kvern bench`: the process may have been stopped for a minute.
"""
import ctypes
import json
import random
import time

from worker_pipe import Pipe

N_THREADS = 2
MAX_BATCH = 4096  # tokens of one llama_decode
WARM_STEPS = 4


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
        params.n_batch, params.n_ubatch = MAX_BATCH, 512
        params.n_threads = params.n_threads_batch = N_THREADS
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.params = params
        self.ctx, self.shape = None, None
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(MAX_BATCH, 0, 1)
        self.arrays = {name: numpy.ctypeslib.as_array(getattr(self.batch, name), (MAX_BATCH,))
                       for name in ("token", "pos", "n_seq_id", "logits")}
        self.sequence_ids = numpy.zeros(MAX_BATCH, numpy.int32)
        for i in range(MAX_BATCH):  # each row's list of sequences is one element of that array
            self.batch.seq_id[i] = ctypes.cast(self.sequence_ids.ctypes.data + 4 * i,
                                               ctypes.POINTER(ctypes.c_int32))

    def open(self, n_sequences, n_tokens):
        """A context of the size asked for: one too large would slow the peer down."""
        shape = (n_sequences, -(-n_tokens // 256) * 256)
        if shape != self.shape:
            if self.ctx:
                self.api.llama_free(self.ctx)
            self.params.n_seq_max, self.params.n_ctx = n_sequences, shape[0] * shape[1]
            self.ctx, self.shape = self.api.llama_init_from_model(self.model, self.params), shape
        self.api.llama_memory_clear(self.api.llama_get_memory(self.ctx), True)

    def fill(self, tokens, positions, sequences, wants):
        """The next batch, copied array by array: nothing here is slower for Python's sake."""
        n = self.batch.n_tokens = len(tokens)
        for name, values in (("token", tokens), ("pos", positions), ("n_seq_id", 1), ("logits", wants)):
            self.arrays[name][:n] = values
        self.sequence_ids[:n] = sequences

    def forward(self):
        """Runs the batch; the greedy token of each row that wants logits, in their order."""
        if self.api.llama_decode(self.ctx, self.batch) != 0:
            raise SystemExit("llama_decode failed")
        n_rows = int(self.arrays["logits"][:self.batch.n_tokens].sum())
        if n_rows == 0:
            return []
        logits = self.numpy.ctypeslib.as_array(self.api.llama_get_logits(self.ctx),
                                               (n_rows, self.n_vocab))
        return [int(row.argmax()) for row in logits]

    def generate(self, prompts, steps):
        numpy = self.numpy
        lengths = numpy.array([len(ids) for ids in prompts], numpy.int32)
        self.open(len(prompts), int(lengths.max()) + steps)
        ids = numpy.concatenate([numpy.array(ids, numpy.int32) for ids in prompts])
        positions = numpy.concatenate([numpy.arange(n, dtype=numpy.int32) for n in lengths])
        sequences = numpy.repeat(numpy.arange(len(prompts), dtype=numpy.int32), lengths)
        wants = positions == numpy.repeat(lengths - 1, lengths)
        tokens, times = [], [time.perf_counter()]
        for at in range(0, len(ids), MAX_BATCH):
            part = slice(at, at + MAX_BATCH)
            self.fill(ids[part], positions[part], sequences[part], wants[part])
            tokens += self.forward()
        answers = [[token] for token in tokens]
        times.append(time.perf_counter())
        for step in range(1, steps):
            self.fill(tokens, lengths + (step - 1), numpy.arange(len(prompts)), 1)
            tokens = self.forward()
            for answer, token in zip(answers, tokens):
                answer.append(token)
            times.append(time.perf_counter())
        return answers, times


class GenAI:
    """int4 with accuracy level 4; batches are static, shorter prompts padded on the left as its own
    tokenizer does. No chunked prefill. End tokens are kept out of an answer by its minimal length."""

    def __init__(self, folder):
        import numpy
        import onnxruntime_genai as api
        self.api, self.numpy = api, numpy
        path = folder / "genai"
        self.pad = json.loads((path / "genai_config.json").read_text())["model"]["pad_token_id"]
        config = api.Config(str(path))
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {
            "intra_op_num_threads": N_THREADS}}}}))
        self.model = api.Model(config)

    def generate(self, prompts, steps):
        longest = max(map(len, prompts))
        params = self.api.GeneratorParams(self.model)
        params.set_search_options(batch_size=len(prompts), do_sample=False, max_length=longest + steps,
                                  min_length=longest + steps)
        generator = self.api.Generator(self.model, params)
        rows = self.numpy.array([[self.pad] * (longest - len(ids)) + ids for ids in prompts],
                                dtype=self.numpy.int32)
        answers, times = [[] for _ in prompts], [time.perf_counter()]
        generator.append_tokens(rows)
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
        self.folder = folder
        self.open(max_num_batched_tokens=8192, max_num_seqs=64)

    def open(self, **settings):
        """The pipeline, with these fields of its SchedulerConfig."""
        scheduler = self.api.SchedulerConfig()
        scheduler.enable_prefix_caching, scheduler.cache_size = False, 2
        for name, value in settings.items():
            setattr(scheduler, name, value)
        self.pipe = self.api.ContinuousBatchingPipeline(
            str(self.folder / "openvino"), scheduler, "CPU", {"INFERENCE_NUM_THREADS": N_THREADS})

    def submit(self, i, ids, steps):
        config = self.api.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = steps, True, False
        return self.pipe.add_request(
            i, self.openvino.Tensor(self.numpy.array([ids], dtype=self.numpy.int64)), config)

    def generate(self, prompts, steps):
        handles = [self.submit(i, ids, steps) for i, ids in enumerate(prompts)]
        times = [time.perf_counter()]
        while self.pipe.has_non_finished_requests():
            self.pipe.step()
            times.append(time.perf_counter())
        return [list(handle.read_all()[0].generated_ids) for handle in handles], times


class LlamaUnified(Llama):
    """All sequences in one KV cache, each seeing its own part through the mask."""

    def __init__(self, folder):
        super().__init__(folder)
        self.params.kv_unified = True


PEERS = {"llama": Llama, "llama-unified": LlamaUnified, "genai": GenAI, "openvino": OpenVINO}


def answer(peer, request, seed):
    """What one request asks for."""
    if request["op"] == "prefill":
        for part in range(2):
            ids = draw_ids(request["length"], 2 * seed + part)
            _, times = peer.generate([ids], 1)
        return {"tokens_per_s": len(ids) / (times[1] - times[0])}
    if request["op"] == "decode":
        batch = request["batch"]
        for part, steps in enumerate((WARM_STEPS, request["steps"])):
            prompts = [draw_ids(request["length"], (2 * seed + part) * 1000 + i) for i in range(batch)]
            _, times = peer.generate(prompts, steps)
        return {"tokens_per_s": batch * (len(times) - 2) / (times[-1] - times[1])}
    if request["op"] == "answers":
        groups = [request["prompts"]] if request["together"] else [[p] for p in request["prompts"]]
        return {"answers": [a for group in groups for a in peer.generate(group, request["steps"])[0]]}
    raise SystemExit(f"no operation named {request['op']}")


def main():
    pipe = Pipe()
    peer = PEERS[pipe.name](pipe.folder)
    peer.generate([draw_ids(64, 0)], 4)
    for seed, request in enumerate(pipe.requests(), 1):
        pipe.reply(answer(peer, request, seed))


if __name__ == "__main__":
    main()
