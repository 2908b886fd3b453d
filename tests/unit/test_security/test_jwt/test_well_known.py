"""The public keys of an application, and its metadata as a protected resource, at their well-known paths."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from litestar import Router, asgi, get, websocket
from litestar.config.cors import CORSConfig
from litestar.di import Provide
from litestar.exceptions import ImproperlyConfiguredException, PermissionDeniedException
from litestar.security.jwt import JWTAuth, OAuth2PasswordBearerAuth
from litestar.security.jwt.guards import requires_scopes
from litestar.security.jwt.keys import thumbprint
from litestar.security.jwt.signing import SigningKey
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.well_known import create_jwks_handler
from litestar.testing import TestClient

from .backends import ISSUER, PRIVATE_KEYS, app_of, backend, greet, pem, private_pem, whoami

JWKS_PATH = "/.well-known/jwks.json"
DISCOVERY_PATH = "/.well-known/openid-configuration"
RESOURCE_PATH = "/.well-known/oauth-protected-resource"
RESOURCE = "https://api.test"
RSA_KEY, EC_KEY = PRIVATE_KEYS["RS256"], PRIVATE_KEYS["ES256"]
BY_DEFAULT = {algorithm: key for algorithm, key in PRIVATE_KEYS.items() if algorithm != "PS256"}


def jwk(algorithm: str, key: Any = None, **members: Any) -> jwt.PyJWK:
    key = PRIVATE_KEYS[algorithm[:2] + "256"] if key is None else key
    private: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return jwt.PyJWK({**private, "alg": algorithm, **members})


def published(keys: Any, at: str = JWKS_PATH, **options: Any) -> Any:
    with TestClient(app_of([], create_jwks_handler(keys, **options))) as client:
        return client.get(at)


def deny(*_: Any) -> None:
    raise PermissionDeniedException


@pytest.mark.parametrize("algorithm", BY_DEFAULT)
def test_only_the_public_half_of_any_form_of_a_key_is_published(algorithm: str) -> None:
    key = BY_DEFAULT[algorithm]
    expected: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
    expected |= {"kid": thumbprint(expected), "use": "sig", "alg": algorithm, "key_ops": ["verify"]}
    private: Any = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    forms = [key, key.public_key(), private_pem(key), private_pem(key).decode(), pem(key), jwk(algorithm, key)]
    forms += [SigningKey(key), private, expected, {"keys": [expected]}, jwt.PyJWKSet([expected]), [SigningKey(key)]]
    for form in forms:
        assert published(form).json() == {"keys": [expected]}
    assert jwt.decode(jwt.encode({"sub": "user"}, key, algorithm), jwt.PyJWK(expected)) == {"sub": "user"}


@pytest.mark.parametrize(
    ("keys", "algorithm", "expected"),
    [
        pytest.param(RSA_KEY, "PS256", ["PS256"], id="one-algorithm"),
        pytest.param(RSA_KEY, ["ES256", "PS256", "RS256"], ["PS256"], id="first-that-fits"),
        pytest.param([RSA_KEY, EC_KEY], ["PS256", "ES256"], ["PS256", "ES256"], id="two-keys"),
        pytest.param(
            [jwk("RS512", kid="a"), jwk("ES256", kid="b", key_ops=["sign"])], None, ["a RS512", "b ES256"], id="jwks"
        ),
        pytest.param([SigningKey(RSA_KEY, "a"), EC_KEY], None, ["a RS256", "ES256"], id="signing-key"),
        pytest.param(SigningKey(jwk("PS384", RSA_KEY, kid="a")), None, ["a PS384"], id="algorithm-of-the-jwk"),
        pytest.param(ed448.Ed448PrivateKey.generate(), None, ["EdDSA"], id="ed448"),
    ],
)
def test_algorithm_and_id_are_those_of_the_tokens(keys: Any, algorithm: Any, expected: list[str]) -> None:
    for key, named in zip(published(keys, algorithm=algorithm).json()["keys"], expected, strict=True):
        assert named in {key["alg"], f"{key['kid']} {key['alg']}"}


NO_URLS: list[Any] = ["", "me.example", "ftp://me.example", "https://", "https://[", 5, b"https://me.example"]
NO_URLS += [f"https://{rest}" for rest in ("me.example?a", "me.example#a", "a:b@me.example")]


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        pytest.param("a secret", {}, r"'keys\[0\]' cannot be published: it is ", id="secret"),
        pytest.param([RSA_KEY, "a secret"], {}, r"'keys\[1\]' cannot be published: it is ", id="second-is-a-secret"),
        pytest.param(jwt.PyJWK({"kty": "oct", "k": "AAAA", "alg": "HS256"}), {}, r"'keys\[0\]'", id="symmetric"),
        pytest.param(jwk("ES256", use="enc"), {}, "not for signatures", id="encryption"),
        pytest.param({"kty": "RSA", "d": "AQAB"}, {}, r"'keys\[0\]' cannot be published: ", id="invalid-jwk"),
        pytest.param([], {}, "has no keys. Pass the keys", id="empty"),
        pytest.param(5, {}, "has no keys. Pass the keys", id="number"),
        pytest.param(rsa.generate_private_key(65537, 1024), {}, "RSA key of 1024 bit", id="short"),
        pytest.param([RSA_KEY, EC_KEY, private_pem(RSA_KEY)], {}, "two keys with the ID .* Remove one", id="same-key"),
        pytest.param([jwk("RS256", kid="a"), SigningKey(EC_KEY, "a")], {}, "two keys with the ID 'a'", id="same-id"),
        pytest.param(RSA_KEY, {"algorithm": "ES256"}, "'algorithm' is 'ES256', and the key is for RS256 or ", id="ec"),
        pytest.param(RSA_KEY, {"algorithm": []}, "'algorithm' is ", id="no-algorithms"),
        pytest.param(jwk("RS256"), {"algorithm": "PS256"}, "is 'PS256', and the key is for RS256", id="bound"),
        pytest.param(RSA_KEY, {"max_age": -1}, "'max_age' is -1. Pass a number", id="negative"),
        pytest.param(RSA_KEY, {"max_age": "60"}, "'max_age' is '60'. Pass a number", id="text"),
        pytest.param(RSA_KEY, {"issuer": "https://a.test", "path": DISCOVERY_PATH}, "path of the discovery", id="path"),
        *(
            pytest.param(RSA_KEY, {"issuer": issuer}, "takes the URL of the application", id=f"issuer-{issuer!r}")
            for issuer in NO_URLS
        ),
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


def resource_backend(key_provider: Any = ISSUER.key, kind: Any = JWTAuth, **options: Any) -> Any:
    return backend(key_provider, kind, **{"protected_resource": f"{RESOURCE}/", **options})


def metadata_of(auth: Any, *handlers: Any, path: str = RESOURCE_PATH, **options: Any) -> dict[str, Any]:
    with TestClient(app_of(auth, *handlers, **options)) as client:
        response = client.get(path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "application/json")
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.parametrize("path", ["", "/", "/mcp", "/mcp/", "/a/b"])
def test_metadata_says_who_issues_tokens_for_the_resource(path: str) -> None:
    auth = resource_backend(protected_resource=RESOURCE + path, accepted_issuers=["https://a.test", "https://b.test"])
    assert metadata_of(auth, path=RESOURCE_PATH + path.rstrip("/")) == {
        "resource": RESOURCE + path,
        "authorization_servers": ["https://a.test", "https://b.test"],
        "bearer_methods_supported": ["header"],
    }


def needing(settings: Any) -> Any:
    raise AssertionError("Only some routes have what it needs")


@pytest.mark.parametrize(
    ("provider", "options", "expected"),
    [
        pytest.param(ISSUER.key, {"accepted_issuers": "https://a.test"}, ["https://a.test"], id="lone-text"),
        pytest.param(ISSUER.key, {"accepted_issuers": lambda issuer: True}, None, id="function"),
        pytest.param(ISSUER.key, {}, None, id="none"),
        pytest.param(LocalIssuer(issuer="https://l.test").key_provider, {}, ["https://l.test"], id="key-provider"),
        pytest.param(
            Provide(lambda: LocalIssuer(issuer="https://l.test").key_provider, sync_to_thread=False),
            {"accepted_issuers": "https://a.test"},
            ["https://l.test"],
            id="factory",
        ),
        pytest.param(
            Provide(needing, sync_to_thread=False),
            {"accepted_issuers": "https://a.test", "exclude": "^/$"},
            ["https://a.test"],
            id="factory-that-needs-a-dependency-of-a-route",
        ),
    ],
)
def test_issuers_are_those_of_the_key_provider_or_the_accepted_ones(provider: Any, options: Any, expected: Any) -> None:
    assert metadata_of(resource_backend(provider, **options)).get("authorization_servers") == expected


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("Nobody comes here")


def routes() -> list[Any]:
    both = requires_scopes("read", "write", any_of=True)
    return [
        get("/a", guards=[both])(whoami.fn),
        websocket("/ws", guards=[requires_scopes("listen", "read", claims="scp")])(greet.fn),
        get("/b", guards=[requires_scopes("admin", claims="realm_access.roles"), deny])(whoami.fn),
        Router("/c", guards=[requires_scopes("outer")], route_handlers=[whoami]),
        asgi("/asgi", copy_scope=True, guards=[requires_scopes("mounted", "group name", claims=["scope", "groups"])])(
            mounted
        ),
    ]


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        pytest.param(JWTAuth, {}, {"read", "write", "listen", "outer", "mounted"}, id="guards"),
        pytest.param(JWTAuth, {"scopes_supported": ["openid", "admin"]}, {"openid", "admin"}, id="set"),
        pytest.param(JWTAuth, {"scopes_supported": []}, set(), id="set-to-none"),
        pytest.param(
            OAuth2PasswordBearerAuth,
            {"oauth_scopes": {"read": "Read", "more": "More"}},
            {"read", "more", "write", "listen", "outer", "mounted"},
            id="and-those-of-the-password-flow",
        ),
    ],
)
def test_scopes_are_those_that_clients_can_ask_for(kind: Any, options: Any, expected: set[str]) -> None:
    scopes = metadata_of(resource_backend(kind=kind, **options), *routes()).get("scopes_supported", [])
    assert (set(scopes), len(scopes)) == (expected, len(expected))


def test_well_known_paths_are_open_whatever_guards_there_are() -> None:
    auth = resource_backend(guards=[deny], exclude_opt_key="open")
    handlers = [whoami, create_jwks_handler(RSA_KEY, issuer=RESOURCE, exclude_opt_key="open")]
    with TestClient(app_of(auth, *handlers, guards=[requires_scopes("x")])) as client:
        paths = ("/", RESOURCE_PATH, JWKS_PATH, DISCOVERY_PATH)
        assert [client.get(path).status_code for path in paths] == [401, 200, 200, 200]
        assert client.get("/", headers=ISSUER.auth_header(scope="x")).status_code == 403


def test_page_of_any_origin_can_read_the_metadata() -> None:
    asked = {"Origin": "https://inspector.test", "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "mcp-protocol-version"
    with TestClient(app_of(resource_backend(guards=[deny]))) as client:
        preflight = client.options(RESOURCE_PATH, headers=asked)
        response = client.get(RESOURCE_PATH, headers={"Origin": "https://inspector.test"})
    assert (preflight.status_code, preflight.content) == (204, b"")
    assert (
        preflight.headers.items()
        >= {
            "access-control-allow-origin": "*",
            "access-control-allow-methods": "GET",
            "access-control-allow-headers": "*",
        }.items()
    )
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_cors_config_of_the_application_comes_first() -> None:
    cors = CORSConfig(["https://inspector.test"], allow_headers=["mcp-protocol-version"])
    with TestClient(app_of(resource_backend(), cors_config=cors)) as client:
        response = client.get(RESOURCE_PATH, headers={"Origin": "https://inspector.test"})
    assert re.split(", ?", response.headers["Access-Control-Allow-Origin"]) == ["https://inspector.test"]


@pytest.mark.parametrize("url", NO_URLS)
def test_resource_has_to_be_a_url(url: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="'protected_resource' takes the URL of the application"):
        resource_backend(protected_resource=url)
