"""The options of backends with a key provider: what is not clearly configured is refused at construction."""

from __future__ import annotations

import re
from copy import copy, deepcopy
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, ClassVar
from unittest.mock import Mock

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from litestar import asgi, get, websocket
from litestar.connection import WebSocket
from litestar.enums import ScopeType
from litestar.exceptions import ImproperlyConfiguredException
from litestar.middleware import DefineMiddleware
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, RemoteJWKSet, Token
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS
from litestar.security.jwt.options import KeyProviderOptions

from .backends import (
    FORGER,
    ISSUER,
    OTHER,
    PRIVATE_KEYS,
    SECRET,
    app_of,
    backend,
    bearer,
    client_of,
    pem,
    private_pem,
    provide,
    refusal_of,
    retrieve_user,
    secret_backend,
    statuses,
)

KEY, EC_KEY = ISSUER.key, PRIVATE_KEYS["ES384"]
PEM = pem(ISSUER.private_key).decode()
KINDS = [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth]
each_kind = pytest.mark.parametrize("kind", KINDS)
NAMED = Mock(spec=["issuers"], issuers=("https://a.test",), return_value=KEY)


class WithoutDecorator(Token):
    tenant: str = ""


@dataclass
class Decorated(Token):
    tenant: str = ""


class InheritsWithoutDecorator(Decorated):
    level: int = 0


class WithMethodsOnly(Decorated):
    prefix: ClassVar[str] = ""
    rank: ClassVar = 1

    @property
    def path(self) -> str:
        return self.tenant


class Fetching:
    """A provider of published keys."""

    def __call__(self, token: Any) -> Any:
        return KEY

    async def refetch(self, token: Any) -> Any:
        return None


def refused(message: str, option: str, *values: Any, **others: Any) -> list[Any]:
    """Make a row for each value of an option."""
    shown = [getattr(value, "__name__", re.sub(r" at 0x\w+", "", repr(value))) for value in values]
    return [
        pytest.param({option: value, **others}, message, id=f"{option}={name:.40}")
        for value, name in zip(values, shown, strict=True)
    ]


