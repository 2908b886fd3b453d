"""Why a token is refused: one log line, and the challenge of RFC 6750."""

from __future__ import annotations

import re
from logging import getLogger
from typing import TYPE_CHECKING, Final

import jwt
import msgspec
from jwt.exceptions import InvalidJTIError, InvalidSubjectError

from litestar.security.jwt.keys import KeyNotFoundException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.exceptions import HTTPException
    from litestar.security.jwt.token import Token

__all__ = ("MISSING_CLAIMS", "WRONG_TYPE", "challenge", "logger", "reason_of")

logger: Final = getLogger("litestar.security.jwt")

# RFC 6750, section 3: the characters that a description may have.
_NOT_QUOTABLE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")
# How msgspec names the field that a value does not fit, or that is missing. What it says besides may quote the token.
_FIELD: Final = re.compile(r"`(?:\$\.)?(\w+)")


_PAGE: Final = "the claim, or a token class as under 'Tokens without a claim' in the documentation"
MISSING_CLAIMS: Final = dict.fromkeys(("missing claim exp", "missing claim iat", "missing claim sub"), _PAGE)
"""What helps if the tokens of an issuer lack a claim that :class:`Token` needs."""

WRONG_TYPE: Final = "type"
"""The reason that PyJWT has no exception for."""

_REASONS: Final[dict[type[BaseException], str]] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.InvalidSignatureError: "signature",
    jwt.InvalidAlgorithmError: "algorithm",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidIssuerError: "issuer",
    KeyNotFoundException: "unknown key",
}


def reason_of(exception: BaseException, token_class: type[Token]) -> str:
    """Return the reason for a refusal, one out of a closed list.

    Args:
        exception: What is about to be raised. Its cause tells the reason.
        token_class: The class that claims are made an instance of.

    Returns:
        The reason, without any content of the token.
    """
    error = exception.__cause__
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            return reason
    match error:
        case jwt.MissingRequiredClaimError():
            return f"missing claim {error.claim}"
        case jwt.ImmatureSignatureError():
            return "issued in the future" if "iat" in str(error) else "not yet valid"
        case InvalidSubjectError() | InvalidJTIError() | jwt.InvalidIssuedAtError():
            return f"claims do not fit {token_class.__name__}: {error}"
        case jwt.InvalidTokenError():
            return WRONG_TYPE if str(error) == WRONG_TYPE else "malformed"
        case msgspec.ValidationError():
            named = [f": {name}" for name in _FIELD.findall(str(error)) if name in token_class.__dataclass_fields__]
            return f"claims do not fit {token_class.__name__}{''.join(named[-1:])}"
    return "unknown key" if isinstance(exception, KeyNotFoundException) else f"claims do not fit {token_class.__name__}"


def challenge(exception: HTTPException, scheme: str = "Bearer", **parameters: str) -> None:
    """Let an error response say how to authenticate (`RFC 6750, section 3
    <https://datatracker.ietf.org/doc/html/rfc6750#section-3>`_).

    A challenge that the exception has already is left alone.

    Args:
        exception: What is about to be raised.
        scheme: The authentication scheme.
        **parameters: Parameters of the challenge, such as ``error``.
    """
    headers: Mapping[str, str] = exception.headers or {}
    if "www-authenticate" not in map(str.lower, headers):
        values = ", ".join(f'{name}="{_NOT_QUOTABLE.sub("?", value)}"' for name, value in parameters.items())
        exception.headers = {**headers, "WWW-Authenticate": f"{scheme} {values}".rstrip()}
