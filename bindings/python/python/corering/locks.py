"""Sessions, and the locks that they hold."""

from __future__ import annotations

import threading
import time
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Union

from ._native import ffi, lib
from .errors import Error, LockHeldError, LockNotYetError, LockTimeoutError, check, error, last_error
from .settings import BytesLike, DurabilityLike, Span, as_bytes, as_durability, milliseconds

#: How a lock is taken: "exclusive" or "shared".
_MODES = {"exclusive": lib.CORERING_LOCK_EXCLUSIVE, "shared": lib.CORERING_LOCK_SHARED}
_MODE_NAMES = {**{number: name for name, number in _MODES.items()}, lib.CORERING_LOCK_SEMAPHORE: "semaphore"}

#: Of the session that a database makes for its locks.
DEFAULT_TTL = 10.0

_SHARE_LOST = "the share was lost before it could be upgraded, and the lock is not held; take it anew"


class SessionKey(NamedTuple):
    """Enough to go on with a session, in this process or in another after the database was opened again. Keep it secret."""

    id: int
    secret: bytes


@dataclass(frozen=True)
class SessionInfo:
    """A session that lives."""

    id: int
    label: bytes
    ttl: float
    #: Seconds until it runs out, if it is not kept alive.
    left: float


@dataclass(frozen=True)
class Loss:
    """A hold that ended without being released: its lease ran out, or its session ended."""

    name: bytes
    #: With which nothing can be written any more.
    token: int


@dataclass(frozen=True)
class LockEntry:
    """A lock that is held or waited for."""

    name: bytes
    #: How many hold it, and how many wait for it.
    holders: int
    waiters: int


@dataclass(frozen=True)
class LockPart:
    """A session that holds a lock or waits for it."""

    session: int
    #: Of a hold; None: the session waits.
    token: Optional[int]
    mode: str
    permits: int
    units: int
    #: How often the session has taken it.
    count: int
    #: Of a hold: seconds that its lease runs on; None: as long as the session lives.
    left: Optional[float]
    #: Of a wait: seconds that it has lasted.
    waited: float


def lock_name(name: Union[str, BytesLike]) -> bytes:
    """Names are bytes; a text is its UTF-8."""
    return name.encode() if isinstance(name, str) else as_bytes(name)


class _Keeper:
    """Keeps a session alive, and its held locks that have a ttl, without keeping their owners: a daemon thread that ends with the
    session."""

    def __init__(self, db: Any, key: Any, ttl: float) -> None:
        self.db, self.key, self.ttl = db, key, ttl
        # Reentrant, since the collector may come while it is held, and then end a session by `stop`.
        self.changed = threading.Condition(threading.RLock())
        self.stopped = False
        self.lost: Optional[Error] = None
        #: When each is to be renewed. A lock that nobody has can be released by nobody: it is renewed no more.
        self.held: weakref.WeakKeyDictionary[Lock, float] = weakref.WeakKeyDictionary()
        self.thread = threading.Thread(target=self.run, name="corering-session", daemon=True)

    def run(self) -> None:
        due = time.monotonic() + self.ttl / 3
        while self.wait(due):
            now = time.monotonic()
            if now >= due:
                status = lib.corering_session_keep_alive(self.db, self.key)
                if status < 0 and not lib.corering_status_is_retryable(status):
                    self.lost = error(status, "the session could not be kept alive")
                    return
                due = now + self.ttl / 3
            self.renew(now)

    def wait(self, due: float) -> bool:
        """Until something is to be done; false once there never is."""
        with self.changed:
            if not self.stopped:
                self.changed.wait(max(0.0, min([due, *self.held.values()]) - time.monotonic()))
            return not self.stopped

    def renew(self, now: float) -> None:
        """Those whose time has come."""
        with self.changed:
            due = [(lock, lock._token) for lock, at in self.held.items() if at <= now]
            for lock, _ in due:
                self.held[lock] = now + (lock.ttl or 0.0) / 3
        for lock, token in due:
            status = lib.corering_lock_renew(self.db, self.key, lock.name, len(lock.name), token, ffi.NULL)
            if status < 0 and not lib.corering_status_is_retryable(status):
                lost = last_error(status)
                with self.changed:
                    # Unless it was given back meanwhile, or an upgrade gave it another token.
                    if lock in self.held and lock._token == token and not lock._upgrading:
                        del self.held[lock]
                        lock._lost = lost

    def hold(self, lock: Lock, ttl: float) -> None:
        with self.changed:
            self.held[lock] = time.monotonic() + ttl / 3
            self.changed.notify_all()

    def let_go(self, lock: Lock) -> None:
        with self.changed:
            self.held.pop(lock, None)

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


