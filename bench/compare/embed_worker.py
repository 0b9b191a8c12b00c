# SPDX-License-Identifier: Apache-2.0
"""One peer with all-MiniLM-L6-v2 in one process; embed.py drives it by JSON lines.

  .deps/peers/ENVIRONMENT/bin/python bench/compare/embed_worker.py PEER MODELS_DIR

PEER is a key of PEERS; MODELS_DIR is what make_embed_models.py made. Requests on stdin:
  {"op": "tune", "case": NAME, "texts": [[ids]]} -> {"setting", "rates": {setting: texts/s}}: runs a share
      of the texts in each of the peer's settings, and keeps the fastest for this case
  {"op": "embed", "case": NAME}                  -> {"texts_per_s"}: one timed run after an uncounted one
  {"op": "vectors", "case": NAME, "texts": [[ids]]} -> {"vectors"}: in the setting of this case
A run is everything from ids to normalised vectors in the order of the texts: batches, padding, the model,
mean pooling. Texts are sorted by length, and a batch has as many as fit in a setting's number of tokens,
padding included (0: one text each).
"""
import concurrent.futures
import time

import numpy

from worker_pipe import Pipe

N_THREADS = 2
BUDGETS = (0, 1024, 4096)  # tokens of a batch
N_TUNED = 4096  # tokens of a case that each setting is tried on
TUNE_ROUNDS = 3  # after a first one, in which what is HOPELESS times slower than the fastest leaves
HOPELESS = 3.0


def batches(texts, budget):
    """Lists of indices, longest texts first."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    while order:
        n = max(1, budget // len(texts[order[0]]))
        yield order[:n]
        order = order[n:]


def pad(texts):
    """ids and mask [n_texts, longest]."""
    lengths = numpy.array([len(ids) for ids in texts])
    mask = numpy.arange(lengths.max()) < lengths[:, None]
    ids = numpy.zeros(mask.shape, numpy.int64)
    ids[mask] = numpy.concatenate([numpy.array(t, numpy.int64) for t in texts])
    return ids, mask.astype(numpy.int64)


def pool(hidden, mask):
    """Mean over the mask, normalised: [n_texts, width]."""
    sums = numpy.matmul(mask[:, None, :].astype(numpy.float32), hidden)[:, 0]
    return sums / numpy.linalg.norm(sums, axis=1, keepdims=True)


class Onnx:
    """ONNX Runtime, f32: optimum's graph, or the one its own optimizer fused."""

    def __init__(self, folder):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = N_THREADS
        self.sessions = {name: onnxruntime.InferenceSession(
            folder / f"onnx/{name}.onnx", options, providers=["CPUExecutionProvider"]) for name in ("model", "fused")}
        self.settings = [(name, budget) for name in self.sessions for budget in BUDGETS]

    def run(self, texts, setting):
        name, budget = setting
        session = self.sessions[name]
        for part in batches(texts, budget):
            ids, mask = pad([texts[i] for i in part])
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
            yield part, pool(session.run(None, given)[0], mask)


class OpenVINO:
    """One request on two threads, or two on one each ("throughput")."""
    model, precisions = "openvino", ("bf16",)

    def __init__(self, folder):
        import openvino
        core = openvino.Core()
        model = core.read_model(folder / self.model / "openvino_model.xml")
        self.names = [port.get_any_name() for port in model.inputs]
        self.compiled = {(precision, streams): core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": N_THREADS, "NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": precision})
            for precision in self.precisions for streams in (1, 2)}
        self.queues = {key: openvino.AsyncInferQueue(compiled, key[1]) for key, compiled in self.compiled.items()}
        self.settings = [(*key, budget) for key in self.compiled for budget in BUDGETS]

    def run(self, texts, setting):
        *key, budget = setting
        queue, done = self.queues[tuple(key)], []
        queue.set_callback(lambda request, at: done.append((at[0], pool(request.get_output_tensor(0).data, at[1]))))
        for part in batches(texts, budget):
            ids, mask = pad([texts[i] for i in part])
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
            queue.start_async({name: given[name] for name in self.names}, (part, mask))
        queue.wait_all()
        return done


class OpenVINOInt8(OpenVINO):
    """Weights in 8 bits; products in bf16 or f32."""
    model, precisions = "openvino-int8", ("bf16", "f32")


