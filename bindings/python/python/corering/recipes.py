"""What programs build from locks, ephemeral keys and watches, ready made: leader election, a read-write lock, barriers, group
membership, a service registry.

Each is a few lines: the queue of a lock is fair, a dead member is noticed by its session's time to live, what must not be written by
a stale holder is guarded by its lock, and who watches misses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Optional, Union

from .database import Database
from .errors import CompactedError, LaggedError
from .locks import Lock, Session, lock_name
from .settings import BytesLike, as_bytes


class Mirror:
    """What stands under a prefix, followed by a watch: `entries` is one state after the other, none left out. For one thread."""

    def __init__(self, db: Database, prefix: BytesLike) -> None:
        self._db, self._prefix = db, as_bytes(prefix)
        self._begin()

    def _begin(self) -> None:
        self._watch = self._db.watch(prefix=self._prefix)
        with self._db.snapshot() as view:
            self._seen = view.version
            self.entries: dict[bytes, bytes] = dict(view.scan(prefix=self._prefix))

    def next(self, timeout: Optional[float] = None) -> bool:
        """Waits for the next change; false if there was none in that time."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                event = self._watch.next(None if end is None else max(0.0, end - time.monotonic()))
            except LaggedError:
                behind = self._watch
                self._watch = self._db.watch(prefix=self._prefix, since=behind.progress)
                behind.close()
                continue
            except CompactedError:
                self._watch.close()
                self._begin()
                return True
            if event is None:
                return False
            if event.version <= self._seen:
                continue
            for change in event.changes:
                if change.value is None:
                    self.entries.pop(change.key, None)
                else:
                    self.entries[change.key] = change.value
            return True

    def close(self) -> None:
        self._watch.close()

    def __enter__(self) -> Mirror:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Election:
    """One leader at a time among those who campaign under a name, in the order in which they came."""

    def __init__(self, db: Database, session: Session, name: Union[str, BytesLike]) -> None:
        self._db, self._session = db, session
        self._name = lock_name(name)
        self._key = self._name + b"/leader"

    def campaign(self, who: bytes, timeout: Optional[float] = None) -> Lock:
        """Waits to be the leader, and says who that is. Release the lock to resign; guard by it what only the leader may write."""
        lock = self._session.lock(self._name)
        lock.take(lock.wait_ms(True, timeout))
        # It goes with its session, and nobody else's goes with this one.
        self._db.put(self._key, who, guard=lock, session=self._session)
        return lock

    def resign(self, lock: Lock) -> None:
        """Lets the next one lead; nobody is the leader until then."""
        self._db.delete(self._key, guard=lock)
        lock.release()

    def leader(self) -> Optional[bytes]:
        """Who leads; None if nobody does. Who released its lock without `resign` is shown until the next one leads."""
        return self._db.get(self._key)

    def observe(self, timeout: Optional[float] = None) -> Iterator[Optional[bytes]]:
        """Who leads, now and after each change; ends if there was none for `timeout` seconds."""
        with Mirror(self._db, self._key) as mirror:
            last = mirror.entries.get(self._key)
            yield last
            while mirror.next(timeout):
                leader = mirror.entries.get(self._key)
                if leader != last:
                    last = leader
                    yield leader


class ReadWriteLock:
    """Many readers or one writer. No writer starves: readers who come after it wait. A reader's lock has `upgrade`."""

    def __init__(self, session: Session, name: Union[str, BytesLike]) -> None:
        self._session, self._name = session, lock_name(name)

    def read(self, timeout: Optional[float] = None) -> Lock:
        return self._session.lock(self._name, mode="shared", timeout=timeout)

    def write(self, timeout: Optional[float] = None) -> Lock:
        return self._session.lock(self._name, timeout=timeout)


class Barrier:
    """A place at which everybody waits until its keeper, in whatever session, opens it, or dies."""

    def __init__(self, name: Union[str, BytesLike]) -> None:
        self._name = lock_name(name)

    def close(self, keeper: Session) -> Lock:
        """Closes it; it is closed until the lock is released."""
        lock = keeper.lock(self._name)
        lock.acquire()
        return lock

    def wait(self, waiter: Session, timeout: Optional[float] = None) -> bool:
        """Waits until it is open; false if it was not in that time."""
        lock = waiter.lock(self._name, mode="shared", timeout=timeout)
        if not lock.acquire():
            return False
        lock.release()
        return True


