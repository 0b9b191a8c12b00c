#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets up what the tests need, builds, and runs them all; ends with ctest's summary.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh build
sh scripts/setup.sh model
sh scripts/setup.sh minilm
exec ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"
