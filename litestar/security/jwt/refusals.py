"""Why a token is refused."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from jwt.exceptions import InvalidTokenError

__all__ = ("Reason", "TokenRefused", "printable")

# How much of a header parameter, an issuer or an audience a log line shows.
_SHOWN_CHARACTERS: Final = 64


class Reason(StrEnum):
    """Reasons to refuse a token. The values are part of log lines and challenges."""

    NO_CREDENTIALS = "no credentials"
    """The request has no token, or it has one under another authentication scheme."""
    MALFORMED = "malformed"
    """It is not a JSON Web Token (RFC 7515, section 7.1; RFC 7519, section 7.2)."""
    ENCRYPTED = "encrypted"
    """It is an encrypted token (RFC 7516). Litestar verifies signed ones."""
    EXTENSION = "unsupported header parameter"
    """It depends on an extension that Litestar does not implement (RFC 7515, section 4.1.11)."""
    ALGORITHM = "algorithm"
    """It is signed with an algorithm that the backend does not accept."""
    TYPE = "type"
    """It is another kind of token (RFC 8725, section 3.11)."""
    BOUND = "bound to a sender"
    """It is only valid together with a proof that Litestar does not check (RFC 7800)."""
    UNKNOWN_KEY = "unknown key"
    """The key provider has no key for it."""
    TOO_MANY_KEYS = "too many keys"
    """So many keys fit it that trying all of them costs too much."""
    SIGNATURE = "signature"
    """No selected key verifies its signature."""
    EXPIRED = "expired"
    """``exp`` has passed."""
    NOT_YET_VALID = "not yet valid"
    """``nbf`` is in the future."""
    ISSUED_IN_FUTURE = "issued in the future"
    """``iat`` is in the future."""
    AUDIENCE = "audience"
    """It is for another application."""
    ISSUER = "issuer"
    """It is from an issuer that the backend does not accept."""
    MISSING_CLAIM = "missing claim"
    """A claim that the backend requires is not there."""
    INVALID_CLAIM = "invalid claim"
    """A registered claim has a value that it cannot have (RFC 7519, section 4.1)."""
    CLAIMS = "claims do not fit"
    """The token class cannot hold the claims."""
    NO_USER = "no user"
    """The application has no user for it."""
    REVOKED = "revoked"
    """The application has revoked it."""
    SCOPES = "insufficient scope"
    """It lacks a scope or a role that the route requires."""


class TokenRefused(InvalidTokenError):  # noqa: N818
    """A token is refused.

    It is the ``__cause__`` of the :class:`NotAuthorizedException <litestar.exceptions.NotAuthorizedException>` that the
    application sees, so an exception handler can count refusals by :attr:`reason`.
    """

    def __init__(
        self, reason: Reason, expected: str | None = None, *, subject: str | None = None, received: object = None
    ) -> None:
        """Create the exception.

        Args:
            reason: Why the token is refused.
            expected: What the application accepts.
            subject: The name of the claim, header parameter or class that the reason is about.
            received: What the token has instead. Pass only a header parameter, an issuer or an audience.
        """
        super().__init__(reason, expected)
        self.reason = reason
        self.expected = expected
        self.subject = subject
        self.received = None if received is None else printable(received)

    @property
    def description(self) -> str:
        """The reason and its subject, for the log and the challenge. Nothing in it comes from the token."""
        return self.reason.value if self.subject is None else f"{self.reason.value} {self.subject}"

    def __str__(self) -> str:
        return self.description if self.expected is None else f"{self.description} (expected: {self.expected})"


def printable(value: object) -> str:
    """Return what a log line shows of a value that anyone can choose.

    Args:
        value: The value.

    Returns:
        At most 64 characters, all of them printable ASCII.
    """
    text = ascii(value[: _SHOWN_CHARACTERS + 1] if isinstance(value, (str, list)) else value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
