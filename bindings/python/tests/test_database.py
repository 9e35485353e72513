"""Single keys, options, many keys: the synchronous client."""

from __future__ import annotations

import datetime
import threading
import time
from pathlib import Path

import pytest

import corering
from corering import Condition, Durability, Operation

from .conftest import SMALL


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert corering.__version__ == version("corering")


def test_mapping_style(db: corering.Database) -> None:
    db[b"k"] = b"one"
    assert db[b"k"] == b"one"
    assert b"k" in db and b"other" not in db
    assert "k" not in db
    del db[b"k"]
    assert b"k" not in db
    with pytest.raises(KeyError):
        db[b"k"]
    with pytest.raises(KeyError):
        del db[b"k"]
    db[b"b"], db[b"a"] = b"2", b"1"
    assert list(db) == list(db.keys()) == [b"a", b"b"]
    assert list(db.values()) == [b"1", b"2"]
    assert dict(db.items()) == {b"a": b"1", b"b": b"2"}


def test_get_and_put(db: corering.Database) -> None:
    first = db.put(b"k", b"one")
    second = db.put(b"k", b"two")
    assert second > first > 0
    assert db.get(b"k") == b"two"
    assert db.get(b"none") is None
    assert db.get(b"none", b"d") == b"d"
    value = db.get_value(b"k")
    assert value == corering.Value(b"two", second, None)
    assert db.get_value(b"none") is None
    assert db.delete(b"k") and not db.delete(b"k")


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 1 << 20])
def test_values_of_all_lengths_come_back(db: corering.Database, length: int) -> None:
    value = bytes(n % 251 for n in range(length))
    db[b"v"] = value
    assert db[b"v"] == value
    assert db.get(b"v", keyspace=0) == value
    assert db.multi_get([b"v"]) == [value]
    assert [entry.value for entry in db.scan()] == [value]


@pytest.mark.parametrize("key", [b"", b"\0", b"a\0b", b"x" * 65536, bytes(range(256))])
def test_keys_are_any_bytes(db: corering.Database, key: bytes) -> None:
    db[key] = b"here"
    assert db[key] == b"here" and list(db) == [key]


def test_bytes_like_is_taken_and_text_is_not(db: corering.Database) -> None:
    db.put(bytearray(b"k"), memoryview(b"value")[1:])
    assert db.get(memoryview(b"k")) == b"alue"
    for wrong in ("text", 5, None):
        with pytest.raises(TypeError, match="bytes"):
            db.put(wrong, b"v")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="bytes"):
            db.get(wrong)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="bytes"):
            db[b"k"] = wrong  # type: ignore[assignment]


def test_put_if(db: corering.Database) -> None:
    first = db.put_if(b"k", b"1", Condition.absent())
    assert first and first.version > 0
    refused = db.put_if(b"k", b"2", Condition.absent())
    assert not refused and refused.version == first.version
    assert not db.put_if(b"none", b"2", Condition.present())
    assert not db.put_if(b"k", b"2", Condition.equal(b"other"))
    assert db.put_if(b"k", b"2", Condition.equal(b"1"))
    value = db.get_value(b"k")
    assert value is not None
    assert db.put_if(b"k", b"3", Condition.version(value.version))
    assert not db.put_if(b"k", b"4", Condition.version(value.version))
    assert db[b"k"] == b"3"


def test_incr(db: corering.Database) -> None:
    assert db.incr(b"n") == 1
    assert db.incr(b"n", -11) == -10
    assert db[b"n"] == b"-10"
    with pytest.raises(corering.IncrementOverflowError):
        db.incr(b"n", -(2**63))
    db[b"t"] = b"text"
    with pytest.raises(corering.NotAnIntegerError):
        db.incr(b"t")


def test_time_to_live(db: corering.Database) -> None:
    db.put(b"short", b"v", ttl=0.05)
    db.put(b"span", b"v", ttl=datetime.timedelta(hours=1))
    assert db[b"short"] == b"v"
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    db.put(b"dated", b"v", expires_at=later)
    value = db.get_value(b"dated")
    assert value is not None and value.expires_at is not None
    assert abs(value.expires_at - later) < datetime.timedelta(milliseconds=2)
    time.sleep(0.08)
    assert b"short" not in db and b"span" in db
    with pytest.raises(ValueError):
        db.put(b"k", b"v", ttl=0)
    with pytest.raises(ValueError, match="time zone"):
        db.put(b"k", b"v", expires_at=datetime.datetime(2030, 1, 1))
    with pytest.raises(corering.InvalidArgumentError):
        db.put(b"k", b"v", ttl=1, expires_at=later)