class OpenVINOW8A8(OpenVINO):
    """Weights and activations in 8 bits by nncf; what is left in bf16 or f32."""
    model, precisions = "openvino-w8a8", ("bf16", "f32")


class CTranslate2:
    """int8; padding is taken out inside. One model on two threads, or two on one each."""

    def __init__(self, folder):
        import ctranslate2
        self.encoders = {n: ctranslate2.Encoder(str(folder / "ctranslate2"), device="cpu", compute_type="int8",
                                                inter_threads=n, intra_threads=N_THREADS // n) for n in (1, 2)}
        self.pool = concurrent.futures.ThreadPoolExecutor(N_THREADS)
        self.settings = [(n, budget) for n in self.encoders for budget in BUDGETS]

    def run(self, texts, setting):
        n, budget = setting

        def one(part):
            chosen = [texts[i] for i in part]
            hidden = numpy.array(self.encoders[n].forward_batch(chosen).last_hidden_state)
            return part, pool(hidden, pad(chosen)[1])

        return (self.pool.map if n > 1 else map)(one, batches(texts, budget))


class Torch:
    """transformers' BertModel with torch's own attention kernels, f32 or bf16."""

    def __init__(self, folder):
        import torch
        from transformers import BertModel
        torch.set_num_threads(N_THREADS)
        self.torch = torch
        source = folder.parents[1] / "all-MiniLM-L6-v2"
        self.models = {str(dtype).split(".")[1]: BertModel.from_pretrained(
            source, attn_implementation="sdpa", add_pooling_layer=False, dtype=dtype).eval()
            for dtype in (torch.float32, torch.bfloat16)}
        self.settings = [(name, budget) for name in self.models for budget in BUDGETS]

    def run(self, texts, setting):
        name, budget = setting
        for part in batches(texts, budget):
            ids, mask = pad([texts[i] for i in part])
            with self.torch.inference_mode():
                hidden = self.models[name](
                    input_ids=self.torch.from_numpy(ids),
                    attention_mask=self.torch.from_numpy(mask)).last_hidden_state.float().numpy()
            yield part, pool(hidden, mask)


PEERS = {"onnx": Onnx, "openvino-bf16": OpenVINO, "openvino-int8": OpenVINOInt8,
         "openvino-w8a8": OpenVINOW8A8, "ctranslate2": CTranslate2,
         "hf": Torch}


def embed(peer, texts, setting):
    """The vectors in the order of the texts, and the seconds it took."""
    started = time.perf_counter()
    vectors = numpy.empty((len(texts), 384), numpy.float32)
    for part, rows in peer.run(texts, setting):
        vectors[part] = rows
    return vectors, time.perf_counter() - started


def name_of(setting):
    *kind, budget = setting
    return " ".join(map(str, kind)) + (f", batches of {budget} tokens" if budget else ", single texts")


def answer(peer, request, cases):
    """What one request asks for; `cases` keeps the texts and the setting of each."""
    if request["op"] == "tune":
        texts = request["texts"]
        share = texts[::max(1, sum(map(len, texts)) // N_TUNED)]
        seconds = {s: embed(peer, share, s)[1] for s in peer.settings}
        for _ in range(TUNE_ROUNDS):
            for s in [s for s in seconds if seconds[s] <= HOPELESS * min(seconds.values())]:
                seconds[s] = min(seconds[s], embed(peer, share, s)[1])
        rates = {s: len(share) / taken for s, taken in seconds.items()}
        best = max(rates, key=rates.get)
        cases[request["case"]] = texts, best
        return {"setting": name_of(best), "rates": {name_of(s): round(rate, 1) for s, rate in rates.items()}}
    if request["op"] == "embed":
        texts, setting = cases[request["case"]]
        embed(peer, texts, setting)
        return {"texts_per_s": len(texts) / embed(peer, texts, setting)[1]}
    if request["op"] == "vectors":
        return {"vectors": embed(peer, request["texts"], cases[request["case"]][1])[0].tolist()}
    raise SystemExit(f"no operation named {request['op']}")


def main():
    pipe = Pipe()
    peer, cases = PEERS[pipe.name](pipe.folder), {}
    for request in pipe.requests():
        pipe.reply(answer(peer, request, cases))


if __name__ == "__main__":
    main()
