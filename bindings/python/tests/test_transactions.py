"""Transactions: blocks, conflicts, savepoints, guards, threads, tasks, and a process that is killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import corering
from corering.aio import AsyncDatabase, AsyncTransaction

from .conftest import SMALL

ROUNDS = int(os.environ.get("CORERING_TEST_CRASH_ROUNDS", "4"))


def keys(count: int = 16) -> list[bytes]:
    """Of both shards."""
    return [b"key%d" % n for n in range(count)]


def test_a_block_is_one_commit(db: corering.Database) -> None:
    with db.transaction() as tx:
        for key in keys():
            tx[key] = b"v"
        assert tx[b"key3"] == b"v" and b"key3" in tx and tx.get(b"none", b"x") == b"x"
        assert db.get(b"key3") is None
        with pytest.raises(KeyError):
            tx[b"none"]
        with pytest.raises(KeyError):
            del tx[b"none"]
        del tx[b"key3"]
        assert b"key3" not in tx
        assert tx.put_if(b"key3", b"w", corering.Condition.absent(), ttl=60)
        assert not tx.put_if(b"key4", b"w", corering.Condition.absent())
        used = tx.usage()
        assert 0 < used.write_bytes < used.write_bytes_max and used.reads > 0 and used.age_ms_max == 60000
    assert not tx.open and tx.version
    values = [db.get_value(key) for key in keys()]
    assert {value.version for value in values if value} == {tx.version} and None not in values
    value = db.get_value(b"key3")
    assert value is not None and value.data == b"w" and value.expires_at is not None
    assert db.fate(tx.id) == tx.version


def test_an_exception_rolls_back(db: corering.Database) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx[b"k"] = b"v"
        raise ZeroDivisionError
    assert b"k" not in db and db.fate(tx.id) is None
    with pytest.raises(corering.TransactionEndedError):
        tx.put(b"k", b"v")
    with db.transaction() as tx:
        tx[b"k"] = b"v"
        tx.rollback()
    assert b"k" not in db
    stats = db.stats()
    assert stats.tx_rolled_back == 2 and stats.tx_open == 0


def test_it_reads_one_state(db: corering.Database) -> None:
    db[b"a"] = b"1"
    with db.transaction(read_only=True) as tx:
        assert tx[b"a"] == b"1"
        db[b"a"] = b"2"
        db[b"b"] = b"2"
        assert tx[b"a"] == b"1" and b"b" not in tx
        with pytest.raises(corering.ReadOnlyError):
            tx[b"a"] = b"3"
    assert tx.version == 0


def test_a_conflict_is_told(db: corering.Database) -> None:
    db[b"a"] = b"1"
    with pytest.raises(corering.ConflictError) as caught, db.transaction() as tx:
        tx[b"b"] = tx[b"a"]
        db[b"a"] = b"2"
    assert caught.value.retryable and not caught.value.may_have_committed
    assert b"b" not in db
    # Write skew: each reads what the other writes.
    one, other = db.transaction(), db.transaction()
    for tx, wrote in ((one, b"x"), (other, b"y")):
        assert tx.get(b"x") is None and tx.get(b"y") is None
        tx[wrote] = b"1"
    one.commit()
    with pytest.raises(corering.ConflictError):
        other.commit()
    relaxed, beside = db.transaction(isolation="snapshot"), db.transaction(isolation="snapshot")
    for tx, wrote in ((relaxed, b"x"), (beside, b"y")):
        assert tx.get(b"x") == b"1" and tx.get(b"y") is None
        tx[wrote] = b"2"
    relaxed.commit()
    beside.commit()
    with pytest.raises(ValueError):
        db.transaction(isolation="none")


def test_a_scan_sees_its_own_writes_and_no_phantoms(db: corering.Database) -> None:
    with db.batch() as batch:
        for n in range(0, 600, 2):
            batch[b"s%03d" % n] = b"db"
    tx = db.transaction()
    for n in range(1, 600, 2):
        tx[b"s%03d" % n] = b"own"
    found = list(tx.scan(prefix=b"s"))
    assert [entry.key for entry in found] == [b"s%03d" % n for n in range(600)]
    assert [entry.value for entry in found[:3]] == [b"db", b"own", b"db"]
    backwards = tx.scan(prefix=b"s", reverse=True, limit=300)
    assert [entry.key for entry in backwards] == [b"s%03d" % n for n in range(599, 299, -1)]
    assert list(tx.scan(limit=0)) == []
    db[b"s1000"] = b"phantom"
    with pytest.raises(corering.ConflictError):
        tx.commit()


def test_savepoints(db: corering.Database) -> None:
    with db.transaction() as tx:
        tx[b"a"] = b"1"
        with tx.savepoint():
            tx[b"a"] = b"2"
        with pytest.raises(ZeroDivisionError), tx.savepoint():
            tx[b"a"] = b"3"
            tx[b"b"] = b"3"
            raise ZeroDivisionError
        assert tx[b"a"] == b"2" and b"b" not in tx
        with tx.savepoint() as place:
            tx[b"a"] = b"4"
            place.rollback()
            tx[b"c"] = b"4"
        with pytest.raises(corering.NoSavepointError):
            place.rollback()
    assert (db.get(b"a"), db.get(b"b"), db.get(b"c")) == (b"2", None, b"4")


def test_guards(db: corering.Database) -> None:
    with db.lock("leader") as lock, db.transaction(guard=lock) as tx:
        tx[b"led"] = b"yes"
    assert db[b"led"] == b"yes"
    with pytest.raises(corering.FencedError), db.transaction() as tx:
        with db.lock("leader") as lock:
            tx.guard(lock)
            tx[b"led"] = b"no"
    assert db[b"led"] == b"yes"


def test_it_is_run_until_it_commits_and_never_after_another_error(db: corering.Database) -> None:
    runs: list[int] = []

    @db.transactional
    def count(tx: corering.Transaction, by: int) -> int:
        runs.append(tx.number)
        now = int(tx.get(b"n", b"0")) + by
        if len(runs) < 4:
            db[b"n"] = b"100"
        tx[b"n"] = b"%d" % now
        return now

    assert count(5) == 105 and db[b"n"] == b"105"
    assert len(runs) == 4 and len(set(runs)) == 1, "it keeps its age"
    tries: list[int] = []

    def fails(tx: corering.Transaction) -> None:
        tries.append(1)
        raise corering.PoisonedError("as if nobody knew", -16)

    with pytest.raises(corering.PoisonedError):
        db.transact(fails)
    assert len(tries) == 1


def lose(db: corering.Database) -> None:
    """A conflict of another transaction."""
    with db.transaction() as tx:
        tx[b"mine"] = tx.get(b"theirs", b"")
        db[b"theirs"] = b"changed"


def test_what_committed_by_itself_is_not_run_again(db: corering.Database) -> None:
    runs: list[str] = []

    def commits(tx: corering.Transaction) -> None:
        assert not runs
        runs.append("commits")
        tx[b"k"] = b"%d" % len(runs)
        tx.commit()
        with pytest.raises(corering.TransactionEndedError):
            tx.commit()
        lose(db)

    with pytest.raises(corering.ConflictError):
        db.transact(commits)
    assert runs == ["commits"] and db[b"k"] == b"1"

    def does_not(tx: corering.Transaction) -> None:
        runs.append("does not")
        if len(runs) < 4:
            lose(db)
        tx[b"k"] = b"%d" % len(runs)

    db.transact(does_not)
    assert runs[1:] == ["does not"] * 3 and db[b"k"] == b"4"

    async def main() -> None:
        async with AsyncDatabase(db) as adb:

            async def commits(tx: AsyncTransaction) -> None:
                assert len(runs) == 4
                runs.append("as a task")
                tx.put(b"k", b"%d" % len(runs))
                await tx.commit()
                lose(db)

            with pytest.raises(corering.ConflictError):
                await adb.transact(commits)

            async def does_not(tx: AsyncTransaction) -> None:
                runs.append("does not, as a task")
                if len(runs) < 8:
                    lose(db)
                tx.put(b"k", b"%d" % len(runs))

            await adb.transact(does_not)

    asyncio.run(main())
    assert runs[4:] == ["as a task"] + ["does not, as a task"] * 3 and db[b"k"] == b"8"


def test_a_timeout(db: corering.Database) -> None:
    with pytest.raises(corering.TransactionTooOldError), db.transaction(timeout=0.02) as tx:
        time.sleep(0.05)
        tx[b"k"] = b"v"
    assert b"k" not in db


ACCOUNTS = 6


def fill(db: corering.Database) -> None:
    with db.batch() as batch:
        for n in range(ACCOUNTS):
            batch[b"account%d" % n] = b"100"


def total(db: corering.Database) -> int:
    with db.transaction(read_only=True) as tx:
        return sum(int(entry.value) for entry in tx.scan(prefix=b"account"))


@pytest.mark.parametrize("pessimistic", [False, True])
def test_a_bank_among_threads(db: corering.Database, pessimistic: bool) -> None:
    fill(db)
    wrong: list[int] = []

    def move(tx: corering.Transaction, source: bytes, target: bytes) -> None:
        get = tx.get_for_update if pessimistic else tx.get
        left, there = int(get(source, b"")), int(get(target, b""))
        tx[source] = b"%d" % (left - 1)
        tx[target] = b"%d" % (there + 1)

    def teller(who: int) -> None:
        for n in range(60):
            source, target = (who + n) % ACCOUNTS, (who * 5 + n * 3 + 1) % ACCOUNTS
            if source != target:
                db.transact(lambda tx: move(tx, b"account%d" % source, b"account%d" % target))
            if n % 10 == 0 and total(db) != 100 * ACCOUNTS:
                wrong.append(n)

    threads = [threading.Thread(target=teller, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total(db) == 100 * ACCOUNTS and not wrong
    assert db.stats().tx_open == 0


def test_a_bank_among_tasks(db: corering.Database) -> None:
    fill(db)

    async def run() -> None:
        async with AsyncDatabase(db) as adb:

            @adb.transactional
            async def move(tx: AsyncTransaction, source: bytes, target: bytes) -> None:
                left = int(await tx.get_for_update(source, b""))
                await asyncio.sleep(0)
                there = int(await tx.get_for_update(target, b""))
                tx.put(source, b"%d" % (left - 1))
                tx.put(target, b"%d" % (there + 1))

            async def teller(who: int) -> None:
                for n in range(30):
                    source, target = (who + n) % ACCOUNTS, (who * 5 + n * 3 + 1) % ACCOUNTS
                    if source != target:
                        await move(b"account%d" % source, b"account%d" % target)

            await asyncio.gather(*(teller(who) for who in range(8)))
            async with adb.transaction() as tx:
                found = await tx.scan(prefix=b"account")
                assert sum(int(entry.value) for entry in found) == 100 * ACCOUNTS
                tx.put(b"counted", b"yes")
            assert await adb.fate(tx.id) == tx.version

    asyncio.run(run())
    assert db[b"counted"] == b"yes"
    assert db.stats().tx_open == 0


def test_a_cancelled_task_gives_up_its_keys(db: corering.Database) -> None:
    async def run() -> None:
        async with AsyncDatabase(db) as adb:
            holder = adb.transaction()
            await holder.get_for_update(b"k")

            async def waits() -> None:
                async with adb.transaction() as tx:
                    await tx.get_for_update(b"other")
                    await tx.get_for_update(b"k")

            task = asyncio.create_task(waits())
            while db.stats().tx_waits == 0:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # Younger, and yet it has the key at once.
            async with adb.transaction() as tx:
                assert await asyncio.wait_for(tx.get_for_update(b"other"), 10) is None
            holder.put(b"k", b"v")
            await holder.commit()
            with pytest.raises(corering.TransactionEndedError):
                await holder.commit()
            with pytest.raises(ZeroDivisionError):
                async with adb.transaction() as tx:
                    tx.put(b"k", b"w")
                    raise ZeroDivisionError

    asyncio.run(run())
    assert db[b"k"] == b"v"


def test_a_task_that_is_cancelled_while_it_commits_asks_the_fate(db: corering.Database) -> None:
    async def run() -> None:
        async with AsyncDatabase(db) as adb:
            begun: list[AsyncTransaction] = []

            async def writes(tx: AsyncTransaction) -> None:
                begun.append(tx)
                tx.put(b"k", b"v")

            # One turn of the loop takes the task to its commit, and the next hears of it, if at all, behind the cancellation.
            task = asyncio.create_task(adb.transact(writes))
            await asyncio.sleep(0)
            assert [tx.open for tx in begun] == [False]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (tx,) = begun
            assert tx.version is None
            while (commit := await adb.fate(tx.id)) is None:
                await asyncio.sleep(0.001)
            value = db.get_value(b"k")
            assert value is not None and value.version == commit

    asyncio.run(asyncio.wait_for(run(), 60))


WRITER = """
import os, sys, threading
import corering
path, round = sys.argv[1:3]
db = corering.open(path, shards=2, memtable_bytes=1 << 20, segment_bytes=1 << 20)

