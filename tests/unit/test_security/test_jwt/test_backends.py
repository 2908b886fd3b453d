"""The three backends in an application: how they answer, what they issue, and what their options do."""

from __future__ import annotations

import json
import warnings
from datetime import timedelta
from typing import Any

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.utils import base64url_encode

from litestar import Response, post, websocket
from litestar.connection import WebSocket
from litestar.exceptions import ImproperlyConfiguredException, LitestarWarning, WebSocketDisconnect
from litestar.security.jwt import (
    BaseJWTAuth,
    JWTAuth,
    JWTCookieAuth,
    KeysUnavailableException,
    OAuth2PasswordBearerAuth,
    Token,
    UnverifiedToken,
)
from litestar.security.jwt.testing import LocalIssuer
from tests.unit.test_security.test_jwt.backends import SECRET, backend, bearer, client_of, retrieve_user, statuses

BACKENDS = [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth]
COOKIES = BACKENDS[1:]
ISSUER = LocalIssuer(issuer="https://a.test", audience="api")
OTHER = LocalIssuer(issuer="https://b.test", audience="other", algorithm="ES256")
KEYS = [jwt.PyJWK(issuer.jwks["keys"][0]) for issuer in (ISSUER, OTHER)]
KEY = KEYS[0]
PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"sub": "ann", "iat": 1, "exp": 1 << 32}


def make(kind: Any, *secret: Any, **options: Any) -> BaseJWTAuth[str, Token]:
    """Make a backend of some kind, one that needs no audience."""
    url = {"token_url": "/login"} if kind is OAuth2PasswordBearerAuth else {}
    audiences: Any = {"accepted_audiences": []} if "key_provider" in options else {}
    made: BaseJWTAuth[str, Token] = kind(
        *secret, **{"retrieve_user_handler": retrieve_user, **url, **audiences, **options}
    )
    return made


@pytest.mark.parametrize("kind", BACKENDS)
def test_request_without_credentials_is_challenged(kind: Any) -> None:
    for auth in (make(kind, SECRET), make(kind, key_provider=KEY)):
        with client_of(auth) as client:
            for headers in ({}, {"Authorization": ""}):
                answer = client.get("/", headers=headers)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert answer.json()["detail"].startswith("No JWT token found in request header")


