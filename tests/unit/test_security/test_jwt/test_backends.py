"""The three backends in an application: how they answer, what they issue, and which options they refuse."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from litestar import Litestar, Response, post, websocket
from litestar.connection import ASGIConnection, WebSocket
from litestar.di import Provide
from litestar.exceptions import (
    ImproperlyConfiguredException,
    LitestarWarning,
    NotAuthorizedException,
)
from litestar.security.jwt import (
    BaseJWTAuth,
    JWTAuth,
    JWTCookieAuth,
    OAuth2PasswordBearerAuth,
    RemoteJWKSet,
    Token,
    UnverifiedToken,
)
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, retrieve_user, text_of, whoami

SECRET = "a secret that is long enough for any of the HMAC algorithms, even those of 512 bit"
BACKENDS = [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth]


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer(audience="api") as issuer:
        yield issuer


def make(kind: Any, **options: Any) -> BaseJWTAuth[str, Token]:
    url = {"token_url": "/login"} if kind is OAuth2PasswordBearerAuth else {}
    made: BaseJWTAuth[str, Token] = kind(**{"retrieve_user_handler": retrieve_user, **url, **options})
    return made


def client_of(auth: BaseJWTAuth[Any, Any], *handlers: Any) -> TestClient[Litestar]:
    return TestClient(Litestar([whoami, *handlers], on_app_init=[auth.on_app_init]))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("kind", BACKENDS)
def test_request_without_credentials_is_challenged(kind: Any) -> None:
    with client_of(make(kind, token_secret=SECRET)) as client:
        for headers in ({}, {"Authorization": ""}):
            answer = client.get("/", headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert answer.json()["detail"].startswith("No JWT token found in request header")


@pytest.mark.parametrize("kind", BACKENDS)
def test_request_with_a_defective_token_is_told_so(kind: Any, issuer: LocalIssuer) -> None:
    auth = make(kind, key_provider=issuer.key_provider, accepted_audiences=["api"])
    with client_of(auth) as client:
        assert client.get("/", headers=issuer.auth_header("ann")).text == "ann"
        for token in (issuer.forged_token(), issuer.token(expires_in=-5), issuer.token(audience="other"), "x", "a.b.c"):
            answer = client.get("/", headers=bearer(token))
            assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
            assert (answer.status_code, answer.json()) == (401, {"status_code": 401, "detail": "Invalid token"})


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("reason", ["no such user", "revoked"])
def test_token_of_nobody_and_revoked_token_are_refused(kind: Any, reason: str) -> None:
    def find_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> Any:
        return None if reason == "no such user" else token.sub

    def is_revoked(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
        return token.sub == "ann"

    auth = make(kind, token_secret=SECRET, retrieve_user_handler=find_user, revoked_token_handler=is_revoked)
    with client_of(auth) as client:
        answer = client.get("/", headers=bearer(auth.create_token("ann")))
        assert (answer.status_code, answer.json()["detail"]) == (401, "Unauthorized")
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_challenge_of_the_application_is_left_alone() -> None:
    def find_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
        raise NotAuthorizedException(headers={"www-authenticate": "Own"})

    auth = make(JWTAuth, token_secret=SECRET, retrieve_user_handler=find_user)
    with client_of(auth) as client:
        assert client.get("/", headers=bearer(auth.create_token("ann"))).headers["WWW-Authenticate"] == "Own"


@pytest.mark.parametrize("kind", [JWTCookieAuth, OAuth2PasswordBearerAuth])
def test_cookie_is_taken_where_there_is_no_header(kind: Any) -> None:
    auth = make(kind, token_secret=SECRET, key="session")
    with client_of(auth) as client:
        client.cookies.set("session", auth.create_token("ann"))
        assert client.get("/").text == "ann"
        assert client.get("/", headers=bearer(auth.create_token("bob"))).text == "bob"
        assert client.get("/", headers=bearer("x")).status_code == 401


@pytest.mark.parametrize("kind", BACKENDS)
def test_websockets_are_authenticated(kind: Any, issuer: LocalIssuer) -> None:
    @websocket("/ws")
    async def greet(socket: WebSocket[str, Token, Any]) -> None:
        await socket.accept()
        await socket.send_text(f"{socket.user}")
        await socket.receive_text()
        await socket.close()

    auth = make(kind, key_provider=RemoteJWKSet(issuer.jwks_url), accepted_audiences=["api"])
    with client_of(auth, greet) as client:
        with client.websocket_connect("/ws", headers=issuer.auth_header("ann")) as session:
            assert session.receive_text() == "ann"
            session.send_text("bye")
        assert anyio.run(text_of, client.app, {}, "/ws").startswith("No JWT token found")
        assert anyio.run(text_of, client.app, bearer(issuer.forged_token()), "/ws") == "Invalid token"


@pytest.mark.parametrize("kind", BACKENDS)
def test_keys_that_cannot_be_had_are_answered_with_503(kind: Any) -> None:
    with LocalIssuer(audience="api") as issuer:
        issuer.gone()
        auth = make(kind, key_provider=RemoteJWKSet(issuer.jwks_url, timeout=0.2), accepted_audiences=["api"])
        with client_of(auth) as client:
            answer = client.get("/", headers=issuer.auth_header())
            assert answer.status_code == 503
            assert 1 <= int(answer.headers["Retry-After"]) <= 30


def test_key_that_turns_out_to_be_unusable_is_logged_once_for_each_request(caplog: pytest.LogCaptureFixture) -> None:
    issuer = LocalIssuer()
    auth = backend(lambda token: "not a key", algorithm="RS256")
    with client_of(auth) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 500
    messages = [record.getMessage() for record in caplog.records if record.name == "litestar.security.jwt"]
    assert len(messages) == 1
    assert "cannot be used" in messages[0]
    assert issuer.token() not in caplog.text


@pytest.mark.parametrize("answer", ["nothing", "raises"])
def test_provider_without_a_key_is_answered_with_401(answer: str, issuer: LocalIssuer) -> None:
    def provider(token: UnverifiedToken) -> Any:
        if answer == "raises":
            raise LookupError(token.kid)

    with client_of(backend(provider)) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 401


def test_error_of_a_provider_is_an_error_of_the_application(issuer: LocalIssuer) -> None:
    async def provider(token: UnverifiedToken) -> Any:
        raise ZeroDivisionError

    with client_of(backend(provider)) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 500


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("key", ["secret", "key"])
def test_type_of_the_token_is_verified(key: str, kind: Any, issuer: LocalIssuer) -> None:
    accepted = ["at+jwt", "application/Other"]
    if key == "secret":
        auth = make(kind, token_secret=SECRET, accepted_types=accepted)
    else:
        auth = make(kind, key_provider=issuer.public_pem, accepted_types=accepted, accepted_audiences=[])

    def status_with(typ: str | None) -> int:
        claims = {"sub": "ann", "iat": 1, "exp": 1 << 32}
        if key == "key":
            return client.get("/", headers=issuer.auth_header(headers={"typ": typ})).status_code
        return client.get("/", headers=bearer(jwt.encode(claims, SECRET, "HS256", {"typ": typ}))).status_code

    with client_of(auth) as client:
        for typ in ("at+jwt", "AT+JWT", "application/at+jwt", "other"):
            assert status_with(typ) == 200
        for refused in ("JWT", None, "at", ""):
            assert status_with(refused) == 401
        assert client.get("/", headers=bearer("x.y.z")).status_code == 401


@pytest.mark.parametrize("kind", BACKENDS)
def test_long_token_is_refused(kind: Any) -> None:
    token = make(kind, token_secret=SECRET).create_token("ann")
    for limit, status in ((len(token), 200), (len(token) - 1, 401)):
        with client_of(make(kind, token_secret=SECRET, max_token_length=limit)) as client:
            assert client.get("/", headers=bearer(token)).status_code == status


@pytest.mark.parametrize("kind", BACKENDS)
def test_leeway_reaches_the_token(kind: Any, issuer: LocalIssuer) -> None:
    for leeway, status in ((30, 200), (timedelta(seconds=30), 200), (0, 401)):
        options = {"key_provider": issuer.key_provider, "accepted_audiences": [], "leeway": leeway}
        with client_of(make(kind, **options)) as client:
            assert client.get("/", headers=issuer.auth_header(expires_in=-10)).status_code == status


@pytest.mark.parametrize("accepted", [["https://issuer.test"], lambda name: name.endswith(".test")])
def test_issuer_is_verified(accepted: Any) -> None:
    issuer, other = LocalIssuer(), LocalIssuer("https://other.example")
    keys = [issuer.public_pem, other.public_pem]
    with client_of(backend(keys, accepted_issuers=accepted)) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 200
        assert client.get("/", headers=other.auth_header()).status_code == 401
        assert client.get("/", headers=issuer.auth_header(iss=None)).status_code == 401


def keycloak() -> tuple[LocalIssuer, list[dict[str, Any]]]:
    issuer = LocalIssuer()
    encryption = LocalIssuer().jwks["keys"][0] | {"alg": "RSA-OAEP", "use": "enc"}
    return issuer, [encryption, issuer.jwks["keys"][0] | {"x5c": ["MIIC"], "x5t": "abc"}]


def entra() -> tuple[LocalIssuer, list[dict[str, Any]]]:
    issuer = LocalIssuer(declare_alg=False)
    return issuer, [LocalIssuer(declare_alg=False).jwks["keys"][0], issuer.jwks["keys"][0]]


def same_id_twice() -> tuple[LocalIssuer, list[dict[str, Any]]]:
    issuer = LocalIssuer()
    return issuer, [LocalIssuer().jwks["keys"][0] | {"kid": issuer.kid}, issuer.jwks["keys"][0]]


def several_kinds() -> tuple[LocalIssuer, list[dict[str, Any]]]:
    issuer = LocalIssuer(algorithm="RS256")
    others = [LocalIssuer(algorithm=name).jwks["keys"][0] for name in ("ES256", "EdDSA")]
    return issuer, [{"kty": "oct", "k": "AAAA", "kid": issuer.kid}, {"kty": "AKP"}, *others, issuer.jwks["keys"][0]]


@pytest.mark.parametrize("form", ["remote", "set"])
@pytest.mark.parametrize("shape", [keycloak, entra, same_id_twice, several_kinds])
def test_key_sets_of_providers_are_understood(shape: Any, form: str) -> None:
    issuer, keys = shape()
    with issuer:
        issuer.serve_jwks({"keys": keys})
        if form == "remote":
            given: Any = RemoteJWKSet(issuer.jwks_url)
        else:
            given = jwt.PyJWKSet([key for key in keys if key["kty"] != "AKP"])
        with client_of(backend(given, algorithm="RS256")) as client:
            assert client.get("/", headers=issuer.auth_header()).status_code == 200
            assert client.get("/", headers=bearer(issuer.forged_token())).status_code == 401


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "ES512", "ES256K", "EdDSA"])
def test_algorithm_follows_from_a_static_key(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm)
    for key in (issuer.pyjwk, [issuer.pyjwk, LocalIssuer().pyjwk]):
        with client_of(backend(key)) as client:
            assert client.get("/", headers=issuer.auth_header()).status_code == 200


PRIVATE_KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("algorithm", sorted(PRIVATE_KEYS))
@pytest.mark.parametrize("form", ["key", "pem", "several"])
def test_login_signs_with_a_private_key(form: str, algorithm: str, kind: Any) -> None:
    key = PRIVATE_KEYS[algorithm]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    older = rsa.generate_private_key(65537, 2048)
    auth = make(kind, token_secret={"key": key, "pem": pem, "several": [key, older]}[form])
    token = auth.create_token("ann", token_issuer="me", token_extras={"role": "admin"})
    header = jwt.get_unverified_header(token)
    assert header["alg"] == algorithm
    assert len(header["kid"]) == 43
    assert jwt.decode(token, key.public_key(), [algorithm])["extras"] == {"role": "admin"}
    with client_of(auth) as client:
        assert client.get("/", headers=bearer(token)).text == "ann"


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize("in_body", [True, False])
def test_login_answers_with_the_token(kind: Any, in_body: bool) -> None:
    auth = make(kind, token_secret=SECRET, default_token_expiration=timedelta(minutes=5))

    @post("/login", exclude_from_auth=True)
    async def login() -> Response[Any]:
        return auth.login("ann", send_token_as_response_body=in_body)

    with client_of(auth, login) as client:
        answer = client.post("/login")
        assert answer.status_code == 201
        scheme, token = answer.headers["Authorization"].split()
        assert scheme == "Bearer"
        assert Token.decode(token, SECRET, "HS256").sub == "ann"
        if kind is not JWTAuth:
            assert answer.cookies["token"] == token
            assert "Max-Age=300" in answer.headers["Set-Cookie"]
            assert "HttpOnly" in answer.headers["Set-Cookie"]
        bearer_body = {"access_token": token, "token_type": "bearer", "refresh_token": None, "expires_in": 300}
        body = bearer_body if kind is OAuth2PasswordBearerAuth else {"token": token}
        assert answer.content == (json.dumps(body, separators=(",", ":")).encode() if in_body else b"null")


def test_login_may_have_a_body_of_its_own() -> None:
    auth = make(JWTAuth, token_secret=SECRET)
    response = auth.login("ann", response_body={"x": 1}, send_token_as_response_body=True, response_status_code=200)
    assert (response.content, response.status_code) == ({"x": 1}, 200)


@pytest.mark.parametrize("kind", BACKENDS)
def test_nothing_is_issued_without_a_secret(kind: Any, issuer: LocalIssuer) -> None:
    auth = make(kind, key_provider=issuer.key_provider, accepted_audiences=[])
    for issue in (auth.login, auth.create_token):
        with pytest.raises(ImproperlyConfiguredException, match="token_secret"):
            issue("ann")


def test_secret_signs_while_the_provider_verifies(issuer: LocalIssuer) -> None:
    key = PRIVATE_KEYS["RS256"]
    auth = backend(issuer.key_provider, token_secret=key)
    with client_of(auth) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 200
        assert client.get("/", headers=bearer(auth.create_token("ann"))).status_code == 401
    assert jwt.decode(auth.create_token("ann"), key.public_key(), ["RS256"])["sub"] == "ann"


def test_public_key_as_secret_verifies_and_signs_nothing(issuer: LocalIssuer) -> None:
    auth = make(JWTAuth, token_secret=issuer.public_pem)
    with client_of(auth) as client:
        assert client.get("/", headers=issuer.auth_header()).status_code == 200
    with pytest.raises(ImproperlyConfiguredException, match="private"):
        auth.create_token("ann")


def test_token_class_of_ones_own_signs_as_it_likes() -> None:
    class Own(Token):
        def encode(self, secret: Any, algorithm: str, headers: dict[str, Any] | None = None) -> str:
            return f"{secret}/{algorithm}"

    auth = JWTAuth[str, Own](retrieve_user_handler=retrieve_user, token_secret="own", token_cls=Own)
    assert auth.create_token("ann") == "own/HS256"


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "'token_secret' or 'key_provider'"),
        ({"algorithm": []}, "is empty"),
        ({"algorithm": "none"}, "'none'"),
        ({"algorithm": ["RS256", "NONE"]}, "'NONE'"),
        ({"algorithm": [5]}, "5"),
        ({"algorithm": "RS1"}, "'RS1'"),
        ({"algorithm": ["RS256", "HS256"]}, "HMAC and asymmetric"),
        ({"leeway": -1}, "leeway"),
        ({"leeway": timedelta(seconds=-1)}, "leeway"),
        ({"max_token_length": 0}, "max_token_length"),
        ({"strict_audience": True}, "strict_audience"),
        ({"strict_audience": True, "accepted_audiences": ["a", "b"]}, "strict_audience"),
        ({"token_secret": "not a key", "algorithm": "RS256"}, "not a PEM"),
        ({"token_secret": 5}, "int is not a key"),
        ({"token_secret": []}, "list is not a key"),
        ({"token_secret": rsa.generate_private_key(65537, 1024)}, "1024 bit"),
        ({"token_secret": PRIVATE_KEYS["ES384"], "algorithm": "ES256"}, "not one for ES256"),
        ({"token_secret": LocalIssuer().public_pem, "algorithm": "HS256"}, "cannot be used"),
        ({"key_provider": 5}, "int"),
        ({"key_provider": PRIVATE_KEYS["ES384"], "algorithm": ["RS256", "ES256"]}, "not one for RS256 or ES256"),
        ({"key_provider": lambda token: SECRET, "token_secret": LocalIssuer().public_pem}, "public one"),
        ({"key_provider": Provide(lambda body: body, sync_to_thread=False)}, "body"),
    ],
)
def test_options_that_cannot_work_are_refused(kind: Any, options: dict[str, Any], reason: str) -> None:
    needed = {} if not options or "token_secret" in options or "key_provider" in options else {"token_secret": SECRET}
    with pytest.raises(ImproperlyConfiguredException, match=reason):
        make(kind, **needed, **options)


@pytest.mark.parametrize("kind", BACKENDS)
def test_provider_without_an_audience_is_warned_of(kind: Any, issuer: LocalIssuer) -> None:
    with pytest.warns(LitestarWarning, match="accepted_audiences") as caught:
        make(kind, key_provider=issuer.key_provider)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make(kind, key_provider=issuer.key_provider, accepted_audiences=[])
        make(kind, key_provider=issuer.key_provider, accepted_audiences=["api"])
        make(kind, token_secret=SECRET)


def test_auth_header_has_no_scheme_without_a_security_scheme() -> None:
    class Bare(JWTAuth[str, Token]):
        @property
        def openapi_components(self) -> Any:
            components = super().openapi_components
            components.security_schemes = None
            return components

    auth = Bare(retrieve_user_handler=retrieve_user, token_secret=SECRET)
    assert auth.format_auth_header("x") == "x"
