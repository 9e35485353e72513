"""Independent operations that travel together: `Database.execute`."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Optional

from ._native import ffi, lib
from .errors import Error, check, error
from .settings import BytesLike, Condition, Span, as_bytes, milliseconds, unix_ms


@dataclass(frozen=True)
class Operation:
    """One operation; make it with one of the functions below."""

    kind: int
    key: bytes
    value: bytes = b""
    condition: Optional[Condition] = None
    by: int = 0
    ttl: Optional[Span] = None
    expires_at: Optional[datetime.datetime] = None
    keyspace: int = 0

    @staticmethod
    def get(key: BytesLike, *, keyspace: int = 0) -> Operation:
        return Operation(lib.CORERING_OP_GET, as_bytes(key), keyspace=keyspace)

    @staticmethod
    def put(
        key: BytesLike,
        value: BytesLike,
        *,
        condition: Optional[Condition] = None,
        ttl: Optional[Span] = None,
        expires_at: Optional[datetime.datetime] = None,
        keyspace: int = 0,
    ) -> Operation:
        kind = lib.CORERING_OP_PUT if condition is None else lib.CORERING_OP_PUT_IF
        return Operation(kind, as_bytes(key), as_bytes(value), condition, 0, ttl, expires_at, keyspace)

    @staticmethod
    def delete(key: BytesLike, *, keyspace: int = 0) -> Operation:
        return Operation(lib.CORERING_OP_DELETE, as_bytes(key), keyspace=keyspace)

    @staticmethod
    def incr(key: BytesLike, by: int = 1, *, keyspace: int = 0) -> Operation:
        return Operation(lib.CORERING_OP_INCR, as_bytes(key), by=by, keyspace=keyspace)

    def fill(self, place: Any, kept: list[Any]) -> None:
        """Writes itself to a corering_op; `kept` must live as long as that is used."""
        key, value = ffi.from_buffer(self.key), ffi.from_buffer(self.value)
        kept += [key, value]
        place.kind, place.keyspace = self.kind, self.keyspace
        place.key, place.key_len = key, len(self.key)
        place.value, place.value_len = value, len(self.value)
        place.delta = self.by
        if self.condition is not None:
            kept.append(self.condition.fill(place.condition))
        if self.ttl is not None:
            place.ttl_ms = milliseconds(self.ttl)
        if self.expires_at is not None:
            place.expires_at_ms = unix_ms(self.expires_at)


@dataclass(frozen=True)
class Result:
    """How one operation went; true unless it failed, was refused or found nothing."""

    #: Of a get that found something.
    value: Optional[bytes] = None
    #: The commit; of a refused put, the commit that wrote what is there.
    version: int = 0
    #: The new number of an increment; 1 if a deleted key was there.
    integer: int = 0
    #: Why it was not done.
    error: Optional[Error] = None
    status: int = 0

    def __bool__(self) -> bool:
        return self.status == 0


def result(raw: Any) -> Result:
    """What a corering_result says; frees its value."""
    data = bytes(ffi.buffer(raw.value.data, raw.value.len)) if raw.value.data != ffi.NULL else None
    lib.corering_value_free(ffi.addressof(raw, "value"))
    status: int = raw.status
    if status < 0:
        return Result(error=error(status, (data or b"").decode("utf-8", "replace")), status=status)
    return Result(value=data, version=raw.version, integer=raw.integer, status=status)


def run(db: Any, operations: Iterable[Operation], options: Any) -> list[Result]:
    given = list(operations)
    ops = ffi.new("corering_op[]", len(given))
    results = ffi.new("corering_result[]", len(given))
    kept: list[Any] = []
    for place, operation in zip(ops, given):
        operation.fill(place, kept)
    check(lib.corering_execute(db, ops, len(given), options, results))
    return [result(raw) for raw in results]
