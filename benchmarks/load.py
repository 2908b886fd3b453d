"""Puts load on applications under a real server, one process of uvicorn, with wrk as the load generator."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from applications import application

from litestar import Litestar

HERE = Path(__file__).parent
CONNECTIONS = 16
_RESULT = re.compile(r"\n\s+50%\s+(\S+)(?s:.*)99%\s+(\S+)(?s:.*)Requests/sec:\s+(\S+)")
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass
class Load:
    """What came of it."""

    requests_per_second: float
    p50: float
    """Milliseconds that half of the requests took at most."""
    p99: float
    """Milliseconds that all but one in a hundred took at most."""


def create_app() -> Litestar:
    """Make the application that the environment describes. The released Litestar runs this too."""
    given: dict[str, Any] = json.loads(os.environ["BENCH_APPLICATION"])
    if (jwks_url := given.pop("jwks_url", None)) is not None:
        from litestar.security.jwt import RemoteJWKSet

        given["key_provider"] = RemoteJWKSet(jwks_url)
    if (jwk := given.pop("jwk", None)) is not None:
        given["token_secret"] = jwt.PyJWK(jwk)
    return application(**given)


def is_available() -> bool:
    return shutil.which("wrk") is not None


def best_loads(servers: dict[str, tuple[Path, dict[str, Any], str]], *, rounds: int, seconds: int) -> dict[str, Load]:
    """Put load on one application after the other, again and again, and return the best result of each.

    Args:
        servers: By name, the interpreter, the options of the backend, and the token to send.
        rounds: How many times to go round.
        seconds: How long to go on each time.
    """
    best: dict[str, Load] = {}
    for _ in range(rounds):
        for name, (python, options, token) in servers.items():
            with _served(python, options, token) as url:
                _put_load_on(url, token, 1)
                load = _put_load_on(url, token, seconds)
            if name not in best or load.requests_per_second > best[name].requests_per_second:
                best[name] = load
    return best


@contextmanager
def _served(python: Path, options: dict[str, Any], token: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(python), "-m", "uvicorn", "--factory", "load:create_app", "--app-dir", str(HERE)]
    server = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "error", "--no-access-log"],
        env={**os.environ, "BENCH_APPLICATION": json.dumps(options)},
    )
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("The server did not start")


def _put_load_on(url: str, token: str, seconds: int) -> Load:
    command = [
        "wrk",
        "--latency",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "-H",
        f"Authorization: Bearer {token}",
        url,
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in printed or (found := _RESULT.search(printed)) is None:
        sys.exit(f"Not all requests succeeded:\n{printed}")
    p50, p99, per_second = found.groups()
    return Load(float(per_second), _milliseconds(p50), _milliseconds(p99))


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]
