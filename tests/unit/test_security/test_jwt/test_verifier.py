"""From a connection, or an encoded token, to the token and its user: what is accepted, and how everything else is answered."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import jwt
import pytest
import time_machine

from litestar import Controller, get
from litestar.connection import Request
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException, NotFoundException
from litestar.security.jwt import (
    JWTAuth,
    JWTCookieAuth,
    KeysUnavailableException,
    OAuth2PasswordBearerAuth,
    Reason,
    Token,
    TokenRefused,
)
from litestar.security.jwt.claims import ClaimRules
from litestar.security.jwt.lookup import as_lookup
from litestar.security.jwt.verifier import TokenVerifier, VerifierOptions

from .backends import (
    CLAIMS,
    FORGER,
    ISSUER,
    OTHER,
    PRIVATE_KEYS,
    SECRET,
    app_of,
    backend,
    bearer,
    client_of,
    compact,
    greet,
    on_both_libraries,
    provide,
    secret_backend,
    sign,
    status_of,
    statuses,
    text_of,
    whoami,
)

KEY, NOW = ISSUER.key, 1_900_000_000
GOOD = ISSUER.token(iat=1, exp=1 << 32)
MICROSOFT = "https://login.microsoftonline.com/{tenantid}/v2.0"
each_kind = pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
each_cookie_kind = pytest.mark.parametrize("kind", [JWTCookieAuth, OAuth2PasswordBearerAuth])


def status(auth: Any, **claims: Any) -> int:
    """Send a token of the issuer, and return the status code of the response."""
    return statuses(auth, ISSUER.token(**claims))[0]


async def verify(auth: Any, token: str = GOOD, **options: Any) -> Token:
    """Verify a token without a request."""
    verified: Token = await auth.verify(token, **options)
    return verified


@pytest.fixture
def clock() -> Iterator[None]:
    with time_machine.travel(NOW, tick=False):
        yield


@each_kind
def test_valid_token_is_accepted_by_http_and_websocket(kind: Any) -> None:
    with client_of(backend(KEY, kind), greet) as client:
        assert client.get("/", headers=bearer(GOOD)).text == "ann"
        with client.websocket_connect("/ws", headers=bearer(GOOD)) as socket:
            assert socket.receive_text() == "ann"


@each_kind
@on_both_libraries
async def test_request_without_credentials_is_challenged(kind: Any) -> None:
    app = app_of(backend(KEY, kind), whoami, greet)
    detail = f"No JWT token found in request header{'' if kind is JWTAuth else ' or cookies'}"
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Basic YTpi"}):
        assert await status_of(app, headers) == 401
        assert await text_of(app, headers) == detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("Bearer {}", 200, id="usual"),
        pytest.param("bearer {}", 200, id="lower-case"),
        pytest.param("BEARER   {}  ", 200, id="several-spaces"),
        pytest.param("  Bearer {}", 200, id="spaces-before"),
        pytest.param("Token {}", 401, id="other-scheme"),
        pytest.param("Basic {}", 401, id="basic"),
        pytest.param("{}", 401, id="bare"),
        pytest.param("Bearer{}", 401, id="no-space"),
        pytest.param("Bearer \t{}", 401, id="tab"),
        pytest.param("Bearer", 401, id="scheme-only"),
        pytest.param("Bearer {} x", 401, id="something-after"),
        pytest.param("Bearer Bearer {}", 401, id="scheme-twice"),
    ],
)
def test_scheme_is_bearer_followed_by_spaces(value: str, expected: int) -> None:
    assert statuses(backend(KEY), {"Authorization": value.format(GOOD)}) == [expected]


def test_scheme_and_header_may_be_others() -> None:
    auth = backend(KEY, auth_scheme="Token", auth_header="X-Token")
    sent = [{"X-Token": f"token {GOOD}"}, {"X-Token": f"Bearer {GOOD}"}, bearer(GOOD)]
    assert statuses(auth, *sent) == [200, 401, 401]


@on_both_libraries
async def test_header_may_be_sent_once() -> None:
    app, fields = app_of(backend(KEY)), [*bearer(GOOD).items()]
    assert [await status_of(app, fields * number) for number in (1, 2)] == [200, 401]
    assert await status_of(app, [*fields, *bearer(FORGER.token()).items()]) == 401


def as_aws_signs_it(alphabet: Any) -> str:
    """Sign a token as an AWS load balancer does: what is signed includes the padding."""
    front = ".".join(alphabet(json.dumps(part).encode()).decode() for part in ({"alg": "ES256"}, CLAIMS))
    signature = jwt.get_algorithm_by_name("ES256").sign(front.encode(), OTHER.private_key)
    return f"{front}.{alphabet(signature).decode()}"


def test_header_may_hold_a_bare_token_with_padding() -> None:
    auth = backend(OTHER.key, auth_scheme="", auth_header="X-Token")
    padded = as_aws_signs_it(b64encode)
    sent = [padded, OTHER.token(), f" {padded}\t", f"{padded}=", f"Bearer {padded}", padded.replace("=", "", 1)]
    assert statuses(auth, *({"X-Token": token} for token in sent)) == [200, 200, 200, 401, 401, 401]
    assert statuses(backend(OTHER.key), padded) == [401]


@each_cookie_kind
def test_cookie_is_used_where_the_header_has_no_token(kind: Any) -> None:
    auth = backend(KEY, kind, **({"key": "session"} if kind is JWTCookieAuth else {}))
    name, forged = "session" if kind is JWTCookieAuth else "token", FORGER.token()
    rows: list[tuple[dict[str, str], int]] = [
        ({"Cookie": f"{name}={GOOD}"}, 200),
        ({"Cookie": f"a=b; {name}=Bearer {GOOD}; c=d"}, 200),
        ({"Cookie": f"{name}={forged}"}, 401),
        ({"Cookie": f"other={GOOD}"}, 401),
        ({"Cookie": f"{name}={forged}", **bearer(GOOD)}, 200),
        ({"Cookie": f"{name}={GOOD}", **bearer(forged)}, 401),
        ({"Cookie": f"{name}={GOOD}", "Authorization": "Basic YTpi"}, 200),
        ({"Cookie": f"{name}="}, 401),
    ]
    assert statuses(auth, *(headers for headers, _ in rows)) == [expected for _, expected in rows]


@each_cookie_kind
@on_both_libraries
async def test_cookies_in_several_header_fields_are_read(kind: Any) -> None:
    seen: list[dict[str, str]] = []

    @get("/")
    async def handler(request: Request[str, Token, Any]) -> None:
        seen.append(request.cookies)

    app, released = app_of(backend(KEY, kind), handler), app_of([], handler)
    fields = [("Cookie", "a=1"), ("Cookie", f"token={GOOD}"), ("Cookie", "b=2")]
    for sent in (fields, fields[::-1], fields[1:]):
        assert [await status_of(each, sent) for each in (app, released)] == [200, 200]
        assert seen[-2] == seen[-1]  # the handler sees what it sees without a key provider
    assert await status_of(app, [fields[0], fields[2]]) == 401


@on_both_libraries
async def test_authentication_may_be_optional() -> None:
    @get("/optional", opt={"optional_auth": True})
    async def optional(request: Request[Any, Any, Any]) -> str:
        return f"{request.user} {request.auth and request.auth.sub}"

    @get("/free", opt={"optional_auth": True, "exclude_from_auth": True})
    async def free(request: Request[Any, Any, Any]) -> str:
        return str("user" in request.scope and request.scope["user"])

    for kind in (JWTAuth, JWTCookieAuth):
        with client_of(backend(KEY, kind), optional, free) as client:
            assert client.get("/optional").text == "None None"
            assert client.get("/optional", headers={"Authorization": ""}).text == "None None"
            assert client.get("/optional", headers=bearer(GOOD)).text == "ann ann"
            for refused in (
                bearer(FORGER.token()),
                bearer("x"),
                {"Authorization": "Basic YTpi"},
                {"Authorization": "Bearer"},
            ):
                assert client.get("/optional", headers=refused).status_code == 401
                assert client.get("/free", headers=refused).status_code == 200
            assert client.get("/").status_code == 401
    with client_of(backend(KEY, optional_auth_opt_key="perhaps"), optional) as client:
        assert client.get("/optional").status_code == 401


def test_optional_authentication_reads_cookies() -> None:
    @get("/optional", opt={"optional_auth": True})
    async def optional(request: Request[Any, Any, Any]) -> str:
        return str(request.user)

    with client_of(backend(KEY, JWTCookieAuth), optional) as client:
        for cookie, expected in (("a=b", "None"), (f"token={GOOD}", "ann")):
            assert client.get("/optional", headers={"Cookie": cookie}).text == expected
        assert client.get("/optional", headers={"Cookie": f"token={FORGER.token()}"}).status_code == 401


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("options", "good", "bad"),
    [
        ({}, {"exp": NOW - 29, "iat": NOW + 30}, {"exp": NOW - 30}),
        ({"leeway": 0}, {"exp": NOW + 1}, {"exp": NOW}),
        ({"leeway": timedelta(minutes=1)}, {"exp": NOW - 59}, {"iat": NOW + 61}),
        ({"verify_expiry": False}, {"exp": 5}, {"nbf": NOW + 99}),
        ({"verify_not_before": False}, {"nbf": NOW + 99}, {"exp": 5}),
        ({"require_claims": "azp"}, {"azp": "x"}, {"a": 1, "z": 1, "p": 1}),
        ({}, {"headers": {"typ": "x"}}, {"headers": {"typ": "logout+jwt"}}),
        ({"accepted_types": ["at+jwt"]}, {"headers": {"typ": "application/AT+JWT"}}, {}),
        ({"accepted_types": "Application/Logout+JWT"}, {"headers": {"typ": "logout+jwt"}}, {"headers": {"typ": None}}),
        ({}, {"cnf": None}, {"cnf": {"jkt": "x"}}),
        ({"accept_bound_tokens": True}, {"cnf": {"jkt": "x"}}, {"exp": 5}),
        ({"accepted_issuers": ISSUER.name}, {}, {"iss": None}),
        ({"accepted_issuers": ["x", "y"]}, {"iss": "y"}, {}),
        ({"accepted_audiences": "api"}, {"aud": ["api", "x"]}, {"aud": "a"}),
        ({"accepted_audiences": ["x", "api"]}, {}, {"aud": None}),
        ({"accepted_audiences": "api", "strict_audience": True}, {}, {"aud": ["api"]}),
        ({"accepted_audiences": "*"}, {"aud": None}, {"exp": 5}),
    ],
    ids=lambda value: " ".join(value) or None if isinstance(value, dict) else None,
)
def test_option_decides(options: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert statuses(backend(KEY, **options), ISSUER.token(**good), ISSUER.token(**bad)) == [200, 401]


def test_scheme_dpop_is_for_applications_behind_a_proxy() -> None:
    auth = backend(KEY, auth_scheme="DPoP", accept_bound_tokens=True)
    token = ISSUER.token(cnf={"jkt": "x"})
    assert statuses(auth, {"Authorization": f"DPoP {token}"}, bearer(token)) == [200, 401]


TENANT = MICROSOFT.replace("{tenantid}", "t1")
AUDIENCES = {ISSUER.name: ["x", "api"], "https://c.test": "other", MICROSOFT: ("api",)}


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        pytest.param({}, 200, id="second-of-the-issuer"),
        pytest.param({"aud": "other"}, 401, id="that-of-another-issuer"),
        pytest.param({"iss": "https://c.test", "aud": "other"}, 200, id="lone-text"),
        pytest.param({"iss": "https://c.test"}, 401, id="not-of-this-issuer"),
        pytest.param({"iss": "https://b.test"}, 401, id="unknown-issuer"),
        pytest.param({"iss": None}, 401, id="no-issuer"),
        pytest.param({"iss": TENANT, "tid": "t1"}, 200, id="tenant"),
        pytest.param({"iss": TENANT, "tid": "t2"}, 401, id="other-tenant"),
        pytest.param({"iss": MICROSOFT}, 401, id="placeholder"),
    ],
)
def test_audiences_may_depend_on_the_issuer(claims: dict[str, Any], expected: int) -> None:
    auth = backend(KEY, accepted_audiences=AUDIENCES)
    assert status(auth, **claims) == expected
    asked: list[str] = []

    async def audiences(issuer: str) -> list[str]:
        asked.append(issuer)
        return ["api"]

    dynamic = backend(KEY, accepted_audiences=audiences)
    assert status(dynamic, **claims) == (200 if claims.get("aud", "api") == "api" else 401)
    assert asked == [claims.get("iss", ISSUER.name) or ""]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (["api"], 200),
        (("x", "api"), 200),
        (["x"], 401),
        ([], 401),
        (None, 401),
        ("api", 401),
        ([""], 401),
        ([None, "api"], 401),
        ({"api"}, 401),
        (True, 401),
        (LookupError("x"), 401),
        (KeyError("x"), 401),
        (TimeoutError("x"), 503),
        (ZeroDivisionError("x"), 500),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [Mock, AsyncMock], ids=["sync", "async"])
def test_function_of_the_issuer_returns_audiences(answer: Any, expected: int, kind: Any, records: list[Any]) -> None:
    mock = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    function = kind(spec=[], **mock)
    auth = backend(KEY, accepted_audiences=function)
    assert statuses(auth, GOOD) == [expected]
    function.assert_called_once_with(ISSUER.name)
    assert [record.levelname for record in records].count("ERROR") == (expected == 500)
    assert statuses(auth, FORGER.token(), ISSUER.token(exp=5)) == [401, 401]
    assert function.call_count == 1  # only for tokens that are valid otherwise


class EmptyContainer(partial[Any]):
    """A function whose truth value says nothing about its answer."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        pytest.param(lambda name: name == ISSUER.name, 200, id="true"),
        pytest.param(lambda name: False, 401, id="false"),
        pytest.param(lambda name: "yes", 401, id="text"),
        pytest.param(lambda name: 1, 401, id="one"),
        pytest.param(AsyncMock(spec=[], return_value=True), 200, id="async-true"),
        pytest.param(AsyncMock(spec=[], return_value=None), 401, id="async-none"),
        pytest.param(EmptyContainer(lambda name: True), 200, id="falsy-function"),
        pytest.param(Mock(spec=[], side_effect=KeyError), 401, id="key-error"),
        pytest.param(Mock(spec=[], side_effect=ConnectionError), 503, id="connection-error"),
        pytest.param(AsyncMock(spec=[], side_effect=ZeroDivisionError), 500, id="bug"),
    ],
)
def test_function_accepts_an_issuer_by_true_only(function: Any, expected: int) -> None:
    auth = backend(KEY, accepted_issuers=function)
    assert statuses(auth, GOOD, ISSUER.token(iss=None)) == [expected, 401]


