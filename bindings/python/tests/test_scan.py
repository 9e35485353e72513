"""Scans, snapshots, batches."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator

import pytest

import corering


@pytest.fixture
def filled(db: corering.Database) -> Iterator[corering.Database]:
    for n in range(1000):
        db.put(b"k%03d" % n, b"v%d" % n, durability="none")
    db.put(b"other", b"x")
    yield db


def keys(scan: corering.Scan) -> list[bytes]:
    return [entry.key for entry in scan]


def test_bounds(filled: corering.Database) -> None:
    everything = [b"k%03d" % n for n in range(1000)]
    assert keys(filled.scan()) == [*everything, b"other"]
    assert keys(filled.scan(prefix=b"k")) == everything
    assert keys(filled.scan(prefix=b"k99")) == everything[990:]
    assert keys(filled.scan(prefix=b"k", reverse=True)) == everything[::-1]
    assert keys(filled.scan(lower=b"k100", upper=b"k103")) == everything[100:103]
    assert keys(filled.scan(lower=b"k100", upper=b"k103", lower_exclusive=True)) == everything[101:103]
    assert keys(filled.scan(lower=b"k100", upper=b"k103", upper_inclusive=True)) == everything[100:104]
    assert keys(filled.scan(prefix=b"k9", lower=b"k95", limit=2)) == everything[950:952]
    assert keys(filled.scan(reverse=True, limit=2)) == [b"other", b"k999"]
    assert keys(filled.scan(limit=0)) == keys(filled.scan(upper=b"")) == keys(filled.scan(prefix=b"none")) == []
    assert keys(filled.scan(lower=b"k500", upper=b"k400")) == []
    with pytest.raises(ValueError):
        filled.scan(limit=-1)


def test_entries_unpack(filled: corering.Database) -> None:
    for key, value in filled.scan(prefix=b"k00"):
        assert value == b"v%d" % int(key[1:])


def test_a_scan_can_be_left(filled: corering.Database) -> None:
    with filled.scan() as scan:
        assert len(list(itertools.islice(scan, 3))) == 3
    assert list(scan) == []
    scan = filled.scan()
    next(scan)
    scan.close()
    scan.close()
    assert list(scan) == []
    del scan
    gc.collect()


def test_a_snapshot_does_not_move(filled: corering.Database) -> None:
    with filled.snapshot() as snapshot:
        del filled[b"k000"]
        filled[b"k001"] = b"changed"
        filled[b"new"] = b"n"
        assert snapshot[b"k000"] == b"v0" and snapshot.get(b"k001") == b"v1"
        assert b"new" not in snapshot and b"new" in filled
        assert snapshot.multi_get([b"k000", b"new"]) == [b"v0", None]
        assert len(keys(snapshot.scan())) == 1001
        assert len(list(snapshot.items())) == 1001
        value = snapshot.get_value(b"k001")
        assert value is not None and value.data == b"v1" and value.version <= snapshot.version
        scan = snapshot.scan(prefix=b"k00")
    assert keys(scan) == [b"k%03d" % n for n in range(10)]
    with pytest.raises(corering.ClosedError):
        snapshot.get(b"k000")
    snapshot.close()


def test_a_scan_is_one_state(filled: corering.Database) -> None:
    scan = filled.scan(prefix=b"k")
    seen = [next(scan).key]
    for n in range(1000):
        filled.delete(b"k%03d" % n, durability="none")
    seen += keys(scan)
    assert seen == [b"k%03d" % n for n in range(1000)]
    assert keys(filled.scan(prefix=b"k")) == []


def test_batch(db: corering.Database) -> None:
    db[b"{b}c"] = b"c"
    with db.batch() as batch:
        batch.put(b"{b}a", b"1").put(b"{b}b", b"2", ttl=3600)
        batch[b"{b}d"] = b"4"
        del batch[b"{b}c"]
        assert len(batch) == 4
        assert b"{b}a" not in db
    assert db.multi_get([b"{b}a", b"{b}b", b"{b}c", b"{b}d"]) == [b"1", b"2", None, b"4"]
    value = db.get_value(b"{b}b")
    assert value is not None and value.expires_at is not None


def test_a_batch_that_raises_is_not_committed(db: corering.Database) -> None:
    with pytest.raises(RuntimeError), db.batch() as batch:
        batch.put(b"k", b"v")
        raise RuntimeError
    assert b"k" not in db


def test_a_batch_can_be_used_again(db: corering.Database) -> None:
    batch = db.batch(durability="none")
    batch.put(b"k", b"1")
    first = batch.commit()
    batch.clear()
    assert len(batch) == 0
    batch.put(b"k", b"2")
    assert batch.commit() > first
    assert db[b"k"] == b"2"


def test_a_batch_over_several_shards_is_one_commit(db: corering.Database) -> None:
    batch = db.batch()
    for n in range(64):
        batch.put(b"spread%d" % n, b"v")
    commit = batch.commit()
    values = [db.get_value(b"spread%d" % n) for n in range(64)]
    assert {value.version for value in values if value is not None} == {commit} and None not in values
