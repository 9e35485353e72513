"""asyncio over a completion queue: writes are submitted, the event loop polls one descriptor, futures are answered.

Reads need no hop and wait for no write, so they run at once in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import functools
import weakref
from types import TracebackType
from typing import Any, Awaitable, Callable, Optional, TypeVar, Union, overload

from ._native import ffi, lib
from .database import Batch, Database, Snapshot
from .errors import ClosedError, Error, InvalidHandleError, check, last_error
from .locks import Lock, Loss, Session
from .operations import Operation, Result, result
from .reading import Scan
from .settings import BytesLike, Condition, DurabilityLike, Guards, PutIf, Span, as_bytes, write_options
from .transactions import How, TransactionBase, is_lost_race, pause, scan
from .watching import Event, Watch

T = TypeVar("T")

_REAPED_AT_ONCE = 256


class AsyncDatabase:
    """A database for coroutines of one event loop. Get one from `corering.aio.open`, or wrap one: `AsyncDatabase(db)`.

    At most `capacity` writes are under way; further ones wait for their turn.
    """

    def __init__(self, db: Database, *, capacity: int = 1024, owns: bool = False) -> None:
        self._db = db
        self._owns = owns
        self._loop = asyncio.get_running_loop()
        self._capacity = capacity
        queue = ffi.new("corering_queue **")
        check(lib.corering_queue_new(db._db, capacity, queue))
        self._queue: Any = queue[0]
        fd = ffi.new("int32_t *")
        check(lib.corering_queue_fd(self._queue, fd))
        self._fd = int(fd[0])
        self._results = ffi.new("corering_result[]", _REAPED_AT_ONCE)
        self._count = ffi.new("size_t *")
        self._open: dict[int, asyncio.Future[Result]] = {}
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()
        self._watches: weakref.WeakSet[AsyncWatch] = weakref.WeakSet()
        self._next = 0
        self._closing = False
        self._closed = False
        self._loop.add_reader(self._fd, self._reap)

    # -- reads: no await inside --

    @overload
    async def get(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    async def get(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    async def get(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The value of a key, or `default`: what was answered before."""
        return self._db.get(key, default, keyspace=keyspace)

    async def multi_get(self, keys: list[BytesLike], *, keyspace: int = 0) -> list[Optional[bytes]]:
        """The values of many keys in their order; None for one that is not there."""
        return self._db.multi_get(keys, keyspace=keyspace)

    async def snapshot(self) -> Snapshot:
        """One state of the whole database. May wait for a write, and does so in another thread."""
        return await self._loop.run_in_executor(None, self._db.snapshot)

    async def scan(self, **range_: Any) -> Scan:
        """As `Database.scan`; the entries are then read without waiting."""
        return await self._loop.run_in_executor(None, lambda: self._db.scan(**range_))

    # -- writes --

    async def put(
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
        operation = Operation.put(key, value, ttl=ttl, expires_at=expires_at, keyspace=keyspace)
        return (await self._run(operation, durability, guard, session)).version

    async def delete(
        self,
        key: BytesLike,
        *,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
    ) -> bool:
        """Removes a key; says whether it was there."""
        return (await self._run(Operation.delete(key, keyspace=keyspace), durability, guard)).integer == 1

    async def put_if(
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
        operation = Operation.put(
            key, value, condition=condition, ttl=ttl, expires_at=expires_at, keyspace=keyspace
        )
        done = await self._run(operation, durability, guard, session)
        return PutIf(bool(done), done.version)

    async def incr(
        self,
        key: BytesLike,
        by: int = 1,
        *,
        durability: Optional[DurabilityLike] = None,
        keyspace: int = 0,
        guard: Optional[Guards] = None,
        session: Optional[Session] = None,
    ) -> int:
        """Adds to a decimal number, 0 if there is none."""
        return (await self._run(Operation.incr(key, by, keyspace=keyspace), durability, guard, session)).integer

    async def commit(
        self, batch: Batch, *, durability: Optional[DurabilityLike] = None, guard: Optional[Guards] = None
    ) -> int:
        """Does all writes of a batch at once; returns the commit."""
        options = write_options(None, None, durability, 0, guard)
        return (await self._submit(lambda at: self._send_batch(batch, options, at))).version

    async def sync(self) -> None:
        """Makes durable everything that was answered before."""
        await self._run(Operation(lib.CORERING_OP_SYNC, b""), None)

    def batch(self) -> Batch:
        """A batch for `commit`."""
        return self._db.batch()

    # -- transactions --

    def transaction(self, **how: Any) -> AsyncTransaction:
        """As `Database.transaction`, for `async with db.transaction() as tx:`."""
        return AsyncTransaction(self, How(**how))

    async def transact(self, f: Callable[[AsyncTransaction], Awaitable[T]], **how: Any) -> T:
        """As `Database.transact`, for a coroutine function."""
        given = How(**how)
        again = attempt = 0
        while True:
            tx = AsyncTransaction(self, given, again)
            again = tx.number
            try:
                async with tx:
                    if attempt > 0:
                        await tx._wait_turn()
                    answer = await f(tx)
                return answer
            except Error as error:
                if tx._committed or not is_lost_race(error):
                    raise
            await asyncio.sleep(pause(self._db._db, again, attempt))
            attempt += 1

    def transactional(self, f: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        """As `Database.transactional`, for a coroutine function."""

        @functools.wraps(f)
        async def run_it(*args: Any, **kwargs: Any) -> T:
            return await self.transact(lambda tx: f(tx, *args, **kwargs))

        return run_it

    async def fate(self, id: bytes) -> Optional[int]:
        """As `Database.fate`."""
        return await self._loop.run_in_executor(None, self._db.fate, id)

    # -- locks --

    def lock(self, name: Union[str, BytesLike], *, session: Optional[Session] = None, **how: Any) -> AsyncLock:
        """As `Database.lock`, for `async with db.lock(name) as lock:`. Each has a session of its own, so that tasks exclude each
        other, too; a thread keeps it alive, and the lock if it has a `ttl`, also while the loop is busy. Or give it the `session` to
        take it for."""
        return AsyncLock(self, session, lambda session: session.lock(name, **how))

    def semaphore(
        self, name: Union[str, BytesLike], permits: int, *, session: Optional[Session] = None, **how: Any
    ) -> AsyncLock:
        """As `Database.semaphore`, for `async with`."""
        return AsyncLock(self, session, lambda session: session.semaphore(name, permits, **how))

    async def _acquire(self, lock: Lock) -> None:
        """Takes a lock; the grant is a completion."""
        session = lock.session
        options = lock.options()

        def send(at: int) -> int:
            name = lock.name
            return int(lib.corering_queue_acquire(self._queue, session._key, name, len(name), options, at))

        at, answer = await self._begin(send)
        try:
            done = await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.shield(self._take_back(lock, at, answer))
            raise
        if done.error is not None:
            raise done.error
        lock.granted(done.version)

    async def _take_back(self, lock: Lock, at: int, answer: asyncio.Future[Result]) -> None:
        """Ends a wait for a lock, and gives back a grant that came first."""
        while lib.corering_queue_cancel(self._queue, at) == lib.CORERING_ERROR_BUSY:
            await asyncio.sleep(0.001)
        done = await answer
        if done.error is None:
            lock.granted(done.version)
            with contextlib.suppress(Error):
                await self._loop.run_in_executor(None, lock.release)

    async def next_loss(self, session: Session) -> Loss:
        """As `Session.next_loss`, waiting without a thread: `await db.next_loss(lock.session)`. One task at a time asks for a session."""
        while True:
            loss = session.next_loss(timeout=0)
            if loss is not None:
                return loss
            key = session._key
            await self._submit(lambda at: int(lib.corering_queue_lost(self._queue, key, at)))

    # -- watches --

    def watch(self, **what: Any) -> AsyncWatch:
        """As `Database.watch`, for `async with db.watch(...) as watch:` and `async for event in watch:`."""
        return AsyncWatch(self, self._db.watch(**what))

    # -- its end --

    async def close(self) -> None:
        """Waits for what is under way, then ends; closes the database if `corering.aio.open` opened it."""
        if not self._closing:
            self._closing = True
            for watch in list(self._watches):
                watch.close()
            if self._open:
                await asyncio.wait(set(self._open.values()))
            self._end()
            if self._owns:
                await self._loop.run_in_executor(None, self._db.close)

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)
            check(lib.corering_queue_free(self._queue))

    async def __aenter__(self) -> AsyncDatabase:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            # The reader was registered with the loop and kept this alive; so the loop is gone, too.
            lib.corering_queue_free(self._queue)

    # -- the queue --

    async def _run(
        self,
        operation: Operation,
        durability: Optional[DurabilityLike],
        guard: Optional[Guards] = None,
        session: Optional[Session] = None,
    ) -> Result:
        options = write_options(None, None, durability, 0, guard, session)
        return await self._submit(lambda at: self._send(operation, options, at))

    async def _submit(self, send: Callable[[int], int]) -> Result:
        _, answer = await self._begin(send)
        done = await answer
        if done.error is not None:
            raise done.error
        return done

    async def _begin(self, send: Callable[[int], int]) -> tuple[int, asyncio.Future[Result]]:
        """Sends something off, once there is room for it; its tag, and its completion to come."""
        while True:
            if self._closing:
                raise ClosedError("the asynchronous database is closed", lib.CORERING_ERROR_CLOSED)
            at = self._next
            status = send(at)
            if status >= 0:
                break
            if status != lib.CORERING_ERROR_BUSY:
                raise last_error(status)
            await self._turn()
        self._next = at + 1
        future: asyncio.Future[Result] = self._loop.create_future()
        self._open[at] = future
        return at, future

    async def _turn(self) -> None:
        """Waits until a completion was reaped."""
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _send(self, operation: Operation, options: Any, at: int) -> int:
        op = ffi.new("corering_op *")
        kept: list[Any] = []
        operation.fill(op, kept)
        op.user_data = at
        return int(lib.corering_queue_submit(self._queue, op, 1, options, self._count))

    def _send_batch(self, batch: Batch, options: Any, at: int) -> int:
        return int(lib.corering_queue_submit_batch(self._queue, batch._batch, options, at))

    def _reap(self) -> None:
        check(lib.corering_queue_reap(self._queue, self._results, _REAPED_AT_ONCE, self._count))
        for at in range(self._count[0]):
            raw = self._results[at]
            future = self._open.pop(raw.user_data, None)
            done = result(raw)
            # A caller that was cancelled has gone; its write was done all the same.
            if future is not None and not future.done():
                future.set_result(done)
            while self._waiting:
                turn = self._waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break


class AsyncWatch:
    """A watch of one task: `async for` waits without a thread."""

    def __init__(self, db: AsyncDatabase, watch: Watch) -> None:
        self._db, self._watch = db, watch
        db._watches.add(self)

    async def next(self) -> Event:
        """The next event."""
        while True:
            event = self._watch.next(timeout=0)
            if event is not None:
                return event
            handle = self._watch._watch
            await self._db._submit(lambda at: int(lib.corering_queue_watch(self._db._queue, handle, at)))

    @property
    def progress(self) -> int:
        """As `Watch.progress`."""
        return self._watch.progress

    def close(self) -> None:
        """Ends it; a task that waits for it is told."""
        self._watch.close()

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.next()
        except (ClosedError, InvalidHandleError):
            raise StopAsyncIteration from None

    async def __aenter__(self) -> AsyncWatch:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class AsyncTransaction(TransactionBase):
    """A transaction of one task. Reads and writes need no await inside but `get_for_update` and `scan`; a task that is cancelled in the
    block rolls it back, one that is cancelled while it commits does not learn the outcome: ask `AsyncDatabase.fate`."""

    #: The commit, once it committed; 0 if it wrote nothing.
    version: Optional[int] = None

    def __init__(self, db: AsyncDatabase, how: How, again: int = 0) -> None:
        super().__init__(db._db._db, how, again)
        self._of = db

    @overload
    async def get(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    async def get(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    async def get(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The value as the transaction sees it, own writes included, or `default`."""
        return self._get(lib.corering_tx_get, key, default, keyspace)

    @overload
    async def get_for_update(self, key: BytesLike, default: None = None, *, keyspace: int = 0) -> Optional[bytes]: ...
    @overload
    async def get_for_update(self, key: BytesLike, default: T, *, keyspace: int = 0) -> Union[bytes, T]: ...
    async def get_for_update(self, key: BytesLike, default: Any = None, *, keyspace: int = 0) -> Any:
        """The latest value; no other transaction changes or keeps the key before this one has ended."""
        key = as_bytes(key)
        options = ffi.new("corering_read_options *", [ffi.sizeof("corering_read_options"), keyspace, 0, ffi.NULL])
        queue = self._of._queue

        def send(at: int) -> int:
            return int(lib.corering_queue_get_for_update(queue, self._tx, key, len(key), options, at))

        found = (await self._of._submit(send)).value
        return default if found is None else found

    async def _wait_turn(self) -> None:
        queue = self._of._queue
        await self._of._submit(lambda at: int(lib.corering_queue_wait_turn(queue, self._tx, at)))

    async def scan(self, **range_: Any) -> Scan:
        """As `Database.scan`, as the transaction sees it; the entries are then read a page at a time, without waiting."""
        return scan(self._tx, range_)

    async def commit(self) -> int:
        """Ends it, and returns the commit once that is durable and seen everywhere; 0 if it wrote nothing."""
        queue = self._of._queue
        with self._commits():
            done = await self._of._submit(lambda at: self._send(queue, at))
        self.version = done.version
        return done.version

    def _send(self, queue: Any, at: int) -> int:
        status = int(lib.corering_queue_commit(queue, self._tx, at))
        if status != lib.CORERING_ERROR_BUSY:
            self._open = False
        return status

    async def __aenter__(self) -> AsyncTransaction:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if kind is None and self._open:
            try:
                await self.commit()
            finally:
                self._give_up()
        else:
            self._give_up()


class AsyncLock:
    """A lock of one task. Cancelling the task while it waits ends the wait, and gives back a grant that came at the same time."""

    def __init__(self, db: AsyncDatabase, session: Optional[Session], make: Callable[[Session], Lock]) -> None:
        self._db = db
        self._session = session
        self._make = make
        self._lock: Optional[Lock] = None

    async def __aenter__(self) -> Lock:
        session = self._session
        if session is None:
            session = await self._db._loop.run_in_executor(None, self._db._db.session)
        try:
            lock = self._make(session)
            await self._db._acquire(lock)
        except BaseException:
            if self._session is None:
                await self._do(session.close)
            raise
        self._lock = lock
        return lock

    async def __aexit__(self, *_: object) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            await self._do(lock.session.close if self._session is None else lock.release)

    async def _do(self, call: Callable[[], Any]) -> None:
        """Also if the task is cancelled meanwhile."""
        await asyncio.shield(self._db._loop.run_in_executor(None, call))


async def open(path: Any, *, capacity: int = 1024, **options: Any) -> AsyncDatabase:
    """Opens a database as `corering.open` does, in another thread, since it may have a log to replay."""
    from .database import open_database

    loop = asyncio.get_running_loop()
    db = await loop.run_in_executor(None, lambda: open_database(path, **options))
    return AsyncDatabase(db, capacity=capacity, owns=True)
