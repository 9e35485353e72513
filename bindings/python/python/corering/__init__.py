"""Corering: a thread-per-core storage engine, inside the process.

    import corering

    with corering.open("data") as db:
        db[b"greeting"] = b"hello"          # durable when it returns
        print(db[b"greeting"])
        for key, value in db.scan(prefix=b"user:"):
            ...

Keys and values are bytes. Everything but `Scan`, `Batch` and `Transaction` may be used by any number of threads at the same time; the
interpreter's lock is released in every call. `corering.aio` has the same for asyncio.
"""

from __future__ import annotations

from . import aio as aio
from . import recipes as recipes
from ._native import ffi as _ffi
from ._native import lib as _lib
from .database import Batch, Database, Snapshot
from .database import open_database as open
from .errors import (
    AbiMismatchError,
    BatchTooLargeError,
    BusyError,
    ClosedError,
    ConflictError,
    CompactedError,
    CorruptError,
    CrossShardError,
    DeadlockError,
    Error,
    FencedError,
    ForkedError,
    IncompatibleError,
    IncrementOverflowError,
    InvalidArgumentError,
    InvalidHandleError,
    IoError,
    KeyTooLargeError,
    LaggedError,
    LeaseExpiredError,
    LockError,
    LockHeldError,
    LockNotYetError,
    LockTimeoutError,
    LockedError,
    NoSavepointError,
    NoSessionError,
    NoSpaceError,
    NotAnIntegerError,
    NotHeldError,
    OtherPermitsError,
    PanicError,
    PoisonedError,
    ReadOnlyError,
    TooManyHandlesError,
    TransactionEndedError,
    TransactionError,
    TransactionTooLargeError,
    TransactionTooOldError,
    UnsupportedError,
    ValueTooLargeError,
    WrongSecretError,
    WrongTokenError,
)
from .locks import Lock, LockEntry, LockPart, Loss, Session, SessionInfo, SessionKey
from .operations import Operation, Result
from .reading import Scan
from .settings import Condition, Durability, Entry, PutIf, Stats, Value
from .transactions import Savepoint, Transaction, Usage
from .watching import Change, Event, Watch

__version__: str = _ffi.string(_lib.corering_version()).decode()

KEY_LEN_MAX: int = _lib.CORERING_KEY_LEN_MAX
VALUE_LEN_MAX: int = _lib.CORERING_VALUE_LEN_MAX

__all__ = [
    "KEY_LEN_MAX",
    "VALUE_LEN_MAX",
    "AbiMismatchError",
    "Batch",
    "BatchTooLargeError",
    "BusyError",
    "Change",
    "ClosedError",
    "CompactedError",
    "Condition",
    "ConflictError",
    "CorruptError",
    "CrossShardError",
    "Database",
    "DeadlockError",
    "Durability",
    "Entry",
    "Error",
    "Event",
    "FencedError",
    "ForkedError",
    "IncompatibleError",
    "IncrementOverflowError",
    "InvalidArgumentError",
    "InvalidHandleError",
    "IoError",
    "KeyTooLargeError",
    "LaggedError",
    "LeaseExpiredError",
    "Lock",
    "LockError",
    "LockHeldError",
    "LockNotYetError",
    "LockEntry",
    "LockPart",
    "LockTimeoutError",
    "LockedError",
    "Loss",
    "NoSavepointError",
    "NoSessionError",
    "NoSpaceError",
    "NotAnIntegerError",
    "NotHeldError",
    "Operation",
    "OtherPermitsError",
    "PanicError",
    "PoisonedError",
    "PutIf",
    "ReadOnlyError",
    "Result",
    "Savepoint",
    "Scan",
    "Session",
    "SessionInfo",
    "SessionKey",
    "Snapshot",
    "Stats",
    "TooManyHandlesError",
    "Transaction",
    "TransactionEndedError",
    "TransactionError",
    "TransactionTooLargeError",
    "TransactionTooOldError",
    "UnsupportedError",
    "Usage",
    "Value",
    "ValueTooLargeError",
    "Watch",
    "WrongSecretError",
    "WrongTokenError",
    "aio",
    "open",
    "recipes",
]
