#!/usr/bin/env python3
"""Acquire and release of one lock by 1, 2, 16 and 64 contenders: Corering beside redis-py's Lock and etcd's lock, in one run.

    python3 benches/locks/compare.py [--seconds 3] [--contenders 1,2,16,64] [--only corering,redis,etcd]

Builds corering and the bench in process, makes a virtual environment with redis-py in target/lock-venv, starts its own servers on
free ports with their data beside each other, and stops them by process id. Needs redis-server and etcd (Debian: redis-server,
etcd-server) for the rows of those; a missing one is said and left out. Writes benches/results/locks.txt and locks.json.

All contenders are threads of Python processes (four contenders each at most), each with a connection of its own. One cycle is an
acquire that waits for as long as it takes, and a release; its time is that of both, waiting included.

corering   LOCK.ACQUIRE name BLOCK and LOCK.RELEASE over a connection of redis-py; levels SYNC and NONE
redis      redis.lock.Lock as it is (it asks again every 0.1 s) and with sleep=0.001; appendfsync always, and no persistence
etcd       its own lock service (/v3/lock/lock, /v3/lock/unlock: concurrency.Mutex in the server) over its JSON gateway; always durable
"""

import argparse
import base64
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
VENV = TARGET / "lock-venv"
RESULTS = ROOT / "benches" / "results"


