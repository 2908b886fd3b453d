"""Publishing the public halves of the keys that an application signs with."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from litestar import Router
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.keys import thumbprint
from litestar.security.jwt.publishing import create_jwks_handler
from litestar.testing import TestClient

from .backends import PRIVATE_KEYS, app_of, pem, private_pem

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
RSA_KEY, EC_KEY = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]
NATURAL = {algorithm: key for algorithm, key in PRIVATE_KEYS.items() if algorithm != "PS256"}


def jwk(algorithm: str, key: Any = None, **members: Any) -> jwt.PyJWK:
    key = PRIVATE_KEYS[algorithm[:2] + "256"] if key is None else key
    private: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return jwt.PyJWK({**private, "alg": algorithm, **members})


def published(keys: Any, at: str = JWKS_PATH, **options: Any) -> Any:
    with TestClient(app_of([], create_jwks_handler(keys, **options))) as client:
        return client.get(at)


@pytest.mark.parametrize("algorithm", NATURAL)
def test_only_the_public_half_of_any_form_of_a_key_is_published(algorithm: str) -> None:
    key = NATURAL[algorithm]
    expected: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    expected |= {"kid": thumbprint(expected), "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
    for form in (key, key.public_key(), private_pem(key), private_pem(key).decode(), pem(key), jwk(algorithm, key)):
        assert published(form).json() == {"keys": [expected]}
    assert jwt.decode(jwt.encode({"sub": "user"}, key, algorithm), jwt.PyJWK(expected)) == {"sub": "user"}


@pytest.mark.parametrize(
    ("keys", "algorithm", "expected"),
    [
        (RSA_KEY, "PS256", ["PS256"]),
        (RSA_KEY, ["ES256", "PS256", "RS256"], ["PS256"]),
        ([RSA_KEY, EC_KEY], ["PS256", "ES256"], ["PS256", "ES256"]),
        ([jwk("RS512", kid="a"), jwk("ES256", kid="b", key_ops=["sign"])], None, ["a RS512", "b ES256"]),
        (ed448.Ed448PrivateKey.generate(), None, ["EdDSA"]),
    ],
)
def test_algorithm_and_id_are_those_of_the_backend(keys: Any, algorithm: Any, expected: list[str]) -> None:
    for key, named in zip(published(keys, algorithm=algorithm).json()["keys"], expected, strict=True):
        assert named in {key["alg"], f"{key['kid']} {key['alg']}"}


NO_URLS: list[Any] = ["", "me.example", "ftp://me.example", "https://", "https://[", 5, b"https://me.example"]
NO_URLS += [f"https://{rest}" for rest in ("me.example?a", "me.example#a", "a:b@me.example")]


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ("a secret", {}, r"'keys\[0\]' cannot be published: it is not a PEM"),
        ([RSA_KEY, "a secret"], {}, r"'keys\[1\]' cannot be published: it is not a PEM"),
        (jwt.PyJWK({"kty": "oct", "k": "AAAA", "alg": "HS256"}), {}, r"'keys\[0\]'"),
        (jwk("ES256", use="enc"), {}, "not for signatures"),
        ([], {}, "has no keys. Pass the keys"),
        (5, {}, "has no keys. Pass the keys"),
        (rsa.generate_private_key(65537, 1024), {}, "RSA key of 1024 bit"),
        ([RSA_KEY, EC_KEY, private_pem(RSA_KEY)], {}, "two keys with the ID .* Remove one"),
        ([jwk("RS256", kid="a"), jwk("ES256", kid="a")], {}, "two keys with the ID 'a'"),
        (RSA_KEY, {"algorithm": "ES256"}, "'algorithm' is 'ES256', and the key is for RS256 or "),
        (RSA_KEY, {"algorithm": []}, "'algorithm' is "),
        (jwk("RS256"), {"algorithm": "PS256"}, "'algorithm' is 'PS256', and the key is for RS256"),
        (RSA_KEY, {"max_age": -1}, "'max_age' is -1. Pass a number"),
        (RSA_KEY, {"max_age": "60"}, "'max_age' is '60'. Pass a number"),
        (RSA_KEY, {"issuer": "https://me.example", "path": DISCOVERY_PATH}, "path of the discovery document"),
        *((RSA_KEY, {"issuer": issuer}, "takes the URL of the application") for issuer in NO_URLS),
    ],
)
def test_what_cannot_be_published_is_refused(keys: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message) as raised:
        create_jwks_handler(keys, **options)
    assert "a secret" not in raised.value.detail


def test_response_can_be_cached() -> None:
    headers = published(RSA_KEY, max_age=60).headers
    assert headers["Content-Type"] == "application/jwk-set+json"
    assert set(headers["Cache-Control"].split(", ")) == {"public", "max-age=60"}


def test_handler_is_open_and_not_in_the_openapi_document() -> None:
    handler = create_jwks_handler(RSA_KEY)
    assert (handler.opt["exclude_from_auth"], handler.include_in_schema) == (True, False)
    handler = create_jwks_handler(RSA_KEY, exclude_opt_key="open", include_in_schema=True)
    assert (handler.opt["open"], handler.include_in_schema) == (True, True)


@pytest.mark.parametrize("path", ["/keys", "keys/", "/", "/openid-configuration", JWKS_PATH])
@pytest.mark.parametrize("issuer", ["https://me.example", "http://localhost:8000/", "https://me.example/auth"])
def test_discovery_document_leads_to_the_keys(issuer: str, path: str) -> None:
    prefix = urlsplit(issuer).path.rstrip("/")
    handler = create_jwks_handler([RSA_KEY, EC_KEY], issuer=issuer, path=path)
    with TestClient(app_of([], Router(prefix or "/", route_handlers=[handler]))) as client:
        responses = [client.get(prefix + DISCOVERY_PATH + slash) for slash in ("", "/")]
        keys = client.get(f"{prefix}/{path.strip('/')}").json()["keys"]
    for response in responses:
        assert response.headers["Content-Type"] == "application/json"
        assert response.json() == {
            "issuer": issuer,
            "jwks_uri": f"{issuer.removesuffix('/')}/{path.strip('/')}",
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }
    assert [key["alg"] for key in keys] == ["RS256", "ES256"]


def test_without_an_issuer_there_is_no_discovery_document() -> None:
    paths = ("/keys", DISCOVERY_PATH, JWKS_PATH)
    assert [published(RSA_KEY, at, path="/keys").status_code for at in paths] == [200, 404, 404]
