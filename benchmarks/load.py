"""Puts load on applications under a real server, one process of uvicorn, with wrk as the load generator."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from applications import SECRET, application

from litestar import Litestar

HERE = Path(__file__).parent
CONNECTIONS = 16
_RESULT = re.compile(r"\n\s+50%\s+(\S+)(?s:.*)99%\s+(\S+)(?s:.*)Requests/sec:\s+(\S+)")
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
# One token after the other.
_SCRIPT = """
local tokens, requests, sent = {%s}, {}, 0
function init()
    for i, token in ipairs(tokens) do
        requests[i] = wrk.format("GET", "/", {Host = wrk.headers.Host, Authorization = "Bearer " .. token})
    end
end
function request()
    sent = sent + 1
    return requests[sent %% #requests + 1]
end
"""


@dataclass
class Server:
    """What to put load on."""

    python: Path
    """The interpreter of its environment."""
    options: dict[str, Any]
    """The options of its backend."""
    tokens: list[str]
    """What to send in turn."""


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


def best_loads(servers: dict[str, Server], *, rounds: int, seconds: int) -> dict[str, Load]:
    """Put load on one application after the other, again and again, and return the best result of each.

    Args:
        servers: By name, what to put load on.
        rounds: How many times to go round.
        seconds: How long to go on each time.
    """
    best: dict[str, Load] = {}
    for _ in range(rounds):
        for name, server in servers.items():
            with _served(server) as url:
                _put_load_on(url, server.tokens, 1)
                load = _put_load_on(url, server.tokens, seconds)
            if name not in best or load.requests_per_second > best[name].requests_per_second:
                best[name] = load
    return best


@contextmanager
def _served(server: Server) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [str(server.python), "-E", "-m", "uvicorn", "--factory", "load:create_app", "--app-dir", str(HERE)]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--log-level", "error", "--no-access-log"],
        env={**os.environ, "BENCH_APPLICATION": json.dumps(server.options)},
    )
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("The server did not start")


def _put_load_on(url: str, tokens: list[str], seconds: int) -> Load:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT % ", ".join(map(json.dumps, tokens)))
        script.flush()
        command = ["wrk", "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script.name, url]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in printed or (found := _RESULT.search(printed)) is None:
        sys.exit(f"Not all requests succeeded:\n{printed}")
    p50, p99, per_second = found.groups()
    return Load(float(per_second), _milliseconds(p50), _milliseconds(p99))


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def main() -> None:
    # The released Litestar, which imports this file too, has none of these.
    from environments import released_litestar
    from tokens import distinct_tokens, with_secret

    from litestar.security.jwt.testing import LocalIssuer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="put load on for a second only, which is not precise")
    quick = parser.parse_args().quick
    if not shutil.which("wrk"):
        print("NOT RUN: wrk is not installed")
        return
    audiences, here, released = {"accepted_audiences": ["api"]}, Path(sys.executable), released_litestar()
    with LocalIssuer(audience="api") as issuer:
        tokens = distinct_tokens(issuer)
        secret, secret_tokens = {"token_secret": SECRET, **audiences}, [with_secret(token) for token in tokens]
        static = {"jwk": issuer.jwks["keys"][-1], "algorithm": "RS256", **audiences}
        remote = {"jwks_url": issuer.jwks_url, **audiences}
        servers = {
            "released Litestar, HS256": Server(released, secret, secret_tokens),
            "released Litestar, static PyJWK, RS256": Server(released, static, tokens),
            "HS256": Server(here, secret, secret_tokens),
            "RemoteJWKSet, RS256, first sight": Server(here, remote, tokens),
            "RemoteJWKSet, RS256, seen before": Server(here, remote, tokens[:1]),
        }
        best = best_loads(servers, rounds=1 if quick else 3, seconds=1 if quick else 4)
    print(f"Under uvicorn, one process, with wrk and {CONNECTIONS} connections: requests/s, p50 and p99 in ms")
    peer = best["released Litestar, HS256"].requests_per_second
    for name, load in best.items():
        per_second = load.requests_per_second
        print(f"  {name:<45} {per_second:8.0f} /s {per_second / peer:6.2f} x {load.p50:7.2f} {load.p99:7.2f}")


if __name__ == "__main__":
    main()
