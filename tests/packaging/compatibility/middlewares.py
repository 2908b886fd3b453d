"""The middleware: requests, websockets, exclusions, subclasses, and use without a backend."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import jwt

from litestar import Router, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware, Token
from litestar.testing import RequestFactory, TestClient
from tests.packaging.compatibility.harness import (
    BACKENDS,
    SECRET,
    application,
    backend,
    bearer,
    cases,
    describe,
    encode,
    find_user,
    me,
    one_by_one,
    opened,
    outcome,
    responses,
)
from tests.packaging.compatibility.tokens import KEYS, jwk, private_key

GOOD = encode(aud="a", extras={"a": 1}, b=2)
HEADERS = """
Authorization:
Authorization: Bearer
Authorization: Bearer <token>
Authorization: bearer <token>
Authorization: Basic <token>
Authorization: <token>
Authorization: Bearer  <token>
Authorization: Bearer\t<token>
Authorization: Bearer <token> x
Authorization: Bearer <token>, Bearer <token>
Authorization: Bearer é
Authorization: Bearer x | Authorization: Bearer <token>
Authorization: Bearer <token> | Cookie: token=x
Authorization: Bearer x | Cookie: token=<token>
Authorization: Bearer | Cookie: token=<token>
Cookie: token=<token>
Cookie: token=Bearer <token>
Cookie: token="<token>"
Cookie: token=x; token=<token>
Cookie: token=<token> | Cookie: token=x
Cookie: other=<token>
Cookie: token=
X-Other: x
"""
METHODS_AND_URLS = "OPTIONS /me, HEAD /me, POST /me, GET /excluded/me, GET /open, GET /nowhere, GET /me?token=x"


@cache
def applications() -> list[Any]:
    """One for each kind of backend."""
    handlers = [me, opened, Router("/excluded", route_handlers=[me])]
    return [application(backend(cls, exclude=["/excluded"]), route_handlers=handlers) for cls in BACKENDS]


@cases(HEADERS.strip().splitlines())
def request_headers(lines: str) -> object:
    pairs = [line.replace("<token>", GOOD).partition(":") for line in lines.split(" | ")]
    headers = [(name, value.removeprefix(" ").encode()) for name, _, value in pairs]
    return [responses(app, {"headers": headers}) for app in applications()]


@cases(METHODS_AND_URLS.split(", "))
def request_line(line: str) -> object:
    method, url = line.split()
    requests = [{"method": method, "url": url, **headers} for headers in ({}, bearer("x"), bearer(GOOD))]
    return [responses(app, *requests) for app in applications()]


async def is_revoked(token: Token, connection: object) -> bool:
    return bool(token.jti)


CHANGES: list[dict[str, Any]] = [{}, {"sub": "nobody"}, {"exp": 5}, {"exp": ...}, {"nbf": 2_000_000_000}, {"jti": "j"}]
CHANGES += [{"aud": "a"}, {"aud": ["a", "b"]}, {"aud": "b"}, {"iss": "i"}, {"iss": "j"}, {"extras": ["a"], "b": 1}]
OPTIONS: dict[str, list[Any]] = {
    "verify_expiry": [False],
    "verify_not_before": [False],
    "require_claims": [["jti"]],
    "accepted_audiences": [["a"], ["a", "b"]],
    "accepted_issuers": [["i"]],
    "strict_audience": [True],
    "exclude": ["/", "^/o"],
    "exclude_http_methods": [[], None, ["GET"]],
    "exclude_opt_key": ["public"],
    "scopes": [{"http"}, {"websocket"}],
}
SEVERAL_OPTIONS: dict[str, dict[str, Any]] = {
    "strict, one audience": {"accepted_audiences": ["a"], "strict_audience": True},
    "strict, two audiences": {"accepted_audiences": ["a", "b"], "strict_audience": True},
    "revoked": {"revoked_token_handler": is_revoked},
}


@cases(one_by_one(OPTIONS) | SEVERAL_OPTIONS)
def option(options: dict[str, Any]) -> object:
    sent: list[dict[str, Any]] = [bearer(encode(**change)) for change in CHANGES]
    sent += [{"method": "OPTIONS"}, {"method": "HEAD"}, {"url": "/open"}]
    return responses(backend(**options), *sent, route_handlers=[me, opened])


@cases(KEYS)
def key_as_token_secret(make: Any) -> object:
    auth = backend(token_secret=make("rsa", "RS256"), algorithm="RS256")
    tokens = [encode(private_key("rsa"), "RS256", {"kid": "k"}), encode(private_key("rsa-1024"), "RS256"), GOOD]
    return [outcome(auth.create_token, "ann"), responses(auth, *map(bearer, tokens))]


SCOPES: Any = {"http"}


class KeyPerRequest(JWTAuthenticationMiddleware):
    """The workaround of issue 4471: a `PyJWK` in the place of the secret."""

    async def authenticate_token(self, encoded_token: str, connection: Any) -> AuthenticationResult:
        self.algorithm = jwt.get_unverified_header(encoded_token)["alg"]
        self.token_secret = jwk("rsa", "RS256", kid="k1") if self.algorithm == "RS256" else SECRET
        return await super().authenticate_token(encoded_token, connection)


class ByPosition(JWTAuthenticationMiddleware):
    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(
            "HS256", app, "X-Key", None, ["HEAD"], "x", find_user, SCOPES, SECRET, Token, ["a"], ["i"], ["jti"]
        )


class NoSuper(JWTAuthenticationMiddleware):
    """Has only what it sets itself."""

    def __init__(self, app: Any, **options: Any) -> None:
        for name, value in {**options, "retrieve_user_handler": find_user, "scopes": SCOPES, "app": app}.items():
            setattr(self, name, value)


class OtherSource(JWTCookieAuthenticationMiddleware):
    async def authenticate_request(self, connection: Any) -> AuthenticationResult:
        if encoded := connection.query_params.get("token"):
            return await self.authenticate_token(encoded, connection)
        result = await super().authenticate_request(connection)
        return AuthenticationResult(user=f"user {result.user}", auth=result.auth)


@cases([KeyPerRequest, ByPosition, NoSuper, OtherSource])
def subclass_of_middleware(cls: type[Any]) -> object:
    auth = backend(BACKENDS[cls is OtherSource], authentication_middleware_class=cls)
    tokens = [encode(), encode(aud="a", iss="i", jti="j"), encode(private_key("rsa"), "RS256", {"kid": "k2"}), "x"]
    sent = [bearer(token, header) for token in tokens for header in ("Authorization", "X-Key")]
    more: list[dict[str, Any]] = [{"headers": {"Cookie": f"token={tokens[0]}"}}, {"url": f"/me?token={tokens[0]}"}]
    return responses(auth, *sent, *more, {"method": "HEAD"}, {"method": "OPTIONS"})


CLASSES: tuple[Any, ...] = (JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware)


@cases(CLASSES)
def middleware_by_position(cls: Any) -> object:
    """Constructed by position, and called without an application; with too few, too many and unknown arguments."""
    differing = ["Authorization", None, ["HEAD"], "x"], ["token", "Authorization", None, "x", ["HEAD"]]
    middleware = cls(
        "HS256", None, *differing[CLASSES.index(cls)], find_user, SCOPES, SECRET, Token, None, ["i"], ["iss"]
    )
    names = sorted(set(CLASSES[0].__slots__) - {"verifier"})
    good = encode(iss="i")
    connections = [RequestFactory().get("/"), RequestFactory().get("/", **bearer(good))]
    requests = [outcome(asyncio.run, middleware.authenticate_request(connection)) for connection in connections]
    tokens = [outcome(asyncio.run, middleware.authenticate_token(token, connections[0])) for token in ("", "x", good)]
    wrong = [outcome(cls), outcome(cls, "HS256"), outcome(cls, *range(40)), outcome(cls, nope=1)]
    return [[getattr(middleware, name) for name in names], requests, tokens, wrong]


@cases(CLASSES)
def middleware_without_backend(cls: Any) -> object:
    options: dict[str, Any] = {"exclude_opt_key": "x", "retrieve_user_handler": find_user, "token_secret": SECRET}
    options |= {"auth_header": "Authorization", "algorithm": "HS256"} | dict.fromkeys(("exclude", "scopes"))
    options |= {"exclude_http_methods": None} | ({} if cls is CLASSES[0] else {"auth_cookie_key": "token"})
    sent = [bearer(GOOD), bearer("x"), {"headers": {"Cookie": f"token={GOOD}"}}, {"method": "OPTIONS"}]
    return responses(backend(exclude="/"), *sent, middleware=[DefineMiddleware(cls, **options)])


@websocket("/socket")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_json(describe([socket.user, socket.auth]))
    await socket.close()


@cases({"good": GOOD, "expired": encode(exp=5), "nobody": encode(sub="nobody"), "missing": ""})
def websocket_with_token(token: str) -> object:
    headers: dict[str, str] = bearer(token)["headers"] if token else {}
    with TestClient(application(backend(), route_handlers=[talk])) as client:
        try:
            with client.websocket_connect("/socket", headers=headers) as session:
                return session.receive_json()
        except WebSocketDisconnect as error:
            return [error, error.code, error.detail]
