#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Who may include whom (ARCHITECTURE.md): greps #include lines, prints each one that breaks a rule.
set -eu
cd "$(dirname "$0")/.."
status=0

# deny FOLDER REGEX: no file of src/FOLDER may include what matches
deny() {
    if found=$(grep -rnE "^#include [\"<]($2)" "src/$1" 2>/dev/null); then
        printf '%s\n  breaks: src/%s must not include %s\n' "$found" "$1" "$2"
        status=1
    fi
}

deny base 'text/|ops/|ort/|convert/|model/|engine/|cli/|server/|summary/|onnxruntime'
deny text 'ops/|ort/|convert/|model/|engine/|cli/|server/|summary/|onnxruntime|pthread'
deny ops 'text/|ort/|convert/|model/|engine/|cli/|server/|summary/'
deny ort 'text/|convert/|model/|engine/|cli/|server/|summary/'
deny convert 'engine/|cli/|server/|summary/|onnxruntime|pthread'
deny model 'engine/|cli/|server/|summary/|onnxruntime'
deny engine 'cli/|server/|summary/|convert/|onnxruntime'
deny summary 'text/|ops/|ort/|convert/|model/|engine/|cli/|server/|onnxruntime|pthread'
deny cli 'text/|ops/|ort/|convert/|model/|engine/|server/|onnxruntime|pthread'

# pure files of the engine see no runtime, thread or I/O header
for file in scheduler plan kv_blocks prefix_cache kept_kv sampler sequence batch; do
    for source in "src/engine/$file.c" "src/engine/$file.h"; do
        [ -f "$source" ] || continue
        if found=$(grep -nE '^#include [<"](pthread|unistd|fcntl|ort/|ops/|base/queue|base/file)' "$source"); then
            printf '%s: %s\n  breaks: a pure file includes a runtime, thread or I/O header\n' "$source" "$found"
            status=1
        fi
    done
done

# threads live in few places
if found=$(grep -rlE '^#include <pthread.h>' src | grep -vE '^src/(base/queue|engine/engine|engine/engine_state|engine/machine|server/|ops/register|ops/scratch|ort/runtime|model/hub)'); then
    printf '%s\n  breaks: threads only in base/queue, engine/engine, engine/machine and server/ (pthread_once: ops/register, ops/scratch, ort/runtime, model/hub)\n' "$found"
    status=1
fi
[ $status -eq 0 ] && echo "includes: ok"
exit $status
