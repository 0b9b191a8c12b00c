#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to an answer: set-up, build, the default model, then a question to it. A second run
# skips what is there.
set -eu
cd "$(dirname "$0")/.."
QUESTION="Why do programs keep a cache? Answer in a few sentences."

sh scripts/setup.sh build
echo "getting the default model (SmolLM2-135M-Instruct)" >&2
build/kvern pull smollm2 >/dev/null
printf '\nAsking it: %s\n\n' "$QUESTION" >&2
build/kvern generate "$QUESTION" --max-tokens 160 --repetition-penalty 1.1 --stream --stats
cat >&2 <<'END'

Try next:
  build/kvern chat
  build/kvern generate "What does this do?" --file src/base/map.h
  build/kvern generate "Write a haiku about a mill." --temperature 0.8 --seed 7
  build/kvern bench
END
