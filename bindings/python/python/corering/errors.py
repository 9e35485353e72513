"""One exception class for each status of the C ABI, and what a program may decide by."""

from __future__ import annotations

from typing import ClassVar

from ._native import ffi, lib


class Error(Exception):
    """What went wrong in a call. Decide by the class, by `retryable`, or by `may_have_committed`; show the text."""

    #: The number of corering.h; for ever.
    status: int

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def name(self) -> str:
        """The status's name, such as "busy"."""
        text: bytes = ffi.string(lib.corering_status_name(self.status))
        return text.decode()

    @property
    def retryable(self) -> bool:
        """Nothing was done, and the same call may succeed later."""
        return bool(lib.corering_status_is_retryable(self.status))

    @property
    def may_have_committed(self) -> bool:
        """The write was not acknowledged, yet may be found later."""
        return bool(lib.corering_status_may_have_committed(self.status))

    def __reduce__(self) -> tuple[type[Error], tuple[str, int]]:
        return (type(self), (str(self), self.status))


class InvalidArgumentError(Error, ValueError):
    """An argument makes no sense; nothing was done."""


class InvalidHandleError(Error):
    """An object that was never opened."""


class ClosedError(Error):
    """The object, or its database, was closed."""


class ForkedError(Error):
    """The object belongs to the process that this one was forked from; open the database in this one."""


class AbiMismatchError(Error):
    """The package and its library do not fit together."""


class TooManyHandlesError(Error, MemoryError):
    """More objects are open than the library can number, or memory has run out."""


class PanicError(Error):
    """The library found a mistake of its own."""


class KeyTooLargeError(Error, ValueError):
    """The key is longer than 64 KiB."""


class ValueTooLargeError(Error, ValueError):
    """The value is longer than 64 MiB."""


class BatchTooLargeError(Error, ValueError):
    """The atomic batch holds more bytes than the engine takes at once."""


class CrossShardError(Error, ValueError):
    """Not raised any more: batches and transactions may have keys of any shards."""


class NotAnIntegerError(Error, ValueError):
    """An increment met a value that is no decimal 64-bit integer."""


class IncrementOverflowError(Error, OverflowError):
    """An increment would leave the range of 64-bit integers."""


class BusyError(Error):
    """A queue is full; nothing was done; try again."""


class NoSpaceError(Error, OSError):
    """The disk has no room; nothing was done; make room and try again."""


class PoisonedError(Error):
    """A shard stopped for good; the write may or may not be found after the next opening."""


class LockedError(Error):
    """The directory is open in another process, or by another object of this one."""


class CorruptError(Error):
    """Bytes on disk are not what was written there."""


class IncompatibleError(Error):
    """The directory was written by something that this version cannot read."""


class UnsupportedError(Error):
    """The kernel, the container or a limit does not allow what the engine needs; the text says what to do."""


class IoError(Error, OSError):
    """The operating system refused an operation."""


class LockError(Error):
    """A lock, a session or a guard said no; nothing was done."""


class LockHeldError(LockError):
    """Others hold the lock, and waiting was not asked for."""


class LockNotYetError(LockError):
    """No lock is granted yet after the machine was stopped, and waiting was not asked for; the text says for how long."""


class LockTimeoutError(LockError, TimeoutError):
    """The lock was not granted in the time given."""


class NotHeldError(LockError):
    """The session does not hold the lock."""


class WrongTokenError(LockError):
    """The session holds the lock by another token."""


class LeaseExpiredError(LockError):
    """The lease has run out; the lock must be taken anew."""


class FencedError(LockError):
    """A guard of the write has lost its lock; nothing was written."""


class NoSessionError(LockError):
    """The session does not exist or has ended."""


class WrongSecretError(LockError):
    """The secret is not the session's."""


class DeadlockError(LockError):
    """Sessions wait for each other, and this request gave way; the text names them."""


class OtherPermitsError(LockError, ValueError):
    """The semaphore is in use with another number of permits."""


class TransactionError(Error):
    """A transaction, or a part of it, was refused; nothing of that was done."""


class ConflictError(TransactionError):
    """Others changed what the transaction read, or kept what it would write; run it again, as `Database.transact` does."""


class TransactionEndedError(TransactionError):
    """The transaction was committed, rolled back or ended before."""


class TransactionTooOldError(TransactionError, TimeoutError):
    """The transaction was open for longer than its timeout."""


class TransactionTooLargeError(TransactionError, ValueError):
    """More than a transaction may hold; it is still open, without this call."""


class NoSavepointError(TransactionError, ValueError):
    """The savepoint was released, or rolled back beyond; the transaction is still open."""


