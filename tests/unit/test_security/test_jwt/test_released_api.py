"""What was written for released Litestar works as it did."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from typing import Any

import jwt
import pytest

import litestar.security.jwt
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, JWTAuthenticationMiddleware, JWTCookieAuth, OAuth2PasswordBearerAuth, Token

from .backends import FORGER, ISSUER, SECRET, backend, own_backend, retrieve_user, statuses, with_secret

KEY = ISSUER.key


@pytest.mark.parametrize(("members", "status"), [({"key_ops": None, "use": None, "issuer": 1}, 200), ({"use": 5}, 401)])
def test_middleware_may_put_a_key_in_the_place_of_the_secret(members: dict[str, Any], status: int) -> None:
    """The workaround of issue 4471."""

    class Middleware(JWTAuthenticationMiddleware):
        async def authenticate_token(self, encoded_token: str, connection: Any) -> AuthenticationResult:
            self.token_secret = jwt.PyJWK({**ISSUER.jwk, **members})
            return await super().authenticate_token(encoded_token, connection)

    auth = own_backend(token_secret="", algorithm="RS256", authentication_middleware_class=Middleware)
    assert statuses(auth, ISSUER.token(), FORGER.token()) == [status, 401]


class Renaming(Token):
    @classmethod
    def decode_payload(cls, encoded_token: str, secret: Any, algorithms: Any, *_: Any, **options: Any) -> Any:
        values = [options.pop(name) for name in ("issuer", "audience", "options")]
        payload = super().decode_payload(encoded_token, secret, algorithms, *values, **options)
        payload["sub"] = payload.pop("username")
        return payload


class Prefixed(Token):
    @classmethod
    def decode(cls, encoded_token: str, secret: Any, algorithm: Any, *args: Any, **options: Any) -> Any:
        assert sorted(options) == "audience issuer require_claims strict_audience verify_exp verify_nbf".split()
        return super().decode(encoded_token, secret, algorithm, None, "https://a.test")


def test_token_class_may_override_how_tokens_are_decoded() -> None:
    tokens = [ISSUER.token(username="x"), ISSUER.token(), ISSUER.token(iss="https://b.test", username="x")]
    for token_cls, expected in ((Renaming, [200, 401, 200]), (Prefixed, [200, 200, 401])):
        assert statuses(own_backend(token_cls=token_cls), *map(with_secret, tokens)) == expected
        assert statuses(backend(KEY, token_cls=token_cls), *tokens) == expected
    assert statuses(backend(KEY, token_cls=Renaming, leeway=1), *tokens) == [200, 401, 200]


def test_middleware_may_list_the_options_it_knows() -> None:
    """They are those of released Litestar, as long as none of the new ones are used."""
    known = """
        algorithm app auth_header exclude exclude_http_methods exclude_opt_key require_claims retrieve_user_handler
        revoked_token_handler scopes strict_audience token_audience token_cls token_issuer token_secret verify_expiry
        verify_not_before
    """.split()

    class Middleware(JWTAuthenticationMiddleware):
        def __init__(self, **options: Any) -> None:
            assert sorted(options) == known
            super().__init__(**options)

    auth = own_backend(authentication_middleware_class=Middleware)
    assert statuses(auth, auth.create_token("ann"), "x") == [200, 401]


def test_backend_of_ones_own_may_declare_its_options_in_another_order() -> None:
    @dataclass
    class Backend(litestar.security.jwt.BaseJWTAuth[str, Token]):
        token_secret: Any = None
        retrieve_user_handler: Any = None
        default_token_expiration: timedelta = field(default=timedelta(hours=2))
        exclude_http_methods: Any = ()
        algorithm: Any = "HS384"
        auth_header: str = "X-Token"
        openapi_security_scheme_name: str = "Own"
        description: str = "Own"
        authentication_middleware_class: Any = JWTAuthenticationMiddleware

    for auth in (Backend(SECRET, retrieve_user), Backend(retrieve_user_handler=retrieve_user, token_secret=SECRET)):
        token = auth.create_token("ann")
        assert jwt.get_unverified_header(token)["alg"] == "HS384"
        assert statuses(auth, {"X-Token": f"Bearer {token}"}, {"X-Token": "Bearer x"}, token) == [200, 401, 401]


RELEASED: dict[str, Any] = {
    **dict.fromkeys(("accepted_audiences", "accepted_issuers", "dependencies", "exclude", "guards", "require_claims")),
    **dict.fromkeys(("revoked_token_handler", "route_handlers", "scopes", "type_encoders", "domain", "oauth_scopes")),
    **{"exclude_opt_key": "exclude_from_auth", "exclude_http_methods": ["OPTIONS", "HEAD"], "algorithm": "HS256"},
    **{"auth_header": "Authorization", "default_token_expiration": timedelta(days=1), "token_cls": Token},
    **{"verify_expiry": True, "verify_not_before": True, "strict_audience": False, "secure": None, "samesite": "lax"},
    **{"openapi_security_scheme_name": "BearerToken", "key": "token", "path": "/"},
}


@pytest.mark.parametrize(
    ("kind", "without", "needed"),
    [
        (JWTAuth, {"key", "path", "domain", "secure", "samesite", "oauth_scopes"}, {}),
        (JWTCookieAuth, {"oauth_scopes"}, {}),
        (OAuth2PasswordBearerAuth, set(), {"token_url": "/login"}),
    ],
)
def test_defaults_and_the_positional_secret_are_as_before(kind: Any, without: set[str], needed: Any) -> None:
    defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}
    auth = kind(SECRET, retrieve_user_handler=retrieve_user, **needed)
    assert {**{name: defaults[name] for name in RELEASED.keys() & defaults}, "algorithm": auth.algorithm} == {
        name: value for name, value in RELEASED.items() if name not in without
    }
    assert statuses(auth, auth.create_token("ann"), "x") == [200, 401]
    with pytest.raises(TypeError):
        kind(SECRET, **needed)


def test_option_beside_a_shared_secret_means_what_it_did() -> None:
    token = with_secret(ISSUER.token(s=1, u=1, b=1))
    options: dict[str, Any] = {"accepted_issuers": ([], ISSUER.name), "accepted_audiences": ([], "api")}
    options |= {"require_claims": ([], "sub"), "token_secret": [SECRET.encode()]}
    for option, values in options.items():
        assert [statuses(own_backend(**{option: value}), token) for value in values] == [[200]] * len(values)


def test_construction_with_a_shared_secret_refuses_nothing_new() -> None:
    odd: dict[str, list[Any]] = {"accepted_issuers": [[None], 5], "accepted_audiences": [[None], 5]}
    odd |= {"require_claims": [[5], 5], "strict_audience": [True], "algorithm": ["HS257", "none"]}
    odd |= {"token_secret": ["short", "", 5]}
    for option, values in odd.items():
        assert [getattr(own_backend(**{option: value}), option) for value in values] == values


def test_package_lists_all_that_it_exports_whether_that_was_needed_yet_or_not() -> None:
    exported = set(litestar.security.jwt.__all__)
    assert exported <= set(dir(litestar.security.jwt))
    assert not [name for name in exported if getattr(litestar.security.jwt, name, None) is None]
    with pytest.raises(AttributeError, match="has no attribute 'RemoteJWKset'"):
        getattr(litestar.security.jwt, "RemoteJWKset")
    with pytest.raises(ImportError):
        exec("from litestar.security.jwt import RemoteJWKset")


def test_application_with_a_secret_imports_neither_an_http_client_nor_what_fetches_keys() -> None:
    code = (
        "import sys; from litestar.security.jwt import JWTAuth, Token; "
        "JWTAuth(retrieve_user_handler=print, token_secret='s' * 32).middleware; "
        "print(*(m for m in sys.modules if m.startswith(('httpx', 'litestar.security.jwt'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "litestar.security.jwt.token" in imported
    unneeded = ("guards", "key_providers", "publishing", "testing")
    assert not imported & {"httpx", "httpx2", *(f"litestar.security.jwt.{name}" for name in unneeded)}
