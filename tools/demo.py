"""The main job, shown and checked: an issuer in this process, an application under an ASGI server in another.

Every step prints what was expected and what was seen. The first step that fails ends the demo with status 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from threading import Thread
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
        exclude=["^/schema"],
    )
    return Litestar([me], on_app_init=[jwt_auth.on_app_init], logging_config=None)


def run_app(pipe: Connection, issuer: str) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(issuer), log_level="warning"))
    Thread(target=stop_with_parent, args=(server,), daemon=True).start()
    pipe.send(f"http://127.0.0.1:{listener.getsockname()[1]}")
    server.run(sockets=[listener])


def stop_with_parent(server: uvicorn.Server) -> None:
    """End with the demo, even if that was killed and could not end this process."""
    if parent := multiprocessing.parent_process():
        parent.join()
    server.should_exit = True


@contextmanager
def app_process(issuer: str) -> Iterator[str]:
    """Run the application in another process, and return its URL."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=run_app, args=(theirs, issuer), daemon=True)
    child.start()
    try:
        theirs.close()
        yield ours.recv()
    finally:
        child.terminate()
        child.join(5)
        child.kill()


class Demo:
    """The story, step by step."""

    def __init__(self, issuer: LocalIssuer, app_url: str) -> None:
        self.issuer = issuer
        self.forger = LocalIssuer(audience=AUDIENCE, issuer=issuer.issuer)
        self.url = f"{app_url}/me"

    def get(self, token: str | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.get(self.url, headers=headers, timeout=20, trust_env=False)

    def forged_token(self) -> str:
        """Create a token that names the issuer and its key, but has another signature."""
        return self.forger.token("alice", headers={"kid": self.issuer.jwks["keys"][-1]["kid"]})

    def check(self, step: str, expected: object, seen: object, note: str = "") -> None:
        verdict = "ok    " if seen == expected else "FAILED"
        print(f"{verdict} {step:<58} expected {expected}, saw {seen}{f'  ({note})' if note else ''}", flush=True)
        if seen != expected:
            self.fail(f"unexpected result of '{step}'")

    def fail(self, reason: str) -> NoReturn:
        sys.exit(f"The demo failed: {reason}.")

    def tokens_are_judged(self) -> None:
        refused = self.get()
        self.check("request without a token", 401, refused.status_code, refused.headers["WWW-Authenticate"])
        accepted = self.get(self.issuer.token("alice"))
        self.check("request with a token of the issuer", 200, accepted.status_code, accepted.text)
        for kind, token in {
            "forged": self.forged_token(),
            "expired": self.issuer.token("alice", expires_in=-60),
            "issued for another application": self.issuer.token("alice", aud="other"),
        }.items():
            answer = self.get(token)
            self.check(f"token that is {kind}", 401, answer.status_code, answer.headers["WWW-Authenticate"])

    def key_changes_under_traffic(self) -> None:
        """Let clients send the newest token all the time. Halfway, the issuer changes its key."""
        tokens = [self.issuer.token("alice")]
        end = time.monotonic() + TRAFFIC_SECONDS

        def send_requests() -> list[int]:
            statuses = []
            with httpx2.Client(timeout=20, trust_env=False) as client:
                while time.monotonic() < end:
                    headers = {"Authorization": f"Bearer {tokens[-1]}"}
                    statuses.append(client.get(self.url, headers=headers).status_code)
            return statuses

        with ThreadPoolExecutor(CLIENTS) as pool:
            clients = [pool.submit(send_requests) for _ in range(CLIENTS)]
            time.sleep(TRAFFIC_SECONDS / 2)
            kid = self.issuer.rotate()
            tokens.append(self.issuer.token("alice"))
            statuses = [status for client in clients for status in client.result()]
        failed = sum(status != 200 for status in statuses)
        self.check("failed requests while the key changes", 0, failed, f"of {len(statuses)}, the new key is {kid[:8]}…")

    def issuer_is_down(self) -> None:
        self.check("good token while the issuer is down", 200, self.get(self.issuer.token("bob")).status_code)
        answer = self.get(self.forged_token())
        # The issuer could have a new key under the same ID, so the application asks it, unless it has just asked twice.
        notes = {401: "the known key does not fit", 503: "the issuer may have a new key, and it cannot be asked"}
        seen = "refused" if answer.status_code in notes else answer.status_code
        note = f"{answer.status_code}: {notes.get(answer.status_code)}"
        self.check("forged token while the issuer is down", "refused", seen, note)

    def issuer_is_back(self) -> None:
        self.check("good token when the issuer is back", 200, self.get(self.issuer.token("bob")).status_code)


def serve(issuer: LocalIssuer, app_url: str) -> None:
    """Print how to call the application, and wait for the user to end it."""
    token = issuer.token("alice", expires_in=86_400)
    print(f"The application runs at {app_url}, its OpenAPI document is at {app_url}/schema. With a token for today:\n")
    print(f"curl -i -H 'Authorization: Bearer {token}' {app_url}/me\n")
    print("To verify such tokens in an application of your own, give its backend these options:\n")
    print(f'key_provider=OpenIDProvider("{issuer.issuer}"),\naccepted_audiences=["{AUDIENCE}"],\n')
    print("Ctrl+C ends it.", flush=True)
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def exit_on_signal(number: int, frame: object) -> NoReturn:
    """Leave all contexts, so that no process is left behind. A second signal does not interrupt that."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the application and the issuer running")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, exit_on_signal)
    started_at = time.monotonic()
    issuer = LocalIssuer(audience=AUDIENCE)
    with ExitStack() as first_run:
        first_run.enter_context(issuer)
        with app_process(issuer.issuer) as app_url:
            if arguments.serve:
                serve(issuer, app_url)
            else:
                demo = Demo(issuer, app_url)
                demo.tokens_are_judged()
                demo.key_changes_under_traffic()
                first_run.close()
                demo.issuer_is_down()
                with issuer:
                    demo.issuer_is_back()
                print(f"All as expected, in {time.monotonic() - started_at:.1f} seconds.")


if __name__ == "__main__":
    main()