NAMES = ("accepted_issuers", "accepted_types", "require_claims", "key_algorithms")
SWITCHES = ("verify_expiry", "verify_not_before", "strict_audience", "accept_bound_tokens")
HANDLERS = ("retrieve_user_handler", "revoked_token_handler")
NO_NAMES: list[Any] = [[None], ["a", None], [b"a"], 5, b"a", "", [""], ["a", " "], " "]
FOR_ENCRYPTION = {**ISSUER.jwk, "use": "enc"}
REFUSED = [
    # Audiences
    *refused("'accepted_audiences' is missing or empty", "accepted_audiences", None, [], "", (), {}),
    *refused(
        "'accepted_audiences' takes a string or a sequence of strings",
        "accepted_audiences",
        *NO_NAMES[:5],
        *NO_NAMES[6:],
    ),
    *refused(
        "'accepted_audiences' takes a string", "accepted_audiences", {None: "api"}, {"": "api"}, {"a": 5}, {"a": [""]}
    ),
    *refused("'accepted_audiences' is empty", "accepted_audiences", {"a": []}),
    *refused(
        r"'accepted_audiences' has '\*' among others",
        "accepted_audiences",
        ["*"],
        ["a", "*"],
        {"a": "*"},
        {"a": ["b", "*"]},
    ),
    *refused(
        "needs one audience", "accepted_audiences", "*", ["a", "b"], {"a": "b", "c": ["d", "e"]}, strict_audience=True
    ),
    # Names
    *(
        row
        for option in NAMES
        for row in refused(f"'{option}' takes", option, *NO_NAMES, {"a": "b"}, (name for name in "a"))
    ),
    *(row for option in NAMES for row in refused(f"'{option}' is empty. Leave it out", option, [], ())),
    *refused("takes the name of a parameter", "key_provider_name", "key-provider", "", 5),
    *refused("takes the name of a parameter", "optional_auth_opt_key", "a b", "", None),
    # Algorithms
    *refused(
        "takes algorithms of PyJWT, such as 'RS256'", "key_algorithms", "none", ["NONE"], "RS1", ["RS256", "rs256"]
    ),
    *refused("HMAC and asymmetric algorithms cannot be mixed", "key_algorithms", ["HS256", "RS256"]),
    *refused("Fetching finds public keys. Remove HS256", "key_algorithms", "HS256", key_provider=Fetching()),
    # Times and switches
    *refused(
        "'leeway' is",
        "leeway",
        -1,
        601,
        1e300,
        float("nan"),
        float("inf"),
        "5",
        True,
        timedelta.max,
        timedelta(days=365),
    ),
    *(row for option in SWITCHES for row in refused(f"'{option}' takes True or False", option, "false", 0, None)),
    # Schemes
    *refused("'auth_scheme' takes one word", "auth_scheme", "Bearer x", "Bearer\n", 5, "é"),
    *refused("needs accept_bound_tokens=True", "auth_scheme", "DPoP", "dpop"),
    *refused("'auth_header' takes the name of a header field", "auth_header", "", 5, None),
    # What would switch authentication off
    *refused(
        "'scopes' takes kinds of ASGI connections",
        "scopes",
        ["orders.read"],
        {"openid"},
        "orders.read",
        {"HTTP"},
        "http",
        5,
    ),
    *refused(
        "matches every path", "exclude", "", ["/"], "/", ".*", ["^/x|"], ["/health", "^/"], "/?", [""], ["^/$", "^/.+"]
    ),
    *refused("'accepted_issuers' takes", "accepted_issuers", RemoteJWKSet("https://a.test/keys")),
    *refused("'exclude' takes", "exclude", 5, ["["], [5], {"/a"}, ()),
    # Classes and handlers
    *refused("'token_cls' takes a subclass of Token", "token_cls", dict, "Token", object),
    *refused("adds fields to Token, but is no dataclass", "token_cls", WithoutDecorator, InheritsWithoutDecorator),
    *(
        row
        for option in HANDLERS
        for row in refused(f"'{option}' must take two arguments", option, len, lambda a, b, c: None)
    ),
    # Keys and providers
    *refused(
        "'key_provider' takes a key, .* an instance instead of a class", "key_provider", Token, 5, [], [5], [KEY, 5]
    ),
    *refused("wrap it in 'Provide'", "key_provider", lambda: KEY, lambda a, b, c: KEY),
    *refused("it is an RSA key of 1024 bits", "key_provider", rsa.generate_private_key(65537, 1024)),
    *refused("no algorithm takes a key of this kind", "key_provider", ec.generate_private_key(ec.SECP224R1())),
    *refused(
        "it is a key for ES384, not for RS256", "key_provider", EC_KEY, [KEY, EC_KEY], key_algorithms=["RS256", "ES256"]
    ),
    *refused(
        "for signatures|no usable key in it", "key_provider", jwt.PyJWK(FOR_ENCRYPTION), jwt.PyJWKSet([FOR_ENCRYPTION])
    ),
    *refused("it is not a PEM", "key_provider", SECRET),
    *refused("it is a URL", "key_provider", "https://idp.test/jwks.json"),
    *refused("it is a key, or a part of one", "key_algorithms", "HS256", key_provider=PEM),
    *refused("it is not a secret", "key_algorithms", "HS512", key_provider=KEY),
    *refused(
        "'token_secret' cannot be used: it is", "token_secret", "-----BEGIN PRIVATE KEY-----", "", "https://idp.test"
    ),
    *refused("it is a key, or a part of one", "algorithm", "HS256", token_secret=private_pem(EC_KEY)),
    # Slashes
    *refused(
        "from 'https://a.test' of the key provider by a slash",
        "accepted_issuers",
        "https://a.test/",
        key_provider=NAMED,
    ),
    *refused("by a slash. Write both alike", "accepted_audiences", {"https://a.test/": "api"}, key_provider=NAMED),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_refused_at_construction(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message) as raised:
        backend(**{"key_provider": KEY, **options})
    assert SECRET not in str(raised.value)


ACCEPTED: list[dict[str, Any]] = [
    {"accepted_audiences": "api"},
    {"accepted_audiences": {"api"}},
    {"accepted_audiences": lambda issuer: ["api"], "strict_audience": True},
    {"accepted_audiences": {"a": "b", "c": ["d"]}, "strict_audience": True},
    {"leeway": timedelta(minutes=10)},
    {"auth_scheme": ""},
    {"auth_scheme": "DPoP", "accept_bound_tokens": True},
    {"scopes": {ScopeType.HTTP}},
    {"scopes": ["http", "websocket"]},
    {"exclude": ["/schema", "^/$"]},
    {"token_cls": Decorated},
    {"token_cls": WithMethodsOnly},
    {"retrieve_user_handler": Mock()},
    {"revoked_token_handler": lambda *args, cache=None: False},
    {"key_provider": {"keys": [FOR_ENCRYPTION, ISSUER.jwk]}},
    {"key_provider": jwt.PyJWKClient("https://a.test/keys")},
    {"key_provider": lambda token, connection: KEY},
    {"key_provider": NAMED, "accepted_issuers": ["https://a.test", "https://b.test/"]},
    {"key_provider": SECRET, "key_algorithms": ["HS256", "HS512"]},
    {"token_secret": SECRET},
    {"token_secret": private_pem(ISSUER.private_key), "algorithm": "RS256"},
]


@pytest.mark.parametrize("options", ACCEPTED, ids=" ".join)
def test_clear_configuration_is_accepted(options: dict[str, Any]) -> None:
    auth: Any = backend(**{"key_provider": KEY, **options})
    assert auth.exclude == options.get("exclude")


def test_function_without_a_signature_may_be_a_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("litestar.security.jwt.option_checks.signature", Mock(side_effect=ValueError))
    assert statuses(backend(KEY), ISSUER.token()) == [200]


def test_audience_must_be_named() -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"To accept any audience, set accepted_audiences='\*'"):
        JWTAuth(retrieve_user_handler=retrieve_user, key_provider=KEY)


