"""Watches, ephemeral and sequential keys, and what is built from them."""

from __future__ import annotations

import asyncio
import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import corering
from corering import aio, recipes

from .conftest import SMALL
from .test_locks import eventually


def test_changes_come_in_order_and_together(db: corering.Database) -> None:
    with db.watch(prefix=b"{t}") as watch, db.watch(key=b"one") as one:
        versions = [db.put(b"{t}1", b"a"), db.put(b"one", b""), db.put(b"{t}2", b"b")]
        with db.batch() as batch:
            batch.put(b"{t}1", b"c").delete(b"{t}2").put(b"x{t}", b"other")
        first, second, third = next(watch), next(watch), next(watch)
        assert [first.version, second.version] == [versions[0], versions[2]]
        assert [(change.key, change.value) for change in third.changes] == [(b"{t}1", b"c"), (b"{t}2", None)]
        assert all(change.version == third.version and change.keyspace == 0 for change in third.changes)
        assert watch.next(timeout=0) is None and watch.next(timeout=0.01) is None
        event = one.next(timeout=10)
        assert event is not None and event.changes[0].value == b""
        eventually(lambda: one.progress >= third.version)
        with db.watch(prefix=b"", since=versions[1]) as again:
            assert next(again).version == versions[2]
        with pytest.raises(corering.InvalidArgumentError):
            db.watch(since=2**62)
        with pytest.raises(ValueError):
            db.watch(key=b"a", prefix=b"b")


def test_a_watch_goes_on_after_a_restart(tmp_path: Path) -> None:
    with corering.open(tmp_path, **SMALL) as db:
        first = db.put(b"a", b"1")
        later = [db.put(b"a", str(n).encode()) for n in range(20)]
    with corering.open(tmp_path, **SMALL) as db, db.watch(since=first) as watch:
        assert [next(watch).version for _ in later] == later


def test_who_does_not_take_is_told_from_where_to_go_on(db: corering.Database) -> None:
    with db.watch(limit_bytes=5000) as watch:
        versions = [db.put(b"k", b"x" * 500) for _ in range(100)]
        with pytest.raises(corering.LaggedError):
            while True:
                watch.next(timeout=20)
        resume = watch.progress
    with db.watch(since=resume) as again:
        for version in (version for version in versions if version > resume):
            assert next(again).version == version


def test_closing_ends_a_waiting_iteration(db: corering.Database) -> None:
    watch = db.watch()
    seen: list[corering.Event] = []
    thread = threading.Thread(target=lambda: seen.extend(watch))
    thread.start()
    version = db.put(b"k", b"v")
    eventually(lambda: len(seen) == 1)
    watch.close()
    thread.join(30)
    assert not thread.is_alive() and seen[0].version == version
    watch.close()


def test_ephemeral_and_sequential_keys(db: corering.Database) -> None:
    with db.session() as session, db.session() as other:
        db.put(b"e", b"1", session=session)
        assert db.put_if(b"f", b"1", corering.Condition.absent(), session=session)
        assert db.incr(b"n", session=session) == 1 and db.incr(b"n") == 2
        assert db.key_session(b"e") == session.id and db.key_session(b"n") == session.id
        keys = [db.put_sequential(b"s-", b"v", session=session)[0] for _ in range(5)]
        assert keys == sorted(set(keys)) and all(len(key) == 22 for key in keys)
        db.put(b"f", b"2", session=other)
        db.put(b"e2", b"1", session=session)
        db[b"e2"] = b"ordinary"
        assert db.key_session(b"e2") is None and db.key_session(b"missing") is None
        session.close()
        assert [db.get(key) for key in (b"e", b"n", *keys)] == [None] * 7
        assert (db[b"f"], db[b"e2"]) == (b"2", b"ordinary")
        with pytest.raises(corering.NoSessionError):
            db.put(b"e", b"1", session=session)
        assert db.put_sequential(b"s-", b"v")[0] > keys[-1]


def test_asyncio_watches(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path, **SMALL) as db:
            seen = []

            async def follow() -> None:
                async with db.watch(prefix=b"k") as watch:
                    async for event in watch:
                        seen.append(event.changes[0].value)
                        if len(seen) == 50:
                            return

            task = asyncio.create_task(follow())
            idle = asyncio.create_task(db.watch(key=b"never").next())
            await asyncio.sleep(0.01)
            for n in range(50):
                await db.put(b"k%d" % (n % 3), str(n).encode())
            await asyncio.wait_for(task, 30)
            assert seen == [str(n).encode() for n in range(50)]
            idle.cancel()
            left = db.watch(key=b"left")
            waiting = asyncio.create_task(left.next())
            await asyncio.sleep(0.01)
        with pytest.raises(corering.Error):
            await waiting

    asyncio.run(main())


