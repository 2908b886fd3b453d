"""The three backends in an application: how they answer, what they issue, and what their options do."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any
from unittest.mock import AsyncMock, Mock

import anyio
import jwt
import pytest
import time_machine

from litestar import Response, get, post
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException, LitestarWarning
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, Token

from .backends import (
    CLAIMS,
    FORGER,
    ISSUER,
    OTHER,
    PRIVATE_KEYS,
    SECRET,
    Issuer,
    backend,
    base64url,
    bearer,
    client_of,
    greet,
    own_backend,
    pem,
    private_pem,
    statuses,
    text_of,
    with_secret,
)

KEY, KEYS = ISSUER.key, [ISSUER.key, OTHER.key]
COOKIES: list[Any] = [JWTCookieAuth, OAuth2PasswordBearerAuth]
each_kind = pytest.mark.parametrize("kind", [JWTAuth, *COOKIES])


def judged(*all_claims: dict[str, Any], kind: Any = JWTAuth, **options: Any) -> list[int]:
    """Send tokens that a key signed, and the same ones that a secret signed, which are judged alike."""
    tokens = [ISSUER.token(**claims) for claims in all_claims]
    provided = statuses(backend(KEY, kind, **options), *tokens)
    assert statuses(own_backend(kind, **options), *map(with_secret, tokens)) == provided
    return provided


@each_kind
def test_request_without_credentials_is_challenged(kind: Any) -> None:
    detail = f"No JWT token found in request header{' or cookies' if kind in COOKIES else ''}"
    for auth in (own_backend(kind), backend(KEY, kind)):
        with client_of(auth, greet) as client:
            for headers in ({}, {"Authorization": ""}):
                answer = client.get("/", headers=headers)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert answer.json()["detail"] == anyio.run(text_of, client.app, headers) == detail


def test_scopes_say_which_connections_need_a_token() -> None:
    @get("/open")
    async def answer() -> None: ...

    for scope, status in ((ScopeType.HTTP, 401), (ScopeType.WEBSOCKET, 200)):
        with client_of(own_backend(scopes={scope}), answer) as client:
            assert client.get("/open").status_code == status


@pytest.mark.parametrize("kind", COOKIES)
def test_cookie_is_taken_where_the_header_has_no_token(kind: Any) -> None:
    own = own_backend(kind, key="session")
    cookie = {"Cookie": f"session={own.create_token('ann')}"}
    with client_of(own) as client:
        for value in cookie["Cookie"], cookie["Cookie"].replace("=", "=Bearer ", 1):
            assert client.get("/", headers={"Cookie": value}).text == "ann"
        assert client.get("/", headers={**cookie, **bearer(own.create_token("bob"))}).text == "bob"
    basic = {"Authorization": "Basic YTpi"}  # counts as a token without a key provider, as released
    assert statuses(own, {**cookie, **bearer("x")}, {**cookie, **basic}) == [401, 401]
    cookies = [{**basic, "Cookie": f"token={issuer.token()}"} for issuer in (ISSUER, OTHER)]
    assert statuses(backend(KEY, kind), *cookies) == [200, 401]


def test_scheme_is_bearer_with_a_key_provider_and_any_without() -> None:
    signed = next(t for n in count() if (t := jwt.encode({**CLAIMS, "n": n}, SECRET, "HS384")).endswith("X"))
    spellings = "Bearer {}|bearer {}|BEARER   {}|Token {}|Basic {}|{}|Bearer|Bearer{}|Bearer \t{}".split("|")
    own = partial(own_backend, algorithm="HS384")
    for make, token, number in ((partial(backend, KEY), ISSUER.token(), 3), (own, signed, 5)):
        sent = [{"Authorization": spelling.format(token)} for spelling in spellings]
        assert statuses(make(), *sent) == [200] * number + [401] * (9 - number)
        auth = make(auth_scheme="Token")
        assert statuses(auth, *sent) == [401, 401, 401, 200, 401, 401, 401, 401, 401]
        assert auth.format_auth_header("x") == "Token x"
        with client_of(auth) as client:
            assert client.get("/").headers["WWW-Authenticate"] == "Token"


def test_header_may_hold_the_bare_token_with_padding() -> None:
    def signed(padding: str) -> dict[str, str]:
        """Sign a token as an AWS load balancer does: what is signed includes the padding."""
        segments = [base64url(json.dumps(part).encode()) for part in ({"alg": "ES256"}, CLAIMS)]
        input_ = ".".join(segment + padding * (-len(segment) % 4) for segment in segments)
        signature = base64url(jwt.get_algorithm_by_name("ES256").sign(input_.encode(), OTHER.private_key))
        return {"X-Token": f"{input_}.{signature}{padding * (-len(signature) % 4)}"}

    prefixed = {"X-Token": f"Bearer {signed('=')['X-Token']}"}
    auth = backend(OTHER.private_key, auth_header="X-Token", auth_scheme="")
    assert statuses(auth, signed("="), signed(""), signed("=="), prefixed) == [200, 200, 401, 401]
    assert auth.format_auth_header("x") == "x"
    assert statuses(backend(OTHER.private_key, auth_header="X-Token"), prefixed) == [401]


def test_audiences_may_depend_on_the_issuer_or_be_strict() -> None:
    audiences = {ISSUER.name: ["x", "api"], "https://c.test": "other"}
    claims: list[dict[str, Any]] = [{}, {"aud": ["y", "x"]}, {"aud": "other"}, {"aud": None}, {"iss": None}]
    claims += [{"iss": "https://c.test"}, {"iss": "https://c.test", "aud": "other"}, {"iss": "https://b.test"}]
    assert judged(*claims, accepted_audiences=audiences) == [200, 200, 401, 401, 401, 401, 200, 401]
    claims = [{}, {"aud": ["api"]}, {"aud": "x"}]
    assert judged(*claims, accepted_audiences=["api"]) == [200, 200, 401]
    assert judged(*claims, accepted_audiences=["api"], strict_audience=True) == [200, 401, 401]


@each_kind
def test_type_of_the_token_is_verified(kind: Any) -> None:
    types = ["at+jwt", "AT+JWT", "application/at+jwt", "other", "JWT", None, "at", "", 5]
    claims = [{"headers": {"typ": typ}} for typ in types]
    assert judged(*claims, kind=kind, accepted_types=["at+jwt", "application/Other"]) == [200] * 4 + [401] * 5


@each_kind
@time_machine.travel(1_900_000_000, tick=False)
def test_times_are_verified_with_leeway_or_not_at_all(kind: Any) -> None:
    times = [("exp", -9), ("exp", -10), ("nbf", 10), ("nbf", 11), ("iat", 10), ("iat", 11)]
    claims = [{name: 1_900_000_000 + seconds} for name, seconds in times]
    for leeway in (10, 10.0, timedelta(seconds=10)):
        assert judged(*claims, kind=kind, leeway=leeway) == [200, 401] * 3
    assert judged(*claims, {}, kind=kind) == [401] * 6 + [200]
    assert judged(*claims, kind=kind, verify_expiry=False) == [200, 200, 401, 401, 401, 401]
    assert judged(*claims, kind=kind, verify_not_before=False) == [401, 401, 200, 200, 401, 401]


def test_revoked_token_is_refused() -> None:
    async def is_revoked(token: Token, connection: Any) -> bool:
        return bool(token.jti == connection.url.path)

    for handler in (is_revoked, lambda token, connection: token.jti == connection.url.path):
        assert judged({"jti": "x"}, {"jti": "/"}, revoked_token_handler=handler) == [200, 401]


def test_keys_are_for_the_algorithms_that_are_accepted() -> None:
    published = jwt.PyJWKSet.from_dict({"keys": [{**OTHER.jwk, "use": "enc"}, OTHER.jwk, ISSUER.jwk]})
    for given, algorithm, expected in (
        (lambda token: KEYS, ["RS256", "ES256"], [200, 200]),
        (lambda token: KEYS, ["ES256", "PS256"], [401, 200]),
        (lambda token: KEYS, "RS256", [200, 401]),
        (KEYS, None, [200, 200]),
        (published, "RS256", [200, 401]),  # an issuer may publish keys for other purposes, too
        (published, None, [200, 200]),
    ):
        assert statuses(backend(given, algorithm=algorithm), ISSUER.token(), OTHER.token()) == expected


@pytest.mark.parametrize("algorithm", PRIVATE_KEYS)
def test_algorithm_follows_from_the_key(algorithm: str) -> None:
    issuer, hmac = Issuer("https://c.test", algorithm), jwt.encode(CLAIMS, SECRET, "HS256")
    given: list[Any] = [issuer.key, [issuer.key, *KEYS], issuer.key_provider]
    if algorithm != "PS256":  # what is no JWK is for RS256, too, and for that first
        given += [pem(issuer.private_key), lambda token: pem(issuer.private_key)]
        assert statuses(own_backend(token_secret=pem(issuer.private_key)), issuer.token(), hmac) == [200, 401]
    for each in given:
        assert statuses(backend(each), issuer.token(), hmac) == [200, 401]


@pytest.mark.parametrize(
    ("first", "second", "claims", "status", "asked"),
    [
        (KEY, KEY, {}, 200, 0),
        (KEY, KEY, {"exp": 5}, 401, 0),
        (FORGER.key, KEY, {}, 200, 1),
        (FORGER.key, KEY, {"aud": "x"}, 401, 1),
        (FORGER.key, FORGER.key, {}, 401, 1),
        (FORGER.key, None, {}, 401, 1),
        (FORGER.key, LookupError(), {}, 401, 1),
        (FORGER.key, TimeoutError(), {}, 503, 1),
    ],
)
def test_provider_is_asked_once_more(first: Any, second: Any, claims: Any, status: int, asked: int) -> None:
    provider = Mock(spec=["look_again"], return_value=first, look_again=AsyncMock(side_effect=[second]))
    assert statuses(backend(provider, accepted_audiences="api"), ISSUER.token(**claims)) == [status]
    assert provider.look_again.await_count == asked


@each_kind
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES384", "EdDSA"])
def test_private_key_issues_tokens_that_name_it_by_its_thumbprint(algorithm: str, kind: Any) -> None:
    key = PRIVATE_KEYS[algorithm]
    for secret in (key, private_pem(key), [key, FORGER.private_key]):
        auth = own_backend(kind, token_secret=secret, algorithm={"PS256": "PS256"}.get(algorithm))
        token = auth.create_token("ann", token_issuer="me", token_audience="all", token_extras={"role": "admin"})
        header = jwt.get_unverified_header(token)
        assert (header["alg"], len(header["kid"])) == (algorithm, 43)
        payload = jwt.decode(token, key.public_key(), [algorithm], audience="all")
        assert (payload["sub"], payload["iss"], payload["extras"]) == ("ann", "me", {"role": "admin"})
        assert statuses(auth, token, OTHER.token()) == [200, 401]


@each_kind
@pytest.mark.parametrize("in_body", [True, False])
def test_login_answers_with_the_token(kind: Any, in_body: bool) -> None:
    auth = own_backend(kind, default_token_expiration=timedelta(minutes=5))

    @post("/login", exclude_from_auth=True)
    async def login() -> Response[Any]:
        return auth.login("ann", send_token_as_response_body=in_body)

    with client_of(auth, login) as client:
        answer = client.post("/login")
    scheme, token = answer.headers["Authorization"].split()
    assert (answer.status_code, scheme) == (201, "Bearer")
    assert Token.decode(token, SECRET, "HS256").sub == "ann"
    cookie = f"token={token}; HttpOnly; Max-Age=300; Path=/; SameSite=lax"
    assert answer.headers.get("Set-Cookie") == (None if kind is JWTAuth else cookie)
    oauth = {"access_token": token, "token_type": "bearer", "refresh_token": None, "expires_in": 300}
    body = oauth if kind is OAuth2PasswordBearerAuth else {"token": token}
    assert answer.json() == (body if in_body else None)


def test_cookie_has_the_attributes_of_the_backend() -> None:
    attributes: Any = {"key": "k", "path": "/p", "domain": "d.test", "secure": True, "samesite": "strict"}
    auth = own_backend(JWTCookieAuth, **attributes)
    response = auth.login("ann", token_expiration=timedelta(hours=1), response_body={"x": 1})
    (cookie,) = response.cookies
    assert {name: getattr(cookie, name) for name in attributes} == attributes
    assert (cookie.max_age, response.content) == (3600, {"x": 1})


def test_nothing_is_issued_without_a_key_that_signs() -> None:
    for auth, reason in ((backend(KEY), "token_secret"), (own_backend(token_secret=KEY), "private")):
        for issue in (auth.login, auth.create_token):
            with pytest.raises(ImproperlyConfiguredException, match=reason):
                issue("ann")


def test_token_class_may_sign_as_it_likes() -> None:
    class Own(Token):
        def encode(self, secret: Any, algorithm: str, headers: dict[str, Any] | None = None) -> str:
            return f"{secret}/{algorithm}"

    assert own_backend(token_secret=5, token_cls=Own).create_token("ann") == "5/HS256"


def test_secret_signs_while_the_provider_verifies() -> None:
    auth = backend(KEY, token_secret=FORGER.private_key)
    token = auth.create_token("ann")
    assert jwt.decode(token, FORGER.private_key.public_key(), ["RS256"])["sub"] == "ann"
    assert statuses(auth, ISSUER.token(), token) == [200, 401]


@each_kind
def test_provider_without_an_audience_is_warned_of(kind: Any) -> None:
    url: Any = {"token_url": "/login"} if kind is OAuth2PasswordBearerAuth else {}
    with pytest.warns(LitestarWarning, match="accepted_audiences") as caught:
        kind(retrieve_user_handler=print, key_provider=KEY, **url)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("issuers", [(), (ISSUER.name,)])
@pytest.mark.parametrize("path", ["", "/mcp", "/a/b"])
def test_metadata_of_the_protected_resource_is_served_and_pointed_to(path: str, issuers: tuple[str, ...]) -> None:
    resource, url = f"https://api.test{path}", f"/.well-known/oauth-protected-resource{path}"
    options: Any = {"protected_resource": resource, "oauth_scopes": {"read": "Read", "write": "Write"}}
    options["accepted_issuers"] = None if issuers else ISSUER.name
    provider = Mock(spec=["issuers"], return_value=KEY, issuers=issuers)
    with client_of(backend(provider, OAuth2PasswordBearerAuth, **options)) as client:
        challenges = [client.get("/", headers=each).headers["WWW-Authenticate"] for each in ({}, OTHER.auth_header())]
        metadata = client.get(url).json()
    pointer = f'resource_metadata="https://api.test{url}"'
    refused = 'error="invalid_token", error_description="Token refused: unknown key"'
    assert challenges == [f"Bearer {pointer}", f"Bearer {refused}, {pointer}"]
    issuing = {"authorization_servers": [ISSUER.name], "scopes_supported": ["read", "write"]}
    assert metadata == {"resource": resource, "bearer_methods_supported": ["header"], **issuing}
