"""Publishing the public halves of the keys that sign."""

from __future__ import annotations

import json
import logging
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from litestar import Litestar, Router
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, RemoteJWKSet, Token, create_jwks_handler
from litestar.security.jwt.keys import thumbprint
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, retrieve_user, whoami

PATH = "/.well-known/jwks.json"
PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "ES256K": ec.generate_private_key(ec.SECP256K1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
ED448 = ed448.Ed448PrivateKey.generate()
PUBLIC_MEMBERS = {"kty", "n", "e", "crv", "x", "y", "kid", "use", "alg"}


def pem(key: Any) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def private_jwk(algorithm: str, **members: Any) -> jwt.PyJWK:
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE_KEYS[algorithm], as_dict=True)
    return jwt.PyJWK({**jwk, "alg": algorithm, **members})


def forms_of(algorithm: str) -> list[Any]:
    key = PRIVATE_KEYS[algorithm]
    return [key, key.public_key(), pem(key), pem(key).encode(), public_pem(key), private_jwk(algorithm)]


def published(keys: Any, path: str = PATH, **options: Any) -> Any:
    with TestClient(Litestar([create_jwks_handler(keys, **options)])) as client:
        answer = client.get(path)
        assert answer.status_code == 200
        return answer.json()


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_public_half_is_published(algorithm: str) -> None:
    expected = jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE_KEYS[algorithm].public_key(), as_dict=True)
    expected.pop("key_ops", None)
    for form in forms_of(algorithm):
        (jwk,) = published(form)["keys"]
        assert jwk == {**expected, "kid": thumbprint(expected), "use": "sig", "alg": algorithm}


secrets = st.sampled_from([form for name in PRIVATE_KEYS for form in forms_of(name)] + [ED448, pem(ED448)])


@settings(deadline=None, max_examples=60)
@given(st.lists(secrets, min_size=1, max_size=5))
def test_private_members_never_leave(keys: list[Any]) -> None:
    handler = create_jwks_handler(keys, issuer="https://me.example")
    auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, token_secret=keys)
    with TestClient(Litestar([handler], on_app_init=[auth.on_app_init])) as client:
        texts = [client.get(PATH).text, client.get("/.well-known/openid-configuration").text]
    for jwk in json.loads(texts[0])["keys"]:
        assert set(jwk) <= PUBLIC_MEMBERS
    for text in (*texts, repr(handler), repr(auth)):
        for private in _private_values(keys):
            assert private not in text


def _private_values(keys: list[Any]) -> list[str]:
    values = []
    for key in keys:
        members = dict(key._jwk_data) if isinstance(key, jwt.PyJWK) else {}
        values += [members[name] for name in ("d", "p", "q", "dp", "dq", "qi") if name in members]
        if isinstance(key, (str, bytes)) and b"PRIVATE" in (key if isinstance(key, bytes) else key.encode()):
            text = key if isinstance(key, str) else key.decode()
            values += text.splitlines()[1:-1]
    return values


def test_private_members_of_others_are_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = private_jwk("RS256", kid="k")
    with LocalIssuer(keys=[secret]) as issuer:
        members = {name: value for name, value in secret._jwk_data.items() if name != "key_ops"}
        issuer.serve_jwks({"keys": [members]})  # a mistake that has been made
        provider = RemoteJWKSet(issuer.jwks_url)
        app = Litestar([whoami], on_app_init=[backend(provider).on_app_init])
        with TestClient(app) as client:
            assert client.get("/", headers=issuer.auth_header("ann")).text == "ann"
        shown = repr(provider) + repr(provider.status()) + caplog.text
        kept = [dict(key.jwk) for key in provider._listed.keys]
    private = [secret._jwk_data[name] for name in ("d", "p", "q", "dp", "dq", "qi")]
    assert not any(value in shown or value in json.dumps(kept) for value in private)