def work(who):
    n = 0
    while True:
        tx = db.transaction(remember=3600)
        name = b"%s-%d-%d" % (round.encode(), who, n)
        for part in range(4):
            tx[b"part%d-%s" % (part, name)] = tx.id
        os.write(1, b"try %s %s\\n" % (name, tx.id.hex().encode()))
        tx.commit()
        os.write(1, b"did %s %s\\n" % (name, tx.id.hex().encode()))
        n += 1

for who in range(3):
    threading.Thread(target=work, args=(who,)).start()
"""


def run_and_kill(path: Path, round_: int) -> list[list[bytes]]:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(round_)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(0.05 + 0.083 * round_ % 0.3)
    assert writer.poll() is None, "the writer ended by itself"
    writer.kill()
    rest = writer.stdout.read()
    writer.wait()
    writer.stdout.close()
    # The last line may have been cut by the kill.
    return [line.split() for line in (first + rest).split(b"\n")[:-1]]


def test_after_a_kill_each_is_whole_or_absent_as_its_fate_says(tmp_path: Path) -> None:
    said: list[list[bytes]] = []
    for round_ in range(ROUNDS):
        said += run_and_kill(tmp_path / "db", round_)
        with corering.open(tmp_path / "db", **SMALL) as db:
            done = {name for word, name, _ in said if word == b"did"}
            assert done
            for word, name, id_ in said:
                if word != b"try":
                    continue
                id = bytes.fromhex(id_.decode())
                commit = db.fate(id)
                parts: list[Any] = [db.get_value(b"part%d-%s" % (part, name)) for part in range(4)]
                assert (name not in done) or commit is not None, "an acknowledged commit is missing"
                assert [part and (part.data, part.version) for part in parts] == [commit and (id, commit)] * 4
