#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make check: include rules, format, clang-tidy, and all tests under ASan and UBSan. Silent while all
# is well, but for ctest's summary at the end; else shows what failed and names the step.
set -eu
cd "$(dirname "$0")/.."
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
trap 'exit 130' INT TERM

# step NAME COMMAND...
step() {
    name=$1
    shift
    if ! "$@" >"$LOG" 2>&1; then
        cat "$LOG" >&2
        printf 'check: %s failed (see above)\n' "$name" >&2
        exit 1
    fi
}

sh scripts/setup.sh check-packages
sh scripts/setup.sh build
sh scripts/setup.sh model
sh scripts/setup.sh minilm

step "include rules" sh scripts/check_includes.sh
step "format (make format mends it)" sh -c \
    "find bench cmake include src tests -name '*.[ch]' -exec clang-format --dry-run --Werror {} +"
step "configuring build-asan" cmake -S . -B build-asan -G Ninja -DKVERN_SANITIZE=ON
step "building build-asan" ninja -C build-asan --quiet
# clang-tidy beside the tests would only slow both; it takes the files in turn on every core. Its analyzer follows a
# quarter of the paths it would by itself: that is three times as fast.
paths='--extra-arg=-Xclang --extra-arg=-analyzer-config --extra-arg=-Xclang --extra-arg=max-nodes=60000'
step "clang-tidy" sh -c \
    "find src -name '*.c' | xargs -P $(nproc) -n 4 clang-tidy -p build --quiet --warnings-as-errors='*' $paths"

# ONNX Runtime keeps some memory to the end of the process on purpose; leaks of ours are still seen
step "tests under ASan and UBSan" env ASAN_OPTIONS=detect_leaks=1 \
    LSAN_OPTIONS="suppressions=$PWD/scripts/lsan.supp:print_suppressions=0" \
    UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build-asan --output-on-failure -j "$(nproc)"
grep -E 'tests passed|Total Test time' "$LOG"