@pytest.mark.parametrize("kind", BACKENDS)
def test_websockets_are_authenticated(kind: Any) -> None:
    @websocket("/ws")
    async def greet(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(f"{socket.user} {socket.auth.iss}")
        await socket.close()

    with client_of(make(kind, key_provider=KEY), greet) as client:
        with client.websocket_connect("/ws", headers=ISSUER.auth_header("ann")) as session:
            assert session.receive_text() == "ann https://a.test"
        with pytest.raises(WebSocketDisconnect, match="No JWT token found"):
            with client.websocket_connect("/ws") as session:
                session.receive_text()


@pytest.mark.parametrize("error", [KeysUnavailableException("Later", retry_after=6.2), ConnectionRefusedError()])
def test_keys_that_cannot_be_had_are_answered_with_503(error: Exception) -> None:
    async def provider(token: UnverifiedToken) -> Any:
        raise error

    with client_of(backend(provider)) as client:
        answer = client.get("/", headers=ISSUER.auth_header())
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7" if "Later" in str(error) else "30")
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("kind", COOKIES)
def test_cookie_is_taken_where_there_is_no_token_in_the_header(kind: Any) -> None:
    auth = make(kind, SECRET, key="session")
    with client_of(auth) as client:
        client.cookies.set("session", auth.create_token("ann"))
        assert client.get("/").text == "ann"
        assert client.get("/", headers=bearer(auth.create_token("bob"))).text == "bob"
        assert client.get("/", headers=bearer("x")).status_code == 401


@pytest.mark.parametrize("kind", COOKIES)
def test_cookie_counts_beside_credentials_for_something_else(kind: Any) -> None:
    for auth, token, status in (
        (make(kind, key_provider=KEY), ISSUER.token(), 200),
        (make(kind, key_provider=KEY), OTHER.token(), 401),
        (make(kind, SECRET), make(kind, SECRET).create_token("ann"), 401),  # as released
    ):
        with client_of(auth) as client:
            client.cookies.set("token", token)
            assert client.get("/", headers={"Authorization": "Basic YTpi"}).status_code == status


def test_scheme_is_bearer_with_a_key_provider_and_any_without() -> None:
    token, own = ISSUER.token(), make(JWTAuth, SECRET).create_token("ann")
    values = ["Bearer {}", "bearer {}", "BEARER   {}", "Token {}", "Basic {}", "{}", "Bearer", "Bearer{}"]
    sent, sent_own = ([{"Authorization": value.format(t)} for value in values] for t in (token, own))
    assert statuses(backend(KEY), *sent) == [200, 200, 200, 401, 401, 401, 401, 401]
    assert statuses(make(JWTAuth, SECRET), *sent_own) == [200, 200, 200, 200, 200, 401, 401, 401]
    for auth, headers in (
        (backend(KEY, auth_scheme="Token"), sent),
        (make(JWTAuth, SECRET, auth_scheme="Token"), sent_own),
    ):
        assert statuses(auth, *headers) == [401, 401, 401, 200, 401, 401, 401, 401]
        assert auth.format_auth_header("x") == "Token x"
        with client_of(auth) as client:
            assert client.get("/").headers["WWW-Authenticate"] == "Token"


def test_header_may_hold_the_bare_token_with_padding() -> None:
    key = ec.generate_private_key(ec.SECP256R1())

    def signed(padding: str) -> dict[str, str]:
        """Sign a token as an AWS load balancer does: what is signed includes the padding."""
        segments = [base64url_encode(json.dumps(part).encode()).decode() for part in ({"alg": "ES256"}, claims)]
        input_ = ".".join(segment + padding * (-len(segment) % 4) for segment in segments)
        signature = base64url_encode(jwt.get_algorithm_by_name("ES256").sign(input_.encode(), key)).decode()
        return {"X-Token": f"{input_}.{signature}{padding * (-len(signature) % 4)}"}

    claims = next(c for c in (CLAIMS | {"x": "x" * n} for n in range(3)) if len(json.dumps(c)) % 3)
    prefixed = {"X-Token": f"Bearer {signed('=')['X-Token']}"}
    headers = [signed("="), signed(""), signed("=="), prefixed]
    auth = backend(key.public_key(), auth_header="X-Token", auth_scheme="")
    assert statuses(auth, *headers) == [200, 200, 401, 401]
    assert auth.format_auth_header("x") == "x"
    assert statuses(backend(key.public_key(), auth_header="X-Token"), prefixed) == [401]


def test_audiences_may_depend_on_the_issuer() -> None:
    audiences = {"https://a.test": ["x", "api"], "https://c.test": "other"}
    claims: list[dict[str, Any]] = [{}, {"aud": ["y", "x"]}, {"aud": "other"}, {"aud": None}, {"iss": None}]
    claims += [{"iss": "https://c.test"}, {"iss": "https://c.test", "aud": "other"}]
    sent = [*(ISSUER.auth_header(**each) for each in claims), OTHER.auth_header()]
    assert statuses(backend(KEYS, accepted_audiences=audiences), *sent) == [200, 200, 401, 401, 401, 401, 200, 401]
    auth = make(JWTAuth, SECRET, accepted_audiences=audiences)
    own = [{"iss": "https://a.test", "aud": "api"}, {"iss": "https://a.test", "aud": "other"}, {"aud": "api"}]
    assert statuses(auth, *(bearer(jwt.encode(CLAIMS | c, SECRET, "HS256")) for c in own)) == [200, 401, 401]


@pytest.mark.parametrize("kind", BACKENDS)
def test_type_of_the_token_is_verified(kind: Any) -> None:
    types = ["at+jwt", "AT+JWT", "application/at+jwt", "other", "JWT", None, "at", "", 5]
    accepted: Any = {"accepted_types": ["at+jwt", "application/Other"]}
    sent = [ISSUER.auth_header(headers={"typ": typ}) for typ in types]
    own = [bearer(jwt.encode(CLAIMS, SECRET, "HS256", {"typ": typ})) for typ in types]
    assert statuses(make(kind, key_provider=KEY, **accepted), *sent) == [200] * 4 + [401] * 5
    assert statuses(make(kind, SECRET, **accepted), *own) == [200] * 4 + [401] * 5


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("leeway", [10, 10.0, timedelta(seconds=10)])
@time_machine.travel(1_900_000_000, tick=False)
def test_times_are_verified_with_leeway(leeway: Any, kind: Any) -> None:
    now = 1_900_000_000
    times = [
        ("exp", now - 9),
        ("exp", now - 10),
        ("nbf", now + 10),
        ("nbf", now + 11),
        ("iat", now + 10),
        ("iat", now + 11),
    ]
    all_claims: list[dict[str, Any]] = [{name: time} for name, time in times]
    sent = [ISSUER.auth_header(**claims) for claims in all_claims]
    own = [bearer(jwt.encode({**CLAIMS, **claims}, SECRET, "HS256")) for claims in all_claims]
    assert statuses(make(kind, key_provider=KEY, leeway=leeway), *sent) == [200, 401] * 3
    assert statuses(make(kind, SECRET, leeway=leeway), *own) == [200, 401] * 3
    assert statuses(make(kind, key_provider=KEY), *sent, ISSUER.auth_header()) == [401] * 6 + [200]


@pytest.mark.parametrize("kind", BACKENDS)
def test_verification_of_times_may_be_switched_off(kind: Any) -> None:
    expired, early = {**CLAIMS, "exp": 2}, {**CLAIMS, "nbf": 1 << 31}
    for options, expected in (({"verify_expiry": False}, [200, 401]), ({"verify_not_before": False}, [401, 200])):
        own = [bearer(jwt.encode(claims, SECRET, "HS256")) for claims in (expired, early)]
        assert statuses(make(kind, SECRET, **options), *own) == expected
        sent = [ISSUER.auth_header(exp=2), ISSUER.auth_header(nbf=1 << 31)]
        assert statuses(make(kind, key_provider=KEY, **options), *sent) == expected


def test_strict_audience_is_a_single_value() -> None:
    sent = [ISSUER.auth_header(), ISSUER.auth_header(aud=["api"]), ISSUER.auth_header(aud="x")]
    assert statuses(backend(KEY, accepted_audiences=["api"], strict_audience=True), *sent) == [200, 401, 401]


def test_revoked_token_is_refused() -> None:
    def is_revoked(token: Token, connection: Any) -> bool:
        return token.jti == "revoked"

    async def is_revoked_later(token: Token, connection: Any) -> bool:
        return token.jti == "revoked"

    for handler in (is_revoked, is_revoked_later):
        auth = backend(KEY, revoked_token_handler=handler)
        assert statuses(auth, ISSUER.auth_header(jti="x"), ISSUER.auth_header(jti="revoked")) == [200, 401]


def test_several_algorithms_are_accepted() -> None:
    sent = [ISSUER.auth_header(), OTHER.auth_header()]
    for algorithm, expected in (
        (["RS256", "ES256"], [200, 200]),
        (["ES256", "PS256"], [401, 200]),
        ("RS256", [200, 401]),
    ):
        assert statuses(backend(lambda token: KEYS, algorithm=algorithm), *sent) == expected
    assert statuses(backend(KEYS), *sent) == [200, 200]


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "ES512", "ES256K", "EdDSA"])
def test_algorithm_follows_from_the_key(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm, issuer="https://a.test")
    key = jwt.PyJWK(issuer.jwks["keys"][0])
    pem = key.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hmac = bearer(jwt.encode(CLAIMS, SECRET, "HS256"))
    for given in (key, [key, *KEYS], pem, lambda token: pem, issuer.key_provider):
        assert statuses(backend(given), issuer.auth_header(), hmac) == [200, 401]
    assert statuses(make(JWTAuth, pem), issuer.auth_header(), hmac) == [200, 401]