@pytest.mark.parametrize(
    ("first", "again", "claims", "expected", "refetches"),
    [
        pytest.param(KEY, KEY, {}, 200, 0, id="verified-at-once"),
        pytest.param(KEY, KEY, {"exp": 5}, 401, 0, id="expired"),
        pytest.param(FORGER.key, KEY, {}, 200, 1, id="new-key-behind-a-known-id"),
        pytest.param(FORGER.key, KEY, {"aud": "x"}, 401, 1, id="other-audience"),
        pytest.param(FORGER.key, FORGER.key, {}, 401, 1, id="same-key"),
        pytest.param(FORGER.key, None, {}, 401, 1, id="none"),
        pytest.param(FORGER.key, LookupError(), {}, 401, 1, id="lookup-error"),
        pytest.param(FORGER.key, TimeoutError(), {}, 503, 1, id="timeout"),
        pytest.param(FORGER.key, ZeroDivisionError(), {}, 500, 1, id="bug"),
        pytest.param(None, KEY, {}, 401, 0, id="unknown-key"),
    ],
)
def test_provider_refetches_once(first: Any, again: Any, claims: Any, expected: int, refetches: int) -> None:
    for nested in (False, True):
        provider = Mock(spec=["refetch"], return_value=first, refetch=AsyncMock(spec=[], side_effect=[again]))
        auth = backend((lambda token, provider=provider: provider) if nested else provider, accepted_audiences="api")
        assert status(auth, **claims) == expected
        assert provider.refetch.await_count == refetches


