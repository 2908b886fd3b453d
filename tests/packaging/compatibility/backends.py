"""The backends: construction, subclasses, copies, `login`, OpenAPI."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from litestar import Response, post
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.openapi import OpenAPIConfig
from litestar.security.jwt import BaseJWTAuth, JWTAuth, JWTAuthenticationMiddleware, Token
from tests.packaging.compatibility.harness import (
    BACKENDS,
    SECRET,
    application,
    backend,
    bearer,
    case,
    cases,
    encode,
    find_user,
    one_by_one,
    outcome,
    responses,
    retrieve_user,
)

JWTCookieAuth, OAuth2PasswordBearerAuth = BACKENDS[1:]


def works(auth: Any) -> object:
    """Create a token with a backend, and send it to an application that it protects."""
    sent = [bearer(auth.create_token("ann"), auth.auth_header), bearer(auth.create_token("nobody")), bearer("x"), {}]
    return [repr(auth), responses(auth, *sent)]


LISTED: list[Any] = [SECRET, retrieve_user, None, None, ["/other"], "opt", ["HEAD"], None, (), None, None, "HS512"]
LISTED += ["X-Key", timedelta(5), "Name", "Text", JWTAuthenticationMiddleware, Token, None, ["i"], ["sub"]]
CONSTRUCTIONS: dict[str, Callable[[], Any]] = {
    "JWTAuth(secret, handler)": lambda: JWTAuth(SECRET, retrieve_user),
    "JWTCookieAuth(secret, handler)": lambda: JWTCookieAuth(SECRET, retrieve_user),
    "OAuth2PasswordBearerAuth(secret, url, handler)": lambda: OAuth2PasswordBearerAuth(SECRET, "/login", retrieve_user),
    "all by position": lambda: JWTAuth(*LISTED),
    "positional secret": lambda: JWTAuth(SECRET, retrieve_user_handler=retrieve_user, algorithm="HS384"),
    "parametrized class": lambda: JWTAuth[str, Token](token_secret=SECRET, retrieve_user_handler=retrieve_user),
}


@cases(CONSTRUCTIONS)
def construct(make: Callable[[], Any]) -> object:
    return works(make())


@cases(BACKENDS)
def wrong_arguments(cls: Any) -> object:
    secret, handler, url = {"token_secret": SECRET}, {"retrieve_user_handler": retrieve_user}, {"token_url": "/"}
    named: list[Any] = [{}, secret, handler, url, secret | url, handler | url, secret | handler | url | {"nope": 1}]
    given: list[Any] = [((), one) for one in named] + [((SECRET,), one) for one in named] + [((SECRET,) * 50, {})]
    return [outcome(lambda a=args, k=kwargs: repr(cls(*a, **k))) for args, kwargs in given]


@cases(
    one_by_one(
        {
            "token_secret": [None, "", 5, "short", SECRET.encode()],
            "retrieve_user_handler": [None, 5],
            "algorithm": ["HS384", "HS512", "HS257", "none", None, 256],
            "accepted_audiences": [[], "a", 5, [None]],
            "accepted_issuers": [[], "i", 7, [None]],
            "require_claims": [[], "x", 5, [5], ["sub"]],
            "strict_audience": [True],
            "exclude": [[], "", "(", [5]],
            "scopes": [[], {"openid"}, "http", {"HTTP"}],
            "auth_header": ["X-Api-Key", "", None, "x y"],
            "default_token_expiration": [timedelta(5), None, 5, timedelta(-1)],
            "token_cls": [None, dict],
            "guards": [5, [None]],
            "dependencies": [{"key_provider": Provide(dict, sync_to_thread=False)}],
        }
    )
)
def unusual_option(option: dict[str, Any]) -> object:
    """At construction, at start-up, when a token is made, and at requests with good and bad tokens."""
    auth = backend(**option)
    token = outcome(auth.create_token, "ann")
    sent = [bearer(str(text)) for text in (token.get("returned"), encode(), "x")]
    return [repr(auth), token, outcome(responses, auth, *sent)]


@dataclasses.dataclass
class Redeclared(BaseJWTAuth[str, Token]):
    """All fields that have no value are declared, with another required one between them."""

    token_secret: str
    tenant: str
    retrieve_user_handler: Any
    algorithm: str = "HS384"
    auth_header: str = "X-Token"
    default_token_expiration: timedelta = timedelta(hours=2)
    openapi_security_scheme_name: str = "Own"
    description: str = "Text"
    authentication_middleware_class: Any = JWTAuthenticationMiddleware
    exclude_http_methods: Any = ("OPTIONS",)


@dataclasses.dataclass
class Extended(JWTAuth[str, Token]):
    tenant: str = "t"
    algorithm: str = "HS512"
    retrieve_user_handler: Any = dataclasses.field(default=retrieve_user, repr=False)


@dataclasses.dataclass(eq=False, kw_only=True)
class KeywordOnly(JWTAuth[str, Token]):
    tenant: str


class Plain(BaseJWTAuth[str, Token]):
    """No dataclass: its attributes are those of the class."""

    token_secret, algorithm, auth_header = SECRET, "HS256", "Authorization"
    openapi_security_scheme_name, description = "Plain", "Text"
    default_token_expiration, exclude_http_methods = timedelta(1), ("OPTIONS",)
    authentication_middleware_class = JWTAuthenticationMiddleware
    retrieve_user_handler, revoked_token_handler = staticmethod(find_user), None


class Bare(JWTAuth[str, Token]):
    """Sets in its constructor only what has no value on the class."""

    def __init__(self, secret: str) -> None:
        self.token_secret, self.retrieve_user_handler = secret, find_user
        self.default_token_expiration, self.exclude_http_methods = timedelta(1), ["HEAD"]


class Child(JWTAuth[str, Token]):
    """Inherits the constructor, and does without the `__post_init__` of its bases."""

    algorithm = "HS512"

    def __post_init__(self) -> None:
        self.algorithm = "HS384"

    def create_token(self, identifier: str, **kwargs: Any) -> str:  # type: ignore[override]
        return super().create_token(identifier, token_extras={"seen": [f"{n}={v}" for n, v in kwargs.items()]})

    def format_auth_header(self, encoded_token: str) -> str:
        return f"Token {encoded_token}"

    @property
    def middleware(self) -> DefineMiddleware:
        kwargs = {name: value for name, value in super().middleware.kwargs.items() if "verify" not in name}
        return DefineMiddleware(self.authentication_middleware_class, **kwargs | {"auth_header": "X-Own"})


# These use for themselves what this build calls its own properties, or an option.
TakesProperties = type("TakesProperties", (JWTAuth,), {"__post_init__": lambda self: setattr(self, "verifier", 5)})
TakesAttribute = type("TakesAttribute", (JWTAuth,), {"leeway": 5})


def takes_field() -> Any:
    return dataclasses.make_dataclass("TakesField", [("leeway", int, 5)], bases=(JWTAuth,))(SECRET, retrieve_user)


SUBCLASSES: dict[str, Callable[[], Any]] = {
    "Redeclared by position": lambda: Redeclared(SECRET, "t", retrieve_user),
    "Redeclared by name": lambda: Redeclared(tenant="t", retrieve_user_handler=retrieve_user, token_secret=SECRET),
    "Extended": lambda: Extended(SECRET, tenant="u"),
    "KeywordOnly": lambda: KeywordOnly(SECRET, retrieve_user, tenant="u"),
    "Plain": Plain,
    "Bare": lambda: Bare(SECRET),
    "TakesProperties": lambda: TakesProperties(SECRET, find_user),
    "TakesField": takes_field,
    "TakesAttribute": lambda: TakesAttribute(SECRET, retrieve_user),
    "Child": lambda: Child(SECRET, retrieve_user),
}


@cases(SUBCLASSES)
def subclass_of_backend(make: Callable[[], Any]) -> object:
    auth = make()
    facts = [
        getattr(auth, "leeway", None),
        auth == make(),
        auth == copy.copy(auth),
        outcome(lambda: isinstance(hash(auth), int)),
    ]
    return [works(auth), auth.login("ann", token_issuer="i").headers, auth.openapi_components.to_schema(), facts]


@case
def missing_arguments_of_subclasses() -> object:
    given: list[Any] = [(Redeclared, SECRET, "t"), (KeywordOnly, SECRET, retrieve_user), (Plain, SECRET), (Extended,)]
    return [outcome(*arguments) for arguments in given]


@cases([Redeclared, Extended, KeywordOnly])
def fields_of_subclass(cls: Any) -> object:
    return [[f.name, str(f.type), f.kw_only] for f in dataclasses.fields(cls)]


@cases(BACKENDS)
def copies(cls: Any) -> object:
    auth = backend(cls, exclude=["/x"], accepted_audiences=["a"])
    others = [copy.copy(auth), copy.deepcopy(auth), pickle.loads(pickle.dumps(auth)), dataclasses.replace(auth)]
    changed = dataclasses.replace(auth, algorithm="HS512", token_secret=SECRET[::-1], accepted_audiences=None)
    facts = [[other == auth, repr(other) == repr(auth), other.exclude is auth.exclude] for other in others]
    return [facts, outcome(dataclasses.replace, auth, nope=1), outcome(hash, auth), changed == auth, works(changed)]


@cases(BACKENDS)
def values(cls: Any) -> object:
    return [[name, value] for name, value in vars(backend(cls)).items()]


@cases(BACKENDS)
def middleware_arguments(cls: Any) -> object:
    options: dict[str, Any] = {"accepted_audiences": ["a"], "accepted_issuers": ["i"], "require_claims": ["jti"]}
    options |= {"verify_expiry": False, "verify_not_before": False, "strict_audience": True, "scopes": {"http"}}
    found = [backend(cls).middleware, backend(cls, **options).middleware]
    return [[middleware.middleware, middleware.args, middleware.kwargs] for middleware in found]


COOKIE: dict[str, Any] = {"key": "sid", "path": "/a", "domain": "a.test", "secure": True, "samesite": "strict"}
LOGINS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "claims": {"token_issuer": "i", "token_audience": "a", "token_unique_jwt_id": "j", "token_extras": {"a": [1]}},
    "expiration": {"token_expiration": timedelta(minutes=5)},
    "token as body": {"send_token_as_response_body": True},
    "no body": {"send_token_as_response_body": False},
    "own body": {"response_body": {"a": 1}, "response_status_code": 200, "response_media_type": "application/x"},
    "unknown": {"token_expiraton": timedelta(1)},
}


@cases({f"{cls.__name__}, {name}": (cls, options) for cls in BACKENDS for name, options in LOGINS.items()})
def login(row: tuple[Any, dict[str, Any]]) -> object:
    cls, options = row
    auth = backend(cls, exclude="/login", auth_header="X-Key", **({} if cls is JWTAuth else COOKIE))

    @post("/login")
    async def log_in() -> Response[Any]:
        found: Response[Any] = auth.login("ann", **options)
        return found

    over_http = responses(auth, {"url": "/login", "method": "POST"}, route_handlers=[log_in])
    return [outcome(lambda: vars(backend(cls).login("ann", **options))), over_http]


@case
def created_tokens() -> object:
    given: list[dict[str, Any]] = [{}, {"token_extras": {"exp": 5}}, {"iat": None}, {"nope": 1}, {"sub": "x"}]
    return [outcome(backend().create_token, name, **options) for name in ("ann", "") for options in given]


@cases(BACKENDS)
def openapi(cls: Any) -> object:
    own: dict[str, Any] = {"openapi_security_scheme_name": "Own", "description": "Text", "auth_header": "X-Key"}
    own |= {"oauth_scopes": {"a": "reads"}} if cls is OAuth2PasswordBearerAuth else {}
    configs = OpenAPIConfig("t", "1"), OpenAPIConfig("t", "1", security=[{"Other": []}])
    auths = backend(cls), backend(cls, **own)
    documents = [application(a, openapi_config=config).openapi_schema.to_schema() for a in auths for config in configs]
    return [documents, [[auth.openapi_components.to_schema(), auth.security_requirement] for auth in auths]]
