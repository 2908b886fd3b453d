from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litestar.exceptions import HTTPException

__all__ = ("challenge",)


def challenge(exception: HTTPException, **parameters: str) -> None:
    """Let an error response say how to authenticate (`RFC 6750, section 3
    <https://datatracker.ietf.org/doc/html/rfc6750#section-3>`_).

    A challenge that the exception carries already is left alone.

    Args:
        exception: What is about to be raised.
        **parameters: Parameters of the challenge, such as ``error``. Values must not need escaping.
    """
    headers = exception.headers or {}
    if not any(name.lower() == "www-authenticate" for name in headers):
        values = ", ".join(f'{name}="{value}"' for name, value in parameters.items())
        exception.headers = {**headers, "WWW-Authenticate": f"Bearer {values}".rstrip()}