def in_thread(run: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_election_is_observed(db: corering.Database) -> None:
    with db.session() as a, db.session() as b:
        first, second = recipes.Election(db, a, "e"), recipes.Election(db, b, "e")
        leaders = first.observe(timeout=30)
        assert next(leaders) is None
        lock = first.campaign(b"a")
        assert next(leaders) == b"a"
        next_one = in_thread(lambda: second.campaign(b"b"))
        first.resign(lock)
        next_one.join()
        assert next(leaders) is None and next(leaders) == b"b" and second.leader() == b"b"
        db.kill_session(b.id)
        assert next(leaders) is None
        b.detach()


def test_a_double_barrier_is_entered_and_left_together(db: corering.Database) -> None:
    parties, rounds = 4, 5
    inside: list[int] = []
    wrong: list[str] = []

    def party(number: int) -> None:
        with db.session() as session:
            barrier = recipes.DoubleBarrier(db, session, "b", parties)
            for turn in range(rounds):
                if number == 0:
                    time.sleep(0.01)
                if not barrier.enter(timeout=60):
                    wrong.append(f"{number} did not enter round {turn}")
                    return
                inside.append(turn)
                if not barrier.leave(timeout=60):
                    wrong.append(f"{number} did not leave round {turn}")
                if inside.count(turn) != parties:
                    wrong.append(f"{number} left round {turn} before all had entered")

    threads = [in_thread(functools.partial(party, number)) for number in range(parties)]
    for thread in threads:
        thread.join(120)
    assert wrong == [] and len(inside) == parties * rounds
    with db.session() as session:
        barrier = recipes.DoubleBarrier(db, session, "b", 2)
        assert not barrier.enter(timeout=0.02) and list(db.scan(prefix=b"b/")) == []
        with pytest.raises(ValueError):
            barrier.leave()


def test_a_group_and_a_registry_follow_their_members(db: corering.Database) -> None:
    group, registry = recipes.Group(db, "g"), recipes.Registry(db)
    states, places = group.watch(timeout=30), registry.watch("web", timeout=30)
    assert next(states) == {} and next(places) == {}
    with db.session() as a, db.session() as b:
        first = group.join(a, b"a")
        assert list(next(states).values()) == [b"a"]
        second = group.join(b, b"b")
        assert list(next(states).values()) == [b"a", b"b"] == list(group.members().values())
        registry.register(a, "web", "1", b"host1:80")
        assert next(places) == {b"1": b"host1:80"} == registry.discover("web")
        registry.register(a, "web", "1", b"host1:81")
        assert next(places) == {b"1": b"host1:81"}
        registry.register(b, "db", "1", b"host2:1")
        a.close()
        assert list(next(states)) == [second] and next(places) == {}
        assert group.leave(second) and not group.leave(first) and next(states) == {}
        assert registry.withdraw("db", "1") and not registry.withdraw("db", "1")
        with pytest.raises(ValueError):
            registry.discover("a/b")


MEMBER = """
import sys, time
import corering
from corering import recipes
db = corering.open(sys.argv[1], shards=2)
session = db.session(ttl=0.5)
recipes.Group(db, "g").join(session, b"killed")
recipes.Registry(db).register(session, "web", "1", b"gone:80")
recipes.Election(db, session, "e").campaign(b"killed")
stays = db.session(ttl=3600, keep_alive=False)
recipes.Group(db, "g").join(stays, b"stays")
print("in", flush=True)
time.sleep(600)
"""


def test_a_member_that_was_killed_is_gone_after_its_time(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", MEMBER, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"in\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with corering.open(tmp_path, shards=2) as db, db.session() as session:
        group, election = recipes.Group(db, "g"), recipes.Election(db, session, "e")
        for members in group.watch(timeout=30):
            if list(members.values()) == [b"stays"]:
                break
        else:
            pytest.fail("the member stays")
        assert recipes.Registry(db).discover("web") == {}
        # Its lock is free by now, or soon.
        lock = election.campaign(b"next", timeout=30)
        assert election.leader() == b"next"
        election.resign(lock)
