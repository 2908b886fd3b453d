"""Runs an issuer of tokens for development."""

from __future__ import annotations

import signal
from argparse import ArgumentParser, ArgumentTypeError
from threading import Event
from typing import TYPE_CHECKING

from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.testing._server import HOST

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ("main",)


def _loopback(host: str) -> str:
    """Refuse any other interface, so that no other machine gets keys or tokens of this issuer."""
    if host not in {HOST, "localhost"}:
        raise ArgumentTypeError(f"this issuer is for development, and listens on {HOST} only")
    return HOST


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m litestar.security.jwt.testing", description=__doc__)
    parser.add_argument("--audience", default="my-api", help="the 'aud' claim of the token (default: %(default)s)")
    parser.add_argument("--scope", help="the 'scope' claim of the token, such as 'read write'")
    parser.add_argument("--sub", default="user", help="the 'sub' claim of the token (default: %(default)s)")
    parser.add_argument("--expires-in", type=int, default=3600, help="seconds (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9000, help="0 for any (default: %(default)s)")
    parser.add_argument("--host", type=_loopback, default=HOST, help=f"nothing but {HOST}")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve discovery and keys until a signal ends the process.

    Args:
        arguments: The arguments of the command line.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    issuer = LocalIssuer(audience=options.audience, port=options.port)
    try:
        issuer.__enter__()
    except (OSError, OverflowError) as e:
        parser.error(f"cannot listen on port {options.port}: {e}")
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    token = issuer.token(options.sub, scopes=options.scope, expires_in=options.expires_in)
    text = f"""\
An issuer for development at {issuer.issuer}, until you press Ctrl+C. Its key changes with each start.

    key_provider=OpenIDProvider("{issuer.issuer}"), accepted_audiences=["{options.audience}"]

A token that is valid for {options.expires_in} seconds, and how to send it:

{token}

curl -H "Authorization: Bearer {token}" http://{HOST}:8000/
"""
    print(text, flush=True)  # noqa: T201
    stopped.wait()
    issuer.__exit__()


if __name__ == "__main__":
    main()
