"""What one call costs from Python: nanoseconds by kind of call. Usage: python bench.py DIR [KEYS]

Beside it, if they are installed, the packages lmdb and rocksdict on the same keys.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import corering

VALUE = b"v" * 100


def key_of(n: int) -> bytes:
    return ((n * 0x9E3779B97F4A7C15) % 2**64).to_bytes(8, "little") * 2


def measure(what: str, count: int, call: Callable[[], Any]) -> None:
    start = time.perf_counter_ns()
    call()
    print(f"{what:<44} {(time.perf_counter_ns() - start) / count:9.0f} ns")


def each(call: Callable[[bytes], Any], keys: Iterable[bytes]) -> None:
    for key in keys:
        call(key)


def corering_calls(path: Path, keys: list[bytes], shuffled: list[bytes]) -> None:
    with corering.open(path) as db:
        none = corering.Durability.none()
        measure("corering: put, not waiting, option", len(keys), lambda: each(lambda k: db.put(k, VALUE, durability=none), keys))
        measure("corering: put, durable", 2000, lambda: each(lambda k: db.put(k, VALUE), keys[:2000]))
        measure("corering: get", len(keys), lambda: each(db.get, shuffled))
        measure("corering: db[key]", len(keys), lambda: each(db.__getitem__, shuffled))
        measure("corering: multi_get of 100, each", len(keys), lambda: [db.multi_get(shuffled[n : n + 100]) for n in range(0, len(keys), 100)])
        measure("corering: scan, each", len(keys), lambda: sum(1 for _ in db.scan()))

        async def many() -> None:
            async with corering.aio.AsyncDatabase(db) as adb:
                for n in range(0, 20000, 256):
                    await asyncio.gather(*(adb.put(key, VALUE) for key in keys[n : n + 256]))

        measure("corering: asyncio put, durable, 256 in flight", 20000, lambda: asyncio.run(many()))
    with corering.open(path.with_name("none"), durability="none") as db:
        measure("corering: put, not waiting", len(keys), lambda: each(lambda k: db.put(k, VALUE), keys))


def lmdb_calls(path: Path, keys: list[bytes], shuffled: list[bytes]) -> None:
    import lmdb

    env = lmdb.open(str(path), map_size=1 << 32)
    soft = lmdb.open(str(path) + "-soft", map_size=1 << 32, sync=False)

    def put(env: Any, key: bytes) -> None:
        with env.begin(write=True) as txn:
            txn.put(key, VALUE)

    def get(key: bytes) -> Any:
        with soft.begin() as txn:
            return txn.get(key)

    measure("lmdb: put, not waiting", len(keys), lambda: each(lambda k: put(soft, k), keys))
    measure("lmdb: put, durable", 2000, lambda: each(lambda k: put(env, k), keys[:2000]))
    measure("lmdb: get in a transaction of its own", len(keys), lambda: each(get, shuffled))
    with soft.begin() as txn:
        measure("lmdb: get in one transaction", len(keys), lambda: each(txn.get, shuffled))
        measure("lmdb: scan, each", len(keys), lambda: sum(1 for _ in txn.cursor()))


def rocksdict_calls(path: Path, keys: list[bytes], shuffled: list[bytes]) -> None:
    import rocksdict

    db = rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True))
    sync = rocksdict.WriteOptions()
    sync.sync = True
    measure("rocksdict: put, not waiting", len(keys), lambda: each(lambda k: db.__setitem__(k, VALUE), keys))
    measure("rocksdict: put, durable", 2000, lambda: each(lambda k: db.put(k, VALUE, sync), keys[:2000]))
    measure("rocksdict: get", len(keys), lambda: each(db.get, shuffled))
    measure("rocksdict: scan, each", len(keys), lambda: sum(1 for _ in db.items()))
    db.close()


def main() -> None:
    path = Path(sys.argv[1])
    keys = [key_of(n) for n in range(int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)]
    shuffled = random.Random(1).sample(keys, len(keys))
    corering_calls(path / "corering", keys, shuffled)
    for name, calls in (("lmdb", lmdb_calls), ("rocksdict", rocksdict_calls)):
        try:
            calls(path / name, keys, shuffled)
        except ImportError:
            print(f"{name} is not installed")


if __name__ == "__main__":
    main()