class LookingAgain:
    """A provider whose issuer has put another key behind a known ID."""

    def __init__(self, first: Any, second: Any) -> None:
        self.first, self.second, self.asked = first, second, 0

    def __call__(self, token: UnverifiedToken) -> Any:
        return self.first

    async def look_again(self, token: UnverifiedToken) -> Any:
        self.asked += 1
        if isinstance(self.second, Exception):
            raise self.second
        return self.second


RENAMED = jwt.PyJWK({**LocalIssuer(issuer="https://a.test").jwks["keys"][0], "kid": KEY.key_id})


@pytest.mark.parametrize(
    ("first", "second", "claims", "status", "asked"),
    [
        (KEY, KEY, {}, 200, 0),
        (RENAMED, KEY, {}, 200, 1),
        (RENAMED, RENAMED, {}, 401, 1),
        (RENAMED, None, {}, 401, 1),
        (RENAMED, LookupError(), {}, 401, 1),
        (RENAMED, TimeoutError(), {}, 503, 1),
        (RENAMED, ZeroDivisionError(), {}, 500, 1),
        (KEY, KEY, {"expires_in": -5}, 401, 0),
        (KEY, KEY, {"sub": None}, 401, 0),
        (RENAMED, KEY, {"expires_in": -5}, 401, 1),
    ],
)
def test_provider_is_asked_once_more_if_a_signature_does_not_verify(
    first: Any, second: Any, claims: Any, status: int, asked: int
) -> None:
    provider = LookingAgain(first, second)
    assert statuses(backend(provider), ISSUER.auth_header(**claims)) == [status]
    assert provider.asked == asked


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("algorithm", sorted(PRIVATE_KEYS))
@pytest.mark.parametrize("form", ["key", "pem", "several"])
def test_private_key_issues_tokens_that_name_it_by_its_thumbprint(form: str, algorithm: str, kind: Any) -> None:
    key = PRIVATE_KEYS[algorithm]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    auth = make(kind, {"key": key, "pem": pem, "several": [key, PRIVATE_KEYS["RS256"]]}[form])
    token = auth.create_token("ann", token_issuer="me", token_audience="all", token_extras={"role": "admin"})
    header = jwt.get_unverified_header(token)
    assert (header["alg"], len(header["kid"])) == (algorithm, 43)
    payload = jwt.decode(token, key.public_key(), [algorithm], audience="all")
    assert (payload["sub"], payload["iss"], payload["extras"]) == ("ann", "me", {"role": "admin"})
    assert statuses(auth, bearer(token), bearer(ISSUER.token())) == [200, 401]


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("in_body", [True, False])
def test_login_answers_with_the_token(kind: Any, in_body: bool) -> None:
    auth = make(kind, SECRET, default_token_expiration=timedelta(minutes=5))

    @post("/login", exclude_from_auth=True)
    async def login() -> Response[Any]:
        return auth.login("ann", send_token_as_response_body=in_body)

    with client_of(auth, login) as client:
        answer = client.post("/login")
    assert answer.status_code == 201
    scheme, token = answer.headers["Authorization"].split()
    assert scheme == "Bearer"
    assert Token.decode(token, SECRET, "HS256").sub == "ann"
    assert dict(answer.cookies) == ({} if kind is JWTAuth else {"token": token})
    if kind is not JWTAuth:
        attributes = answer.headers["Set-Cookie"].split("; ")
        assert {"HttpOnly", "Max-Age=300", "Path=/", "SameSite=lax"} <= set(attributes)
    oauth = {"access_token": token, "token_type": "bearer", "refresh_token": None, "expires_in": 300}
    body = oauth if kind is OAuth2PasswordBearerAuth else {"token": token}
    assert answer.json() == (body if in_body else None)


