"""Publishing the public halves of the keys that an application signs with."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from litestar import Litestar, Router
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.keys import thumbprint
from litestar.security.jwt.publishing import create_jwks_handler
from litestar.testing import TestClient

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
RSA_KEY, EC_KEY = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]
ED448_KEY = ed448.Ed448PrivateKey.generate()


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def jwk(algorithm: str, key: Any = None, **members: Any) -> jwt.PyJWK:
    key = PRIVATE_KEYS[algorithm[:2] + "256"] if key is None else key
    private: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return jwt.PyJWK({**private, "alg": algorithm, **members})


def forms_of(algorithm: str) -> list[Any]:
    """Return one key in all the forms that a backend takes."""
    key = PRIVATE_KEYS[algorithm]
    public = key.public_key()
    public_pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return [key, public, pem(key), pem(key).encode(), public_pem, jwk(algorithm, key)]


def published(keys: Any, **options: Any) -> Any:
    with TestClient(Litestar([create_jwks_handler(keys, **options)])) as client:
        return client.get(JWKS_PATH).json()["keys"]


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_only_the_public_half_of_any_form_of_a_key_is_published(algorithm: str) -> None:
    expected: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE_KEYS[algorithm].public_key(), as_dict=True)
    expected |= {"kid": thumbprint(expected), "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
    for form in forms_of(algorithm):
        assert published(form) == [expected]


def test_published_keys_verify() -> None:
    for key in published(list(PRIVATE_KEYS.values())):
        token = jwt.encode({"sub": "user"}, PRIVATE_KEYS[key["alg"]], key["alg"])
        assert jwt.decode(token, jwt.PyJWK(key)) == {"sub": "user"}


@pytest.mark.parametrize(
    ("keys", "algorithm", "expected"),
    [
        (RSA_KEY, "PS256", ["PS256"]),
        (RSA_KEY, ["ES256", "PS256", "RS256"], ["PS256"]),
        ([RSA_KEY, EC_KEY], ["PS256", "ES256"], ["PS256", "ES256"]),
        ([jwk("RS512", kid="a"), jwk("ES256", kid="b", key_ops=["sign"])], None, ["a RS512", "b ES256"]),
        (ED448_KEY, None, ["EdDSA"]),
    ],
)
def test_algorithm_and_id_are_those_of_the_backend(keys: Any, algorithm: Any, expected: list[str]) -> None:
    for key, named in zip(published(keys, algorithm=algorithm), expected, strict=True):
        assert named in {key["alg"], f"{key['kid']} {key['alg']}"}


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
        ([RSA_KEY, EC_KEY, pem(RSA_KEY)], {}, "two keys with the ID .* Remove one"),
        ([jwk("RS256", kid="a"), jwk("ES256", kid="a")], {}, "two keys with the ID 'a'"),
        (RSA_KEY, {"algorithm": "ES256"}, "'algorithm' is 'ES256', and the key is for RS256 or "),
        (RSA_KEY, {"algorithm": []}, "'algorithm' is "),
        (jwk("RS256"), {"algorithm": "PS256"}, "'algorithm' is 'PS256', and the key is for RS256"),
        (RSA_KEY, {"max_age": -1}, "'max_age' is -1. Pass a number"),
        (RSA_KEY, {"max_age": "60"}, "'max_age' is '60'. Pass a number"),
        (RSA_KEY, {"issuer": "https://me.example", "path": DISCOVERY_PATH}, "path of the discovery document"),
    ],
)
def test_what_cannot_be_published_is_refused(keys: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message) as raised:
        create_jwks_handler(keys, **options)
    assert "a secret" not in raised.value.detail


@pytest.mark.parametrize(
    "issuer",
    ["", "me.example", "ftp://me.example", "https://", "https://[", 5, b"https://me.example"]
    + [f"https://{rest}" for rest in ("me.example?a", "me.example#a", "a:b@me.example")],
)
def test_issuer_that_is_no_url_is_refused(issuer: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="takes the URL of the application"):
        create_jwks_handler(RSA_KEY, issuer=issuer)


def test_response_can_be_cached() -> None:
    with TestClient(Litestar([create_jwks_handler(RSA_KEY, max_age=60)])) as client:
        headers = client.get(JWKS_PATH).headers
    assert headers["Content-Type"] == "application/jwk-set+json"
    assert set(headers["Cache-Control"].split(", ")) == {"public", "max-age=60"}


def test_handler_is_open_and_not_in_the_openapi_document() -> None:
    handler = create_jwks_handler(RSA_KEY)
    assert handler.opt["exclude_from_auth"] is True
    assert not Litestar([handler]).openapi_schema.paths
    handler = create_jwks_handler(RSA_KEY, exclude_opt_key="open", include_in_schema=True)
    assert handler.opt["open"] is True
    assert list(Litestar([handler]).openapi_schema.paths or ()) == [JWKS_PATH]


@pytest.mark.parametrize("path", ["/keys", "keys/", "/", "/openid-configuration", JWKS_PATH])
@pytest.mark.parametrize("prefix", ["", "/auth"])
def test_discovery_document_leads_to_the_keys(prefix: str, path: str) -> None:
    issuer = f"https://me.example{prefix}"
    handler = create_jwks_handler([RSA_KEY, EC_KEY], issuer=issuer, path=path)
    with TestClient(Litestar([Router(prefix or "/", route_handlers=[handler])])) as client:
        response = client.get(prefix + DISCOVERY_PATH)
        keys = client.get(f"{prefix}/{path.strip('/')}").json()["keys"]
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/{path.strip('/')}",
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
    }
    assert [key["alg"] for key in keys] == ["RS256", "ES256"]


def test_slash_at_the_end_of_the_issuer_is_kept() -> None:
    with TestClient(Litestar([create_jwks_handler(RSA_KEY, issuer="http://localhost:8000/")])) as client:
        document = client.get(f"{DISCOVERY_PATH}/").json()
    assert document["issuer"] == "http://localhost:8000/"
    assert document["jwks_uri"] == f"http://localhost:8000{JWKS_PATH}"


def test_without_an_issuer_there_is_no_discovery_document() -> None:
    with TestClient(Litestar([create_jwks_handler(RSA_KEY, path="/keys")])) as client:
        assert client.get(DISCOVERY_PATH).status_code == 404
        assert client.get(JWKS_PATH).status_code == 404
