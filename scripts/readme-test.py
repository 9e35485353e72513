#!/usr/bin/env python3
"""Runs what README.md shows.

Every ```c, ```cpp and ```python block is a whole program: it is compiled against the library of this build (Python: run
where scripts/python-test.sh installed the wheel), run in a new directory, and must print exactly what its comments
`prints: ...` say. Every ```console block is typed into a shell while the daemon serves: after each `$ ` line comes what
redis-cli answers. `make` and `cargo bench` in ```sh blocks must name what exists.

Usage: python3 scripts/readme-test.py [README.md]      CARGO_TARGET_DIR and CORERING_PYTHON as one would think.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BUILT = TARGET / "debug"
PYTHON = os.environ.get("CORERING_PYTHON", str(TARGET / "python-test/clean/bin/python"))
# The daemon takes every variable of this name for a setting.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CORERING_")}
PATIENCE_SECONDS = 60
WANTED = ("c", "cpp", "python", "console", "sh")


class Wrong(Exception):
    """What the README says is not so."""


def blocks(text):
    """(language, first line's number, code) of each fenced block."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        yield found[1], text.count("\n", 0, found.start()) + 2, found[2]


def run(command, cwd, **more):
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_SECONDS, **more,
    )
    if done.returncode != 0:
        raise Wrong(f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def promised(code):
    """The lines that comments say are printed."""
    return re.findall(r"(?://|#|/\*) prints: (.*?)(?: \*/)?$", code, flags=re.MULTILINE)


def compare(code, output):
    said, printed = promised(code), output.splitlines()
    if not said:
        raise Wrong("nothing says what it prints (a comment `prints: ...`)")
    if said != printed:
        raise Wrong(f"the comments say {said}, printed was {printed}")


def run_compiled(code, work, suffix, compiler):
    library = work / "lib"
    library.mkdir()
    # The names that the linker and the loader look for.
    for name in ("libcorering.so", "libcorering.so.0"):
        (library / name).symlink_to(BUILT / "libcorering.so")
    source = work / f"snippet{suffix}"
    source.write_text(code)
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{ROOT}/include", f"-L{library}", f"-Wl,-rpath,{library}"]
    run([*compiler, *flags, str(source), "-lcorering", "-o", str(work / "snippet")], work)
    compare(code, run([str(work / "snippet")], work))


def run_c(code, work):
    run_compiled(code, work, ".c", ["cc", "-std=c11"])


def run_cpp(code, work):
    run_compiled(code, work, ".cpp", ["c++", "-std=c++17"])


def run_python(code, work):
    if not Path(PYTHON).exists():
        raise Wrong(f"{PYTHON} is missing: run scripts/python-test.sh first, or name an interpreter in CORERING_PYTHON")
    compare(code, run([PYTHON, "-W", "error", "-c", code], work))


class Daemon:
    """The program serving on a free port, in `work`."""

    def __init__(self, work):
        self.log = open(work / "log", "w+", encoding="utf-8")
        port_file = work / "port"
        arguments = ["serve", "--dir", work / "data", "--port", "0", "--port-file", port_file]
        self.process = subprocess.Popen(
            [BUILT / "corering", *arguments], env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )
        began = time.monotonic()
        while not (port_file.exists() and port_file.read_text().strip().isdigit()):
            if self.process.poll() is not None or time.monotonic() - began > PATIENCE_SECONDS:
                self.process.kill()
                self.process.wait()
                raise Wrong(f"the daemon does not serve:\n{self.said()}")
            time.sleep(0.02)
        self.port = port_file.read_text().strip()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Wrong(f"the daemon did not end at SIGTERM:\n{self.said()}") from None
        if status != 0:
            raise Wrong(f"the daemon ended with {status} at SIGTERM:\n{self.said()}")


def run_console(code, work):
    lines = code.splitlines()
    starts = [n for n, line in enumerate(lines) if line.startswith("$ ")]
    if not starts or starts[0] != 0:
        raise Wrong("a console block begins with a line `$ command`")
    daemon = Daemon(work)
    try:
        for start, end in zip(starts, [*starts[1:], len(lines)]):
            typed, expected = lines[start][2:], lines[start + 1 : end]
            if not typed.startswith("redis-cli -p 6380 "):
                raise Wrong(f"`{typed}` is no call of redis-cli on the port that the daemon has by default")
            # --no-raw: as it answers on a terminal.
            command = typed.replace("redis-cli -p 6380", f"redis-cli --no-raw -p {daemon.port}", 1)
            answered = run(["bash", "-c", command], work).splitlines()
            if answered != expected:
                raise Wrong(f"`{typed}` answers {answered}, the text says {expected}")
    except BaseException:
        daemon.process.kill()
        daemon.process.wait()
        raise
    daemon.end()


def run_sh(code, _work):
    for line in code.splitlines():
        command = line.split("#")[0].strip()
        if command.startswith("make"):
            run(["bash", "-c", command.replace("make", "make --dry-run", 1)], ROOT)
        package = re.search(r"^cargo \w+ .*-p (\S+)", command)
        if package:
            run(["cargo", "pkgid", package[1]], ROOT)


RUNNERS = {"c": run_c, "cpp": run_cpp, "python": run_python, "console": run_console, "sh": run_sh}


def links(text, readme):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
        if "://" not in target and not (readme.parent / target).exists():
            yield target


def main():
    readme = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT / "README.md"
    text = readme.read_text()
    failures, seen = 0, set()
    for language, line, code in blocks(text):
        seen.add(language)
        if language not in RUNNERS:
            continue
        with tempfile.TemporaryDirectory(prefix="corering-readme-") as work:
            try:
                RUNNERS[language](code, Path(work))
                print(f"{readme.name}:{line}: {language}: ok")
            except (Wrong, subprocess.TimeoutExpired, OSError) as wrong:
                failures += 1
                print(f"{readme.name}:{line}: {language}: {wrong}", file=sys.stderr)
    for language in WANTED:
        if language not in seen:
            failures += 1
            print(f"{readme.name}: there is no {language} block", file=sys.stderr)
    for target in links(text, readme):
        failures += 1
        print(f"{readme.name}: {target} does not exist", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