class ReadOnlyError(TransactionError):
    """A write in a transaction that was begun to read only; it is still open."""


class CompactedError(Error):
    """Changes so far back are not kept any more; `progress` of the watch tells from where there are all."""


class LaggedError(Error):
    """The watch was cut off because it was not taken from; `progress` of it tells from where to go on."""


class _Classes:
    """By status."""

    by_status: ClassVar[dict[int, type[Error]]] = {
        lib.CORERING_ERROR_INVALID_ARGUMENT: InvalidArgumentError,
        lib.CORERING_ERROR_INVALID_HANDLE: InvalidHandleError,
        lib.CORERING_ERROR_CLOSED: ClosedError,
        lib.CORERING_ERROR_FORKED: ForkedError,
        lib.CORERING_ERROR_ABI_MISMATCH: AbiMismatchError,
        lib.CORERING_ERROR_TOO_MANY_HANDLES: TooManyHandlesError,
        lib.CORERING_ERROR_PANIC: PanicError,
        lib.CORERING_ERROR_KEY_TOO_LARGE: KeyTooLargeError,
        lib.CORERING_ERROR_VALUE_TOO_LARGE: ValueTooLargeError,
        lib.CORERING_ERROR_BATCH_TOO_LARGE: BatchTooLargeError,
        lib.CORERING_ERROR_CROSS_SHARD: CrossShardError,
        lib.CORERING_ERROR_NOT_AN_INTEGER: NotAnIntegerError,
        lib.CORERING_ERROR_OVERFLOW: IncrementOverflowError,
        lib.CORERING_ERROR_BUSY: BusyError,
        lib.CORERING_ERROR_NO_SPACE: NoSpaceError,
        lib.CORERING_ERROR_POISONED: PoisonedError,
        lib.CORERING_ERROR_LOCKED: LockedError,
        lib.CORERING_ERROR_CORRUPT: CorruptError,
        lib.CORERING_ERROR_INCOMPATIBLE: IncompatibleError,
        lib.CORERING_ERROR_UNSUPPORTED: UnsupportedError,
        lib.CORERING_ERROR_IO: IoError,
        lib.CORERING_ERROR_LOCK_HELD: LockHeldError,
        lib.CORERING_ERROR_LOCK_NOT_YET: LockNotYetError,
        lib.CORERING_ERROR_LOCK_TIMEOUT: LockTimeoutError,
        lib.CORERING_ERROR_NOT_HELD: NotHeldError,
        lib.CORERING_ERROR_WRONG_TOKEN: WrongTokenError,
        lib.CORERING_ERROR_LEASE_EXPIRED: LeaseExpiredError,
        lib.CORERING_ERROR_FENCED: FencedError,
        lib.CORERING_ERROR_NO_SESSION: NoSessionError,
        lib.CORERING_ERROR_WRONG_SECRET: WrongSecretError,
        lib.CORERING_ERROR_DEADLOCK: DeadlockError,
        lib.CORERING_ERROR_OTHER_PERMITS: OtherPermitsError,
        lib.CORERING_ERROR_CONFLICT: ConflictError,
        lib.CORERING_ERROR_TRANSACTION_ENDED: TransactionEndedError,
        lib.CORERING_ERROR_TRANSACTION_TOO_OLD: TransactionTooOldError,
        lib.CORERING_ERROR_TRANSACTION_TOO_LARGE: TransactionTooLargeError,
        lib.CORERING_ERROR_NO_SAVEPOINT: NoSavepointError,
        lib.CORERING_ERROR_READ_ONLY: ReadOnlyError,
        lib.CORERING_ERROR_COMPACTED: CompactedError,
        lib.CORERING_ERROR_LAGGED: LaggedError,
    }


def error(status: int, message: str) -> Error:
    """The exception for a status; of one that this version does not know, a plain `Error`."""
    return _Classes.by_status.get(status, Error)(message, status)


def last_error(status: int) -> Error:
    """The exception for the status that this thread's last call answered with."""
    buffer = ffi.new("char[]", 512)
    needed = ffi.new("size_t *")
    if lib.corering_error_message(buffer, 512, needed) == lib.CORERING_BUFFER_TOO_SMALL:
        buffer = ffi.new("char[]", needed[0] + 1)
        lib.corering_error_message(buffer, needed[0] + 1, needed)
    text: bytes = ffi.string(buffer)
    return error(status, text.decode("utf-8", "replace"))


def check(status: int) -> int:
    """Raises for a status below zero."""
    if status < 0:
        raise last_error(status)
    return status