def test_provider_may_need_the_connection() -> None:
    keys = {"/a": ISSUER.key, "/b": OTHER.key}

    def by_path(token: Any, connection: Any) -> Any:
        return keys.get(connection.url.path)

    async def later(token: Any, connection: Any = None) -> Any:
        return by_path

    handlers = [get(path)(whoami.fn) for path in keys]
    for provider in (by_path, later):
        with client_of(backend(provider), *handlers) as client:
            for path, accepted in (("/a", [200, 401]), ("/b", [401, 200]), ("/", [401, 401])):
                sent = (ISSUER.token(), OTHER.token())
                assert [client.get(path, headers=bearer(token)).status_code for token in sent] == accepted


@pytest.mark.parametrize(
    ("error", "expected", "retry_after"),
    [
        pytest.param(LookupError(), 401, None, id="lookup-error"),
        pytest.param(NotFoundException(), 404, None, id="answer-of-the-provider"),
        pytest.param(KeysUnavailableException(retry_after=6.2), 503, "7", id="unavailable"),
        pytest.param(OSError(), 503, "30", id="os-error"),
        pytest.param(ZeroDivisionError(), 500, None, id="bug"),
        pytest.param(ImproperlyConfiguredException("unusable"), 500, None, id="misconfiguration"),
    ],
)
def test_error_of_a_provider_is_answered(
    error: Exception, expected: int, retry_after: str | None, records: list[Any]
) -> None:
    with client_of(backend(AsyncMock(spec=[], side_effect=error))) as client:
        answer = client.get("/", headers=bearer(GOOD))
    assert (answer.status_code, answer.headers.get("Retry-After")) == (expected, retry_after)
    assert ("WWW-Authenticate" in answer.headers) == (expected == 401)
    assert [record.levelname for record in records] == {401: ["INFO"], 500: ["ERROR"]}.get(expected, [])


