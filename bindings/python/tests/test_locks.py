"""Sessions, locks, guards, and what is built from them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import corering
from corering import aio, recipes

from .conftest import SMALL


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_session_is_told_what_it_lost(db: corering.Database) -> None:
    with db.session() as session:
        assert session.next_loss(timeout=0) is None
        lock = session.lock("leased", lease=0.02)
        assert lock.acquire()
        assert session.next_loss(timeout=30) == corering.Loss(b"leased", lock.token)
        with session.lock("given", ttl=10):
            pass
        assert session.next_loss(timeout=0.01) is None
        db.kill_session(session.id)
        with pytest.raises(corering.NoSessionError):
            session.next_loss()
        session.detach()


def test_a_task_is_told_what_its_session_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "db", **SMALL) as db:
            async with db.lock("leased", lease=0.3) as lock:
                waiting = asyncio.ensure_future(db.next_loss(lock.session))
                await asyncio.sleep(0.01)
                assert not waiting.done()
                # A task that is cancelled takes no loss away.
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await db.next_loss(lock.session) == corering.Loss(b"leased", lock.token)

    asyncio.run(main())


def test_a_lock_is_held_in_its_block_and_guards_writes(db: corering.Database) -> None:
    with db.session() as other:
        with db.lock("name", ttl=10) as lock:
            assert lock.token > 0 and lock.held and lock.name == b"name"
            db.put(b"k", b"held", guard=lock)
            assert db.put_if(b"k", b"if", corering.Condition.present(), guard=lock)
            assert db.incr(b"n", guard=[lock, lock]) == 1 and db.delete(b"n", guard=lock)
            with db.batch(guard=lock) as batch:
                batch[b"k"] = b"batch"
            assert all(db.execute([corering.Operation.put(b"k", b"many")], guard=lock))
            (part,) = db.lock_info("name")
            assert part.token == lock.token and part.mode == "exclusive" and part.left is not None and part.left <= 10
            with pytest.raises(corering.LockHeldError) as held, other.lock("name", blocking=False):
                pass
            assert held.value.retryable
            with pytest.raises(corering.LockTimeoutError), other.lock("name", timeout=0.02):
                pass
            assert not other.lock("name").acquire(blocking=False) and not other.lock("name").acquire(timeout=0.01)
            stale = type("Stale", (), {"name": lock.name, "token": lock.token})()
        assert not lock.held and db.lock_info("name") == []
        for write in (
            lambda: db.put(b"k", b"stale", guard=stale),
            lambda: db.put_if(b"k", b"stale", corering.Condition.absent(), guard=stale),
            lambda: db.incr(b"n", guard=stale),
            lambda: db.delete(b"k", guard=stale),
        ):
            with pytest.raises(corering.FencedError):
                write()
        (result,) = db.execute([corering.Operation.get(b"k")], guard=stale)
        assert isinstance(result.error, corering.FencedError)
        assert db[b"k"] == b"many"
        with pytest.raises(corering.NotHeldError):
            lock.release()
        with other.lock("name") as again:
            assert again.token > stale.token


def test_modes(db: corering.Database) -> None:
    with db.session() as a, db.session() as b:
        with a.lock("l", mode="shared") as one, b.lock("l", mode="shared", timeout=5) as two:
            assert one.token < two.token
            with pytest.raises(corering.LockTimeoutError):
                one.upgrade(timeout=0.02)
            two.downgrade()
            two.release()
            before = one.token
            one.upgrade()
            assert one.token > before and [part.count for part in db.lock_info("l")] == [1]
            one.downgrade()
            assert two.acquire()
        with a.semaphore("s", 3, units=2), b.semaphore("s", 3):
            with pytest.raises(corering.LockHeldError), db.semaphore("s", 3, blocking=False):
                pass
            with pytest.raises(corering.OtherPermitsError), db.semaphore("s", 4):
                pass
    wrongs: list[Callable[[], corering.Lock]] = [
        lambda: db.lock("l", mode="odd"),
        lambda: db.lock("l", timeout=-1),
        lambda: db.lock("l", timeout=1, blocking=False),
        lambda: db.semaphore("s", 0),
        lambda: db.lock(""),
    ]
    for wrong in wrongs:
        with pytest.raises(ValueError):
            wrong().acquire()


def test_threads_with_sessions_exclude_each_other(db: corering.Database) -> None:
    tokens: list[int] = []
    db.put(b"n", b"0")

    def add() -> None:
        with db.session() as session:
            for _ in range(25):
                with session.lock("n") as lock:
                    db.put(b"n", b"%d" % (int(db[b"n"]) + 1), guard=lock)
                    tokens.append(lock.token)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db[b"n"] == b"100" and tokens == sorted(set(tokens))


def test_a_lease_that_is_not_renewed_is_lost(db: corering.Database) -> None:
    with db.session() as other:
        lock = db.lock("l", lease=1)
        lock.take(0)
        for _ in range(4):
            time.sleep(0.3)
            lock.renew()
        with other.lock("l", timeout=30):
            with pytest.raises(corering.FencedError):
                db.put(b"k", b"late", guard=lock)
            with pytest.raises((corering.LeaseExpiredError, corering.NotHeldError)):
                lock.renew()


def test_a_ttl_is_kept_alive_and_a_lease_is_not(db: corering.Database) -> None:
    with db.session() as other, db.session() as own:
        leased = db.lock("leased", lease=1)
        assert leased.acquire()
        with db.lock("name", ttl=1) as lock, own.semaphore("permits", 2, units=2, ttl=1) as permits:
            # Taken again and released once, it is held.
            assert lock.acquire()
            lock.release()
            time.sleep(3)
            assert not other.lock("name").acquire(blocking=False)
            assert not other.semaphore("permits", 2).acquire(blocking=False)
            assert db.put(b"k", b"held", guard=[lock, permits]) > 0 and lock.lost is None
            (part,) = db.lock_info("name")
            assert part.token == lock.token and part.left is not None and 0 < part.left <= 1
        time.sleep(0.5)
        for held in (lock, permits):
            # One that was released is renewed no more.
            assert not held.held and held.lost is None
        assert db.lock_info("name") == [] and db.lock_info("leased") == []
        with other.lock("leased", blocking=False), pytest.raises(corering.FencedError):
            db.put(b"k", b"late", guard=leased)
    with pytest.raises(ValueError):
        db.lock("name", ttl=1, lease=1)


def test_a_ttl_is_kept_alive_through_an_upgrade(db: corering.Database) -> None:
    with db.session() as a, db.session() as b:
        with a.lock("l", mode="shared", ttl=0.6) as one:
            two = b.lock("l", mode="shared")
            assert two.acquire()
            upgrade = threading.Thread(target=one.upgrade)
            upgrade.start()
            time.sleep(1.5)
            assert len(db.lock_info("l")) == 3, "it keeps its share while it waits"
            two.release()
            upgrade.join()
            time.sleep(1.5)
            (part,) = db.lock_info("l")
            assert part.token == one.token and part.mode == "exclusive" and one.lost is None


def test_a_lock_that_cannot_be_kept_alive_is_lost(db: corering.Database) -> None:
    # Nobody renews what a session without a thread holds,
    idle = db.session(keep_alive=False)
    lock = idle.lock("l", ttl=0.05)
    assert lock.acquire()
    eventually(lambda: db.lock_info("l") == [])
    # nor what no object holds any more; who renews is told when it is in vain.
    session = db.session()
    session.lock("forgotten", ttl=0.05).acquire()
    eventually(lambda: db.lock_info("forgotten") == [])
    lock = session.lock("l", ttl=0.3)
    assert lock.acquire() and lock.lost is None
    again = db.session(key=session.key, keep_alive=False).lock("l")
    assert again.acquire() and again.release() and lock.lost is None
    same = db.session(key=session.key, keep_alive=False).lock("l")
    same.granted(lock.token)
    same.release()
    eventually(lambda: isinstance(lock.lost, corering.NotHeldError))
    assert lock.acquire() and lock.lost is None and db.put(b"k", b"v", guard=lock) > 0
    db.kill_session(session.id)
    eventually(lambda: isinstance(lock.lost, (corering.NoSessionError, corering.NotHeldError)))


PAUSED = """
import sys, time, corering
with corering.open(sys.argv[1], shards=2) as db, db.session() as session:
    lock = session.lock("l", ttl=1)
    lock.acquire()
    print("held", flush=True)
    sys.stdin.readline()
    try:
        db.put(b"k", b"late", guard=lock)
    except corering.FencedError:
        print("fenced", flush=True)
    while lock.lost is None:
        time.sleep(0.002)
    print(session.lost, flush=True)
