"""Signatures that the standards publish.

What is left out: the JSON serializations, which are not JWTs, of RFC 7515, appendices A.6 and A.7, and of RFC 7520, sections 4.6
to 4.8.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
import pytest

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import Token, UnverifiedToken
from litestar.security.jwt.keys import SYMMETRIC_ALGORITHMS, KeySet, VerificationKey, candidates, thumbprint

VECTORS = json.loads(Path(__file__).with_name("vectors.json").read_text(encoding="utf-8"))


def by_source(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["source"]) for vector in vectors]


def is_symmetric(vector: dict[str, Any]) -> bool:
    return vector["algorithm"] in SYMMETRIC_ALGORITHMS


def keys_for(vector: dict[str, Any], token: str) -> list[Any]:
    """Select the keys that the package would verify a token with, each in both ways that it can be given."""
    jwk, unverified = vector["jwk"], UnverifiedToken(token)
    given = candidates(jwt.PyJWK(jwk, vector["algorithm"]), unverified)
    published = () if is_symmetric(vector) else KeySet([VerificationKey(jwk)]).select(unverified)
    return [*given, *published]


@pytest.mark.parametrize("vector", by_source(VECTORS["verified"]))
def test_published_signature_is_verified(vector: dict[str, Any]) -> None:
    keys = keys_for(vector, vector["token"])
    assert len(keys) == (1 if is_symmetric(vector) else 2)
    for key in keys:
        payload = jwt.PyJWS().decode(vector["token"], key, [vector["algorithm"]])
        assert payload.decode() == vector["payload"]


@pytest.mark.parametrize("vector", by_source(VECTORS["verified"]))
def test_published_signature_belongs_to_nothing_else(vector: dict[str, Any]) -> None:
    signing_input, _, signature = vector["token"].rpartition(".")
    spoilt = bytearray(urlsafe_b64decode(signature + "=="))
    spoilt[-1] ^= 1
    token = f"{signing_input}.{urlsafe_b64encode(spoilt).rstrip(b'=').decode()}"
    for key in keys_for(vector, token):
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.PyJWS().decode(token, key, [vector["algorithm"]])


@pytest.mark.parametrize(
    "vector", by_source([v for v in VECTORS["verified"] if v["algorithm"] in {"HS256", "RS256", "EdDSA"}])
)
def test_published_signature_is_made_again(vector: dict[str, Any]) -> None:
    key = jwt.PyJWK(vector["jwk"], vector["algorithm"])
    signing_input, _, signature = vector["token"].rpartition(".")
    made = key.Algorithm.sign(signing_input.encode(), key.key)
    assert urlsafe_b64encode(made).rstrip(b"=").decode() == signature


@pytest.mark.parametrize("vector", by_source([v for v in VECTORS["verified"] if v["payload"].startswith("{")]))
def test_claims_of_a_published_token_are_read(vector: dict[str, Any]) -> None:
    claims = Token.decode_payload(
        vector["token"],
        jwt.PyJWK(vector["jwk"], vector["algorithm"]),
        [vector["algorithm"]],
        options={"verify_exp": False},
    )
    assert claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    with pytest.raises(jwt.ExpiredSignatureError):
        Token.decode_payload(
            vector["token"], jwt.PyJWK(vector["jwk"], vector["algorithm"]), [vector["algorithm"]], options={}
        )


@pytest.mark.parametrize("vector", by_source(VECTORS["refused"]))
def test_published_token_that_proves_nothing_is_refused(vector: dict[str, Any]) -> None:
    for other in VECTORS["verified"]:
        with pytest.raises(NotAuthorizedException):
            Token.decode(vector["token"], jwt.PyJWK(other["jwk"], other["algorithm"]), other["algorithm"])


@pytest.mark.parametrize("vector", by_source(VECTORS["thumbprints"]))
def test_published_thumbprint_is_computed(vector: dict[str, Any]) -> None:
    assert thumbprint(vector["jwk"]) == vector["thumbprint"]
