# SPDX-License-Identifier: Apache-2.0
"""The programs compared, behind one form: a peer's worker process, and kvern's command.

A worker holds its model while others measure, so it is stopped (SIGSTOP, its whole process group) except
while it is asked: threads that spin or wake would disturb the one on turn. What it prints goes to
LOGS, and a worker that dies is reported with the end of that file.
"""
import json
import os
import pathlib
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOGS = ROOT / ".deps/peers"
PEERS = ("llama", "genai", "openvino")
TITLES = {"llama": "llama.cpp", "llama-unified": "llama.cpp, one KV cache for all",
          "genai": "onnxruntime-genai", "openvino": "OpenVINO GenAI",
          "kvern": "kvern"}


class Worker:
    """One peer with one model in its own process; the rules of requests stand in worker.py, or in what
    takes its place."""

    def __init__(self, name, folder, program="worker.py"):
        self.log = LOGS / f"{name}.worker.log"
        self.name = name
        environment = name.split("-")[0]
        python = ROOT / f".deps/peers/{environment}/bin/python"
        if not python.exists():
            raise SystemExit(f"{name} is not set up; run: sh bench/compare/setup.sh {environment}")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [str(python), str(ROOT / "bench/compare" / program), name, str(folder)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True)
        self.read()
        self.signal(signal.SIGSTOP)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            end = "\n  ".join(self.log.read_text(errors="replace").splitlines()[-5:])
            raise SystemExit(f"the worker of {self.name} ended with status {code}; the end of "
                             f"{self.log}:\n  {end}")
        return json.loads(line)

    def ask(self, request):
        """The reply to one request; the worker runs for this long only."""
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # read() says why
        reply = self.read()
        self.signal(signal.SIGSTOP)
        return reply

    def rate(self, op, length, batch, steps):
        """One sample in tokens/s."""
        return self.ask({"op": op, "length": length, "batch": batch, "steps": steps})["tokens_per_s"]

    def answers(self, prompts, steps, together):
        return self.ask({"op": "answers", "prompts": prompts, "steps": steps,
                         "together": together})["answers"]

    def close(self):
        """Ends the process; harmless when it has ended by itself."""
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.stdin.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self.process.wait()


class Kvern:
    """The command, a new process for each request."""
    name = "kvern"

    def __init__(self, command, model):
        self.command, self.model = command, str(model)

    def run(self, *arguments):
        done = subprocess.run([self.command, *arguments, "-m", self.model], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"kvern {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def rate(self, op, length, batch, steps):
        case = {"prefill": ("--prefill", str(length), "--decode", ""),
                "decode": ("--prefill", "", "--decode", f"{length}x{batch}")}[op]
        out = self.run("bench", *case, "--tokens", str(steps), "--repeats", "1", "--threads", "2",
                       "--no-limits", "--quiet", "--json")
        return json.loads(out)["results"][0]["tokens_per_s"]

    def token_ids(self, text):
        return json.loads(self.run("tokenize", text, "--json"))["ids"]

    def answers(self, texts, steps, together):
        """The answers' text: kvern takes prompts as text and continues them as they are."""
        groups = [texts] if together else [[text] for text in texts]
        answers = []
        for group in groups:
            lines = "".join(json.dumps({"prompt": text}) + "\n" for text in group)
            done = subprocess.run(
                [self.command, "generate", "-m", self.model, "--prompts", "-", "--raw", "--ignore-eos",
                 "--max-tokens", str(steps), "--threads", "2", "--json", "-q"],
                input=lines, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if done.returncode != 0:
                raise SystemExit(f"kvern generate: {done.stderr.strip()}")
            answers += [json.loads(line)["text"] for line in done.stdout.splitlines()]
        return answers

    def close(self):
        pass


def open_peer(name, folder, kvern):
    """What is named, with the model of one folder of make_models.py."""
    return Kvern(kvern, folder / "kvern") if name == "kvern" else Worker(name, folder)


def cpu_name():
    return next(line.split(":")[1].strip() for line in subprocess.check_output(
        ["lscpu"], text=True).splitlines() if line.startswith("Model name"))