@pytest.mark.parametrize("provided", ["not a key", 5, lambda token: KEY])
def test_provider_that_returns_no_key_is_an_error_of_the_application(provided: Any, records: list[Any]) -> None:
    auth = backend(lambda token: lambda token: provided)
    assert statuses(auth, GOOD) == [500]
    [record] = records
    assert (record.levelname, GOOD in record.getMessage()) == ("ERROR", False)
    assert record.getMessage().startswith("The application cannot verify tokens: ")


def test_secret_may_be_the_key_provider() -> None:
    tokens = [jwt.encode(CLAIMS, secret, "HS256") for secret in (SECRET, SECRET[::-1])]
    for given in (SECRET, [SECRET], provide(SECRET), lambda token: SECRET):
        assert statuses(backend(given, key_algorithms="HS256"), *tokens) == [200, 401]
        assert statuses(backend(given, key_algorithms="HS512"), *tokens) == [401, 401]


@pytest.mark.parametrize("nothing", [None, [], ()], ids=repr)
def test_no_key_is_no_secret(nothing: Any) -> None:
    tokens = [sign({"alg": "HS256"}, CLAIMS, text.encode(), "HS256") for text in ("", "HS256", "None", "[]", "()")]
    for provider in (lambda token: nothing, AsyncMock(spec=[], return_value=nothing)):
        assert {*statuses(backend(provider, key_algorithms="HS256"), *tokens)} == {401}