OPTIONS: dict[str, Any] = {
    "key_provider_name": "keys",
    "key_algorithms": ["RS256"],
    "leeway": 0,
    "accepted_types": "JWT",
    "auth_scheme": "Token",
    "accept_bound_tokens": True,
    "optional_auth_opt_key": "perhaps",
}


@pytest.mark.parametrize("option", OPTIONS)
@each_kind
def test_option_needs_a_key_provider(option: str, kind: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=f"'{option}' of {kind.__name__} needs a 'key_provider'"):
        secret_backend(kind, **{option: OPTIONS[option]})
    backend(KEY, kind, **{option: OPTIONS[option]})
    assert {each.name for each in fields(KeyProviderOptions)} == {"key_provider", *OPTIONS}


@each_kind
def test_options_are_keyword_only_and_come_last(kind: Any) -> None:
    names = [each.name for each in fields(kind)]
    assert {*names[names.index("key_provider") :]} >= {"key_provider", *OPTIONS}
    is_keyword_only = [each.kw_only is True for each in fields(kind)]
    assert is_keyword_only == sorted(is_keyword_only)


@each_kind
def test_empty_list_excludes_nothing(kind: Any) -> None:
    auth = backend(KEY, kind, exclude=[])
    assert auth.exclude is None
    assert statuses(auth, {}, ISSUER.token()) == [401, 200]


@each_kind
def test_repr_shows_no_key(kind: Any) -> None:
    provider = type("Provider", (), {"__call__": lambda self, token: KEY, "__repr__": lambda self: SECRET})()
    for given, algorithms in ((SECRET, "HS256"), (private_pem(ISSUER.private_key).decode(), "RS256"), (provider, None)):
        shown = repr(backend(given, kind, key_algorithms=algorithms))
        assert not [text for text in (SECRET, "PRIVATE", "key_provider") if text in shown]
        assert shown.startswith(f"{kind.__name__}(token_secret=None")


@each_kind
def test_secret_may_be_left_out(kind: Any) -> None:
    url: Any = {"token_url": "/login"} if kind is OAuth2PasswordBearerAuth else {}
    auth = kind(retrieve_user_handler=retrieve_user, key_provider=KEY, accepted_audiences="api", **url)
    assert auth.token_secret is None
    assert statuses(auth, ISSUER.token(), FORGER.token()) == [200, 401]
    incomplete: list[dict[str, Any]] = [
        {"retrieve_user_handler": retrieve_user},
        {"retrieve_user_handler": retrieve_user, "key_provider": None},
        {"key_provider": KEY, "accepted_audiences": "*"},
    ]
    for options in incomplete:
        with pytest.raises(TypeError, match="required positional argument"):
            kind(**options)


@each_kind
def test_copies_and_replacements_verify_alike(kind: Any) -> None:
    # Key objects of older releases of cryptography cannot be copied deeply.
    auth: Any = backend(ISSUER.jwk, kind)
    for other in (copy(auth), deepcopy(auth), replace(auth)):
        assert statuses(other, ISSUER.token(), FORGER.token()) == [200, 401]
        assert other.get_resolver() is other.get_resolver() is not auth.get_resolver()
    assert statuses(replace(auth, accepted_audiences="x"), ISSUER.token()) == [401]


def test_subclass_with_fields_of_its_own_has_the_options() -> None:
    @dataclass
    class Mine(JWTAuth[str, Token]):
        token_secret: str | None = field(default=None, kw_only=True, repr=False)  # type: ignore[assignment]
        level: int = 0

    auth: Any = Mine(retrieve_user_handler=retrieve_user, key_provider=KEY, accepted_audiences="api", level=5)
    assert (auth.level, auth.token_secret) == (5, None)
    assert statuses(auth, ISSUER.token(), FORGER.token()) == [200, 401]