class Session:
    """Who holds locks. Get one from `Database.session`; it ends with its `with` block, or by `close`."""

    def __init__(self, db: Any, key: Any, ttl: float, keep_alive: bool) -> None:
        self._db = db
        self._key: Any = key
        self._keeper = _Keeper(db, key, ttl)
        self._closed = False
        if keep_alive:
            self._keeper.thread.start()
        self._stop = weakref.finalize(self, self._keeper.stop)

    @property
    def key(self) -> SessionKey:
        high, low = self._key.secret
        return SessionKey(self._key.id, int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big"))

    @property
    def id(self) -> int:
        return int(self._key.id)

    @property
    def lost(self) -> Optional[Error]:
        """Why it could not be kept alive any more; None while it could."""
        return self._keeper.lost

    def next_loss(self, timeout: Optional[float] = None) -> Optional[Loss]:
        """The next hold that it lost, waited for; None if there was none in `timeout` seconds. Losses are kept from the first call on.

        Raises `NoSessionError` once the session has ended, and with it all its holds."""
        wait_ms = int(lib.CORERING_WAIT_FOREVER) if timeout is None else max(0, round(timeout * 1000))
        loss = ffi.new("corering_loss *")
        if check(lib.corering_session_lost(self._db, self._key, wait_ms, loss)) == lib.CORERING_END:
            return None
        return Loss(bytes(ffi.buffer(loss.name, loss.name_len)), int(loss.token))

    def keep_alive(self) -> None:
        """Begins its time to live anew; its thread does so by itself. Without one (`keep_alive=False`) its locks that have a ttl are
        the program's to `renew`, too."""
        check(lib.corering_session_keep_alive(self._db, self._key))

    def lock(
        self,
        name: Union[str, BytesLike],
        *,
        mode: str = "exclusive",
        ttl: Optional[Span] = None,
        lease: Optional[Span] = None,
        timeout: Optional[float] = None,
        blocking: bool = True,
        durability: Optional[DurabilityLike] = None,
    ) -> Lock:
        """A lock of this session, to be taken; see `Database.lock`."""
        if mode not in _MODES:
            raise ValueError(f"{mode!r} is no mode of a lock: give 'exclusive' or 'shared'")
        return Lock(self, lock_name(name), _MODES[mode], 0, 0, ttl, lease, timeout, blocking, durability)

    def semaphore(
        self,
        name: Union[str, BytesLike],
        permits: int,
        *,
        units: int = 1,
        ttl: Optional[Span] = None,
        lease: Optional[Span] = None,
        timeout: Optional[float] = None,
        blocking: bool = True,
        durability: Optional[DurabilityLike] = None,
    ) -> Lock:
        """`units` of `permits`; see `Database.semaphore`."""
        if not 1 <= units <= permits:
            raise ValueError(f"{units} of {permits} permits")
        mode = lib.CORERING_LOCK_SEMAPHORE
        return Lock(self, lock_name(name), mode, permits, units, ttl, lease, timeout, blocking, durability)

    def detach(self) -> SessionKey:
        """Lets go of it without ending it: it lives on for its time to live, for `Database.session(key=…)`. So do its locks that have a
        ttl: nobody renews them until they are taken again."""
        self._closed = True
        self._stop()
        return self.key

    def close(self) -> None:
        """Ends it, with all its holds and waits. A second close does nothing."""
        if not self._closed:
            self._closed = True
            self._stop()
            check(lib.corering_session_end(self._db, self._key))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<corering.Session {self.id:016x}{', closed' if self._closed else ''}>"


class Lock:
    """A lock, held within `with lock:`, or from `acquire` to `release`. Give it to a write as its `guard`."""

    def __init__(
        self,
        session: Session,
        name: bytes,
        mode: int,
        permits: int,
        units: int,
        ttl: Optional[Span],
        lease: Optional[Span],
        timeout: Optional[float],
        blocking: bool,
        durability: Optional[DurabilityLike],
    ) -> None:
        if timeout is not None and (timeout < 0 or not blocking):
            raise ValueError("a timeout is not negative, and is for a lock that is waited for")
        if ttl is not None and lease is not None:
            raise ValueError("give a ttl, which is renewed by itself, or a lease, which is not")
        self.name = name
        self._session = session
        self._timeout, self._blocking = timeout, blocking
        self._token = 0
        self._times = 0
        self._upgrading = False
        self._lost: Optional[Error] = None
        self._options = ffi.new("corering_lock_options *")
        check(lib.corering_lock_options_init(self._options, ffi.sizeof("corering_lock_options")))
        self._options.mode, self._options.permits, self._options.units = mode, permits, units
        #: Seconds after which it is lost if the session's thread does not renew it, which it does; None: it is not renewed.
        self.ttl: Optional[float] = None
        if ttl is not None:
            self._options.lease_ms = milliseconds(ttl)
            self.ttl = self._options.lease_ms / 1000
        elif lease is not None:
            self._options.lease_ms = milliseconds(lease)
        if durability is not None:
            level = as_durability(durability)
            self._options.durability, self._options.interval_ms = level.level, level.interval_ms

    @property
    def token(self) -> int:
        """The fencing token: larger than those of all grants before it."""
        if self._token == 0:
            raise error(lib.CORERING_ERROR_NOT_HELD, "the lock was not taken by this object")
        return self._token

    @property
    def held(self) -> bool:
        """It was taken and not given back. Whether it was lost meanwhile only the store knows: guard your writes."""
        return self._times > 0

    @property
    def lost(self) -> Optional[Error]:
        """Why it, or its session, could not be kept alive any more; None while it could. Known only some time after the loss."""
        return self._lost or self._session.lost

    @property
    def session(self) -> Session:
        return self._session

    def wait_ms(self, blocking: Optional[bool], timeout: Optional[float]) -> int:
        wanted = self._blocking if blocking is None else blocking
        if not wanted:
            return 0
        longest = self._timeout if timeout is None else timeout
        return int(lib.CORERING_WAIT_FOREVER) if longest is None else max(1, round(longest * 1000)) if longest else 0

    def options(self) -> Any:
        """The corering_lock_options of one call."""
        options = ffi.new("corering_lock_options *", self._options[0])
        options.wait_ms = self.wait_ms(None, None)
        return options

    def granted(self, token: int) -> None:
        self._token = token
        self._times += 1
        self._lost = None
        if self.ttl:
            self._session._keeper.hold(self, self.ttl)

    def acquire(self, blocking: Optional[bool] = None, timeout: Optional[float] = None) -> bool:
        """Takes it, or takes it once more; false if it is held by others, was not granted in time, or none is granted yet after the
        machine was stopped."""
        try:
            self.take(self.wait_ms(blocking, timeout))
        except (LockHeldError, LockNotYetError, LockTimeoutError):
            return False
        return True

    def take(self, wait_ms: int) -> None:
        """As `acquire`; raises."""
        options = ffi.new("corering_lock_options *", self._options[0])
        options.wait_ms = wait_ms
        grant = ffi.new("corering_grant *")
        session = self._session
        check(lib.corering_lock_acquire(session._db, session._key, self.name, len(self.name), options, grant))
        self.granted(int(grant.token))

    def release(self) -> bool:
        """Gives it back, as durably as it was taken; false if its lease had run out before, so that others may have held it since."""
        token, session = self.token, self._session
        self._times = max(0, self._times - 1)
        if self._times == 0:
            session._keeper.let_go(self)
            self._token = 0
        expired = ffi.new("bool *")
        check(
            lib.corering_lock_release(
                session._db, session._key, self.name, len(self.name), token, self._options, ffi.NULL, expired
            )
        )
        return not expired[0]

    def renew(self) -> None:
        """Its lease begins anew. Of a lock with a ttl the session's thread does that by itself."""
        session = self._session
        check(
            lib.corering_lock_renew(session._db, session._key, self.name, len(self.name), self.token, ffi.NULL)
        )

    def downgrade(self) -> None:
        """From exclusive to shared, without letting go."""
        session, name = self._session, self.name
        check(
            lib.corering_lock_downgrade(
                session._db, session._key, name, len(name), self.token, self._options, ffi.NULL
            )
        )

    def upgrade(self, timeout: Optional[float] = None) -> None:
        """From shared to exclusive, with a new token: waits for the other holders, and keeps its share meanwhile. `NotHeldError` if the
        share was lost: others may have held the lock since, and it is not held now."""
        session, name = self._session, self.name
        shared = self.token
        options = ffi.new("corering_lock_options *", self._options[0])
        options.mode = lib.CORERING_LOCK_EXCLUSIVE
        options.wait_ms = self.wait_ms(True, timeout)
        grant = ffi.new("corering_grant *")
        self._upgrading = True
        try:
            check(lib.corering_lock_acquire(session._db, session._key, name, len(name), options, grant))
            assert grant.token >= shared
            self._token = int(grant.token)
        finally:
            self._upgrading = False
        # The share and the grant are one hold, taken twice. A grant that is alone is given back whole.
        check(
            lib.corering_lock_release(
                session._db, session._key, name, len(name), self._token, self._options, ffi.NULL, ffi.NULL
            )
        )
        if grant.count < 2:
            session._keeper.let_go(self)
            # Two of them: one that is raised refers to this object by its traceback.
            self._lost = error(lib.CORERING_ERROR_NOT_HELD, _SHARE_LOST)
            raise error(lib.CORERING_ERROR_NOT_HELD, _SHARE_LOST)

    def __enter__(self) -> Lock:
        self.take(self.wait_ms(None, None))
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<corering.Lock {self.name!r}{f', token {self._token}' if self.held else ''}>"


def new_session(db: Any, ttl: Span, label: bytes, keep_alive: bool, key: Optional[SessionKey]) -> Session:
    ms = milliseconds(ttl)
    raw = ffi.new("corering_session *")
    if key is not None:
        raw.id = key.id
        raw.secret = [int.from_bytes(key.secret[:8], "big"), int.from_bytes(key.secret[8:], "big")]
        check(lib.corering_session_keep_alive(db, raw))
    else:
        kept = ffi.from_buffer(label)
        options = ffi.new("corering_session_options *")
        check(lib.corering_session_options_init(options, ffi.sizeof("corering_session_options")))
        options.ttl_ms, options.label, options.label_len = ms, kept, len(label)
        check(lib.corering_session_open(db, options, raw))
    return Session(db, raw, ms / 1000, keep_alive)


def all_of(kind: str, call: Any) -> list[Any]:
    """The array that a call fills, however long it is."""
    capacity, count = 16, ffi.new("size_t *")
    while True:
        array = ffi.new(f"{kind}[]", capacity)
        if check(call(array, capacity, count)) != lib.CORERING_BUFFER_TOO_SMALL:
            return [array[at] for at in range(count[0])]
        capacity = int(count[0])


def session_list(db: Any) -> list[SessionInfo]:
    found = all_of("corering_session_info", lambda *array: lib.corering_session_list(db, *array))
    return [
        SessionInfo(raw.id, bytes(ffi.buffer(raw.label, raw.label_len)), raw.ttl_ms / 1000, raw.left_ms / 1000)
        for raw in found
    ]


def lock_list(db: Any) -> list[LockEntry]:
    locks: list[LockEntry] = []
    page = ffi.new("corering_lock_entry[]", 64)
    count, cursor = ffi.new("size_t *"), ffi.new("uint64_t *")
    while True:
        check(lib.corering_lock_scan(db, cursor[0], page, 64, count, cursor))
        found = (page[at] for at in range(count[0]))
        locks.extend(LockEntry(bytes(ffi.buffer(raw.name, raw.name_len)), raw.holders, raw.waiters) for raw in found)
        if cursor[0] == 0:
            return locks


def lock_info(db: Any, name: bytes) -> list[LockPart]:
    found = all_of("corering_lock_part", lambda *array: lib.corering_lock_info(db, name, len(name), *array))
    return [
        LockPart(
            raw.session,
            raw.token or None,
            _MODE_NAMES.get(raw.mode, "unknown"),
            raw.permits,
            raw.units,
            raw.count,
            None if raw.token == 0 or raw.left_ms == lib.CORERING_WAIT_FOREVER else raw.left_ms / 1000,
            raw.waited_ms / 1000,
        )
        for raw in found
    ]