def test_only_accepted_algorithms_reach_the_provider() -> None:
    provider = Mock(spec=[], return_value=[KEY, OTHER.key])
    tokens = ISSUER.token(), OTHER.token(), jwt.encode(CLAIMS, SECRET, "HS256"), compact({"alg": "none"}, CLAIMS, b"")
    for algorithms, expected in ((None, [200, 200, 401, 401]), (["ES256"], [401, 200, 401, 401]), ("PS256", [401] * 4)):
        provider.reset_mock()
        assert statuses(backend(provider, key_algorithms=algorithms), *tokens) == expected
        assert provider.call_count == expected.count(200)


def test_signing_secret_verifies_nothing() -> None:
    auth = backend(KEY, token_secret=SECRET)
    assert statuses(auth, auth.create_token("ann"), GOOD) == [401, 200]
    without = secret_backend()
    assert statuses(without, without.create_token("ann"), GOOD) == [200, 401]


def test_revoked_token_and_missing_user_are_refused(records: list[Any]) -> None:
    async def is_revoked(token: Token, connection: Any) -> bool:
        return bool(token.jti == connection.url.path)

    for handler in (is_revoked, lambda token, connection: token.jti == connection.url.path):
        auth = backend(KEY, revoked_token_handler=handler)
        assert statuses(auth, ISSUER.token(jti="x"), ISSUER.token(jti="/")) == [200, 401]
    for user in (lambda token, connection: None, AsyncMock(spec=["__call__"], return_value="")):
        if not isinstance(user, Mock):
            assert statuses(backend(KEY, retrieve_user_handler=user), GOOD) == [401]
    assert [record.reason for record in records] == [Reason.REVOKED, Reason.REVOKED, Reason.NO_USER]


