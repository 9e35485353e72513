"""An open database, its batches and its snapshots."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import threading
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, Union, overload

from . import settings
from ._native import ffi, lib
from .errors import Error, check, last_error
from .locks import (
    DEFAULT_TTL,
    Lock,
    LockEntry,
    LockPart,
    Session,
    SessionInfo,
    SessionKey,
    lock_info,
    lock_list,
    lock_name,
    new_session,
    session_list,
)
from .operations import Operation, Result, run
from .reading import _MISSING, Reader, _buffer, _get, _unpack
from .settings import BytesLike, Condition, DurabilityLike, Guards, PutIf, Span, Stats, as_bytes, write_options
from .transactions import How, Transaction, fate, transact
from .watching import Watch, new_watch

T = TypeVar("T")

_put = lib.crpy_put
_open = lib.corering_open


class Database(Reader):
    """An open database. Any number of threads may use it at the same time. Get one from `corering.open`."""

    def __init__(self, handle: Any, path: str) -> None:
        self._db = handle
        self._path = path
        self._open = True
        self._own_session: Optional[Session] = None
        self._session_lock = threading.Lock()

    # -- the hot ones: no options, bytes in and bytes out --

    @overload
    def get(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    def get(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    def get(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The value of a key, or `default`. Runs in this thread and waits for no write."""
        if type(key) is bytes and keyspace == 0:
            data = _buffer.data
            found = _get(self._db, key, len(key), data, _buffer.capacity)
            if found >= 0:
                return _unpack(data, found)
            if found == _MISSING:
                return default
        return super().get(key, default, keyspace=keyspace)

    def put(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
        session: Optional[Session] = None,
    ) -> int:
        """Stores a value; returns its version once it is as durable as asked for. With a `session`, the key goes when that ends."""
        key, value = as_bytes(key), as_bytes(value)
        options = write_options(ttl, expires_at, durability, keyspace, guard, session)
        if options == ffi.NULL:
            done: int = _put(self._db, key, len(key), value, len(value))
            if done < 0:
                raise last_error(done)
            return done
        version = ffi.new("uint64_t *")
        check(lib.corering_put(self._db, key, len(key), value, len(value), options, version))
        return int(version[0])

    def __setitem__(self, key: BytesLike, value: BytesLike) -> None:
        key, value = as_bytes(key), as_bytes(value)
        done = _put(self._db, key, len(key), value, len(value))
        if done < 0:
            raise last_error(done)

    def __delitem__(self, key: BytesLike) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def delete(
        self,
        key: BytesLike,
        *,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
    ) -> bool:
        """Removes a key; says whether it was there."""
        key = as_bytes(key)
        existed = ffi.new("bool *")
        options = write_options(None, None, durability, keyspace, guard)
        check(lib.corering_delete(self._db, key, len(key), options, existed))
        return bool(existed[0])

    def put_if(
        self,
        key: BytesLike,
        value: BytesLike,
        condition: Condition,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
        session: Optional[Session] = None,
    ) -> PutIf:
        """Stores a value if `condition` holds for what is there."""
        key, value = as_bytes(key), as_bytes(value)
        asked = ffi.new("corering_condition *")
        kept = condition.fill(asked)
        version = ffi.new("uint64_t *")
        options = write_options(ttl, expires_at, durability, keyspace, guard, session)
        status = check(
            lib.corering_put_if(self._db, key, len(key), value, len(value), asked, options, version)
        )
        del kept
        return PutIf(status == lib.CORERING_OK, version[0])

    def incr(
        self,
        key: BytesLike,
        by: int = 1,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
        session: Optional[Session] = None,
    ) -> int:
        """Adds to a decimal number, 0 if there is none; a time to live is for a key that is new."""
        key = as_bytes(key)
        number = ffi.new("int64_t *")
        options = write_options(ttl, expires_at, durability, keyspace, guard, session)
        check(lib.corering_incr(self._db, key, len(key), by, options, number))
        return int(number[0])

    def put_sequential(
        self,
        prefix: BytesLike,
        value: BytesLike,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        session: Optional[Session] = None,
    ) -> tuple[bytes, int]:
        """Stores a value under a new key, `prefix` and 20 digits: a number larger than those of all keys made so before, which
        never comes again. Returns the key and its version."""
        prefix, value = as_bytes(prefix), as_bytes(value)
        capacity = len(prefix) + 20
        key, length, version = ffi.new("char[]", capacity), ffi.new("size_t *"), ffi.new("uint64_t *")
        options = write_options(ttl, expires_at, durability, keyspace, None, session)
        check(
            lib.corering_put_sequential(
                self._db, prefix, len(prefix), value, len(value), options, key, capacity, length, version
            )
        )
        return bytes(ffi.buffer(key, length[0])), int(version[0])

    # -- watches --

    def watch(
        self,
        *,
        key: Optional[BytesLike] = None,
        prefix: Optional[BytesLike] = None,
        since: Optional[int] = None,
        limit_bytes: int = 0,
        keyspace: int = 0,
    ) -> Watch:
        """Every change of a key, of the keys with a prefix, or of all keys, in the order of commits: from now on, or after the version
        `since`. It is cut off if more than `limit_bytes` (32 MiB) wait."""
        return new_watch(self._db, key, prefix, since, limit_bytes, keyspace)

    def key_session(self, key: BytesLike, *, keyspace: int = 0) -> Optional[int]:
        """The session that a key goes with; None if it is not there or stays."""
        key = as_bytes(key)
        options = ffi.new("corering_read_options *", [ffi.sizeof("corering_read_options"), keyspace, 0, ffi.NULL])
        found = ffi.new("uint64_t *")
        status = check(lib.corering_key_session(self._db, key, len(key), options, found))
        return None if status == lib.CORERING_NOT_FOUND else int(found[0])

    # -- many at once --

    def batch(self, *, durability: Optional[DurabilityLike] = None, guard: Optional[Guards] = None) -> Batch:
        """Writes that take effect together: `with db.batch() as b: b.put(…)` commits at the end of the block."""
        return Batch(self._db, durability, guard)

    def execute(
        self,
        operations: Iterable[Operation],
        *,
        durability: Optional[DurabilityLike] = None,
        guard: Optional[Guards] = None,
    ) -> list[Result]:
        """Independent operations, one hop for each shard; each has its own result, in their order."""
        return run(self._db, operations, write_options(None, None, durability, 0, guard))

    def snapshot(self) -> Snapshot:
        """One state of the whole database, kept for reading."""
        return Snapshot(self._db)

    # -- transactions --

    def transaction(
        self,
        *,
        isolation: str = "strict",
        durability: Optional[DurabilityLike] = None,
        read_only: bool = False,
        timeout: Optional[Span] = None,
        remember: Optional[Span] = None,
        guard: Optional[Guards] = None,
    ) -> Transaction:
        """Reads and writes of any keys, all or nothing: `with db.transaction() as tx:` commits at the end of the block, and rolls back
        if an exception leaves it. A `ConflictError` says that others were faster: `transact` runs it again then.

        `isolation` is `"strict"` (as if each had run alone) or `"snapshot"`. It is ended after `timeout` (a minute). Its `fate` can
        be asked for the time `remember` (ten minutes; 0: not at all, which saves a write)."""
        return Transaction(self._db, How(isolation, durability, read_only, timeout, remember, guard))

    def transact(self, f: Callable[[Transaction], T], **how: Any) -> T:
        """Runs `f` in a transaction and commits it, again and again until that succeeds; returns what `f` returned. Any exception but
        that others were faster ends it, and so does an outcome that nobody knows (`may_have_committed`), and any exception after `f`
        committed the transaction by itself: it is not run twice then.
        Settings are those of `transaction`."""
        return transact(self._db, f, How(**how))

    def transactional(self, f: Callable[..., T]) -> Callable[..., T]:
        """Makes a function of a transaction one that runs in `transact`: `@db.transactional`, `def move(tx, …)`, then `move(…)`."""

        @functools.wraps(f)
        def run_it(*args: Any, **kwargs: Any) -> T:
            return self.transact(lambda tx: f(tx, *args, **kwargs))

        return run_it

    def fate(self, id: bytes) -> Optional[int]:
        """The commit of a transaction that is over, also in an earlier opening; None if it did not happen or wrote nothing.
        `TransactionTooOldError`: it is longer ago than it was to be remembered, and nobody knows."""
        return fate(self._db, id)

    # -- locks --

    def session(
        self,
        *,
        ttl: Span = DEFAULT_TTL,
        label: Union[str, bytes] = b"",
        keep_alive: bool = True,
        key: Optional[SessionKey] = None,
    ) -> Session:
        """A new holder of locks, which ends when it was not kept alive for `ttl` seconds; a daemon thread of its own does that.
        With the `key` of an earlier one: goes on with that."""
        return new_session(self._db, ttl, label.encode() if isinstance(label, str) else label, keep_alive, key)

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
        """A lock, held within `with db.lock(name) as lock:`, `"exclusive"` or `"shared"`. Waits `timeout` seconds for it, or as long as
        it takes, or, not `blocking`, not at all.

        It is held until it is released or its session ends. With a `ttl` its lease is so many seconds, and the thread that keeps the
        session alive renews it three times in each: it is lost (`Lock.lost`, and what it guards is refused) only if that cannot, such as
        when the process was stopped for longer. A `lease` is not renewed by itself: it is lost after so many seconds, unless the program
        calls `renew`.

        All locks of a database object that are made so belong to one session, which may take a lock again: they exclude other
        sessions. Threads that are to exclude each other each need a `session` of their own."""
        return self._session().lock(
            name, mode=mode, ttl=ttl, lease=lease, timeout=timeout, blocking=blocking, durability=durability
        )

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
        """As `lock`: `units` of `permits`, of which everybody who uses the name says the same number."""
        return self._session().semaphore(
            name,
            permits,
            units=units,
            ttl=ttl,
            lease=lease,
            timeout=timeout,
            blocking=blocking,
            durability=durability,
        )

    def _session(self) -> Session:
        """The session of `lock` and `semaphore`, made anew if it was lost."""
        with self._session_lock:
            own = self._own_session
            if own is None or own.lost is not None:
                own = self._own_session = self.session(label=f"python, process {os.getpid()}")
            return own

    def lock_info(self, name: Union[str, BytesLike]) -> list[LockPart]:
        """Who holds a lock, then who waits for it, in their order."""
        return lock_info(self._db, lock_name(name))

    def locks(self) -> list[LockEntry]:
        """The locks that are held or waited for, in no order; `lock_info` tells by whom."""
        return lock_list(self._db)

    def sessions(self) -> list[SessionInfo]:
        """The sessions that live."""
        return session_list(self._db)

    def kill_session(self, id: int) -> None:
        """Ends a session of which only the number is known."""
        check(lib.corering_session_kill(self._db, id))

    # -- all of it --

    def sync(self) -> None:
        """Makes durable everything that was answered before."""
        check(lib.corering_sync(self._db))

    def checkpoint(self) -> None:
        """Writes what is in memory as sorted tables and trims the log."""
        check(lib.corering_checkpoint(self._db))

    def stats(self, shard: Optional[int] = None) -> Stats:
        """Counters of one shard, or of all together."""
        raw = ffi.new("corering_stats *")
        raw.struct_size = ffi.sizeof("corering_stats")
        check(lib.corering_get_stats(self._db, lib.CORERING_ALL_SHARDS if shard is None else shard, raw))
        return Stats(**{name: getattr(raw, name) for name in Stats.__dataclass_fields__})

    def report(self) -> str:
        """What the opening found and did."""
        buffer = ffi.new("char[]", 65536)
        check(lib.corering_open_report(self._db, buffer, 65536, ffi.NULL))
        text: bytes = ffi.string(buffer)
        return text.decode("utf-8", "replace")

    @property
    def shards(self) -> int:
        count = ffi.new("uint32_t *")
        check(lib.corering_shard_count(self._db, count))
        return int(count[0])

    @property
    def path(self) -> str:
        return self._path

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self) -> None:
        """Everything answered becomes durable, the threads end. A second close does nothing."""
        if self._open:
            own, self._own_session = self._own_session, None
            if own is not None:
                with contextlib.suppress(Error):
                    own.close()
            self._open = False
            check(lib.corering_close(self._db))

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_open", False):
            self._open = False
            warnings.warn(f"the database {self._path} was not closed", ResourceWarning, source=self, stacklevel=2)
            lib.corering_close(self._db)

    def __repr__(self) -> str:
        return f"<corering.Database {self._path!r}{'' if self._open else ', closed'}>"


