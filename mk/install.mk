# `make install` and `make uninstall` of the libraries, the headers, the pkg-config file and the CMake package.
# PREFIX, LIBDIR, INCLUDEDIR and DESTDIR as usual: make install PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu DESTDIR=/tmp/stage

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
export PREFIX LIBDIR INCLUDEDIR DESTDIR

.PHONY: install uninstall

install:
	sh scripts/install.sh install

uninstall:
	sh scripts/install.sh uninstall