def test_truth_value_of_a_handler_decides_nothing() -> None:
    auth = backend(KEY, revoked_token_handler=EmptyContainer(lambda token, connection: True))
    assert statuses(auth, GOOD) == [401]
    assert statuses(backend(EmptyContainer(lambda token: KEY)), GOOD) == [200]


def test_refusal_of_a_handler_keeps_its_words_and_its_challenge(records: list[Any]) -> None:
    def find_user(token: Token, connection: Any) -> str:
        raise NotAuthorizedException("Blocked", headers={"WWW-authenticate": "Mine"})

    with client_of(backend(KEY, retrieve_user_handler=find_user)) as client:
        answer = client.get("/", headers=bearer(GOOD))
    assert (answer.status_code, answer.json()["detail"], answer.headers["WWW-Authenticate"]) == (401, "Blocked", "Mine")
    assert [record.reason for record in records] == [Reason.NO_USER]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_coroutine_of_a_handler_is_awaited(depth: int) -> None:
    async def later(answer: Any, depth: int) -> Any:
        return later(answer, depth - 1) if depth > 1 else answer

    for user, is_revoked, expected in (("ann", False, 200), (None, False, 401), ("ann", True, 401)):
        auth = backend(
            KEY,
            retrieve_user_handler=lambda token, connection: later(user, depth),
            revoked_token_handler=lambda token, connection: later(is_revoked, depth),
        )
        assert statuses(auth, GOOD) == [expected]


@on_both_libraries
async def test_token_is_verified_without_a_request(records: list[Any]) -> None:
    auth = backend(KEY, accepted_audiences="api", retrieve_user_handler=lambda token, connection: None)
    token = await verify(auth, ISSUER.token(role="admin", exp=NOW))
    assert (token.sub, token.extras, token.exp) == ("ann", {"role": "admin"}, datetime.fromtimestamp(NOW, UTC))
    assert not records
    with pytest.raises(NotAuthorizedException, match="Invalid token") as raised:
        await verify(auth, ISSUER.token(aud="x"))
    assert isinstance(raised.value.__cause__, TokenRefused)
    assert [(record.levelname, record.reason, record.expected) for record in records] == [
        ("INFO", Reason.AUDIENCE, "api")
    ]


@on_both_libraries
async def test_provider_gets_the_connection_or_application_that_verify_is_called_with() -> None:
    def provider(token: Any, connection: Any) -> Any:
        return connection.app.state.key

    auth = backend(provider)
    app = app_of(auth)
    app.state.key = KEY
    scope: Any = {
        "type": "websocket",
        "app": app,
        "litestar_app": app,
        "route_handler": get("/")(whoami.fn),
        "headers": [],
        "path": "/",
    }
    assert (await verify(auth, connection=Request(scope))).sub == "ann"
    with pytest.raises(ImproperlyConfiguredException, match="Pass 'connection' to 'verify'"):
        await verify(auth)
    with pytest.raises(ImproperlyConfiguredException, match="'verify' needs a 'key_provider'"):
        await verify(secret_backend())
    made = backend(provide(KEY))
    assert (await verify(made, app=app_of(made))).sub == "ann"
    with pytest.raises(ImproperlyConfiguredException, match="Pass 'connection' or 'app' to 'verify'"):
        await verify(made)


@on_both_libraries
async def test_keys_that_are_unavailable_are_an_error_of_their_own(records: list[Any]) -> None:
    with pytest.raises(KeysUnavailableException):
        await verify(backend(AsyncMock(spec=[], side_effect=OSError)))
    assert not records
    with pytest.raises(ZeroDivisionError):
        await verify(backend(AsyncMock(spec=[], side_effect=ZeroDivisionError)))
    assert [record.levelname for record in records] == ["ERROR"]


