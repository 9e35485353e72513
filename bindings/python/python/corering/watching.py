"""Watches: every change of a key, or of the keys with a prefix, in the order of commits."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

from ._native import ffi, lib
from .errors import ClosedError, check
from .settings import BytesLike, as_bytes, from_unix_ms


@dataclass(frozen=True)
class Change:
    """What happened to a key."""

    key: bytes
    #: None: the key is gone.
    value: Optional[bytes]
    #: The commit that did it.
    version: int
    #: When the value ceases to exist, of which an event tells then.
    expires_at: Optional[datetime.datetime]
    keyspace: int


@dataclass(frozen=True)
class Event:
    """All changes that one commit made to what is watched."""

    version: int
    changes: tuple[Change, ...]


class Watch(Iterator[Event]):
    """Iterate over it for what comes; it waits, and ends when it or its database is closed. For one thread at a time.

    A watch that is not taken from is cut off (`LaggedError`), one from too far back is refused (`CompactedError`): in both
    cases `progress` tells from where to watch again."""

    def __init__(self, handle: Any) -> None:
        self._watch = handle
        self._change = ffi.new("corering_change *")
        self._version = ffi.new("uint64_t *")

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """The next event; None if there was none within `timeout` seconds. 0 only looks."""
        wait_ms = lib.CORERING_WAIT_FOREVER if timeout is None else max(0, round(timeout * 1000))
        changes: list[Change] = []
        while True:
            status = check(lib.corering_watch_next(self._watch, wait_ms, self._change))
            if status == lib.CORERING_END:
                return None
            raw = self._change
            gone = raw.flags & lib.CORERING_CHANGE_DELETED
            changes.append(
                Change(
                    bytes(ffi.buffer(raw.key, raw.key_len)) if raw.key_len else b"",
                    None if gone else bytes(ffi.buffer(raw.value, raw.value_len)) if raw.value_len else b"",
                    int(raw.version),
                    from_unix_ms(raw.expires_at_ms),
                    int(raw.keyspace),
                )
            )
            if not raw.flags & lib.CORERING_CHANGE_MORE:
                return Event(int(raw.version), tuple(changes))

    @property
    def progress(self) -> int:
        """Everything up to this version was taken, also if nothing has changed for long: a watch from it loses nothing."""
        check(lib.corering_watch_progress(self._watch, self._version))
        return int(self._version[0])

    def close(self) -> None:
        """Ends it; who waits for it is told. A second close does nothing."""
        watch, self._watch = self._watch, ffi.NULL
        if watch != ffi.NULL:
            lib.corering_watch_free(watch)

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Event:
        if self._watch == ffi.NULL:
            raise StopIteration
        try:
            event = self.next()
        except ClosedError:
            raise StopIteration from None
        assert event is not None
        return event

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_watch", ffi.NULL) != ffi.NULL:
            self.close()


def new_watch(
    db: Any, key: Optional[BytesLike], prefix: Optional[BytesLike], since: Optional[int], limit_bytes: int, keyspace: int
) -> Watch:
    if key is not None and prefix is not None:
        raise ValueError("give a key or a prefix")
    options = ffi.new("corering_watch_options *")
    check(lib.corering_watch_options_init(options, ffi.sizeof("corering_watch_options")))
    watched = as_bytes(key if key is not None else prefix if prefix is not None else b"")
    kept = ffi.from_buffer(watched)
    options.keyspace, options.limit_bytes = keyspace, limit_bytes
    options.key, options.key_len = kept, len(watched)
    options.flags = 0 if key is not None else lib.CORERING_WATCH_PREFIX
    if since is not None:
        options.flags |= lib.CORERING_WATCH_FROM
        setattr(options, "from", since)
    handle = ffi.new("corering_watch **")
    check(lib.corering_watch_new(db, options, handle))
    return Watch(handle[0])
