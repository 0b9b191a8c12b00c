#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make fuzz: each fuzz target under libFuzzer for KVERN_FUZZ_SECONDS (60) seconds, on a copy of its
# corpus; a crash is left in build-fuzz/.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh fuzz-packages
sh scripts/setup.sh runtime
CC=clang cmake -S . -B build-fuzz -G Ninja -DKVERN_FUZZ=ON -DKVERN_SANITIZE=ON >/dev/null
for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    corpus=build-fuzz/corpus/${name#fuzz_}
    ninja -C build-fuzz --quiet "$name"
    mkdir -p "$corpus"
    cp -n tests/fuzz/corpus/"${name#fuzz_}"/* "$corpus"/ 2>/dev/null || true
    (cd build-fuzz && "./$name" -max_total_time="${KVERN_FUZZ_SECONDS:-60}" -rss_limit_mb=4096 \
        -timeout=20 -print_final_stats=1 "corpus/${name#fuzz_}")
done
