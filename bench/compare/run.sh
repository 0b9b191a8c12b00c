#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole comparison from nothing: kvern, the peers, their models, speed, and whether answers change in
# a batch; embeddings; many requests of different lengths at once, and what one of them feels of the others. What is there
# already is kept, so a run that was stopped goes on; so are the peers' settings found for many requests
# (build/bench/workload_settings.json). Arguments (--rounds 5, --model NAME, --only NAMES) go to compare.py. Results:
# build/bench/{speed,answers,embed,workload}.{md,json} and build/bench/engine_latency.json.
set -eu
cd "$(dirname "$0")/../.."
kvern=${KVERN:-build/kvern}
peers_python=.deps/peers/hf/bin/python
out=build/bench

if [ -z "${KVERN:-}" ]; then
    sh scripts/setup.sh build
    sh scripts/setup.sh model
fi
sh bench/compare/setup.sh
"$peers_python" bench/compare/make_models.py --kvern "$kvern"
mkdir -p "$out"
python3 bench/compare/compare.py --kvern "$kvern" --markdown "$out/speed.md" "$@" >"$out/speed.json"
sh scripts/setup.sh minilm
[ -d "$out/minilm" ] || "$kvern" convert .deps/models/all-MiniLM-L6-v2 -o "$out/minilm" --quiet
python3 bench/compare/answers.py --kvern "$kvern" --markdown "$out/answers.md" >"$out/answers.json"
python3 bench/compare/make_embed_models.py
python3 bench/compare/embed.py --kvern "$kvern" --model "$out/minilm" --markdown "$out/embed.md" >"$out/embed.json"
cmake --build build --target bench_engine
python3 bench/compare/workload.py --settings "$out/workload_settings.json" --markdown "$out/workload.md" >"$out/workload.json"
build/bench_engine_latency .deps/models/compare/smollm2-135m/kvern --json >"$out/engine_latency.json"
python3 bench/compare/make_summary_models.py --kvern "$kvern"
python3 bench/compare/summaries.py --settings "$out/summaries_settings.json" --markdown "$out/summaries.md" >"$out/summaries.json"
echo "$out/{speed,answers,embed,workload,summaries}.md and $out/engine_latency.json are written"
