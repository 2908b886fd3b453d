"""Signatures that the standards publish: RFC 7515, RFC 7520, RFC 8037 and others."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import jwt
import pytest

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token, UnverifiedToken
from litestar.security.jwt.keys import select, thumbprint

from .backends import base64url

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))


def by_source(vectors: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["source"]) for vector in vectors])


def key_of(vector: dict[str, Any]) -> jwt.PyJWK:
    return jwt.PyJWK(vector["jwk"], vector["algorithm"])


@by_source(VECTORS["verified"])
def test_published_signature_is_verified_and_belongs_to_nothing_else(vector: dict[str, Any]) -> None:
    [key] = select(key_of(vector), UnverifiedToken(vector["token"])).keys
    verified = jwt.PyJWS().decode(vector["token"], key, [vector["algorithm"]])  # most payloads are no claims
    assert verified.decode() == vector["payload"]
    signing_input, _, signature = vector["token"].rpartition(".")
    spoilt = bytearray(urlsafe_b64decode(signature + "=="))
    spoilt[-1] ^= 1
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.PyJWS().decode(f"{signing_input}.{base64url(bytes(spoilt))}", key, [vector["algorithm"]])
    if vector["payload"].startswith("{"):
        arguments = (vector["token"], key, [vector["algorithm"]])
        claims = Token.decode_payload(*arguments, options={"verify_exp": False})
        assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
        with pytest.raises(jwt.ExpiredSignatureError):
            Token.decode_payload(*arguments)


@by_source(VECTORS["refused"])
def test_published_token_that_proves_nothing_is_refused(vector: dict[str, Any]) -> None:
    for other in VECTORS["verified"]:
        with pytest.raises(NotAuthorizedException):
            Token.decode(vector["token"], key_of(other), other["algorithm"])


@by_source(VECTORS["thumbprints"])
def test_published_thumbprint_is_computed(vector: dict[str, Any]) -> None:
    assert thumbprint({**vector["jwk"], "kid": "x", "d": "secret"}) == vector["thumbprint"]
