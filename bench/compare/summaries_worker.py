# SPDX-License-Identifier: Apache-2.0
"""One peer with CodeT5-small's shape in one process; summaries.py drives it by JSON lines.

  .deps/peers/ENVIRONMENT/bin/python bench/compare/summaries_worker.py PEER MODELS_DIR

PEER is a key of PEERS; MODELS_DIR is what make_summary_models.py made. Requests on stdin:
  {"op": "settings"}               -> {"settings": [{...}]}: what this peer can be tried with
  {"op": "open", "setting": {...}} -> {"opened": the setting}: the model as the setting wants it, in place of another
  {"op": "run", "chunks": [[ids]], "in_flight": N, "n_out": N}
      -> {"seconds", "latencies_ms": [of each chunk], "answers": [[n_out ids]], "peak_rss_mb"}
A run keeps `in_flight` chunks submitted: when a batch has ended, as many new ones are submitted. A chunk's
latency is from its submission to its answer. Greedy, no end before n_out tokens. The peak is of the whole process
so far, so it says something only in a worker that opened one setting.
"""
import collections
import json
import pathlib
import time

import numpy

from worker_pipe import Pipe

N_THREADS = 2
BATCHES = (5, 10, 20)


def pad(chunks):
    """ids and mask [n_chunks, longest]."""
    mask = numpy.arange(max(map(len, chunks))) < numpy.array([len(ids) for ids in chunks])[:, None]
    ids = numpy.zeros(mask.shape, numpy.int64)
    ids[mask] = numpy.concatenate([numpy.array(c, numpy.int64) for c in chunks])
    return ids, mask.astype(numpy.int64)


class OpenVINO:
    """optimum-intel's generate(), int8 weights as exported; products in bf16 or f32."""
    form = "openvino-int8"
    settings = [{"precision": precision, "batch": batch} for precision in ("bf16", "f32") for batch in BATCHES]

    def __init__(self, folder):
        self.folder = folder / self.form

    def open(self, setting):
        from optimum.intel import OVModelForSeq2SeqLM
        self.model = None  # the one before must not stay in memory
        self.model = OVModelForSeq2SeqLM.from_pretrained(self.folder, ov_config={
            "INFERENCE_NUM_THREADS": N_THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": setting["precision"]})

    def submit(self, chunks, n_out):
        return chunks, n_out

    def wait(self, handle):
        import torch
        chunks, n_out = handle
        ids, mask = pad(chunks)
        out = self.model.generate(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), num_beams=1,
                                  do_sample=False, min_new_tokens=n_out, max_new_tokens=n_out)
        return out[:, 1:].tolist()


class OpenVINOF32(OpenVINO):
    form = "openvino-f32"
    settings = [{"precision": "f32", "batch": batch} for batch in BATCHES]


class Torch(OpenVINO):
    """transformers' generate() on PyTorch: what is right, not what is fast."""
    settings = [{"precision": precision, "batch": batch} for precision in ("float32", "bfloat16") for batch in (20,)]
    form = "hf"

    def open(self, setting):
        import torch
        from transformers import T5ForConditionalGeneration
        torch.set_num_threads(N_THREADS)
        self.model = T5ForConditionalGeneration.from_pretrained(
            self.folder, dtype=getattr(torch, setting["precision"])).eval()


class CTranslate2:
    """Batches queued in its own translator: two threads for one batch, or one each for two."""
    form, compute_type = "ctranslate2-int8", "int8"
    settings = [{"parallel": parallel, "batch": batch} for parallel in (1, 2) for batch in BATCHES
                if parallel * batch <= 20]

    def __init__(self, folder):
        self.folder = folder / self.form
        vocab = json.loads((folder / "hf/vocab.json").read_text(encoding="utf-8"))
        self.token_of = {i: token for token, i in vocab.items()}

    def open(self, setting):
        import ctranslate2
        self.translator = None
        self.translator = ctranslate2.Translator(
            str(self.folder), device="cpu", compute_type=self.compute_type, inter_threads=setting["parallel"],
            intra_threads=N_THREADS // setting["parallel"])
        self.id_of = {token: i for i, token in enumerate(json.loads(
            (self.folder / "shared_vocabulary.json").read_text(encoding="utf-8")))}

    def submit(self, chunks, n_out):
        tokens = [[self.token_of[i] for i in chunk] for chunk in chunks]
        return self.translator.translate_batch(tokens, beam_size=1, min_decoding_length=n_out, max_decoding_length=n_out,
                                               max_batch_size=0, asynchronous=True)

    def wait(self, handle):
        return [[self.id_of[token] for token in one.result().hypotheses[0]] for one in handle]


class CTranslate2F32(CTranslate2):
    form, compute_type = "ctranslate2-f32", "float32"


PEERS = {"openvino-int8": OpenVINO, "openvino-f32": OpenVINOF32, "ctranslate2-int8": CTranslate2,
         "ctranslate2-f32": CTranslate2F32, "hf": Torch}


def run(peer, setting, chunks, in_flight, n_out):
    """Batches in the order of the chunks; as many wait or run as `in_flight` allows."""
    submitted, latencies, answers = collections.deque(), [], []
    started, at = time.perf_counter(), 0
    while at < len(chunks) or submitted:
        while at < len(chunks) and at - len(answers) < in_flight:
            group = chunks[at:at + setting["batch"]]
            submitted.append((peer.submit(group, n_out), time.perf_counter()))
            at += len(group)
        handle, since = submitted.popleft()
        made = peer.wait(handle)
        answers += made
        latencies += [1000 * (time.perf_counter() - since)] * len(made)
    return {"seconds": time.perf_counter() - started, "latencies_ms": latencies, "answers": answers}


def peak_rss_mb():
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main():
    pipe = Pipe()
    peer, setting = PEERS[pipe.name](pipe.folder), None
    for asked in pipe.requests():
        if asked["op"] == "settings":
            reply = {"settings": peer.settings}
        elif asked["op"] == "open":
            setting = asked["setting"]
            peer.open(setting)
            reply = {"opened": setting}
        else:
            reply = run(peer, setting, asked["chunks"], asked["in_flight"], asked["n_out"])
            wrong = [len(answer) for answer in reply["answers"] if len(answer) != asked["n_out"]]
            if wrong:
                raise SystemExit(f"{pipe.name} gave {wrong[0]} tokens where {asked['n_out']} were asked for")
            reply["peak_rss_mb"] = peak_rss_mb()
        pipe.reply(reply)


if __name__ == "__main__":
    main()
