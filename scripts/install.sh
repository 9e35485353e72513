#!/bin/sh
# Installs or removes libcorering: the shared library with its links, the static one, the headers, a pkg-config file, a
# CMake package. Usage: [PREFIX=…] [LIBDIR=…] [INCLUDEDIR=…] [DESTDIR=…] sh scripts/install.sh install|uninstall
#
# CORERING_BUILT may name a directory that already holds libcorering.so and libcorering.a; otherwise cargo builds them.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
destdir=${DESTDIR:-}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
abi_major=$(sed -n 's/^#define CORERING_ABI_MAJOR //p' "$root/include/corering.h")
# Read off `rustc --print native-static-libs`; scripts/install-test.sh links a program with them.
static_libs="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"

fill() {
    sed -e "s|@PREFIX@|$prefix|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@INCLUDEDIR@|$includedir|g" \
        -e "s|@VERSION@|$version|g" -e "s|@ABI_MAJOR@|$abi_major|g" -e "s|@STATIC_LIBS@|$static_libs|g" -e "s|@STATIC_LIBS_CMAKE@|$(echo "$static_libs" | tr " " ";")|g" \
        -e "s|@INCLUDE_FROM_CMAKE@|$(realpath -m --relative-to="$libdir/cmake/corering" "$includedir")|g" "$1"
}

install_all() {
    if [ -n "${CORERING_BUILT:-}" ]; then
        built=$CORERING_BUILT
    else
        (cd "$root" && cargo build --release -p corering-ffi)
        built=${CARGO_TARGET_DIR:-$root/target}/release
    fi
    mkdir -p "$destdir$libdir/pkgconfig" "$destdir$libdir/cmake/corering" "$destdir$includedir/corering"
    install -m 755 "$built/libcorering.so" "$destdir$libdir/libcorering.so.$version"
    ln -sf "libcorering.so.$version" "$destdir$libdir/libcorering.so.$abi_major"
    ln -sf "libcorering.so.$abi_major" "$destdir$libdir/libcorering.so"
    install -m 644 "$built/libcorering.a" "$destdir$libdir/libcorering.a"
    install -m 644 "$root/include/corering.h" "$root/include/corering.hpp" "$destdir$includedir/"
    install -m 644 "$root"/include/corering/*.hpp "$destdir$includedir/corering/"
    fill "$root/ffi/packaging/corering.pc.in" > "$destdir$libdir/pkgconfig/corering.pc"
    for file in corering-config.cmake corering-config-version.cmake; do
        fill "$root/ffi/packaging/$file.in" > "$destdir$libdir/cmake/corering/$file"
    done
    if [ -z "$destdir" ] && [ "$(id -u)" = 0 ] && command -v ldconfig > /dev/null; then
        ldconfig || true
    fi
    echo "corering $version is installed: libraries in $destdir$libdir, headers in $destdir$includedir"
}

uninstall_all() {
    rm -f "$destdir$libdir/libcorering.so" "$destdir$libdir/libcorering.so.$abi_major" \
        "$destdir$libdir/libcorering.so.$version" "$destdir$libdir/libcorering.a" \
        "$destdir$libdir/pkgconfig/corering.pc" "$destdir$includedir/corering.h" "$destdir$includedir/corering.hpp"
    for file in "$root"/include/corering/*.hpp; do
        rm -f "$destdir$includedir/corering/$(basename "$file")"
    done
    rm -f "$destdir$libdir/cmake/corering/corering-config.cmake" \
        "$destdir$libdir/cmake/corering/corering-config-version.cmake"
    # What others put there stays, and so do then the directories.
    rmdir "$destdir$libdir/cmake/corering" "$destdir$includedir/corering" 2> /dev/null || true
}

case "${1:-}" in
    install) install_all ;;
    uninstall) uninstall_all ;;
    *)
        echo "usage: install.sh install|uninstall" >&2
        exit 2
        ;;
esac
