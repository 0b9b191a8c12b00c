#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets the peers up, makes the models and compares; arguments go to compare.py.
set -eu
cd "$(dirname "$0")/../.."
sh bench/compare/setup.sh
.deps/peers/hf/bin/python bench/compare/make_models.py
exec python3 bench/compare/compare.py "$@"
