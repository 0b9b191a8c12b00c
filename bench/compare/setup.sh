#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes one virtual environment for each peer under .deps/peers, with pinned versions, because their
# needs clash (the model builder of onnxruntime-genai wants transformers 5, optimum-intel another).
# `sh bench/compare/setup.sh [llama] [genai] [openvino] [hf] [onnx] [ctranslate2]`; with no argument: all. An
# environment that was finished before is left alone. llama-cpp-python is compiled for this machine. `onnx` serves
# embed.py and tests/golden/make_exports.py and make_t5_exports.py; `ctranslate2` embed.py and summaries.py.
set -eu
cd "$(dirname "$0")/../.."
peers=.deps/peers

sh scripts/setup.sh bench-packages
mkdir -p "$peers"

# make_venv NAME PACKAGE...: the stamp is written last, so a broken install is made again.
make_venv() {
    name=$1
    shift
    stamp="$peers/$name/.installed"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$*" ]; then
        echo "$name: ready"
        return
    fi
    rm -rf "${peers:?}/$name"
    echo "$name: installing $*"
    python3 -m venv "$peers/$name"
    "$peers/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
    echo "$*" >"$stamp"
    echo "$name: installed"
}

setup_llama() {
    CMAKE_ARGS="-DGGML_NATIVE=ON -DMTMD_BUILD=OFF" \
        CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}" \
        make_venv llama llama-cpp-python==0.3.36 numpy==2.4.6 gguf==0.19.0
}
setup_genai() {
    make_venv genai onnxruntime-genai==0.18.0 onnxruntime==1.31.1 onnx-ir==1.1.0 onnx==1.23.2 \
        transformers==5.18.0 torch==2.13.0 numpy==2.4.6
}
setup_openvino() {
    make_venv openvino openvino-genai==2026.4.1.0 openvino==2026.4.1 \
        openvino-tokenizers==2026.4.1.0 nncf==3.4.0 optimum-intel==2.2.0 transformers==5.5.4 \
        torch==2.13.0
    # optimum-intel brings it for pictures; built for a GPU it breaks the import of transformers
    # beside a torch for the CPU
    "$peers/openvino/bin/pip" uninstall --quiet --yes torchvision 2>/dev/null || true
}
setup_hf() {
    make_venv hf transformers==4.57.6 torch==2.13.0 gguf==0.19.0 safetensors==0.8.0 numpy==2.4.6 \
        sentencepiece==0.2.3 accelerate==1.15.0
}
setup_onnx() {
    make_venv onnx optimum-onnx==0.1.0 onnxruntime==1.31.1 onnx==1.23.2 transformers==4.57.6 \
        torch==2.13.0 accelerate==1.15.0 sentence-transformers==5.7.0 tokenizers==0.22.2 numpy==2.4.6
}
setup_ctranslate2() {
    make_venv ctranslate2 ctranslate2==4.8.5 transformers==4.57.6 torch==2.13.0 numpy==2.4.6
}

for name in ${*:-hf llama genai openvino onnx ctranslate2}; do
    case $name in
    hf | llama | genai | openvino | onnx | ctranslate2) "setup_$name" ;;
    *)
        echo "setup.sh: no peer named '$name'" >&2
        exit 2
        ;;
    esac
done