def open_database(
    path: Union[str, os.PathLike[str]],
    *,
    shards: Optional[int] = None,
    durability: DurabilityLike = "sync",
    must_exist: bool = False,
    must_not_exist: bool = False,
    pin_threads: bool = False,
    memtable_bytes: Optional[int] = None,
    segment_bytes: Optional[int] = None,
    inbox_len: Optional[int] = None,
    history_bytes: Optional[int] = None,
) -> Database:
    """Opens the database in a directory, and makes it if there is none."""
    options = ffi.new("corering_options *")
    check(lib.corering_options_init(options, ffi.sizeof("corering_options")))
    level = settings.as_durability(durability)
    options.durability = level.level
    options.interval_ms = level.interval_ms
    options.flags = (
        (lib.CORERING_OPEN_MUST_EXIST if must_exist else 0)
        | (lib.CORERING_OPEN_MUST_NOT_EXIST if must_not_exist else 0)
        | (lib.CORERING_OPEN_PIN_THREADS if pin_threads else 0)
    )
    given = {
        "shards": shards,
        "memtable_bytes": memtable_bytes,
        "segment_bytes": segment_bytes,
        "inbox_len": inbox_len,
        "history_bytes": history_bytes,
    }
    for name, number in given.items():
        if number is not None:
            if number <= 0:
                raise ValueError(f"{name} is {number}")
            setattr(options, name, number)
    handle = ffi.new("corering_db **")
    check(_open(lib.CORERING_ABI_VERSION, os.fsencode(path), options, handle))
    return Database(handle[0], os.fspath(path))


