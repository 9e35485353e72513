from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

#: The built program. scripts/python-test.sh names it.
SERVER = os.environ["CORERING_TEST_SERVER"]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    port_file = tmp_path / "port"
    arguments = ["--dir", str(tmp_path / "data"), "--shards", "2", "--port", "0", "--port-file", str(port_file)]
    with open(tmp_path / "log", "wb") as log:
        server = subprocess.Popen([SERVER, "serve", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        began = time.monotonic()
        while not (port_file.exists() and port_file.read_text().strip()):
            assert server.poll() is None and time.monotonic() - began < 60, (tmp_path / "log").read_text()
            time.sleep(0.005)
        yield int(port_file.read_text())
    finally:
        server.kill()
        server.wait()


@pytest.fixture(params=[2, 3])
def client(port: int, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    with redis.Redis(port=port, protocol=request.param, decode_responses=True, socket_timeout=30) as connected:
        yield connected