def test_durability(db: corering.Database) -> None:
    for level in ("sync", "none", Durability.interval(0.01), Durability.sync(), Durability.none()):
        db.put(b"k", b"v", durability=level)
    db.sync()
    with pytest.raises(ValueError, match="durability"):
        db.put(b"k", b"v", durability="soon")


def test_keyspaces_are_apart(db: corering.Database) -> None:
    db.put(b"k", b"zero")
    db.put(b"k", b"five", keyspace=5)
    assert db.get(b"k") == b"zero" and db.get(b"k", keyspace=5) == b"five"
    assert [entry.value for entry in db.scan(keyspace=5)] == [b"five"]
    assert db.delete(b"k", keyspace=5) and b"k" in db
    with pytest.raises(corering.InvalidArgumentError):
        db.put(b"k", b"v", keyspace=65535)


def test_multi_get(db: corering.Database) -> None:
    keys = [b"m%d" % n for n in range(500)]
    for key in keys[::2]:
        db.put(key, key * 3, durability="none")
    assert db.multi_get(keys) == [key * 3 if n % 2 == 0 else None for n, key in enumerate(keys)]
    assert db.multi_get([]) == []


def test_execute(db: corering.Database) -> None:
    results = db.execute(
        [
            Operation.put(b"{e}a", b"7"),
            Operation.incr(b"{e}a", 3),
            Operation.get(b"{e}a"),
            Operation.put(b"{e}a", b"x", condition=Condition.absent()),
            Operation.get(b"none"),
            Operation.put(b"t", b"text"),
            Operation.incr(b"t"),
            Operation.delete(b"t"),
            Operation.put(b"x" * 70000, b""),
        ]
    )
    assert results[0] and results[0].version > 0
    assert results[1].integer == 10
    assert results[2].value == b"10"
    assert not results[3] and results[3].version == results[2].version
    assert not results[4] and results[4].value is None
    assert isinstance(results[6].error, corering.NotAnIntegerError)
    assert results[7].integer == 1
    assert isinstance(results[8].error, corering.KeyTooLargeError)
    assert db[b"{e}a"] == b"10"


def test_all_of_it(db: corering.Database, tmp_path: Path) -> None:
    db[b"k"] = b"v"
    db.checkpoint()
    stats = db.stats()
    assert stats.shards == db.shards == 2 and stats.writes >= 1
    assert db.stats(0).shards == 1
    assert "shards" in db.report()
    assert db.path == str(tmp_path / "db") and db.path in repr(db)


def test_what_was_written_is_there_after_opening_again(tmp_path: Path) -> None:
    with corering.open(tmp_path / "db", **SMALL) as db:
        for n in range(1000):
            db.put(b"k%d" % n, b"v" * n, durability="none")
    assert db.closed and "closed" in repr(db)
    db.close()
    with corering.open(str(tmp_path / "db"), pin_threads=True) as db:
        assert db.shards == 2
        assert all(db[b"k%d" % n] == b"v" * n for n in range(1000))


def test_two_databases_at_once(tmp_path: Path) -> None:
    with corering.open(tmp_path / "a", **SMALL) as a, corering.open(tmp_path / "b", **SMALL) as b:
        a[b"k"], b[b"k"] = b"in a", b"in b"
        assert (a[b"k"], b[b"k"]) == (b"in a", b"in b")


def test_threads_share_one_database(db: corering.Database) -> None:
    failures: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for n in range(200):
                key, value = b"%d-%d" % (who, n), b"%d" % who * (n * 40)
                db.put(key, value, durability="none")
                assert db[key] == value
                db.incr(b"all")
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert db[b"all"] == b"800"


def test_the_interpreter_goes_on_while_a_call_blocks(db: corering.Database) -> None:
    """A put that waits for the disk does not keep other threads from running."""
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        for n in range(50):
            db.put(b"k", b"v" * n)
    finally:
        done.set()
        counter.join()
    assert counted > 50
