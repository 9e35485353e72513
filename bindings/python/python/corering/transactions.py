"""Transactions: reads and writes of any keys that take effect together or not at all."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, Union, overload

from ._native import ffi, lib
from .errors import Error, check
from .reading import Scan, range_options
from .settings import (
    BytesLike,
    Condition,
    DurabilityLike,
    Guards,
    Span,
    Value,
    as_bytes,
    as_durability,
    from_unix_ms,
    guards_of,
    milliseconds,
    write_options,
)

T = TypeVar("T")

_ISOLATIONS = {"strict": lib.CORERING_ISOLATION_STRICT, "snapshot": lib.CORERING_ISOLATION_SNAPSHOT}


@dataclass(frozen=True)
class Usage:
    """How much of what a transaction may have it has."""

    write_bytes: int
    write_bytes_max: int
    reads: int
    reads_max: int
    age_ms: int
    age_ms_max: int


@dataclass(frozen=True)
class How:
    """How transactions are begun; see `Database.transaction`."""

    isolation: str = "strict"
    durability: Optional[DurabilityLike] = None
    read_only: bool = False
    timeout: Optional[Span] = None
    remember: Optional[Span] = None
    guard: Optional[Guards] = None

    def options(self, again: int) -> Any:
        options = ffi.new("corering_tx_options *")
        check(lib.corering_tx_options_init(options, ffi.sizeof("corering_tx_options")))
        if self.isolation not in _ISOLATIONS:
            raise ValueError(f"{self.isolation!r} is no isolation: give 'strict' or 'snapshot'")
        options.isolation = _ISOLATIONS[self.isolation]
        if self.durability is not None:
            level = as_durability(self.durability)
            options.durability, options.interval_ms = level.level, level.interval_ms
        if self.read_only:
            options.flags |= lib.CORERING_TX_READ_ONLY
        if self.timeout is not None:
            options.timeout_ms = milliseconds(self.timeout)
        if self.remember in (0, datetime.timedelta(0)):
            options.flags |= lib.CORERING_TX_NO_FATE
        elif self.remember is not None:
            options.remember_ms = milliseconds(self.remember)
        options.again = again
        return options


class TransactionBase:
    """What a transaction of threads and one of tasks share. For one thread at a time."""

    def __init__(self, db: Any, how: How, again: int = 0) -> None:
        made = ffi.new("corering_tx **")
        check(lib.corering_tx_begin(db, how.options(again), made))
        self._tx = ffi.gc(made[0], lib.corering_tx_free)
        self._open = True
        self._committed = False
        if how.guard is not None:
            self.guard(how.guard)

    @property
    def id(self) -> bytes:
        """Names it for ever, for `Database.fate`: 16 bytes."""
        id = ffi.new("corering_tx_id *")
        check(lib.corering_tx_get_id(self._tx, id))
        return bytes(ffi.buffer(id.bytes))

    @property
    def number(self) -> int:
        """Its age: smaller is older."""
        number = ffi.new("uint64_t *")
        check(lib.corering_tx_number(self._tx, number))
        return int(number[0])

    @property
    def open(self) -> bool:
        """Neither committed nor rolled back by the program."""
        return self._open

    def _value(self, call: Any, key: BytesLike, keyspace: int) -> Optional[Value]:
        key = as_bytes(key)
        options = ffi.new("corering_read_options *", [ffi.sizeof("corering_read_options"), keyspace, 0, ffi.NULL])
        value = ffi.new("corering_value *")
        if check(call(self._tx, key, len(key), options, value)) == lib.CORERING_NOT_FOUND:
            return None
        try:
            return Value(bytes(ffi.buffer(value.data, value.len)), value.version, from_unix_ms(value.expires_at_ms))
        finally:
            lib.corering_value_free(value)

    def _get(self, call: Any, key: BytesLike, default: Any, keyspace: int) -> Any:
        found = self._value(call, key, keyspace)
        return default if found is None else found.data

    def _put(
        self,
        key: BytesLike,
        value: BytesLike,
        ttl: Optional[Span],
        expires_at: Optional[datetime.datetime],
        keyspace: int,
    ) -> None:
        key, value = as_bytes(key), as_bytes(value)
        options = write_options(ttl, expires_at, None, keyspace)
        check(lib.corering_tx_put(self._tx, key, len(key), value, len(value), options))

    def put(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        keyspace: int = 0,
    ) -> None:
        """Stores a value when the transaction commits."""
        self._put(key, value, ttl, expires_at, keyspace)

    def delete(self, key: BytesLike, *, keyspace: int = 0) -> None:
        """Removes a key when the transaction commits. Whether it was there would be a read: `key in tx`."""
        key = as_bytes(key)
        check(lib.corering_tx_delete(self._tx, key, len(key), write_options(None, None, None, keyspace)))

    def put_if(
        self,
        key: BytesLike,
        value: BytesLike,
        condition: Condition,
        *,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        keyspace: int = 0,
    ) -> bool:
        """Stores a value if `condition` holds for what the transaction sees, which must then still hold at the commit."""
        key, value = as_bytes(key), as_bytes(value)
        asked = ffi.new("corering_condition *")
        kept = condition.fill(asked)
        options = write_options(ttl, expires_at, None, keyspace)
        status = check(lib.corering_tx_put_if(self._tx, key, len(key), value, len(value), asked, options))
        del kept
        return bool(status == lib.CORERING_OK)

    def guard(self, guard: Guards) -> None:
        """The commit takes effect only if these locks are held at that moment, else it fails with `FencedError`."""
        guards, count, kept = guards_of(guard)
        check(lib.corering_tx_guard(self._tx, guards, count))
        del kept

    @contextlib.contextmanager
    def savepoint(self) -> Iterator[Savepoint]:
        """A part: an exception that leaves the block takes back what was written in it, and nothing else."""
        number = ffi.new("uint64_t *")
        check(lib.corering_tx_savepoint(self._tx, number))
        place = Savepoint(self, int(number[0]))
        try:
            yield place
        except BaseException:
            with contextlib.suppress(Error):
                place.rollback()
                place.release()
            raise
        place.release()

    def usage(self) -> Usage:
        """How much of what it may have it has."""
        raw = ffi.new("corering_tx_usage *")
        raw.struct_size = ffi.sizeof("corering_tx_usage")
        check(lib.corering_tx_get_usage(self._tx, raw))
        return Usage(**{name: getattr(raw, name) for name in Usage.__dataclass_fields__})

    def rollback(self) -> None:
        """Ends it; nothing was done."""
        self._open = False
        check(lib.corering_tx_rollback(self._tx))

    @contextlib.contextmanager
    def _commits(self) -> Iterator[None]:
        """Around a commit. `_committed`: it took place, or nobody knows whether it did."""
        before, self._committed = self._committed, True
        try:
            yield
        except Error as error:
            self._committed = before or error.may_have_committed
            raise

    def _give_up(self) -> None:
        """At the end of a block that an exception left."""
        if self._open:
            self._open = False
            with contextlib.suppress(Error):
                check(lib.corering_tx_rollback(self._tx))


class Savepoint:
    """A place in a transaction to go back to."""

    def __init__(self, of: TransactionBase, number: int) -> None:
        self._of, self._number = of, number
        self._open = True

    def rollback(self) -> None:
        """Takes back what was written since; what was read stays read."""
        check(lib.corering_tx_rollback_to(self._of._tx, self._number))

    def release(self) -> None:
        """Forgets the place; the writes stay."""
        if self._open:
            self._open = False
            check(lib.corering_tx_release(self._of._tx, self._number))


class Transaction(TransactionBase):
    """Get one from `Database.transaction`; as a context manager, it commits at the end of the block, and rolls back if an exception
    leaves it."""

    #: The commit, once it committed; 0 if it wrote nothing.
    version: Optional[int] = None

    @overload
    def get(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    def get(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    def get(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The value as the transaction sees it, own writes included, or `default`."""
        return self._get(lib.corering_tx_get, key, default, keyspace)

    def get_value(self, key: BytesLike, *, keyspace: int = 0) -> Optional[Value]:
        """The value with its version and expiry, or None."""
        return self._value(lib.corering_tx_get, key, keyspace)

    @overload
    def get_for_update(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    def get_for_update(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    def get_for_update(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The latest value; no other transaction changes or keeps the key before this one has ended."""
        return self._get(lib.corering_tx_get_for_update, key, default, keyspace)

    def scan(self, **range_: Any) -> Scan:
        """As `Database.scan`, as the transaction sees it, read a page at a time."""
        return scan(self._tx, range_)

    def __getitem__(self, key: BytesLike) -> bytes:
        found = self._value(lib.corering_tx_get, key, 0)
        if found is None:
            raise KeyError(key)
        return found.data

    def __setitem__(self, key: BytesLike, value: BytesLike) -> None:
        self._put(key, value, None, None, 0)

    def __delitem__(self, key: BytesLike) -> None:
        if key not in self:
            raise KeyError(key)
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (bytes, bytearray, memoryview)):
            return False
        return self._value(lib.corering_tx_get, key, 0) is not None

    def commit(self) -> int:
        """Ends it, and returns the commit once that is durable and seen everywhere; 0 if it wrote nothing."""
        self._open = False
        version = ffi.new("uint64_t *")
        with self._commits():
            check(lib.corering_tx_commit(self._tx, version))
        self.version = int(version[0])
        return self.version

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None and self._open:
            self.commit()
        else:
            self._give_up()


def scan(tx: Any, range_: dict[str, Any]) -> Scan:
    options, kept = range_options(**range_)
    if options is None:
        return Scan(ffi.NULL)
    iterator = ffi.new("corering_iterator **")
    check(lib.corering_tx_scan(tx, options, iterator))
    del kept
    return Scan(iterator[0])


def fate(db: Any, id: bytes) -> Optional[int]:
    if len(id) != 16:
        raise ValueError(f"the id of a transaction has 16 bytes, not {len(id)}")
    raw = ffi.new("corering_tx_id *")
    ffi.buffer(raw.bytes)[:] = id
    version = ffi.new("uint64_t *")
    done = check(lib.corering_tx_fate(db, raw, version)) != lib.CORERING_NOT_FOUND
    return int(version[0]) if done else None


def pause(db: Any, again: int, attempt: int) -> float:
    """Seconds; none if the transaction will wait for its turn."""
    nanoseconds = ffi.new("uint64_t *")
    check(lib.corering_tx_pause_ns(db, again, attempt, nanoseconds))
    return float(nanoseconds[0]) / 1e9


def is_lost_race(error: Error) -> bool:
    """Nothing was done, for reasons of others' work. A full disk is retryable, too, but not by trying at once."""
    return error.status in (lib.CORERING_ERROR_CONFLICT, lib.CORERING_ERROR_BUSY)


def transact(db: Any, f: Callable[[Transaction], T], how: How) -> T:
    again = attempt = 0
    while True:
        tx = Transaction(db, how, again)
        again = tx.number
        try:
            with tx:
                if attempt > 0:
                    check(lib.corering_tx_wait_turn(tx._tx))
                answer = f(tx)
            return answer
        except Error as error:
            if tx._committed or not is_lost_race(error):
                raise
        time.sleep(pause(db, again, attempt))
        attempt += 1