def test_changed_option_is_checked_again() -> None:
    auth: Any = backend(KEY)
    auth.accepted_audiences = []
    with pytest.raises(ImproperlyConfiguredException, match="'accepted_audiences' is missing or empty"):
        app_of(auth)


def test_given_list_is_copied() -> None:
    names = {"accepted_issuers": [ISSUER.name], "accepted_audiences": ["api"], "accepted_types": ["JWT"]}
    auth = backend(KEY, **names)
    with client_of(auth) as client:
        for values in names.values():
            values[:] = ["x"]
        assert client.get("/", headers=bearer(ISSUER.token())).status_code == 200


class Ignoring(JWTAuth[str, Token]):
    """A backend whose middleware gets the options that it needs, and no others."""

    @property
    def middleware(self) -> DefineMiddleware:
        names = "algorithm auth_header exclude exclude_opt_key exclude_http_methods retrieve_user_handler scopes"
        options = {name: getattr(self, name) for name in (*names.split(), "token_secret")}
        return DefineMiddleware(self.authentication_middleware_class, **options)


class Passing(Ignoring):
    @property
    def middleware(self) -> DefineMiddleware:
        middleware = super().middleware
        return DefineMiddleware(self.authentication_middleware_class, **middleware.kwargs, **self.middleware_options)


def test_middleware_must_pass_the_verifier_on() -> None:
    with pytest.raises(
        ImproperlyConfiguredException, match=r"'middleware' of Ignoring ignores 'key_provider'\. Pass \*\*self\."
    ):
        app_of(backend(KEY, Ignoring))
    assert statuses(backend(KEY, Passing), ISSUER.token(), FORGER.token()) == [200, 401]
    secret = secret_backend(Passing)
    assert secret.middleware_options == {}
    assert statuses(secret, secret.create_token("ann"), ISSUER.token()) == [200, 401]


def test_options_that_come_later_can_be_left_out(records: list[Any]) -> None:
    class Bare(JWTAuth[str, Token]):
        _refuse = KeyProviderOptions._refuse
        _verify_signature = KeyProviderOptions._verify_signature

    with client_of(backend(KEY, Bare)) as client:
        assert client.get("/", headers=bearer(ISSUER.token())).text == "ann"
        refused = client.get("/", headers=bearer(FORGER.token()))
    assert (refused.status_code, "WWW-Authenticate" in refused.headers, records) == (401, False, [])


@pytest.mark.parametrize("value", [False, "true", 1, None, "True"], ids=repr)
def test_optional_authentication_is_switched_on_by_true_only(value: Any) -> None:
    @get("/optional", opt={"optional_auth": value})
    async def optional() -> None: ...

    refusal = refusal_of(app_of(backend(KEY), optional))
    assert re.search(f"has {value!r} under 'optional_auth'. Pass True, or leave it out", refusal)
    app_of(backend(KEY, optional_auth_opt_key="other"), optional)
    with client_of(secret_backend(), optional) as client:
        assert client.get("/optional").status_code == 401


def test_switch_is_found_on_every_kind_of_route() -> None:
    @websocket("/ws", opt={"optional_auth": "yes"})
    async def connect(socket: WebSocket[Any, Any, Any]) -> None: ...

    async def mounted(scope: Any, receive: Any, send: Any) -> None: ...

    for handler in (connect, asgi("/mount", copy_scope=True, opt={"optional_auth": "yes"})(mounted)):
        assert "has 'yes' under 'optional_auth'" in refusal_of(app_of(backend(KEY), handler))


def test_one_application_may_have_several_backends() -> None:
    first = backend(KEY, exclude=["/b"])
    second = backend(OTHER.key, exclude=["^/$"], key_provider_name="other_keys")

    @get("/b")
    async def other() -> None: ...

    with client_of([first, second], other) as client:
        for path, expected in (("/", [200, 401]), ("/b", [401, 200])):
            sent = (ISSUER.token(), OTHER.token())
            assert [client.get(path, headers=bearer(token)).status_code for token in sent] == expected


def test_accepted_algorithms_are_all_asymmetric_ones_by_default() -> None:
    assert backend(KEY).get_accepted_algorithms() == ASYMMETRIC_ALGORITHMS
    assert backend(KEY, key_algorithms="RS256").get_accepted_algorithms() == ("RS256",)
    assert backend(provide(KEY)).get_accepted_algorithms() == ASYMMETRIC_ALGORITHMS


@pytest.mark.parametrize("made", [None, [], Token, 5, lambda: KEY, SECRET, provide(KEY)], ids=range(7))
def test_factory_that_creates_no_provider_stops_the_start(made: Any) -> None:
    assert refusal_of(app_of(backend(provide(made))))