class DoubleBarrier:
    """A place that `parties` enter together and leave together. One that dies has left."""

    def __init__(self, db: Database, session: Session, name: Union[str, BytesLike], parties: int) -> None:
        self._db, self._session, self._parties = db, session, parties
        self._prefix = lock_name(name) + b"/party/"
        self._mirror: Optional[Mirror] = None
        self._own = b""

    def enter(self, timeout: Optional[float] = None) -> bool:
        """Waits until all are here; false if they were not in that time. Who gives up just when the last one comes may have been
        counted."""
        end = None if timeout is None else time.monotonic() + timeout
        mirror = Mirror(self._db, self._prefix)
        self._own, _ = self._db.put_sequential(self._prefix, b"", session=self._session)
        # Each state since then is seen, also the one in which the last of them came and none had left.
        while self._own not in mirror.entries or len(mirror.entries) < self._parties:
            left = None if end is None else end - time.monotonic()
            if (left is not None and left <= 0) or not mirror.next(left):
                self._db.delete(self._own)
                mirror.close()
                return False
        self._round = set(mirror.entries)
        self._mirror = mirror
        return True

    def leave(self, timeout: Optional[float] = None) -> bool:
        """Waits until all who entered together have left; false if they had not in that time."""
        if self._mirror is None:
            raise ValueError("who did not enter cannot leave")
        end = None if timeout is None else time.monotonic() + timeout
        self._db.delete(self._own)
        with self._mirror as mirror:
            self._mirror = None
            while self._round & mirror.entries.keys():
                left = None if end is None else end - time.monotonic()
                if (left is not None and left <= 0) or not mirror.next(left):
                    return False
        return True


class Group:
    """Who is here: members join with some bytes of theirs and are gone when they leave or their session ends."""

    def __init__(self, db: Database, name: Union[str, BytesLike]) -> None:
        self._db = db
        self._prefix = lock_name(name) + b"/member/"

    def join(self, session: Session, about: BytesLike = b"") -> bytes:
        """Joins; returns the member's key, for `leave`."""
        key, _ = self._db.put_sequential(self._prefix, about, session=session)
        return key

    def leave(self, member: bytes) -> bool:
        """Leaves; false if it had gone before."""
        return self._db.delete(member)

    def members(self) -> dict[bytes, bytes]:
        """The members' keys, with what they said of themselves, in the order in which they joined."""
        return dict(self._db.scan(prefix=self._prefix))

    def watch(self, timeout: Optional[float] = None) -> Iterator[dict[bytes, bytes]]:
        """The members, now and after each change; ends if there was none for `timeout` seconds."""
        return _states(self._db, self._prefix, timeout)


class Registry:
    """Services and where their instances are, for as long as they live."""

    def __init__(self, db: Database, name: Union[str, BytesLike] = b"services") -> None:
        self._db = db
        self._prefix = lock_name(name) + b"/"

    def _of(self, service: Union[str, BytesLike]) -> bytes:
        given = lock_name(service)
        if b"/" in given:
            raise ValueError("a service's name has no slash")
        return self._prefix + given + b"/"

    def register(self, session: Session, service: Union[str, BytesLike], instance: Union[str, BytesLike], at: BytesLike) -> None:
        """Says where an instance is; registered again, it has moved."""
        self._db.put(self._of(service) + lock_name(instance), at, session=session)

    def withdraw(self, service: Union[str, BytesLike], instance: Union[str, BytesLike]) -> bool:
        """Says that it is no more; false if it had gone before."""
        return self._db.delete(self._of(service) + lock_name(instance))

    def discover(self, service: Union[str, BytesLike]) -> dict[bytes, bytes]:
        """The instances of a service, and where they are."""
        return _cut_off(self._of(service), dict(self._db.scan(prefix=self._of(service))))

    def watch(self, service: Union[str, BytesLike], timeout: Optional[float] = None) -> Iterator[dict[bytes, bytes]]:
        """The instances, now and after each change; ends if there was none for `timeout` seconds."""
        prefix = self._of(service)
        return (_cut_off(prefix, state) for state in _states(self._db, prefix, timeout))


def _states(db: Database, prefix: bytes, timeout: Optional[float]) -> Iterator[dict[bytes, bytes]]:
    with Mirror(db, prefix) as mirror:
        yield dict(sorted(mirror.entries.items()))
        while mirror.next(timeout):
            yield dict(sorted(mirror.entries.items()))


def _cut_off(prefix: bytes, entries: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key[len(prefix) :]: value for key, value in entries.items()}
