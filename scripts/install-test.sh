#!/bin/sh
# Proves `make install`: installs into a place of its own, builds a small program in C and one in C++ with pkg-config and
# with CMake, shared and static, runs them, and removes everything again. Usage: sh scripts/install-test.sh
set -eu
# Each installation below names its own places.
unset PREFIX LIBDIR INCLUDEDIR DESTDIR

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for tool in cmake pkg-config cc c++; do
    if ! command -v "$tool" > /dev/null; then
        echo "install-test: $tool is missing; on Debian: apt-get install cmake pkg-config g++" >&2
        exit 1
    fi
done

say() {
    echo "install-test: $*"
}

# A library directory below lib, as Debian has it; a package builder's stage comes at the end.
prefix=$work/prefix
PREFIX=$prefix LIBDIR=$prefix/lib/multiarch sh "$root/scripts/install.sh" install > /dev/null
libdir=$prefix/lib/multiarch
[ "$(readlink "$libdir/libcorering.so")" = "$(basename "$(ls "$libdir"/libcorering.so.?)")" ]

run() {
    rm -rf "$work/run" && mkdir "$work/run"
    (cd "$work/run" && LD_LIBRARY_PATH=${2:-} "$1") | grep -q "hello from C" || {
        say "$1 did not say hello"
        exit 1
    }
}

export PKG_CONFIG_PATH="$libdir/pkgconfig"
for language in c cpp; do
    [ "$language" = c ] && compiler="cc -std=c11" || compiler="c++ -std=c++17"
    source=$root/bindings/$language/examples/hello.$language
    # shellcheck disable=SC2046,SC2086
    $compiler -Wall -Wextra -Werror "$source" $(pkg-config --cflags --libs corering) -o "$work/shared-$language"
    run "$work/shared-$language" "$libdir"
    # The archive by its name, so that nothing but the private libraries is shared.
    # shellcheck disable=SC2046,SC2086
    $compiler -Wall -Wextra -Werror "$source" $(pkg-config --cflags corering) "$libdir/libcorering.a" \
        $(pkg-config --static --libs-only-l corering | sed 's/-lcorering//') -o "$work/static-$language"
    run "$work/static-$language"
    if ldd "$work/static-$language" | grep -q corering; then
        say "static-$language needs the shared library"
        exit 1
    fi
    say "$language by pkg-config, shared and static: well"
done

series=$(sed -n 's/^version = "\([0-9]*\.[0-9]*\).*/\1/p' "$root/Cargo.toml" | head -n 1)
mkdir "$work/cmake"
cat > "$work/cmake/CMakeLists.txt" << CMAKE
cmake_minimum_required(VERSION 3.18)
project(uses_corering C CXX)
find_package(corering $series REQUIRED)
foreach(language c cpp)
  foreach(kind corering corering_static)
    add_executable(\${kind}_\${language} $root/bindings/\${language}/examples/hello.\${language})
    target_link_libraries(\${kind}_\${language} PRIVATE corering::\${kind})
    target_compile_features(\${kind}_\${language} PRIVATE cxx_std_17 c_std_11)
  endforeach()
endforeach()
CMAKE
cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$prefix" \
    -Dcorering_DIR="$libdir/cmake/corering" > "$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
cmake --build "$work/cmake/build" >> "$work/cmake.log" 2>&1 || { cat "$work/cmake.log"; exit 1; }
for program in corering_c corering_cpp corering_static_c corering_static_cpp; do
    run "$work/cmake/build/$program"
done
say "by CMake, shared and static: well"

PREFIX=$prefix LIBDIR=$libdir sh "$root/scripts/install.sh" uninstall
left=$(find "$prefix" -type f -o -type l)
[ -z "$left" ] || { say "left behind: $left"; exit 1; }

DESTDIR=$work/stage PREFIX=/usr sh "$root/scripts/install.sh" install > /dev/null
grep -q '^prefix=/usr$' "$work/stage/usr/lib/pkgconfig/corering.pc"
[ -f "$work/stage/usr/include/corering/db.hpp" ]
DESTDIR=$work/stage PREFIX=/usr sh "$root/scripts/install.sh" uninstall
left=$(find "$work/stage" -type f -o -type l)
[ -z "$left" ] || { say "left behind: $left"; exit 1; }
say "DESTDIR and uninstall: well"
