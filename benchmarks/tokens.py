"""The tokens that are measured with. All have the audience ``api``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import jwt
from applications import SECRET
from jwt.utils import base64url_encode

from litestar.security.jwt import signature_memory
from litestar.security.jwt.testing import LocalIssuer

# Numbers of claims that make tokens of the sizes of access tokens: a small one, one of Entra ID, one with many groups.
SIZES = {"0.6 kB": 0, "1.6 kB": 14, "6 kB": 78}
USUAL_SIZE = "1.6 kB"
# If this many come in turn, each has been forgotten before it comes again.
MORE_THAN_REMEMBERED = signature_memory._MAX_ENTRIES + 100
# No part of a run may remember what another one has verified.
_users = count()


def key_of(issuer: LocalIssuer) -> jwt.PyJWK:
    return jwt.PyJWK(issuer.jwks["keys"][-1])


def token_of(make: Callable[..., str], sub: str = "user", *, size: str = USUAL_SIZE, **options: Any) -> str:
    """Have an issuer make a token of a certain size."""
    claims = {f"claim{number:02}": "x" * 40 for number in range(SIZES[size])}
    return make(sub, **claims, **options)


def distinct_tokens(issuer: LocalIssuer, *, size: str = USUAL_SIZE, **options: Any) -> list[str]:
    """Create so many tokens that each is new when it comes, even if they come again and again."""
    users = islice(_users, MORE_THAN_REMEMBERED)
    return [token_of(issuer.token, f"user{number:06}", size=size, **options) for number in users]


def with_secret(token: str, **headers: Any) -> str:
    """Sign the claims of a token with a shared secret."""
    return jwt.encode(jwt.decode(token, options={"verify_signature": False}), SECRET, "HS256", headers)


def with_made_up_ids(token: str) -> Iterator[str]:
    """Let a token name keys that do not exist, a new one each time."""
    header = jwt.get_unverified_header(token)
    rest = token[token.index(".") :]
    for number in count():
        yield base64url_encode(json.dumps({**header, "kid": f"made up {number}"}).encode()).decode() + rest