def test_override_cannot_make_an_invalid_token_valid() -> None:
    class Reviving(Token):
        @classmethod
        def decode_payload(cls, *args: Any, **kwargs: Any) -> Any:
            claims = super().decode_payload(*args, **kwargs)
            return {**claims, "exp": 1 << 32, "aud": "api", "iss": ISSUER.name, "nbf": 1}

    class Believing(Reviving):
        @classmethod
        def decode_payload(cls, encoded_token: str, *args: Any, **kwargs: Any) -> Any:
            return jwt.decode(encoded_token, options={"verify_signature": False})

    for token_cls in (Reviving, Believing):
        auth = backend(KEY, token_cls=token_cls, accepted_audiences="api", accepted_issuers=ISSUER.name)
        invalid: list[dict[str, Any]] = [{"exp": 5}, {"aud": "x"}, {"iss": "x"}, {"nbf": 1 << 31}]
        assert statuses(auth, GOOD, FORGER.token()) == [200, 401]
        assert statuses(auth, *(ISSUER.token(**claims) for claims in invalid)) == [401] * 4


@pytest.mark.usefixtures("clock")
def test_override_of_decode_knows_no_leeway() -> None:
    class Decoding(Token):
        @classmethod
        def decode(cls, *args: Any, **kwargs: Any) -> Any:
            return super().decode(*args, **kwargs)

    auth = backend(KEY, token_cls=Decoding)
    assert [status(auth, **claims) for claims in ({}, {"exp": NOW + 1}, {"exp": NOW - 9}, {"iat": NOW + 9})] == [
        200,
        200,
        401,
        401,
    ]
    assert [status(backend(KEY, token_cls=Decoding, leeway=0), exp=NOW + seconds) for seconds in (1, 0)] == [200, 401]
    assert status(backend(OTHER.key, token_cls=Decoding)) == 401


def test_curve_names_work_with_overrides() -> None:
    class Decoding(Token):
        @classmethod
        def decode(cls, *args: Any, **kwargs: Any) -> Any:
            return super().decode(*args, **kwargs)

    key = PRIVATE_KEYS["EdDSA"]
    for label in ("EdDSA", "Ed25519"):
        token = sign({"alg": label}, CLAIMS, key, "EdDSA")
        for token_cls in (Token, Decoding):
            assert statuses(backend(key, token_cls=token_cls, key_algorithms=["Ed25519"]), token) == [200]
    assert statuses(backend(key, key_algorithms="EdDSA"), sign({"alg": "Ed448"}, CLAIMS, key, "EdDSA")) == [401]


def test_copies_of_a_middleware_share_the_verifier() -> None:
    provider = Mock(spec=[], return_value=KEY)
    auth = backend(provider)

    class Area(Controller):
        path = "/area"
        middleware = [auth.middleware]

        @get("/")
        async def whoami(self, request: Request[str, Token, Any]) -> str:
            return request.user

    verifier = auth.middleware_options["verifier"]
    assert deepcopy(verifier) is verifier
    with client_of(auth, Area) as client:
        assert client.get("/area", headers=bearer(GOOD)).text == "ann"
        assert client.get("/area").status_code == 401
    assert provider.call_count == 2  # both middlewares of the route authenticate
    assert [call.args[0].encoded for call in provider.call_args_list] == [GOOD, GOOD]


@on_both_libraries
async def test_verifier_stands_on_its_own(records: list[Any]) -> None:
    async def resolve(connection: Any, app: Any) -> Any:
        return as_lookup(ISSUER.key_provider, ())

    options: Any = {"token_cls": Token, "algorithms": frozenset({"RS256"}), "rules": ClaimRules(), "types": None}
    for audiences in (None, "api", {ISSUER.name: "api"}):
        verifier = TokenVerifier(VerifierOptions(**options, audiences=audiences, issuer_check=None), resolve)
        assert (await verifier.verify(GOOD)).sub == "ann"
        for token in (FORGER.token(), *([ISSUER.token(aud="x")] if audiences else [])):
            with pytest.raises(NotAuthorizedException, match="Invalid token"):
                await verifier.verify(token)
    assert not records
