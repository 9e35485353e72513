"""The Python that is shown in the READMEs runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
READMES = [HERE / "README.md", HERE.parent.parent / "README.md"]


def snippets() -> list[tuple[str, str]]:
    found = []
    for readme in READMES:
        if readme.exists():
            blocks = re.findall(r"^```python\n(.*?)^```", readme.read_text(), flags=re.DOTALL | re.MULTILINE)
            found += [(f"{readme.parent.name}/{readme.name}#{n}", block) for n, block in enumerate(blocks)]
    return found


def test_there_are_snippets() -> None:
    assert len(snippets()) >= 2


@pytest.mark.parametrize("name, code", snippets(), ids=[name for name, _ in snippets()])
def test_a_snippet_runs(tmp_path: Path, name: str, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{name}:\n{done.stderr}"