def test_id_is_that_of_the_tokens() -> None:
    for key in (PRIVATE_KEYS["RS256"], private_jwk("ES256"), private_jwk("EdDSA", kid="my key")):
        auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, token_secret=key)
        (jwk,) = published(auth.token_secret)["keys"]
        header = jwt.get_unverified_header(auth.create_token("ann"))
        assert (jwk["kid"], jwk["alg"]) == (header["kid"], header["alg"])


@pytest.mark.parametrize("algorithm", ["PS256", ["PS256", "ES256"]])
def test_algorithm_is_that_of_the_backend(algorithm: Any) -> None:
    keys = [PRIVATE_KEYS["RS256"]] if algorithm == "PS256" else [PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]]
    algorithms = [jwk["alg"] for jwk in published(keys, algorithm=algorithm)["keys"]]
    assert algorithms == ["PS256", "ES256"][: len(keys)]


@pytest.mark.parametrize(
    ("keys", "options"),
    [
        ("a secret", {}),
        ([PRIVATE_KEYS["RS256"], "a secret"], {}),
        (jwt.PyJWK({"kty": "oct", "k": "AAAA", "alg": "HS256"}), {}),
        ([], {}),
        (5, {}),
        (rsa.generate_private_key(65537, 1024), {}),
        (PRIVATE_KEYS["RS256"], {"algorithm": "ES256"}),
        (PRIVATE_KEYS["RS256"], {"algorithm": "HS256"}),
        (PRIVATE_KEYS["RS256"], {"issuer": "me"}),
    ],
)
def test_what_cannot_be_published_is_refused(keys: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfiguredException) as raised:
        create_jwks_handler(keys, **options)
    assert "a secret" not in raised.value.detail.replace("or it is a secret", "")


def test_answer_may_be_kept_and_validated() -> None:
    with TestClient(Litestar([create_jwks_handler(PRIVATE_KEYS["RS256"], max_age=60)])) as client:
        answer = client.get(PATH)
        assert answer.headers["Content-Type"] == "application/jwk-set+json"
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        etag = answer.headers["ETag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = client.get(PATH, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
        for known in ('"other"', etag.strip('"'), ""):
            assert client.get(PATH, headers={"If-None-Match": known}).status_code == 200
    other = create_jwks_handler(PRIVATE_KEYS["ES256"])
    with TestClient(Litestar([other])) as client:
        assert client.get(PATH, headers={"If-None-Match": etag}).status_code == 200


def test_handler_needs_no_authentication() -> None:
    key = PRIVATE_KEYS["RS256"]
    for name in ("exclude_from_auth", "open"):
        auth = JWTAuth[str, Token](retrieve_user_handler=retrieve_user, token_secret=key, exclude_opt_key=name)
        handler = create_jwks_handler(key, exclude_opt_key=name)
        with TestClient(Litestar([whoami, handler], on_app_init=[auth.on_app_init])) as client:
            assert client.get("/").status_code == 401
            assert client.get(PATH).status_code == 200


@pytest.mark.parametrize("included", [True, False])
def test_handler_is_documented_if_wanted(included: bool) -> None:
    app = Litestar([create_jwks_handler(PRIVATE_KEYS["RS256"], include_in_schema=included)])
    assert (PATH in (app.openapi_schema.paths or {})) is included


@pytest.mark.parametrize("prefix", ["", "/auth"])
def test_discovery_document_leads_to_the_keys(prefix: str) -> None:
    issuer = f"https://me.example{prefix}"
    handler = create_jwks_handler([PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]], issuer=issuer, path="/keys")
    with TestClient(Litestar([Router(prefix or "/", route_handlers=[handler])])) as client:
        metadata = client.get(f"{prefix}/.well-known/openid-configuration")
        assert metadata.headers["Content-Type"] == "application/json"
        assert metadata.json() == {
            "issuer": issuer,
            "jwks_uri": f"{issuer}/keys",
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        }
        assert len(client.get(f"{prefix}/keys").json()["keys"]) == 2
        assert client.get(f"{prefix}{PATH}").status_code == 404
