"""Writes the C source of the extension module: emit.py INCLUDE_DIR HELPERS_DIR OUTPUT.

cffi gets the declarations of include/corering.h itself, so that whatever the header says wrongly fails here or in the
tests, and the few of src/helpers.h. The header is plain enough that comments and the parts for C++ can be cut out by
line; anything cffi does not understand is an error.
"""

from __future__ import annotations

import pathlib
import re
import sys

from cffi import FFI


def declarations(header: str) -> str:
    """What is left for C, without directives but the defines of numbers."""
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
    text = re.sub(r"//[^\n]*", "", text)
    kept: list[str] = []
    # One entry for each open #if: whether its lines are for a C11 compiler.
    open_ifs: list[bool] = []
    for line in text.splitlines():
        word = line.strip()
        if word.startswith("#if"):
            if word.startswith("#ifndef"):
                taken = True
            elif "__cplusplus" in word or "__STDC_VERSION__" in word:
                taken = False
            else:
                raise ValueError(f"what does this mean for C: {line}")
            open_ifs.append(taken)
        elif word.startswith("#else"):
            open_ifs[-1] = not open_ifs[-1]
        elif word.startswith("#endif"):
            open_ifs.pop()
        elif all(open_ifs):
            number = re.fullmatch(r"#define (\w+) (-?\w+)", word)
            if number:
                # What C's own headers name, the C compiler is asked for.
                value = "..." if number[2].startswith("UINT") else number[2]
                kept.append(f"#define {number[1]} {value}")
            elif not word.startswith("#"):
                kept.append(line)
    return "\n".join(kept)


def main() -> None:
    include, helpers_dir, output = (pathlib.Path(argument) for argument in sys.argv[1:4])
    helpers = (helpers_dir / "helpers.h").read_text()
    own, _, _ = helpers.partition("/* ---- end of declarations ---- */")
    ffi = FFI()
    ffi.cdef(declarations((include / "corering.h").read_text()))
    ffi.cdef(declarations(own))
    ffi.set_source("corering._native", '#include <corering.h>\n#include "helpers.h"\n', py_limited_api=True)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main()
