"""A backend verifies the same signature with the same key once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from unittest.mock import patch

import jwt
import pytest
import time_machine
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from .backends import FORGER, ISSUER, SECRET, Issuer, app_of, backend, bearer, status_of

NUMBERS = count()
NOW = 1_900_000_000

pytestmark = pytest.mark.anyio


def fresh_token(issuer: Issuer = ISSUER, **claims: Any) -> str:
    """Return a token that no test has sent before: the memory is that of the process."""
    return issuer.token(jti=str(next(NUMBERS)), **claims)


def counting(algorithm: type[Any]) -> Any:
    """Count the verifications of an algorithm of PyJWT."""
    return patch.object(algorithm, "verify", autospec=True, side_effect=algorithm.verify)


async def answers(key_provider: Any, *tokens: str, **options: Any) -> list[int]:
    app = app_of(backend(key_provider, **options))
    return [await status_of(app, bearer(token)) for token in tokens]


@pytest.mark.parametrize(
    ("key_provider", "issuer", "status", "verifications"),
    [
        pytest.param(ISSUER.key, ISSUER, 200, 1, id="good-token-and-one-key"),
        pytest.param(lambda _: jwt.PyJWK(ISSUER.jwk), ISSUER, 200, 1, id="good-token-and-equal-keys"),
        pytest.param(ISSUER.key, FORGER, 401, 3, id="forged-token"),
    ],
)
async def test_good_signature_is_verified_once(
    key_provider: Any, issuer: Issuer, status: int, verifications: int
) -> None:
    token = fresh_token(issuer)
    with counting(RSAAlgorithm) as verify:
        assert await answers(key_provider, token, token, token) == [status] * 3
    assert verify.call_count == verifications


async def test_oldest_of_1025_signatures_is_forgotten() -> None:
    issuer = Issuer("https://c.test", "EdDSA")
    first, *others, last = [fresh_token(issuer) for _ in range(1_025)]
    verifier = backend(issuer.key).create_verifier()
    for token in (first, *others):
        await verifier.verify(token)
    for tokens, verifications in (([first], 0), ([last, first], 2)):
        with counting(OKPAlgorithm) as verify:
            for token in tokens:
                await verifier.verify(token)
        assert verify.call_count == verifications


async def test_long_token_is_not_remembered() -> None:
    token = fresh_token(padding="x" * 8_192)
    with counting(RSAAlgorithm) as verify:
        assert await answers(ISSUER.key, token, token) == [200, 200]
    assert verify.call_count == 2


async def test_remembered_signature_verifies_no_other_token() -> None:
    (remembered, _, signature), (other, *_) = (fresh_token().rpartition(".") for _ in range(2))
    assert await answers(ISSUER.key, f"{remembered}.{signature}", f"{other}.{signature}") == [200, 401]


async def test_remembered_signature_is_not_valid_for_another_key() -> None:
    token, keys = fresh_token(), [ISSUER.key, FORGER.key, ISSUER.key]
    assert await answers(lambda _: keys.pop(), token, token, token) == [200, 401, 200]


async def test_claims_of_a_remembered_token_are_verified_each_time() -> None:
    with time_machine.travel(NOW, tick=False) as now:
        token = fresh_token()
        app = app_of(backend(ISSUER.key))
        assert await status_of(app, bearer(token)) == 200
        now.shift(3_600 + 31)
        assert await status_of(app, bearer(token)) == 401


async def test_shared_secret_is_not_remembered() -> None:
    token = jwt.encode({"sub": "ann", "iat": 1, "exp": 1 << 32, "jti": str(next(NUMBERS))}, SECRET, "HS256")
    with counting(HMACAlgorithm) as verify:
        assert await answers(SECRET, token, token, key_algorithms="HS256") == [200, 200]
    assert verify.call_count == 2


async def test_algorithm_of_the_application_decides_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [True, False]

    class Registered(RSAAlgorithm):
        def verify(self, msg: bytes, key: Any, sig: bytes) -> bool:
            return verdicts.pop(0)

    by_name: Callable[[str], Any] = jwt.get_algorithm_by_name
    registered = Registered(RSAAlgorithm.SHA256)
    monkeypatch.setattr(jwt, "get_algorithm_by_name", lambda name: registered if name == "RS256" else by_name(name))
    token = fresh_token()
    assert await answers(ISSUER.key, token, token) == [200, 401]
