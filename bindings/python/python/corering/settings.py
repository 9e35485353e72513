"""What calls are given besides keys and values: durability, conditions; and what they give back."""

from __future__ import annotations

import datetime
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional, Protocol, Union

from ._native import ffi, lib

#: What is taken for bytes.
BytesLike = Union[bytes, bytearray, memoryview]


def as_bytes(data: BytesLike) -> bytes:
    """Text is refused: whether it is UTF-8 is the program's to say."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"bytes are needed, not {type(data).__name__}; encode text first")


@dataclass(frozen=True)
class Durability:
    """When a write is answered. At every level, a process that is killed loses nothing that was answered."""

    level: int
    interval_ms: int = 0

    @staticmethod
    def sync() -> Durability:
        """Once it is durable on disk."""
        return Durability(lib.CORERING_DURABILITY_SYNC)

    @staticmethod
    def interval(seconds: float) -> Durability:
        """At once; durable within so many seconds."""
        return Durability(lib.CORERING_DURABILITY_INTERVAL, max(1, round(seconds * 1000)))

    @staticmethod
    def none() -> Durability:
        """At once; durable when something else makes it so."""
        return Durability(lib.CORERING_DURABILITY_NONE)


#: A level, or the name of one that needs no number: "sync" or "none".
DurabilityLike = Union[Durability, str]


def as_durability(given: DurabilityLike) -> Durability:
    if isinstance(given, Durability):
        return given
    if given == "sync":
        return Durability.sync()
    if given == "none":
        return Durability.none()
    raise ValueError(f"{given!r} is no durability: give 'sync', 'none', or Durability.interval(seconds)")


@dataclass(frozen=True)
class Condition:
    """What a conditional write asks of what is there."""

    kind: int
    expected: bytes = b""
    version_: int = 0

    @staticmethod
    def absent() -> Condition:
        """There is no such key."""
        return Condition(lib.CORERING_IF_ABSENT)

    @staticmethod
    def present() -> Condition:
        """There is such a key."""
        return Condition(lib.CORERING_IF_PRESENT)

    @staticmethod
    def equal(value: BytesLike) -> Condition:
        """The value is exactly this."""
        return Condition(lib.CORERING_IF_EQUAL, as_bytes(value))

    @staticmethod
    def version(version: int) -> Condition:
        """The value was written by exactly this commit."""
        return Condition(lib.CORERING_IF_VERSION, b"", version)

    def fill(self, place: Any) -> Any:
        """Writes itself to a corering_condition; what is returned must live as long as that is used."""
        kept = ffi.from_buffer(self.expected)
        place.kind = self.kind
        place.expected = kept
        place.expected_len = len(self.expected)
        place.version = self.version_
        return kept


@dataclass(frozen=True)
class PutIf:
    """What became of a conditional write; true if it was done."""

    done: bool
    #: The commit; if it was refused, the commit that wrote what is there, 0 if nothing is.
    version: int

    def __bool__(self) -> bool:
        return self.done


class Value(NamedTuple):
    """A value with what is known of it."""

    data: bytes
    #: The commit that wrote it, for `Condition.version`.
    version: int
    #: When it ceases to exist.
    expires_at: Optional[datetime.datetime]


class Entry(NamedTuple):
    """A key and its value."""

    key: bytes
    value: bytes


@dataclass(frozen=True)
class Stats:
    """What shards have done since the database was opened, and what they hold now; see corering_stats in corering.h."""

    shards: int
    writes: int
    write_bytes: int
    flushes: int
    flushed_bytes: int
    checkpoints: int
    merges: int
    stalls: int
    undurable_bytes: int
    replay_bytes: int
    log_file_bytes: int
    memory_bytes: int
    sealed_memtables: int
    tables: int
    table_bytes: int
    waiting: int
    snapshots: int
    tx_begun: int
    tx_committed: int
    tx_rolled_back: int
    tx_aborted_changed: int
    tx_aborted_kept: int
    tx_aborted_wounded: int
    tx_aborted_too_old: int
    tx_failed: int
    tx_waits: int
    tx_open: int
    tx_oldest_ms: int
    tx_retried: int
    tx_age_ms_total: int
    tx_age_ms_max: int
    lock_sessions: int
    lock_names: int
    lock_holds: int
    lock_waiters: int
    lock_grants: int
    lock_refused: int
    lock_waits: int
    lock_wait_ms_total: int
    lock_wait_ms_max: int
    lock_timeouts: int
    lock_cancelled: int
    lock_deadlocks: int
    lock_expired: int
    lock_orphaned: int
    lock_fenced: int


#: A span of time, in seconds if it is a number.
Span = Union[float, datetime.timedelta]


def milliseconds(span: Span) -> int:
    seconds = span.total_seconds() if isinstance(span, datetime.timedelta) else span
    if seconds <= 0:
        raise ValueError("a time to live is more than zero")
    return max(1, round(seconds * 1000))


def unix_ms(at: datetime.datetime) -> int:
    if at.tzinfo is None:
        raise ValueError("expires_at needs a time zone")
    return max(1, round(at.timestamp() * 1000))


def from_unix_ms(ms: int) -> Optional[datetime.datetime]:
    if ms == 0:
        return None
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    try:
        return epoch + datetime.timedelta(milliseconds=ms)
    except OverflowError:
        return datetime.datetime.max.replace(tzinfo=datetime.timezone.utc)


class Guard(Protocol):
    """A lock that a write depends on: the name, and the token by which it was held. `Lock` is one."""

    @property
    def name(self) -> bytes: ...
    @property
    def token(self) -> int: ...


#: One guard, or several that must all hold.
Guards = Union[Guard, Sequence[Guard]]

class SessionLike(Protocol):
    """A session that keys are put for: `Session` is one."""

    _key: Any


#: What options point to, for as long as they live.
_kept: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def guards_of(guard: Guards) -> tuple[Any, int, Any]:
    """corering_guards, how many, and what must live as long as they are used."""
    given = list(guard) if isinstance(guard, Sequence) else [guard]
    guards = ffi.new("corering_guard[]", len(given))
    names = [ffi.from_buffer(one.name) for one in given]
    for place, one, name in zip(guards, given, names):
        place.name, place.name_len, place.token = name, len(one.name), one.token
    return guards, len(given), names


def _put_guards(options: Any, guard: Guards) -> None:
    guards, count, names = guards_of(guard)
    options.guards, options.guards_len = guards, count
    _kept[options] = (guards, names)


def write_options(
    ttl: Optional[Span],
    expires_at: Optional[datetime.datetime],
    durability: Optional[DurabilityLike],
    keyspace: int,
    guard: Optional[Guards] = None,
    session: Optional[SessionLike] = None,
) -> Any:
    """A corering_write_options; null if all of it is the default."""
    if ttl is None and expires_at is None and durability is None and keyspace == 0 and guard is None and session is None:
        return ffi.NULL
    options = ffi.new("corering_write_options *")
    lib.corering_write_options_init(options, ffi.sizeof("corering_write_options"))
    options.keyspace = keyspace
    if ttl is not None:
        options.ttl_ms = milliseconds(ttl)
    if expires_at is not None:
        options.expires_at_ms = unix_ms(expires_at)
    if durability is not None:
        level = as_durability(durability)
        options.durability = level.level
        options.interval_ms = level.interval_ms
    if guard is not None:
        _put_guards(options, guard)
    if session is not None:
        options.session = session._key
        _kept.setdefault(options, ())
        _kept[options] = (_kept[options], session)
    return options
