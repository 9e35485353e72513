"""redis-py as it is: pipelines, `transaction`, WATCH, and TX.* by its connections."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from redis.exceptions import ExecAbortError, ResponseError, WatchError

#: They lie on both shards.
ACCOUNTS = [f"account:{i}" for i in range(8)]


def test_a_pipeline_is_one_transaction(client: redis.Redis) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.set("a", 1).incr("a").mset({"b": 5, "c": 6}).mget("a", "b", "c").dbsize().delete("b").keys("*")
        done = pipe.execute()
    assert done[:6] == [True, 2, True, ["2", "5", "6"], 3, 1]
    assert sorted(done[6]) == ["a", "c"]


def test_an_error_inside_is_raised_with_its_command(client: redis.Redis) -> None:
    client.set("text", "x")
    with client.pipeline() as pipe:
        pipe.set("a", 1).incr("text").set("b", 2)
        with pytest.raises(ResponseError, match=r"Command # 2 \(INCR.*\) of pipeline caused error: value is not an integer"):
            pipe.execute()
        pipe.incr("text").get("a")
        done = pipe.execute(raise_on_error=False)
        assert isinstance(done[0], ResponseError) and done[1] == "1"
    # As in Redis, the others are done.
    assert client.mget("a", "b") == ["1", "2"]


def test_a_command_that_cannot_be_queued_aborts(client: redis.Redis) -> None:
    with client.pipeline() as pipe:
        pipe.set("a", 1)
        pipe.execute_command("NOSUCH", "x")
        with pytest.raises((ExecAbortError, ResponseError)):
            pipe.execute()
    assert client.get("a") is None


def test_a_watched_key_that_changes_is_a_watch_error(client: redis.Redis, port: int) -> None:
    with redis.Redis(port=port) as other, client.pipeline() as pipe:
        pipe.watch("k", "l")
        assert pipe.get("k") is None
        pipe.multi()
        pipe.set("k", "mine")
        other.set("l", "theirs")
        with pytest.raises(WatchError):
            pipe.execute()
    assert client.mget("k", "l") == [None, "theirs"]


def test_transaction_runs_until_it_is_alone(client: redis.Redis, port: int) -> None:
    other = redis.Redis(port=port)
    runs = 0

    def double(pipe: Any) -> str:
        nonlocal runs
        runs += 1
        value = int(pipe.get("n") or 1)
        if runs < 3:
            other.set("n", 10 * runs)
        pipe.multi()
        pipe.set("n", 2 * value)
        return "done"

    assert client.transaction(double, "n", value_from_callable=True) == "done"
    assert (runs, client.get("n")) == (3, "40")
    other.close()


def test_money_is_neither_made_nor_lost(client: redis.Redis, port: int) -> None:
    client.mset({name: 100 for name in ACCOUNTS})
    failures: list[BaseException] = []

    def move(seed: int) -> None:
        try:
            with redis.Redis(port=port, decode_responses=True) as own:
                for i in range(25):
                    source, target = ACCOUNTS[(seed + i) % 8], ACCOUNTS[(seed * 3 + i * 5 + 1) % 8]
                    if source == target:
                        continue

                    def step(pipe: Any, source: str = source, target: str = target) -> None:
                        balances = [int(pipe.get(source)), int(pipe.get(target))]
                        pipe.multi()
                        pipe.set(source, balances[0] - 7)
                        pipe.set(target, balances[1] + 7)

                    own.transaction(step, source, target)
                    with own.pipeline() as pipe:
                        pipe.decrby(source, 3).incrby(target, 3).mget(ACCOUNTS)
                        assert sum(map(int, pipe.execute()[2])) == 800
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=move, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sum(map(int, client.mget(ACCOUNTS))) == 800


def test_pipelines_without_a_transaction_and_resets(client: redis.Redis) -> None:
    with client.pipeline(transaction=False) as pipe:
        assert pipe.set("a", 1).get("a").execute() == [True, "1"]
    pipe = client.pipeline()
    pipe.watch("a")
    pipe.reset()
    client.set("a", 2)
    assert pipe.set("a", 3).execute() == [True]


def test_interactive_transactions(client: redis.Redis) -> None:
    # They belong to a connection: one of our own.
    with client.client() as own:
        run = own.execute_command
        begun = run("TX.BEGIN")
        assert run("TX.GET", begun, "a") is None
        assert run("TX.SET", begun, "a", "1", "PX", 100000) == "OK"
        assert run("TX.GETFORUPDATE", begun, "b") is None
        run("TX.SET", begun, "b", "2")
        assert run("TX.SCAN", begun) == ["a", "1", "b", "2"]
        assert client.get("a") is None
        commit = run("TX.COMMIT", begun)
        assert client.mget("a", "b") == ["1", "2"] and client.execute_command("TX.FATE", begun) == commit
        with pytest.raises(ResponseError, match="^NOTX "):
            run("TX.COMMIT", begun)
        begun = run("TX.BEGIN", "ISOLATION", "SERIALIZABLE")
        run("TX.GET", begun, "a")
        run("TX.SET", begun, "c", "x")
        client.set("a", "changed")
        with pytest.raises(ResponseError, match="^CONFLICT "):
            run("TX.COMMIT", begun)
        assert client.exists("c") == 0
