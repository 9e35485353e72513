from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import corering

#: Small, so that tests meet sealed memtables and several segments.
SMALL: dict[str, Any] = {
    "shards": 2,
    "memtable_bytes": 1 << 20,
    "segment_bytes": 1 << 20,
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[corering.Database]:
    with corering.open(tmp_path / "db", **SMALL) as opened:
        yield opened