def test_cookie_has_the_attributes_of_the_backend() -> None:
    attributes: Any = {"key": "k", "path": "/p", "domain": "d.test", "secure": True, "samesite": "strict"}
    auth = make(JWTCookieAuth, SECRET, **attributes)
    response = auth.login("ann", token_expiration=timedelta(hours=1), response_body={"x": 1})
    (cookie,) = response.cookies
    assert {name: getattr(cookie, name) for name in attributes} == attributes
    assert (cookie.max_age, response.content) == (3600, {"x": 1})


def test_nothing_is_issued_without_a_key_that_signs() -> None:
    for auth, reason in ((backend(KEY), "token_secret"), (make(JWTAuth, KEY), "private")):
        for issue in (auth.login, auth.create_token):
            with pytest.raises(ImproperlyConfiguredException, match=reason):
                issue("ann")


def test_secret_signs_while_the_provider_verifies() -> None:
    key = PRIVATE_KEYS["RS256"]
    auth = backend(KEY, token_secret=key)
    token = auth.create_token("ann")
    assert jwt.decode(token, key.public_key(), ["RS256"])["sub"] == "ann"
    assert statuses(auth, ISSUER.auth_header(), bearer(token)) == [200, 401]


@pytest.mark.parametrize("kind", BACKENDS)
def test_provider_without_an_audience_is_warned_of(kind: Any) -> None:
    with pytest.warns(LitestarWarning, match="accepted_audiences") as caught:
        make(kind, key_provider=KEY, accepted_audiences=None)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(kind, key_provider=KEY, accepted_audiences=[])
        make(kind, key_provider=KEY, accepted_audiences={"https://a.test": ["api"]})
        make(kind, SECRET)


@pytest.mark.parametrize("issuers", [(), ("https://a.test",)])
@pytest.mark.parametrize("path", ["", "/mcp", "/a/b"])
def test_metadata_of_the_protected_resource_is_served_and_pointed_to(path: str, issuers: tuple[str, ...]) -> None:
    provider: Any = LookingAgain(KEY, KEY)
    provider.issuers = issuers
    auth = make(
        OAuth2PasswordBearerAuth,
        key_provider=provider,
        accepted_issuers=None if issuers else "https://a.test",
        protected_resource=f"https://api.test{path}",
        oauth_scopes={"read": "Read", "write": "Write"},
    )
    url = f"/.well-known/oauth-protected-resource{path}"
    pointer = f'resource_metadata="https://api.test{url}"'
    with client_of(auth) as client:
        assert client.get("/").headers["WWW-Authenticate"] == f"Bearer {pointer}"
        challenge = client.get("/", headers=OTHER.auth_header()).headers["WWW-Authenticate"]
        assert challenge.startswith('Bearer error="invalid_token", error_description=')
        assert challenge.endswith(pointer)
        assert client.get(url).json() == {
            "resource": f"https://api.test{path}",
            "authorization_servers": ["https://a.test"],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["read", "write"],
        }
