#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to an answer: set-up, build, the default model, then the model explains one of this
# project's own files. A second run skips what is there.
set -eu
cd "$(dirname "$0")/.."
FILE=src/base/map.h

sh scripts/setup.sh build
echo "getting the default model (SmolLM2-135M-Instruct)" >&2
build/kvern pull smollm2 >/dev/null
printf '\nAsking it to explain %s:\n\n' "$FILE" >&2
build/kvern generate "Explain in a few sentences what this C header is for and how it is used." \
    --file "$FILE" --max-tokens 160 --repetition-penalty 1.1 --stream --stats
cat >&2 <<'END'

Try next:
  build/kvern chat
  build/kvern generate "Write a haiku about a mill." --temperature 0.8 --seed 7
  build/kvern bench
END
