#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make check: include rules, format, clang-tidy, and all tests under ASan and UBSan.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh check-packages
sh scripts/setup.sh build
sh scripts/setup.sh model

sh scripts/check_includes.sh

git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
echo "format: ok"

cmake -S . -B build-asan -G Ninja -DKVERN_SANITIZE=ON >build-asan.log 2>&1 || { cat build-asan.log; exit 1; }
rm -f build-asan.log
ninja -C build-asan --quiet

# clang-tidy beside the tests would only slow both; it takes the files in turn on every core
git ls-files 'src/*.c' | xargs -P "$(nproc)" -n 4 clang-tidy -p build --quiet 2>/dev/null
echo "clang-tidy: ok"

# ONNX Runtime keeps some memory to the end of the process on purpose; leaks of ours are still seen
ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$PWD/scripts/lsan.supp:print_suppressions=0 \
UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build-asan --output-on-failure -j "$(nproc)"
