"""One workload of one Python library; prints its result as a line of JSON.

Usage: bench.py corering|lmdb|rocksdict put_durable|put_nowait|get DIR KEYS WARM_SECONDS SECONDS
"""

import collections
import json
import random
import struct
import sys
import time

VALUE = random.Random(7).randbytes(100)
SCATTER = 0x9E3779B97F4A7C15


def key(i: int) -> bytes:
    return struct.pack(">QQ", i * SCATTER & 0xFFFFFFFFFFFFFFFF, i)


class Corering:
    def __init__(self, directory: str, durable: bool) -> None:
        import corering

        self.settings = "durability=" + ("sync" if durable else "none")
        self.db = corering.open(directory, durability="sync" if durable else "none")
        self.put, self.get = self.db.put, self.db.get

    def close(self) -> None:
        self.db.close()


class Lmdb:
    def __init__(self, directory: str, durable: bool) -> None:
        import lmdb

        self.settings = "sync=True" if durable else "sync=False, writemap=True"
        self.settings += "; a write transaction for each put, a read transaction for each get"
        self.env = lmdb.open(directory, map_size=8 << 30, sync=durable, writemap=not durable)

    def put(self, name: bytes, value: bytes) -> None:
        with self.env.begin(write=True) as transaction:
            transaction.put(name, value)

    def get(self, name: bytes) -> bytes:
        with self.env.begin() as transaction:
            return transaction.get(name)

    def close(self) -> None:
        self.env.close()


class Rocksdict:
    def __init__(self, directory: str, durable: bool) -> None:
        from rocksdict import Options, Rdict, WriteOptions

        self.settings = "raw mode; WriteOptions.sync=" + str(durable)
        self.db = Rdict(directory, Options(raw_mode=True))
        options = WriteOptions()
        options.sync = durable
        self.db.set_write_options(options)
        self.put, self.get = self.db.put, self.db.get

    def close(self) -> None:
        self.db.close()


def main() -> None:
    system, what, directory = sys.argv[1:4]
    keys, warm, seconds = int(sys.argv[4]), float(sys.argv[5]), float(sys.argv[6])
    db = {"corering": Corering, "lmdb": Lmdb, "rocksdict": Rocksdict}[system](directory, what == "put_durable")
    numbers = random.Random(1)
    # Drawing keys is not what is measured.
    names = [key(numbers.randrange(keys)) for _ in range(min(keys, 100_000))]
    if what == "get":
        for i in range(keys):
            db.put(key(i), VALUE)
        get = db.get

        def step(name: bytes) -> None:
            if len(get(name)) != len(VALUE):
                raise AssertionError("a key that was put is not there")
    else:
        put = db.put

        def step(name: bytes) -> None:
            put(name, VALUE)

    counts: collections.Counter[int] = collections.Counter()
    clock = time.perf_counter_ns
    began = clock()
    counting_from, until = began + int(warm * 1e9), began + int((warm + seconds) * 1e9)
    operations, cpu, first, before = 0, 0.0, 0, began
    while before < until or operations == 0:
        for name in names:
            step(name)
            now = clock()
            if first:
                operations += 1
                took = now - before
                # Three digits are enough.
                digits = max(took.bit_length() - 10, 0)
                counts[took >> digits << digits] += 1
            elif now >= counting_from:
                first, cpu = now, time.process_time()
            before = now
            if now >= until and operations:
                break
    cpu = time.process_time() - cpu
    settings = db.settings
    db.close()
    print(
        json.dumps(
            {
                "settings": settings,
                "operations": operations,
                "per_second": operations / ((before - first) / 1e9),
                "cpu_us": cpu * 1e6 / operations,
                "latencies_ns": sorted(counts.items()),
            }
        )
    )


main()
