#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Time from starting the process to the first token of a short prompt, and peak memory of `kvern
# generate`, on the default model (or the one in $1) with files in the disk cache: median of 10.
# Bars of the project: 0.4 s and 250 MB. Prints figures; asserts nothing.
set -eu
cd "$(dirname "$0")/.."
MODEL=${1:-smollm2}
exec python3 - "$MODEL" <<'END'
import os, statistics, subprocess, sys, time

COMMAND = ["build/kvern", "generate", "-m", sys.argv[1], "--quiet", "--no-stats"]
PROMPT = "Hi"  # 31 tokens in SmolLM2's chat template


def first_token():
    started = time.monotonic()
    child = subprocess.Popen(COMMAND + ["--stream", "-n", "16", "--ignore-eos", PROMPT],
                             stdout=subprocess.PIPE)
    if not os.read(child.stdout.fileno(), 1):
        sys.exit("first_token: no output; is the model there? (build/kvern pull smollm2)")
    seconds = time.monotonic() - started
    child.communicate()
    return seconds


def peak_bytes(n_tokens):
    child = subprocess.Popen(COMMAND + ["-n", str(n_tokens), "--ignore-eos", PROMPT],
                             stdout=subprocess.DEVNULL)
    return os.wait4(child.pid, 0)[2].ru_maxrss * 1024


first_token()  # fills the disk cache
times = sorted(first_token() for _ in range(10))
print(f"first token: median {statistics.median(times):.3f} s, {times[0]:.3f} - {times[-1]:.3f} s")
for n_tokens in (16, 256):
    print(f"peak memory, {n_tokens} tokens: {peak_bytes(n_tokens) / 1e6:.0f} MB")
END
