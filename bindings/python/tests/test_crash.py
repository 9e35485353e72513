"""A program that is killed with SIGKILL while it writes: every acknowledged write is there, at every level of durability, and every
batch and transaction is whole or absent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import corering

from .conftest import SMALL

ROUNDS = int(os.environ.get("CORERING_TEST_CRASH_ROUNDS", "4"))

WRITER = """
import asyncio, os, sys, threading
import corering
path, level, round = sys.argv[1:4]
durability = corering.Durability.interval(1.0) if level == "interval" else level
db = corering.open(path, shards=2, memtable_bytes=1 << 20, segment_bytes=1 << 20)

def value(key):
    return b"value of " + key * 5

def acknowledge(*keys):
    os.write(1, b"".join(key + b"\\n" for key in keys))

def put():
    n = 0
    while True:
        key = b"put-%s-%d" % (round.encode(), n)
        db.put(key, value(key), durability=durability)
        acknowledge(key)
        n += 1

def commit():
    n = 0
    while True:
        keys = [b"{batch-%s-%d}%d" % (round.encode(), n, part) for part in range(3)]
        with db.batch(durability=durability) as batch:
            for key in keys:
                batch.put(key, value(key))
        acknowledge(*keys)
        n += 1

def transact():
    n = 0
    while True:
        # Keys of any shards.
        keys = [b"tx-%s-%d-%d" % (round.encode(), n, part) for part in range(3)]
        with db.transaction(durability=durability) as tx:
            for part, key in enumerate(keys):
                if n > 0:
                    before = b"tx-%s-%d-%d" % (round.encode(), n - 1, part)
                    assert tx.get(before) == value(before)
                tx.put(key, value(key))
        acknowledge(*keys)
        n += 1

async def pipeline():
    adb = corering.aio.AsyncDatabase(db)
    async def one(who):
        n = 0
        while True:
            key = b"async-%s-%d-%d" % (round.encode(), who, n)
            await adb.put(key, value(key), durability=durability)
            acknowledge(key)
            n += 1
    await asyncio.gather(*(one(who) for who in range(8)))

threading.Thread(target=put, daemon=True).start()
threading.Thread(target=commit, daemon=True).start()
threading.Thread(target=transact, daemon=True).start()
asyncio.run(pipeline())
"""


def write_and_kill(path: Path, level: str, round_: int) -> list[bytes]:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), level, str(round_)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(0.05 + 0.097 * round_ % 0.4)
    assert writer.poll() is None, "the writer ended by itself"
    writer.kill()
    rest = writer.stdout.read()
    writer.wait()
    writer.stdout.close()
    # The last line may have been cut by the kill.
    return (first + rest).split(b"\n")[:-1]


@pytest.mark.parametrize("level", ["sync", "interval", "none"])
def test_nothing_acknowledged_is_lost(tmp_path: Path, level: str) -> None:
    acknowledged: list[bytes] = []
    for round_ in range(ROUNDS):
        written = write_and_kill(tmp_path / "db", level, round_)
        assert len(written) > 3, "nothing was written"
        acknowledged += written
        if round_ % 2 == 1 or round_ + 1 == ROUNDS:
            with corering.open(tmp_path / "db", **SMALL) as db:
                missing = [key for key in acknowledged if db.get(key) != b"value of " + key * 5]
                assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged writes are missing"
                batches = Counter(entry.key.split(b"}")[0] for entry in db.scan(prefix=b"{batch-"))
                transactions = Counter(entry.key.rsplit(b"-", 1)[0] for entry in db.scan(prefix=b"tx-"))
                assert batches and transactions, "no batch or no transaction was ever committed"
                torn = {name: parts for name, parts in (batches + transactions).items() if parts != 3}
                assert not torn, f"there in part: {torn}"
