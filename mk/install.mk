# `make install` and `make uninstall` of the libraries, the headers, the pkg-config file and the CMake package.
# PREFIX, LIBDIR, INCLUDEDIR and DESTDIR as usual: make install PREFIX=/usr LIBDIR=/usr/lib/x86_64-linux-gnu DESTDIR=/tmp/stage

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include

.PHONY: install uninstall
# Only for these two: a test that `make test` starts sets its own.
install uninstall: export PREFIX := $(PREFIX)
install uninstall: export LIBDIR := $(LIBDIR)
install uninstall: export INCLUDEDIR := $(INCLUDEDIR)
install uninstall: export DESTDIR := $(DESTDIR)

install:
	sh scripts/install.sh install

uninstall:
	sh scripts/install.sh uninstall
