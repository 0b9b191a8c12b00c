#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make tsan: the queue and the engine (with the fake runner) under ThreadSanitizer.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh build
cmake -S . -B build-tsan -G Ninja -DKVERN_TSAN=ON >/dev/null
ninja -C build-tsan --quiet test_queue test_engine test_engine_embed test_cancel test_engine_sharing test_engine_beam test_kv_image test_session_forged
exec ctest --test-dir build-tsan --output-on-failure -R '^test_(queue|engine|engine_embed|cancel|engine_sharing|engine_beam|kv_image|session_forged)$'
