"""The main job, shown and checked: an issuer in one process, an application under an ASGI server in another.

Every step says what was expected and what was seen. The first that differs ends the demo with status 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import httpx2
import uvicorn

from litestar import Litestar, Request, get
from litestar.connection import ASGIConnection
from litestar.security.jwt import JWTAuth, OpenIDProvider, Token
from litestar.security.jwt.testing import LocalIssuer

AUDIENCE = "demo"
TRAFFIC_SECONDS = 4
CLIENTS = 4


async def retrieve_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return token.sub


@get("/me")
async def me(request: Request[str, Token, Any]) -> dict[str, str]:
    return {"user": request.user}


def create_app(issuer: str) -> Litestar:
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=OpenIDProvider(issuer),
        accepted_audiences=[AUDIENCE],
        exclude=["/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init], logging_config=None)


def run_issuer(pipe: Connection) -> None:
    """Do what the other end of the pipe says: a method of the issuer, with its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches all processes, and the parent ends this one
    with LocalIssuer(audience=AUDIENCE) as issuer:
        pipe.send(issuer.url)
        while (call := pipe.recv()) is not None:
            name, arguments = call
            pipe.send(getattr(issuer, name)(**arguments))


def run_app(pipe: Connection, issuer: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(issuer), log_level="warning"))
    pipe.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.run(sockets=[listener])


@contextmanager
def process(target: Callable[..., None], *arguments: Any) -> Iterator[tuple[Connection, str]]:
    """Run a function in a process of its own, with a pipe to it. The first thing it sends is its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours, ours.recv()
    finally:
        child.terminate()
        child.join(5)


class Demo:
    """The story, step by step."""

    def __init__(self, issuer: Connection, app_url: str) -> None:
        self.issuer = issuer
        self.url = f"{app_url}/me"
        self.client = httpx2.Client(timeout=20)
        self.started_at = time.monotonic()

    def ask_issuer(self, method: str, **arguments: Any) -> Any:
        self.issuer.send((method, arguments))
        return self.issuer.recv()

    def get(self, token: str | None = None) -> httpx2.Response:
        return self.client.get(self.url, headers={"Authorization": f"Bearer {token}"} if token else {})

    def check(self, step: str, expected: object, seen: object, note: str = "") -> None:
        verdict = "ok    " if seen == expected else "FAILED"
        print(f"{verdict} {step:<58} expected {expected}, saw {seen}{f'  ({note})' if note else ''}", flush=True)
        if seen != expected:
            self.fail(f"'{step}' is not as it should be")

    def fail(self, reason: str) -> NoReturn:
        sys.exit(f"The demo failed: {reason}.")

    def run(self) -> None:
        good = self.ask_issuer("token", sub="alice")
        refused = self.get()
        self.check("request without a token", 401, refused.status_code, refused.headers["WWW-Authenticate"])
        accepted = self.get(good)
        self.check("request with a token of the issuer", 200, accepted.status_code, accepted.text)
        for kind, token in {
            "forged": self.ask_issuer("forged_token", sub="alice"),
            "expired": self.ask_issuer("token", sub="alice", expires_in=-60),
            "issued for another application": self.ask_issuer("token", sub="alice", audience="other"),
        }.items():
            answer = self.get(token)
            self.check(f"token that is {kind}", 401, answer.status_code, answer.headers["WWW-Authenticate"])
        self.rotate_under_traffic()
        self.outage()
        print(f"All as expected, in {time.monotonic() - self.started_at:.1f} seconds.")

    def rotate_under_traffic(self) -> None:
        """Clients send the newest token all the time. Halfway, the issuer changes its key."""
        tokens = [self.ask_issuer("token", sub="alice")]
        end = time.monotonic() + TRAFFIC_SECONDS

        def send_requests() -> list[int]:
            statuses = []
            with httpx2.Client(timeout=20) as client:
                while time.monotonic() < end:
                    headers = {"Authorization": f"Bearer {tokens[-1]}"}
                    statuses.append(client.get(self.url, headers=headers).status_code)
            return statuses

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(send_requests) for _ in range(CLIENTS)]
            time.sleep(TRAFFIC_SECONDS / 2)
            kid = self.ask_issuer("rotate", keep=0)
            tokens.append(self.ask_issuer("token", sub="alice"))
            statuses = [status for client in clients for status in client.result()]
        failed = sum(status != 200 for status in statuses)
        self.check("failed requests while the key changes", 0, failed, f"of {len(statuses)}, the new key is {kid[:8]}…")

    def outage(self) -> None:
        token = self.ask_issuer("token", sub="bob")
        self.ask_issuer("gone")
        self.check("good token while the issuer is down", 200, self.get(token).status_code)
        self.check(
            "forged token while the issuer is down",
            401,
            self.get(self.ask_issuer("forged_token")).status_code,
        )
        self.ask_issuer("back")
        self.check("good token when the issuer is back", 200, self.get(token).status_code)


def serve(issuer: Connection, app_url: str) -> None:
    """Print how to call the application, and wait for the user to end it."""
    issuer.send(("token", {"sub": "alice", "expires_in": 86_400}))
    print(f"The application runs at {app_url}, its OpenAPI document is at {app_url}/schema. With a token of today:\n")
    print(f"curl -i -H 'Authorization: Bearer {issuer.recv()}' {app_url}/me\n")
    print("Ctrl+C ends it.", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the application and the issuer running")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        issuer, issuer_url = stack.enter_context(process(run_issuer))
        _, app_url = stack.enter_context(process(run_app, issuer_url))
        if arguments.serve:
            serve(issuer, app_url)
        else:
            Demo(issuer, app_url).run()


if __name__ == "__main__":
    main()
