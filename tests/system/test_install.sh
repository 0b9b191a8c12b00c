#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# test_install.sh SOURCE BUILD: installs the build into a temporary prefix, moves that elsewhere, and
# uses what is there as a stranger would: header alone, pkg-config, CMake, the command, the symbols.
set -eu
SOURCE=$1 BUILD=$2
CC=${CC:-cc}
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
PROGRAM=$SOURCE/tests/system/user_program.c
export KVERN_HOME="$WORK/home"

fail() {
    printf 'test_install: %s\n' "$*" >&2
    [ ! -s "$WORK/log" ] || cat "$WORK/log" >&2
    exit 1
}

# quietly WHAT COMMAND...: the command's output is shown only if it fails
quietly() {
    what=$1
    shift
    "$@" >"$WORK/log" 2>&1 || fail "$what failed"
}

quietly "cmake --install" cmake --install "$BUILD" --prefix "$WORK/first"
# relocatable: nothing may point to where it was installed first, or to the build
mv "$WORK/first" "$WORK/prefix"
PREFIX=$WORK/prefix
LIBDIR=$(dirname "$(find "$PREFIX" -name libkvern.so)")
[ -f "$PREFIX/share/man/man1/kvern.1" ] || fail "there is no man page"

"$PREFIX/bin/kvern" --version | grep -qx 'kvern [0-9]*\.[0-9]*\.[0-9]*' || fail "kvern --version"
if readelf -d "$PREFIX/bin/kvern" "$LIBDIR/libkvern.so" "$LIBDIR/libkvern_ops.so" |
    grep -E 'R(UN)?PATH' | grep -vF "\$ORIGIN" >"$WORK/log"; then
    fail "an installed file looks for libraries outside its prefix:"
fi

# exported: kvern_* and nothing else; the operator library its entry point and nothing else
exported() {
    nm -D --defined-only "$1" | awk '$2 ~ /[TDBRVW]/ { sub(/@.*/, "", $3); print $3 }'
}
exported "$LIBDIR/libkvern.so" | grep -v '^kvern_' >"$WORK/log" &&
    fail "libkvern.so exports more than kvern_*:"
[ "$(exported "$LIBDIR/libkvern_ops.so")" = RegisterCustomOps ] ||
    fail "libkvern_ops.so exports other than RegisterCustomOps: $(exported "$LIBDIR/libkvern_ops.so")"
for name in $(grep -o 'kvern_[a-z_0-9]*(' "$PREFIX/include/kvern.h" | tr -d '(' | sort -u); do
    grep -q "KVERN_API.*[ *]$name(" "$PREFIX/include/kvern.h" || continue
    exported "$LIBDIR/libkvern.so" | grep -qx "$name" || fail "the header has $name, the library has not"
done
# a copy of the logging functions inside the command would take the library's warnings away
nm --defined-only "$PREFIX/bin/kvern" 2>/dev/null | grep -q ' kvern_set_log$' &&
    fail "the command has its own kvern_set_log"

for language in c:c11 c++:c++17; do
    if [ "${language%%:*}" = c++ ] && ! command -v c++ >/dev/null; then
        echo "no C++ compiler: the header is not tried as C++17"
        continue
    fi
    compiler=$CC
    [ "${language%%:*}" = c ] || compiler=c++
    quietly "the header as ${language##*:}" "$compiler" -x "${language%%:*}" -std="${language##*:}" \
        -Wall -Wextra -pedantic -Werror -fsyntax-only "$PREFIX/include/kvern.h"
done

quietly "kvern convert" "$PREFIX/bin/kvern" convert "$BUILD/golden/tiny/llama-f32" -o "$WORK/model"

PKG_CONFIG_PATH=$LIBDIR/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
quietly "the program by pkg-config" "$CC" -std=c11 -Wall -Wextra -pedantic -Werror "$PROGRAM" \
    -o "$WORK/by_pkg_config" $(pkg-config --cflags --libs kvern)
by_pkg_config=$("$WORK/by_pkg_config" "$WORK/model") || fail "the program by pkg-config says: $by_pkg_config"

mkdir "$WORK/user"
cp "$PROGRAM" "$WORK/user/program.c"
cat >"$WORK/user/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(user LANGUAGES C)
find_package(kvern 0.1 REQUIRED)
add_executable(program program.c)
target_link_libraries(program PRIVATE kvern::kvern)
END
quietly "cmake of the program" cmake -G Ninja -S "$WORK/user" -B "$WORK/user/build" -DCMAKE_PREFIX_PATH="$PREFIX"
quietly "the build of the program" cmake --build "$WORK/user/build"
by_cmake=$("$WORK/user/build/program" "$WORK/model") || fail "the program by CMake says: $by_cmake"

[ "$by_cmake" = "$by_pkg_config" ] || fail "two builds, two answers: $by_cmake | $by_pkg_config"
case $by_cmake in
[0-9]*" length") ;;
*) fail "the program printed '$by_cmake'" ;;
esac
