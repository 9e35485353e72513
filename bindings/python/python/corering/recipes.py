"""What programs build from locks, ready made: leader election, a read-write lock, a barrier.

Each is a few lines over a session's locks: the queue is fair, a dead holder is noticed by its session's time to live, and what must
not be written by a stale holder is guarded by its lock.
"""

from __future__ import annotations

from typing import Optional, Union

from .database import Database
from .locks import Lock, Session, lock_name
from .settings import BytesLike


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
        self._db.put(self._key, who, guard=lock)
        return lock

    def leader(self) -> Optional[bytes]:
        """The last who became leader; perhaps it has gone since."""
        return self._db.get(self._key)


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