"""


def test_a_process_that_is_stopped_loses_its_lock(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", PAUSED, str(tmp_path / "db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    holder.send_signal(signal.SIGCONT)
    said, _ = holder.communicate("\n", timeout=60)
    assert said == "fenced\nNone\n" and holder.returncode == 0


def test_a_share_that_is_gone_cannot_be_upgraded(db: corering.Database) -> None:
    with db.session() as a, db.session() as b:
        lock = a.lock("l", mode="shared", lease=0.02)
        assert lock.acquire()
        eventually(lambda: db.lock_info("l") == [])
        with pytest.raises(corering.NotHeldError, match="lost"):
            lock.upgrade(timeout=5)
        assert db.lock_info("l") == [] and isinstance(lock.lost, corering.NotHeldError)
        with b.lock("l", blocking=False) as other:
            assert other.token > lock.token
        with pytest.raises(corering.NotHeldError):
            lock.release()
        with a.lock("l", mode="shared", lease=60) as held:
            held.upgrade()
            (part,) = db.lock_info("l")
            assert part.mode == "exclusive" and part.left is not None and part.left <= 60


def test_a_lock_is_changed_and_given_back_as_durably_as_it_was_taken(db: corering.Database) -> None:
    with db.session() as session:
        with session.lock("l", durability="none"):
            pass
        before = db.stats().flushes
        for _ in range(50):
            with session.lock("l", durability="none") as lock:
                lock.downgrade()
                lock.upgrade()
        assert db.stats().flushes - before < 25


def test_a_session_lives_while_it_is_kept_alive(db: corering.Database) -> None:
    kept, left = db.session(ttl=1.5, label="kept"), db.session(ttl=1.5, keep_alive=False)
    lock = kept.lock("l")
    assert lock.acquire()
    time.sleep(3)
    assert kept.lost is None and db.put(b"k", b"v", guard=lock) > 0
    with pytest.raises(corering.NoSessionError):
        left.keep_alive()
    assert [session.label for session in db.sessions()] == [b"kept"]
    with pytest.raises(corering.WrongSecretError):
        db.session(key=corering.SessionKey(kept.id, bytes(16)))
    db.kill_session(kept.id)
    eventually(lambda: isinstance(kept.lost, corering.NoSessionError))
    with pytest.raises(corering.FencedError):
        db.put(b"k", b"w", guard=lock)


def test_a_deadlock_is_told_to_one(db: corering.Database) -> None:
    a, b = db.session(), db.session()
    assert a.lock("1").acquire() and b.lock("2").acquire()
    outcomes: list[str] = []

    def cross(lock: corering.Lock) -> None:
        try:
            lock.take(30000)
            outcomes.append("granted")
        except corering.DeadlockError as error:
            assert error.retryable
            outcomes.append("deadlock" if time.monotonic() - began < 1 else "late")
            lock.session.close()

    began = time.monotonic()
    threads = [threading.Thread(target=cross, args=[lock]) for lock in (a.lock("2"), b.lock("1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["deadlock", "granted"]
    a.close()
    b.close()


HOLDER = """
import os, sys, time, corering
db = corering.open(sys.argv[1], shards=2)
session = db.session(ttl=60)
lock = session.lock("l")
lock.acquire()
print(session.key.id, session.key.secret.hex(), lock.token, flush=True)
time.sleep(60)
"""


def test_a_lock_outlives_a_kill_and_its_session_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "db"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    id_, secret, token = holder.stdout.readline().split()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with corering.open(path, **SMALL) as db:
        with pytest.raises(corering.LockHeldError), db.lock("l", blocking=False):
            pass
        session = db.session(ttl=60, key=corering.SessionKey(int(id_), bytes.fromhex(secret)))
        lock = session.lock("l")
        assert lock.acquire() and lock.token == int(token) and db.put(b"k", b"v", guard=lock) > 0
        session.close()
        with db.lock("l", blocking=False) as new:
            assert new.token > int(token)


def test_locks_of_coroutines(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "db", **SMALL) as db:
            await db.put(b"n", b"0")

            async def add() -> None:
                for _ in range(10):
                    async with db.lock("n") as lock:
                        number = int(await db.get(b"n") or b"")
                        await db.put(b"n", b"%d" % (number + 1), guard=lock)

            await asyncio.wait_for(asyncio.gather(*(add() for _ in range(4))), 60)
            assert await db.get(b"n") == b"40"
            async with db.semaphore("s", 1):
                waiting = asyncio.create_task(db.lock("s2").__aenter__())
                await waiting
                cancelled = asyncio.create_task(db.lock("s2").__aenter__())
                while len(db._db.lock_info("s2")) < 2:
                    await asyncio.sleep(0.002)
                cancelled.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await cancelled
                assert len(db._db.lock_info("s2")) == 1, "a cancelled wait leaves no trace"
                with pytest.raises(corering.LockHeldError):
                    async with db.lock("s2", blocking=False):
                        pass
                waiting.result().session.close()
            assert db._db.sessions() == []

    asyncio.run(main())


def stop_the_machine(path: Path, lease_ms: int) -> None:
    """As if it had been stopped while a lock was held of which nothing was on disk: the root record, in both copies."""
    copies = bytearray(path.read_bytes())
    record = copies[: 24 + 96]
    record[16:24] = (int.from_bytes(record[16:24], "little") + 1).to_bytes(8, "little")
    record[24 + 48 : 24 + 56] = lease_ms.to_bytes(8, "little")
    record[24 + 56] ^= 1
    record[8:12] = zlib.crc32(record[12:]).to_bytes(4, "little")
    for at in (0, 1 << 20):
        copies[at : at + len(record)] = record
    path.write_bytes(copies)


def test_after_the_machine_was_stopped_no_lock_is_granted_for_a_while(tmp_path: Path) -> None:
    corering.open(tmp_path / "db", **SMALL).close()
    stop_the_machine(tmp_path / "db" / "superblock", 1000)
    with corering.open(tmp_path / "db", **SMALL) as db, db.session() as session:
        with pytest.raises(corering.LockNotYetError, match=r"\d ms yet") as raised, session.lock("l", blocking=False):
            pass
        assert raised.value.retryable and raised.value.name == "lock_not_yet"
        assert not session.lock("l").acquire(blocking=False)
        with session.lock("l", timeout=20):
            assert session.lock("m").acquire(blocking=False)


def test_all_locks_are_listed(db: corering.Database) -> None:
    assert db.locks() == []
    with db.session() as session, db.session() as other:
        for n in range(200):
            session.lock(b"%d" % n, mode="shared", durability="none").acquire()
        other.lock("7", mode="shared").acquire()
        found = {lock.name: (lock.holders, lock.waiters) for lock in db.locks()}
        assert len(db.locks()) == len(found) == 200 and found[b"7"] == (2, 0) and found[b"8"] == (1, 0)
        assert {info.id for info in db.sessions()} == {session.id, other.id}
    assert db.locks() == []


def test_what_happens_to_locks_is_counted(db: corering.Database) -> None:
    with db.session() as a, db.session() as b:
        a.lock("l").acquire()
        assert not b.lock("l").acquire(blocking=False) and not b.lock("l").acquire(timeout=0.01)
        stats = db.stats()
        assert (stats.lock_sessions, stats.lock_names, stats.lock_holds, stats.lock_waiters) == (2, 1, 1, 0)
        assert (stats.lock_grants, stats.lock_refused, stats.lock_timeouts, stats.lock_waits) == (1, 1, 1, 1)
        assert 10 <= stats.lock_wait_ms_max == stats.lock_wait_ms_total
        assert stats.lock_orphaned == 0
    stats = db.stats()
    assert (stats.lock_sessions, stats.lock_holds, stats.lock_orphaned, stats.lock_expired) == (0, 0, 1, 0)


def test_a_cancelled_task_gives_up_its_wait_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "db", **SMALL) as db:
            with db._db.session() as session, db._db.session() as holder:

                async def enter() -> None:
                    async with db.lock("l", session=session):
                        pass

                async with db.lock("other", session=session) as other:
                    held = holder.lock("l")
                    held.acquire()
                    waiting = [asyncio.create_task(enter()) for _ in range(2)]
                    while len(db._db.lock_info("l")) < 3:
                        await asyncio.sleep(0.002)
                    waiting[0].cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting[0]
                    assert len(db._db.lock_info("l")) == 2
                    held.release()
                    await waiting[1]
                    assert await db.put(b"k", b"v", guard=other) > 0, "its session lives"

                # The grant comes while the task is cancelled.
                for _ in range(50):
                    held.acquire()
                    task = asyncio.create_task(enter())
                    while len(db._db.lock_info("l")) < 2:
                        await asyncio.sleep(0)
                    release = asyncio.get_running_loop().run_in_executor(None, held.release)
                    task.cancel()
                    await asyncio.gather(task, release, return_exceptions=True)
                    assert db._db.lock_info("l") == []

    asyncio.run(main())


def test_a_ttl_of_coroutines_is_kept_alive(tmp_path: Path) -> None:
    async def main() -> None:
        async with await aio.open(tmp_path / "db", **SMALL) as db:
            async with db.lock("leased", lease=1) as leased, db.lock("name", ttl=1) as lock:
                time.sleep(1.5)  # A loop that is busy loses nothing either.
                await asyncio.sleep(1.5)
                with pytest.raises(corering.LockHeldError):
                    async with db.lock("name", blocking=False):
                        pass
                assert await db.put(b"k", b"held", guard=lock) > 0 and lock.lost is None
                with pytest.raises(corering.FencedError):
                    await db.put(b"k", b"late", guard=leased)
            assert db._db.sessions() == []

    asyncio.run(main())


def test_recipes(db: corering.Database) -> None:
    with db.session() as a, db.session() as b, db.session() as c:
        of_a, of_b = recipes.Election(db, a, "boss"), recipes.Election(db, b, "boss")
        assert of_a.leader() is None
        first = of_a.campaign(b"a")
        assert of_b.leader() == b"a"
        with pytest.raises(corering.LockTimeoutError):
            of_b.campaign(b"b", timeout=0.02)
        campaign = threading.Thread(target=lambda: of_b.campaign(b"b"))
        campaign.start()
        eventually(lambda: len(db.lock_info("boss")) == 2)
        a.close()  # as if it had died
        campaign.join()
        assert of_b.leader() == b"b"
        with pytest.raises(corering.FencedError):
            db.put(b"k", b"of the old leader", guard=first)

        of_b_rw, of_c_rw = recipes.ReadWriteLock(b, "rw"), recipes.ReadWriteLock(c, "rw")
        with of_b_rw.read() as by_b:
            with of_c_rw.read() as by_c:
                upgrades = threading.Thread(target=lambda: by_b.upgrade(timeout=30))
                upgrades.start()
                eventually(lambda: len(db.lock_info("rw")) == 3)
                with pytest.raises(corering.DeadlockError):
                    by_c.upgrade(timeout=30)
            upgrades.join()
            assert [part.mode for part in db.lock_info("rw")] == ["exclusive"]
            assert not of_c_rw.write().acquire(blocking=False)
        with of_c_rw.write():
            pass

        barrier = recipes.Barrier("gate")
        with db.session() as keeper:
            assert barrier.wait(c)
            closed = barrier.close(keeper)
            assert not barrier.wait(c, timeout=0.02)
            passes = threading.Thread(target=lambda: barrier.wait(c))
            passes.start()
            eventually(lambda: len(db.lock_info("gate")) == 2)
            closed.release()
            passes.join(30)
            assert not passes.is_alive()
