"""What may be given as a key provider, and whose fault its errors are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundError, KeysUnavailableError, UnverifiedToken
from litestar.security.jwt._providers import StaticKey, as_provider, natural_algorithms
from litestar.security.jwt.keys import UnusableKeyError
from litestar.security.jwt.testing import LocalIssuer
from tests.unit.test_security.test_jwt.injected import backend, provide, status_of, whoami

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def keys() -> LocalIssuer:
    return LocalIssuer()


@pytest.fixture
def issuer(keys: LocalIssuer) -> Iterator[LocalIssuer]:
    with LocalIssuer(keys=[keys.private_key]) as issuer:
        yield issuer


def client_of(issuer: LocalIssuer, **options: Any) -> jwt.PyJWKClient:
    return jwt.PyJWKClient(issuer.jwks_url, **{"timeout": 5, "cache_jwk_set": False, **options})


def app_with(key_provider: Any) -> Litestar:
    return Litestar([whoami], on_app_init=[backend(key_provider).on_app_init])


async def test_pyjwk_client_finds_keys(issuer: LocalIssuer) -> None:
    app = app_with(client_of(issuer))
    assert await status_of(app, issuer.auth_header()) == 200
    assert await status_of(app, {"Authorization": f"Bearer {issuer.forged_token()}"}) == 401
    assert len(issuer.requests) == 2


async def test_pyjwk_client_is_called_in_a_worker_thread(issuer: LocalIssuer) -> None:
    threads: list[threading.Thread] = []

    class Client(jwt.PyJWKClient):
        def get_signing_key_from_jwt(self, token: str | bytes) -> jwt.PyJWK:
            threads.append(threading.current_thread())
            return super().get_signing_key_from_jwt(token)

    assert await status_of(app_with(Client(issuer.jwks_url)), issuer.auth_header()) == 200
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize("fault", ["refused", "500", "not JSON", "not text", "nested", "no key"])
async def test_keys_that_the_client_cannot_get_are_unavailable(fault: str, issuer: LocalIssuer) -> None:
    if fault == "refused":
        issuer.gone()
    elif fault == "500":
        issuer.fail_with(500)
    else:
        answers = {"not JSON": b"<html>", "not text": b"\xff", "nested": b"[" * 100_000, "no key": b'{"keys": []}'}
        issuer.serve_jwks(answers[fault])
    assert await status_of(app_with(client_of(issuer)), issuer.auth_header()) == 503
    issuer.recover()
    issuer.serve_jwks(None)
    assert await status_of(app_with(client_of(issuer)), issuer.auth_header()) == 200


@pytest.mark.parametrize("headers", [{"kid": "unknown"}, {"kid": None}, {"kid": ""}])
async def test_token_for_which_the_client_has_no_key_is_refused(headers: dict[str, Any], issuer: LocalIssuer) -> None:
    assert await status_of(app_with(client_of(issuer)), issuer.auth_header(headers=headers)) == 401


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyNotFoundError("Invalid token"), 401),
        (jwt.PyJWKClientError("no key"), 401),
        (KeyError("kid"), 401),
        (KeysUnavailableError("later"), 503),
        (jwt.PyJWKClientConnectionError("refused"), 503),
        (jwt.PyJWKSetError("empty"), 503),
        (TimeoutError(), 503),
        (ConnectionResetError(), 503),
        (ZeroDivisionError(), 500),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_errors_of_a_provider_say_whose_fault_it_is(
    error: Exception, status: int, asynchronous: bool, keys: LocalIssuer
) -> None:
    def provider(token: UnverifiedToken) -> Any:
        raise error

    async def asynchronous_provider(token: UnverifiedToken) -> Any:
        raise error

    app = app_with(asynchronous_provider if asynchronous else provider)
    assert await status_of(app, keys.auth_header()) == status


def test_what_may_be_given(keys: LocalIssuer) -> None:
    for key in (
        "secret" * 8,
        b"secret" * 8,
        keys.private_key,
        keys.pyjwk,
        [keys.pyjwk],
        jwt.PyJWKSet.from_dict(keys.jwks),
    ):
        provider = as_provider(key)
        assert isinstance(provider, StaticKey)
        assert provider(UnverifiedToken(keys.token())) is key
    assert as_provider(keys.key_provider) == keys.key_provider


@pytest.mark.parametrize(
    "given", [None, 5, [], {"keys": []}, UnverifiedToken, provide("secret")], ids=lambda given: type(given).__name__
)
def test_what_may_not_be_given(given: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=f"PyJWKClient, not {type(given).__name__}$"):
        as_provider(given)


def private_key_of(name: str) -> Any:
    curves: Any = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "secp256k1": ec.SECP256K1}
    if name in curves:
        return ec.generate_private_key(curves[name]())
    if name == "RSA":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ed25519.Ed25519PrivateKey.generate() if name == "Ed25519" else ed448.Ed448PrivateKey.generate()


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("RSA", "RS256"),
        ("P-256", "ES256"),
        ("P-384", "ES384"),
        ("P-521", "ES512"),
        ("secp256k1", "ES256K"),
        ("Ed25519", "EdDSA"),
        ("Ed448", "EdDSA"),
    ],
)
def test_each_kind_of_key_has_one_algorithm_by_default(name: str, algorithm: str) -> None:
    private = private_key_of(name)
    assert natural_algorithms(private) == natural_algorithms(private.public_key()) == (algorithm,)


def test_default_algorithms_of_several_keys() -> None:
    rs, es = LocalIssuer(), LocalIssuer(algorithm="ES384")
    assert natural_algorithms([rs.pyjwk, es.private_key, rs.private_key]) == ("RS256", "ES384")
    assert natural_algorithms(jwt.PyJWKSet.from_dict(es.jwks)) == ("ES384",)
    assert natural_algorithms(StaticKey(rs.public_pem)) == ("RS256",)
    assert natural_algorithms(es.public_pem.encode()) == ("ES384",)
    assert natural_algorithms(LocalIssuer(algorithm="PS512", keys=[rs.private_key]).pyjwk) == ("PS512",)
    assert natural_algorithms("secret" * 8) == ("HS256",)
    assert natural_algorithms(rs.key_provider) == ()


def test_key_without_any_algorithm_is_unusable() -> None:
    with pytest.raises(UnusableKeyError, match="secp192r1"):
        natural_algorithms(ec.generate_private_key(ec.SECP192R1()))
