"""Every failure is a class with facts; objects that are used after their end answer, and do not crash."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import corering
from corering import errors
from corering._native import lib

from .conftest import SMALL


def test_every_status_below_zero_has_a_class() -> None:
    statuses = {getattr(lib, name) for name in dir(lib) if name.startswith("CORERING_ERROR_")}
    assert set(errors._Classes.by_status) == statuses
    assert len(set(errors._Classes.by_status.values())) == len(statuses)
    for kind in errors._Classes.by_status.values():
        assert kind.__name__ in corering.__all__ and issubclass(kind, corering.Error)


def test_an_error_says_what_one_may_do() -> None:
    busy = errors.error(lib.CORERING_ERROR_BUSY, "full")
    assert isinstance(busy, corering.BusyError) and busy.retryable and not busy.may_have_committed
    poisoned = errors.error(lib.CORERING_ERROR_POISONED, "sync")
    assert isinstance(poisoned, corering.PoisonedError) and poisoned.may_have_committed and not poisoned.retryable
    assert busy.name == "busy" and str(busy) == "full"
    unknown = errors.error(-9999, "from a later version")
    assert type(unknown) is corering.Error and unknown.name == "unknown" and unknown.may_have_committed
    copy = pickle.loads(pickle.dumps(busy))
    assert type(copy) is corering.BusyError and copy.status == busy.status and str(copy) == "full"


def test_the_text_has_the_facts(db: corering.Database) -> None:
    with pytest.raises(corering.KeyTooLargeError, match="70000.*65536"):
        db.put(b"k" * 70000, b"")
    with pytest.raises(ValueError):
        db.put(b"k" * 70000, b"")
    with pytest.raises(corering.ValueTooLargeError):
        db.put(b"k", bytes(corering.VALUE_LEN_MAX + 1))


def test_a_directory_is_open_once(db: corering.Database) -> None:
    with pytest.raises(corering.LockedError, match=str(os.getpid())):
        corering.open(db.path, **SMALL)


def test_must_exist(tmp_path: Path) -> None:
    with pytest.raises(corering.Error):
        corering.open(tmp_path / "none", must_exist=True)
    corering.open(tmp_path / "db", **SMALL).close()
    with pytest.raises(corering.Error):
        corering.open(tmp_path / "db", must_not_exist=True)
    with pytest.raises(ValueError):
        corering.open(tmp_path / "db", shards=0)


def test_after_its_end_everything_answers_closed(tmp_path: Path) -> None:
    db = corering.open(tmp_path / "db", **SMALL)
    db[b"k"] = b"v"
    batch, snapshot, scan = db.batch(), db.snapshot(), db.scan()
    batch.put(b"k", b"w")
    db.close()
    for call in (
        lambda: db.get(b"k"),
        lambda: db.put(b"k", b"v"),
        lambda: db.delete(b"k"),
        lambda: db.scan(),
        lambda: db.snapshot(),
        lambda: db.batch(),
        lambda: db.multi_get([b"k"]),
        lambda: db.stats(),
        lambda: db.sync(),
        lambda: batch.commit(),
        lambda: snapshot.get(b"k"),
        lambda: next(scan),
    ):
        with pytest.raises(corering.ClosedError):
            call()
    snapshot.close()
    scan.close()


def test_a_database_that_is_forgotten_warns_and_closes(tmp_path: Path) -> None:
    db = corering.open(tmp_path / "db", **SMALL)
    db[b"k"] = b"v"
    with pytest.warns(ResourceWarning, match="not closed"):
        del db
        gc.collect()
    with corering.open(tmp_path / "db", **SMALL) as again:
        assert again[b"k"] == b"v"


FORK = """
import os, sys, corering
db = corering.open(sys.argv[1], shards=1)
db[b"k"] = b"v"
child = os.fork()
if child == 0:
    status = 1
    try:
        db.get(b"k")
    except corering.ForkedError:
        with corering.open(sys.argv[1] + "-child", shards=1) as own:
            own[b"k"] = b"of the child"
            status = 0 if own[b"k"] == b"of the child" else 2
    os._exit(status)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert status == 0, status
assert db[b"k"] == b"v"
db.close()
"""


def test_a_child_of_fork_gets_an_error_and_may_open_its_own(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path / "db")], check=True, timeout=60)
