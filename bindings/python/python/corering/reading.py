"""What a database and a snapshot share: gets, scans, and the mapping style of both."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, Optional, TypeVar, Union, overload

from ._native import ffi, lib
from .errors import check, last_error
from .settings import BytesLike, Entry, Value, as_bytes, from_unix_ms

T = TypeVar("T")

_get = lib.crpy_get
_unpack = ffi.unpack
_MISSING = lib.CRPY_NOT_FOUND
_TOO_SMALL = lib.CRPY_TOO_SMALL


class _Buffer(threading.local):
    """Where values arrive. A thread's own: another may run between the call and the copy."""

    def __init__(self) -> None:
        self.resize(4096)

    def resize(self, capacity: int) -> None:
        self.data: Any = ffi.new("char[]", capacity)
        self.capacity = capacity


_buffer = _Buffer()


class Reader:
    """Reads of one database, as it is now or as of a snapshot."""

    _db: Any
    _snapshot: Any = ffi.NULL

    @overload
    def get(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    def get(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    def get(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The value of a key, or `default`."""
        key = as_bytes(key)
        while True:
            buffer = _buffer
            data = buffer.data
            found = lib.crpy_get_into(
                self._db, key, len(key), keyspace, self._snapshot, data, buffer.capacity, ffi.NULL
            )
            if found >= 0:
                return _unpack(data, found)
            if found == _MISSING:
                return default
            self._grow(found, key, keyspace)

    def _grow(self, found: int, key: bytes, keyspace: int) -> None:
        if found != _TOO_SMALL:
            raise last_error(found)
        value = self.get_value(key, keyspace=keyspace)
        _buffer.resize(max(2 * _buffer.capacity, len(value.data) if value is not None else 0))

    def get_value(self, key: BytesLike, *, keyspace: int = 0) -> Optional[Value]:
        """The value of a key with its version and expiry, or None."""
        key = as_bytes(key)
        options = ffi.new("corering_read_options *", [ffi.sizeof("corering_read_options"), keyspace, 0, self._snapshot])
        value = ffi.new("corering_value *")
        if check(lib.corering_get(self._db, key, len(key), options, value)) == lib.CORERING_NOT_FOUND:
            return None
        try:
            return Value(bytes(ffi.buffer(value.data, value.len)), value.version, from_unix_ms(value.expires_at_ms))
        finally:
            lib.corering_value_free(value)

    def multi_get(self, keys: Iterable[BytesLike], *, keyspace: int = 0) -> list[Optional[bytes]]:
        """The values of many keys in their order; None for one that is not there."""
        given = [as_bytes(key) for key in keys]
        lens = ffi.new("size_t[]", [len(key) for key in given])
        rows = _rows()
        status = lib.crpy_multi_get(
            self._db, b"".join(given), lens, len(given), keyspace, self._snapshot, rows
        )
        check(status)
        return list(_cut(rows))

    def scan(
        self,
        *,
        prefix: Optional[BytesLike] = None,
        lower: Optional[BytesLike] = None,
        upper: Optional[BytesLike] = None,
        lower_exclusive: bool = False,
        upper_inclusive: bool = False,
        reverse: bool = False,
        limit: Optional[int] = None,
        keyspace: int = 0,
    ) -> Scan:
        """Entries of a range, in key order, in one consistent state."""
        options, kept = range_options(
            prefix=prefix,
            lower=lower,
            upper=upper,
            lower_exclusive=lower_exclusive,
            upper_inclusive=upper_inclusive,
            reverse=reverse,
            limit=limit,
            keyspace=keyspace,
        )
        if options is None:
            return Scan(ffi.NULL)
        options.snapshot = self._snapshot
        iterator = ffi.new("corering_iterator **")
        check(lib.corering_scan(self._db, options, iterator))
        del kept
        return Scan(iterator[0])

    def __getitem__(self, key: BytesLike) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (bytes, bytearray, memoryview)):
            return False
        key = bytes(key)
        length = ffi.new("size_t *")
        options = ffi.new("corering_read_options *", [ffi.sizeof("corering_read_options"), 0, 0, self._snapshot])
        status = check(
            lib.corering_get_into(self._db, key, len(key), options, ffi.NULL, 0, length, ffi.NULL)
        )
        return bool(status != lib.CORERING_NOT_FOUND)

    def __iter__(self) -> Iterator[bytes]:
        return self.keys()

    def keys(self) -> Iterator[bytes]:
        """All keys of keyspace 0, in order."""
        return (entry.key for entry in self.scan())

    def values(self) -> Iterator[bytes]:
        """All values of keyspace 0, in the order of their keys."""
        return (entry.value for entry in self.scan())

    def items(self) -> Scan:
        """All entries of keyspace 0, in the order of their keys."""
        return self.scan()


def range_options(
    *,
    prefix: Optional[BytesLike] = None,
    lower: Optional[BytesLike] = None,
    upper: Optional[BytesLike] = None,
    lower_exclusive: bool = False,
    upper_inclusive: bool = False,
    reverse: bool = False,
    limit: Optional[int] = None,
    keyspace: int = 0,
) -> tuple[Any, list[Any]]:
    """A corering_scan_options, none if nothing is wanted; and what must live as long as it is used."""
    options = ffi.new("corering_scan_options *")
    lib.corering_scan_options_init(options, ffi.sizeof("corering_scan_options"))
    options.keyspace = keyspace
    options.flags = (
        (lib.CORERING_SCAN_REVERSE if reverse else 0)
        | (lib.CORERING_SCAN_LOWER_EXCLUSIVE if lower_exclusive else 0)
        | (lib.CORERING_SCAN_UPPER_INCLUSIVE if upper_inclusive else 0)
    )
    kept: list[Any] = []
    for name, bound in (("prefix", prefix), ("lower", lower), ("upper", upper)):
        if bound is not None:
            data = as_bytes(bound)
            kept.append(ffi.new("char[]", data))
            setattr(options, name, kept[-1])
            setattr(options, name + "_len", len(data))
    if limit is not None:
        if limit < 0:
            raise ValueError("limit is below zero")
        if limit == 0:
            return None, kept
        options.limit = limit
    return options, kept


def _rows() -> Any:
    rows = lib.crpy_rows_new()
    if rows == ffi.NULL:
        raise MemoryError
    return ffi.gc(rows, lib.crpy_rows_free)


_ABSENT = 2**64 - 1


def _cut(rows: Any) -> Iterator[Optional[bytes]]:
    """What was packed, one by one."""
    count = rows.count
    if count == 0:
        return
    data: bytes = _unpack(rows.data, rows.len) if rows.len > 0 else b""
    at = 0
    for length in _unpack(rows.lens, count):
        if length == _ABSENT:
            yield None
        else:
            yield data[at : at + length]
            at += length


class Scan(Iterator[Entry]):
    """Walks over a range. For one thread at a time. It frees itself at its end, when closed, or when it goes."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator
        self._ready: Iterator[Entry] = iter(())
        self._rows: Any = None
        self._ask = 16

    def __iter__(self) -> Scan:
        return self

    def __next__(self) -> Entry:
        for entry in self._ready:
            return entry
        if not self._fill():
            self.close()
            raise StopIteration
        return next(self._ready)

    def _fill(self) -> bool:
        """Gets the next rows: few at first, for those who look at few, then many at once."""
        if self._iterator == ffi.NULL:
            return False
        if self._rows is None:
            self._rows = _rows()
        status = check(lib.crpy_fill(self._iterator, self._ask, self._rows))
        self._ask = 256
        if status == lib.CORERING_END:
            return False
        cells = list(_cut(self._rows))
        self._ready = map(Entry._make, zip(cells[::2], cells[1::2]))
        return True

    def close(self) -> None:
        """Gives up what is left of it."""
        iterator, self._iterator = self._iterator, ffi.NULL
        self._ready = iter(())
        if iterator != ffi.NULL:
            lib.corering_iterator_free(iterator)

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_iterator", None) is not None:
            self.close()
