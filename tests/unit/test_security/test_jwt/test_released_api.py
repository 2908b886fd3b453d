"""What was written for released Litestar works as it did."""

from __future__ import annotations

import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from datetime import timedelta
from typing import Any

import jwt
import pytest
from jwt.utils import base64url_encode

import litestar.security.jwt
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import (
    BaseJWTAuth,
    JWTAuth,
    JWTAuthenticationMiddleware,
    JWTCookieAuth,
    OAuth2PasswordBearerAuth,
    Token,
)
from litestar.security.jwt.testing import LocalIssuer
from tests.unit.test_security.test_jwt.backends import SECRET, backend, own_backend, retrieve_user, statuses, whoami

CLAIMS = {"sub": "ann", "iat": 1, "exp": 1 << 32}
ISSUER = LocalIssuer(issuer="https://a.test")
KEY = jwt.PyJWK(ISSUER.jwks["keys"][0])


def answers(auth: BaseJWTAuth[Any, Any], *tokens: str) -> list[int]:
    return statuses(auth, *({auth.auth_header: f"Bearer {token}"} for token in tokens))


def test_middleware_may_put_a_key_in_the_place_of_the_secret() -> None:
    """The workaround of issue 4471."""

    class Middleware(JWTAuthenticationMiddleware):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.jwks_client = jwt.PyJWKClient(issuer.jwks_url)

        async def authenticate_token(
            self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            self.token_secret = self.jwks_client.get_signing_key_from_jwt(encoded_token)
            return await super().authenticate_token(encoded_token, connection)

    with LocalIssuer() as issuer:
        auth = own_backend(token_secret="", algorithm="RS256", authentication_middleware_class=Middleware)
        kid = issuer.jwks["keys"][0]["kid"]
        forged = LocalIssuer(issuer=issuer.issuer).token(headers={"kid": kid})
        assert answers(auth, issuer.token(), forged) == [200, 401]


class Renaming(Token):
    @classmethod
    def decode_payload(
        cls,
        encoded_token: str,
        secret: str,
        algorithms: list[str],
        issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None,
        options: Any = None,
    ) -> Any:
        payload = super().decode_payload(encoded_token, secret, algorithms, issuer, audience, options)
        payload["sub"] = payload.pop("username")
        return payload


class Prefixed(Token):
    @classmethod
    def decode(  # type: ignore[override]  # it knows no leeway
        cls,
        encoded_token: str,
        secret: str,
        algorithm: str,
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        require_claims: Sequence[str] | None = None,
        verify_exp: bool = True,
        verify_nbf: bool = True,
        strict_audience: bool = False,
    ) -> Any:
        return super().decode(encoded_token, secret, algorithm, audience, issuer or "https://a.test")


def test_token_class_may_override_how_tokens_are_decoded() -> None:
    tokens = [
        jwt.encode(CLAIMS | claims, SECRET, "HS256") for claims in ({"username": "x"}, {}, {"iss": "https://a.test"})
    ]
    assert answers(own_backend(token_cls=Renaming), *tokens) == [200, 401, 401]
    assert answers(own_backend(token_cls=Prefixed), *tokens) == [401, 401, 200]
    provided = [ISSUER.token(username="x"), ISSUER.token(), ISSUER.token(iss="https://b.test", username="x")]
    assert answers(backend(KEY, token_cls=Renaming, leeway=1), *provided) == [200, 401, 200]
    assert answers(backend(KEY, token_cls=Prefixed), *provided) == [200, 200, 401]


def test_token_class_may_sign_as_it_likes() -> None:
    class Own(Token):
        def encode(self, secret: Any, algorithm: str, headers: dict[str, Any] | None = None) -> str:
            return f"{secret}/{algorithm}"

    assert own_backend(token_secret="own", token_cls=Own).create_token("ann") == "own/HS256"


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
    assert answers(auth, auth.create_token("ann"), "x") == [200, 401]
    misspelt: Any = {"app": whoami, "tokn_cls": Token}
    with pytest.raises(TypeError, match="tokn_cls"):
        JWTAuthenticationMiddleware(**misspelt)


def test_secret_of_a_middleware_of_ones_own_may_be_anything() -> None:
    class Middleware(JWTAuthenticationMiddleware):
        async def authenticate_token(self, encoded_token: str, connection: Any) -> AuthenticationResult:
            return AuthenticationResult(user=repr(self.token_secret), auth=None)

    for secret in (object(), 5, [], ["key"], {}):
        assert answers(own_backend(token_secret=secret, authentication_middleware_class=Middleware), "x") == [200]


def test_backend_of_ones_own_may_declare_its_options_in_another_order() -> None:
    @dataclass
    class Backend(BaseJWTAuth[str, Token]):
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
        assert answers(auth, token, "x") == [200, 401]


RELEASED: dict[str, Any] = {
    **dict.fromkeys(("accepted_audiences", "accepted_issuers", "dependencies", "exclude", "guards", "require_claims")),
    **dict.fromkeys(("revoked_token_handler", "route_handlers", "scopes", "type_encoders", "domain", "oauth_scopes")),
    "secure": None,
    "exclude_opt_key": "exclude_from_auth",
    "exclude_http_methods": ["OPTIONS", "HEAD"],
    "algorithm": "HS256",
    "auth_header": "Authorization",
    "default_token_expiration": timedelta(days=1),
    "openapi_security_scheme_name": "BearerToken",
    "token_cls": Token,
    "verify_expiry": True,
    "verify_not_before": True,
    "strict_audience": False,
    "key": "token",
    "path": "/",
    "samesite": "lax",
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
    assert answers(auth, auth.create_token("ann"), "x") == [200, 401]
    with pytest.raises(TypeError):
        kind(SECRET, **needed)


def signed(header: bytes, payload: bytes, *, padded: bool = False) -> str:
    """Sign a token whose parts are as given."""
    encode = urlsafe_b64encode if padded else base64url_encode
    input_ = b".".join(map(encode, (header, payload)))
    return b".".join((input_, encode(jwt.get_algorithm_by_name("HS256").sign(input_, SECRET.encode())))).decode()


HEADER, PAYLOAD = b'{"alg": "HS256"}', b'{"sub": "ann", "iat": 1, "exp": 4294967296}'
TOKENS = {
    "padded": signed(HEADER, PAYLOAD, padded=True),
    "long": signed(HEADER, PAYLOAD[:-1] + b', "x": "' + b"x" * 100_000 + b'"}'),
    "member twice": signed(HEADER[:-1] + b', "kid": "a", "kid": "b"}', PAYLOAD),
    "key ID by number": signed(b'{"alg": "HS256", "kid": 5}', PAYLOAD),
    "unencoded": signed(b'{"alg": "HS256", "b64": true}', PAYLOAD),
    "critical": signed(b'{"alg": "HS256", "crit": ["x"], "x": 1}', PAYLOAD),
    "other algorithm": signed(b'{"alg": "HS512"}', PAYLOAD),
    "times with fractions": signed(HEADER, b'{"sub": "ann", "iat": 1.5, "exp": 4294967296.5}'),
    "lone surrogate": signed(HEADER, PAYLOAD[:-1] + b', "x": "\\ud800"}'),
    "NaN": signed(HEADER, PAYLOAD[:-1] + b', "x": NaN}'),
    "claim twice": signed(HEADER, PAYLOAD[:-1] + b', "sub": "bob"}'),
    "audience and issuer": signed(HEADER, PAYLOAD[:-1] + b', "aud": ["a", "b"], "iss": "c"}'),
    "foreign characters": signed(HEADER, PAYLOAD).replace(".", ".!"),
    "unused bits": signed(HEADER, PAYLOAD)[:-1] + chr(ord(signed(HEADER, PAYLOAD)[-1]) + 1),
}


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_of_a_shared_secret_are_judged_as_pyjwt_does(name: str) -> None:
    status = 401
    with suppress(jwt.InvalidTokenError):
        jwt.decode(TOKENS[name], SECRET, ["HS256"], {"verify_aud": False})
        status = 200
    assert answers(own_backend(), TOKENS[name]) == [status]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("accepted_issuers", []),
        ("accepted_issuers", "https://a.test"),
        ("accepted_audiences", []),
        ("accepted_audiences", "all"),
        ("require_claims", []),
        ("require_claims", "sub"),
        ("token_secret", SECRET.encode()),
    ],
)
def test_option_beside_a_shared_secret_means_what_it_did(option: str, value: Any) -> None:
    token = jwt.encode({**CLAIMS, "s": 1, "u": 1, "b": 1, "iss": "https://a.test", "aud": "all"}, SECRET, "HS256")
    assert answers(own_backend(**{option: value}), token) == [200]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("accepted_issuers", [[None], 5]),
        ("accepted_audiences", [[None], 5]),
        ("require_claims", [[5], 5]),
        ("strict_audience", [True]),
        ("algorithm", ["HS257", "none"]),
        ("token_secret", ["short", "", 5]),
    ],
)
def test_construction_with_a_shared_secret_refuses_nothing_new(option: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(own_backend(**{option: value}), option) == value


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