def in_venv():
    """Run again where redis-py is."""
    python = VENV / "bin" / "python"
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "redis==8.1.0"], check=True)
    os.execv(python, [str(python), __file__, *sys.argv[1:]])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A process that answers on its port, until the end of `with`."""

    def __init__(self, words, port, log):
        self.words, self.port, self.log = words, port, log

    def __enter__(self):
        self.process = subprocess.Popen(self.words, stdout=open(self.log, "wb"), stderr=subprocess.STDOUT)
        began = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() - began > 30:
                    self.__exit__()
                    raise SystemExit(f"{self.words[0]} does not serve:\n{Path(self.log).read_text()[-2000:]}")
                time.sleep(0.05)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


# Each gives acquire and release for one contender.


def corering_client(port, level):
    import redis

    connection = redis.Redis(port=port).connection_pool.get_connection()

    def call(*words):
        connection.send_command(*words)
        return connection.read_response()

    call("SESSION.OPEN", "TTL", 600_000, "BIND", 0)
    return lambda: call("LOCK.ACQUIRE", "bench", "BLOCK", level), lambda: call("LOCK.RELEASE", "bench", level)


def redis_client(port, sleep):
    import redis

    lock = redis.Redis(port=port).lock("bench", timeout=30, sleep=sleep, thread_local=False)
    return lambda: lock.acquire(blocking=True), lock.release


def etcd_client(port, _):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(path, body):
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"etcd: {answer.status} {text[:200]}")
        return json.loads(text)

    lease = call("/v3/lease/grant", {"TTL": 600})["ID"]
    name, held = base64.b64encode(b"bench").decode(), []

    def acquire():
        held.append(call("/v3/lock/lock", {"name": name, "lease": lease})["key"])

    return acquire, lambda: call("/v3/lock/unlock", {"key": held.pop()})


CLIENTS = {"corering": corering_client, "redis": redis_client, "etcd": etcd_client}


def contend(kind, port, option, threads, seconds, ready, begin, out):
    """One process of contenders."""
    results, errors = [[] for _ in range(threads)], []
    barrier = threading.Barrier(threads + 1)
    over = threading.Event()

    def one(times):
        try:
            acquire, release = CLIENTS[kind](port, option)
            barrier.wait()
            while not over.is_set():
                began = time.perf_counter()
                acquire()
                release()
                times.append(time.perf_counter() - began)
        except Exception as error:  # It is told, and the run fails.
            errors.append(repr(error))
            barrier.abort()

    pool = [threading.Thread(target=one, args=(times,), daemon=True) for times in results]
    [thread.start() for thread in pool]
    ready.release()
    begin.wait()
    try:
        barrier.wait(60)
    except threading.BrokenBarrierError:
        errors.append("a contender did not begin")
    began = time.perf_counter()
    time.sleep(seconds)
    over.set()
    elapsed = time.perf_counter() - began
    counted = [list(times) for times in results]
    out.put((counted, elapsed, errors))
    [thread.join(60) for thread in pool]


def run(kind, port, option, contenders, seconds):
    processes = max(1, min(contenders // 4, 4)) if contenders > 1 else 1
    if contenders == 2:
        processes = 2
    share = [contenders // processes + (n < contenders % processes) for n in range(processes)]
    context = multiprocessing.get_context("spawn")
    ready, begin, out = context.Semaphore(0), context.Event(), context.Queue()
    words = [(kind, port, option, n, seconds, ready, begin, out) for n in share]
    pool = [context.Process(target=contend, args=each) for each in words]
    [process.start() for process in pool]
    [ready.acquire() for _ in pool]
    begin.set()
    answers = [out.get(timeout=seconds + 180) for _ in pool]
    [process.join(90) for process in pool]
    [process.kill() for process in pool if process.is_alive()]
    errors = [error for _, _, errors in answers for error in errors]
    if errors:
        raise SystemExit(f"{kind}: {errors[0]}")
    counts = [len(times) for counted, _, _ in answers for times in counted]
    times = sorted(t for counted, _, _ in answers for own in counted for t in own)
    elapsed = max(elapsed for _, elapsed, _ in answers)
    at = lambda part: times[int((len(times) - 1) * part)] * 1e6 if times else float("nan")
    return {
        "per_s": sum(counts) / elapsed,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "max_us": at(1.0),
        "least_per_most": min(counts) / max(counts) if max(counts) else 0.0,
    }


def systems(only, place):
    """Name, kind, option, durable, and how to start its server."""
    corering = TARGET / "release" / "corering"
    if "corering" in only:
        port = free_port()
        words = [corering, "serve", "--dir", place / "corering", "--port", str(port), "--log-format", "text"]
        for level in ("SYNC", "NONE"):
            yield f"corering {level.lower()}", "corering", level, level == "SYNC", words, port
    redis = shutil.which("redis-server")
    if "redis" in only and not redis:
        print("redis-server is not there: its rows are left out", file=sys.stderr)
    if "redis" in only and redis:
        for name, flags in (
            ("always", ["--appendonly", "yes", "--appendfsync", "always"]),
            ("none", ["--appendonly", "no"]),
        ):
            directory = place / f"redis-{name}"
            directory.mkdir()
            port = free_port()
            words = [redis, "--port", str(port), "--dir", directory, "--save", "", "--bind", "127.0.0.1", *flags]
            for sleep in (0.1, 0.001):
                yield f"redis-py Lock, {name}, sleep {sleep}", "redis", sleep, name == "always", words, port
    etcd = shutil.which("etcd")
    if "etcd" in only and not etcd:
        print("etcd is not there: its row is left out", file=sys.stderr)
    if "etcd" in only and etcd:
        port, peer = free_port(), free_port()
        client, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
        words = [etcd, "--data-dir", place / "etcd", "--listen-client-urls", client, "--advertise-client-urls", client]
        words += ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        words += ["--initial-cluster", f"default={peers}"]
        yield "etcd lock service", "etcd", None, True, words, port


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--contenders", default="1,2,16,64")
    parser.add_argument("--only", default="process,corering,redis,etcd")
    parser.add_argument("--waiters", default="1000000", help="of the crowd in process")
    parser.add_argument("--no-build", action="store_true", help="the programs are built")
    args = parser.parse_args()
    only = args.only.split(",")
    cargo = ["cargo", "build", "--release", "-q", "-p", "corering", "-p", "corering-benches"]
    if not args.no_build:
        subprocess.run(cargo, cwd=ROOT, check=True)
    rows, process = [], []
    place = Path(tempfile.mkdtemp(prefix="corering-lock-bench-", dir=TARGET))
    try:
        if "process" in only:
            environment = {**os.environ, "LOCK_BENCH_SECONDS": str(int(args.seconds)), "LOCK_BENCH_WAITERS": args.waiters}
            done = subprocess.run(
                [TARGET / "release" / "lock-bench"], env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
            process = [json.loads(line) for line in done.stdout.splitlines()]
        for name, kind, option, durable, words, port in systems(only, place):
            with Server([str(word) for word in words], port, place / "server.log"):
                for contenders in map(int, args.contenders.split(",")):
                    result = run(kind, port, option, contenders, args.seconds)
                    rows.append({"system": name, "durable": durable, "contenders": contenders, **result})
                    print(line(rows[-1]), file=sys.stderr)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    report(rows, process, args.seconds)


def line(row):
    return (
        f"{row['system']:<34} {'yes' if row['durable'] else 'no':<8} {row['contenders']:>4} {row['per_s']:>10.0f} "
        f"{row['p50_us']:>10.0f} {row['p99_us']:>10.0f} {row['max_us']:>10.0f} {row['least_per_most']:>8.2f}"
    )


def report(rows, process, seconds):
    text = [f"Acquire and release of one lock, {seconds} s each, {os.cpu_count()} processors, one run; waits included.", ""]
    head = f"{'over a socket':<34} {'durable':<8} {'of':>4} {'cycles/s':>10} {'p50 us':>10} {'p99 us':>10} {'max us':>10} {'fair':>8}"
    text += [head, *map(line, rows), "", "fair: the cycles of the slowest contender by those of the fastest.", ""]
    for row in process:
        facts = ", ".join(f"{name} {value:.2f}" for name, value in row.items() if name != "what")
        text.append(f"{row['what']:<56} {facts}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "locks.txt").write_text("\n".join(text) + "\n")
    (RESULTS / "locks.json").write_text(json.dumps({"seconds": seconds, "socket": rows, "process": process}, indent=1) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    in_venv()
    main()