class Snapshot(Reader):
    """One state of the whole database. Close it when it is done with: it keeps what was overwritten since."""

    def __init__(self, db: Any) -> None:
        self._db = db
        made = ffi.new("corering_snapshot **")
        check(lib.corering_snapshot_new(db, made))
        self._snapshot = made[0]

    @property
    def version(self) -> int:
        """The last commit that it shows."""
        version = ffi.new("uint64_t *")
        check(lib.corering_snapshot_version(self._snapshot, version))
        return int(version[0])

    def close(self) -> None:
        """A second close does nothing."""
        snapshot = self._snapshot
        if snapshot is not None and not self._closed:
            self._closed = True
            check(lib.corering_snapshot_free(snapshot))

    _closed = False

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and self._snapshot != ffi.NULL:
            lib.corering_snapshot_free(self._snapshot)


class Batch:
    """Writes that take effect together or not at all, whatever shards their keys belong to."""

    def __init__(
        self, db: Any, durability: Optional[DurabilityLike] = None, guard: Optional[Guards] = None
    ) -> None:
        self._durability = durability
        self._guard = guard
        made = ffi.new("corering_batch **")
        check(lib.corering_batch_new(db, made))
        self._batch = ffi.gc(made[0], lib.corering_batch_free)

    def put(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        keyspace: int = 0,
    ) -> Batch:
        """Adds: store a value."""
        key, value = as_bytes(key), as_bytes(value)
        options = write_options(ttl, expires_at, None, keyspace)
        check(lib.corering_batch_put(self._batch, key, len(key), value, len(value), options))
        return self

    def delete(self, key: BytesLike, *, keyspace: int = 0) -> Batch:
        """Adds: remove a key."""
        key = as_bytes(key)
        check(lib.corering_batch_delete(self._batch, key, len(key), write_options(None, None, None, keyspace)))
        return self

    def __setitem__(self, key: BytesLike, value: BytesLike) -> None:
        self.put(key, value)

    def __delitem__(self, key: BytesLike) -> None:
        self.delete(key)

    def __len__(self) -> int:
        count = ffi.new("size_t *")
        check(lib.corering_batch_len(self._batch, count))
        return int(count[0])

    def clear(self) -> None:
        """Forgets what it holds."""
        check(lib.corering_batch_clear(self._batch))

    def commit(self) -> int:
        """Does all of it at once; returns the commit. The batch keeps its writes."""
        version = ffi.new("uint64_t *")
        options = write_options(None, None, self._durability, 0, self._guard)
        check(lib.corering_batch_commit(self._batch, options, version))
        return int(version[0])

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None:
            self.commit()
