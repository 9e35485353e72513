"""The asyncio client: futures answered from the completion descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import corering
from corering import Condition, aio

from .conftest import SMALL


@asynccontextmanager
async def opened(tmp_path: Path, capacity: int = 64) -> AsyncIterator[aio.AsyncDatabase]:
    async with await aio.open(tmp_path / "db", capacity=capacity, **SMALL) as db:
        yield db


def run(tmp_path: Path, test: Callable[[aio.AsyncDatabase], Awaitable[None]], capacity: int = 64) -> None:
    async def main() -> None:
        async with opened(tmp_path, capacity) as db:
            await asyncio.wait_for(test(db), 60)

    asyncio.run(main())


def test_every_operation(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        version = await db.put(b"k", b"v")
        assert version > 0 and await db.get(b"k") == b"v"
        assert await db.get(b"none", b"d") == b"d"
        assert await db.incr(b"n", 5) == 5
        refused = await db.put_if(b"k", b"w", Condition.absent())
        assert not refused and refused.version == version
        assert await db.put_if(b"k", b"w", Condition.equal(b"v"), durability="none")
        assert await db.delete(b"k") and not await db.delete(b"k")
        batch = db.batch()
        batch.put(b"{t}a", b"1").put(b"{t}b", b"2")
        assert await db.commit(batch) > version
        assert await db.multi_get([b"{t}a", b"k"]) == [b"1", None]
        await db.sync()
        with await db.snapshot() as snapshot:
            await db.put(b"later", b"x", ttl=10)
            assert b"later" not in snapshot
        assert [entry.key for entry in await db.scan(prefix=b"{t}")] == [b"{t}a", b"{t}b"]

    run(tmp_path, test)


def test_keys_of_a_session_go_with_it(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        with db._db.session() as session:
            await db.put(b"put", b"v", session=session)
            assert await db.put_if(b"if", b"v", Condition.absent(), session=session)
            await db.incr(b"n", 2, session=session)
            with db._db.session() as holder:
                guard = holder.lock("l")
                guard.acquire()
                await db.put(b"guarded", b"v", guard=guard, session=session)
            await db.put(b"stays", b"v", session=session)
            await db.put(b"stays", b"w")
            for key in (b"put", b"if", b"n", b"guarded"):
                assert db._db.key_session(key) == session.id, key
            await db.delete(b"if")
        assert await db.multi_get([b"put", b"if", b"n", b"guarded", b"stays"]) == [None] * 4 + [b"w"]
        with pytest.raises(corering.NoSessionError):
            await db.put(b"put", b"v", session=session)

    run(tmp_path, test)


def test_more_writers_than_the_queue_holds(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        versions = await asyncio.gather(*(db.put(b"k%d" % n, b"v%d" % n) for n in range(1000)))
        assert len(set(versions)) == 1000
        assert [await db.get(b"k%d" % n) for n in range(1000)] == [b"v%d" % n for n in range(1000)]
        await asyncio.gather(*(db.incr(b"sum") for _ in range(300)))
        assert await db.get(b"sum") == b"300"

    run(tmp_path, test, capacity=7)


def test_the_loop_is_not_blocked_by_durable_writes(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        # One after the other: together, they may all be durable within a few turns of the loop.
        for n in range(50):
            await db.put(b"k%d" % n, b"v" * 100)
        ticker.cancel()
        assert ticks >= 50

    run(tmp_path, test)


def test_failures_are_raised_where_they_are_awaited(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        await db.put(b"text", b"abc")
        with pytest.raises(corering.NotAnIntegerError, match="integer"):
            await db.incr(b"text")
        with pytest.raises(corering.KeyTooLargeError, match="70000"):
            await db.put(b"k" * 70000, b"")
        with pytest.raises(TypeError):
            await db.put("text", b"")  # type: ignore[arg-type]
        outcomes = await asyncio.gather(db.incr(b"text"), db.incr(b"n"), return_exceptions=True)
        assert isinstance(outcomes[0], corering.NotAnIntegerError) and outcomes[1] == 1

    run(tmp_path, test)


def test_a_cancelled_write_is_done_all_the_same(tmp_path: Path) -> None:
    async def test(db: aio.AsyncDatabase) -> None:
        task = asyncio.create_task(db.put(b"k", b"v"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await db.sync()
        assert await db.get(b"k") == b"v"

    run(tmp_path, test)


def test_close_waits_for_what_is_under_way(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as db:
            tasks = [asyncio.create_task(db.put(b"k%d" % n, b"v")) for n in range(50)]
            await asyncio.sleep(0)
        assert all(task.done() and task.result() > 0 for task in tasks)
        with pytest.raises(corering.ClosedError):
            await db.put(b"k", b"v")
        await db.close()

    asyncio.run(main())
    with corering.open(tmp_path / "db", **SMALL) as db:
        assert len(list(db)) == 50


def test_one_database_for_both_ways(tmp_path: Path) -> None:
    with corering.open(tmp_path / "db", **SMALL) as db:

        async def main() -> None:
            async with aio.AsyncDatabase(db) as adb:
                await adb.put(b"k", b"v")
                assert db[b"k"] == b"v"

        asyncio.run(main())
        assert not db.closed and db[b"k"] == b"v"
