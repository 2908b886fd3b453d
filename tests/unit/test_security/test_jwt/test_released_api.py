"""What was written for the released package works as it did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

import litestar.security.jwt
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import (
    BaseJWTAuth,
    JWTAuth,
    JWTAuthenticationMiddleware,
    JWTCookieAuth,
    JWTCookieAuthenticationMiddleware,
    OAuth2PasswordBearerAuth,
    Token,
)
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from litestar.types import ASGIApp, Scopes
from tests.unit.test_security.test_jwt.injected import retrieve_user, whoami

SECRET = "a secret that is long enough for any of the HMAC algorithms"


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


def answers(auth: BaseJWTAuth[Any, Any], *tokens: str) -> list[int]:
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    with TestClient(app) as client:
        return [client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code for token in tokens]


def test_middleware_may_fetch_the_key_and_put_it_in_the_place_of_the_secret(issuer: LocalIssuer) -> None:
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

    auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        token_secret="",
        algorithm="RS256",
        authentication_middleware_class=Middleware,
    )
    assert answers(auth, issuer.token(), issuer.forged_token()) == [200, 401]


def test_token_class_may_override_how_payloads_are_decoded() -> None:
    class Renaming(Token):
        @classmethod
        def decode_payload(  # type: ignore[override]
            cls,
            encoded_token: str,
            secret: str,
            algorithms: list[str],
            issuer: str | Sequence[str] | None = None,
            audience: str | Sequence[str] | None = None,
            options: Any = None,
        ) -> Any:
            payload = super().decode_payload(
                encoded_token=encoded_token,
                secret=secret,
                algorithms=algorithms,
                issuer=issuer,
                audience=audience,
                options=options,
            )
            payload["sub"] = payload.pop("username")
            return payload

    auth = JWTAuth[str, Renaming](retrieve_user_handler=retrieve_user, token_secret=SECRET, token_cls=Renaming)
    claims = {"username": "ann", "exp": datetime.now(UTC) + timedelta(hours=1), "iat": datetime.now(UTC)}
    good, forged = (jwt.encode(claims, secret, "HS256") for secret in (SECRET, SECRET[::-1]))
    assert answers(auth, good, forged) == [200, 401]


def test_token_class_may_override_how_tokens_are_decoded() -> None:
    class Prefixed(Token):
        @classmethod
        def decode(  # type: ignore[override]
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
            return super().decode(encoded_token.removeprefix("v1-"), secret, algorithm, audience, issuer)

    auth = JWTAuth[str, Prefixed](retrieve_user_handler=retrieve_user, token_secret=SECRET, token_cls=Prefixed)
    token = auth.create_token("ann")
    assert answers(auth, f"v1-{token}", token, "v1-x.y.z") == [200, 200, 401]


def test_middleware_may_list_the_parameters_it_knows() -> None:
    class Middleware(JWTAuthenticationMiddleware):
        def __init__(
            self,
            algorithm: str,
            app: ASGIApp,
            auth_header: str,
            exclude: str | list[str] | None,
            exclude_http_methods: Sequence[Any] | None,
            exclude_opt_key: str,
            retrieve_user_handler: Callable[..., Any],
            scopes: Scopes,
            token_secret: str,
            token_cls: type[Token] = Token,
            token_audience: Sequence[str] | None = None,
            token_issuer: Sequence[str] | None = None,
            require_claims: Sequence[str] | None = None,
            verify_expiry: bool = True,
            verify_not_before: bool = True,
            strict_audience: bool = False,
            revoked_token_handler: Callable[..., Any] | None = None,
        ) -> None:
            super().__init__(
                algorithm,
                app,
                auth_header,
                exclude,
                exclude_http_methods,
                exclude_opt_key,
                retrieve_user_handler,
                scopes,
                token_secret,
                token_cls,
                token_audience,
                token_issuer,
                require_claims,
                verify_expiry,
                verify_not_before,
                strict_audience,
                revoked_token_handler,
            )

    auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user, token_secret=SECRET, authentication_middleware_class=Middleware
    )
    assert answers(auth, auth.create_token("ann"), "x") == [200, 401]


def test_secret_of_a_middleware_of_ones_own_may_be_anything() -> None:
    class Middleware(JWTAuthenticationMiddleware):
        async def authenticate_token(
            self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            return AuthenticationResult(user=repr(self.token_secret), auth=None)

    auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        token_secret=object(),  # type: ignore[arg-type]
        authentication_middleware_class=Middleware,
    )
    assert answers(auth, "x") == [200]


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

    auth = Backend(retrieve_user_handler=retrieve_user, token_secret=SECRET)
    token = auth.create_token("ann")
    assert jwt.get_unverified_header(token)["alg"] == "HS384"
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    with TestClient(app) as client:
        assert client.get("/", headers={"X-Token": f"Bearer {token}"}).text == "ann"


COMMON = {
    "revoked_token_handler": None,
    "guards": None,
    "exclude": None,
    "exclude_opt_key": "exclude_from_auth",
    "scopes": None,
    "exclude_http_methods": ["OPTIONS", "HEAD"],
    "route_handlers": None,
    "dependencies": None,
    "type_encoders": None,
    "algorithm": "HS256",
    "auth_header": "Authorization",
    "default_token_expiration": timedelta(days=1),
    "openapi_security_scheme_name": "BearerToken",
    "token_cls": Token,
    "accepted_audiences": None,
    "accepted_issuers": None,
    "require_claims": None,
    "verify_expiry": True,
    "verify_not_before": True,
    "strict_audience": False,
}
COOKIE = {"key": "token", "path": "/", "domain": None, "secure": None, "samesite": "lax"}


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (JWTAuth, {**COMMON, "authentication_middleware_class": JWTAuthenticationMiddleware}),
        (JWTCookieAuth, {**COMMON, **COOKIE, "authentication_middleware_class": JWTCookieAuthenticationMiddleware}),
        (
            OAuth2PasswordBearerAuth,
            {
                **COMMON,
                **COOKIE,
                "oauth_scopes": None,
                "authentication_middleware_class": JWTCookieAuthenticationMiddleware,
            },
        ),
    ],
)
def test_defaults_are_as_before(kind: Any, defaults: dict[str, Any]) -> None:
    found = {
        f.name: f.default if f.default is not MISSING else f.default_factory()  # type: ignore[misc]
        for f in fields(kind)
        if f.name in defaults
    }
    assert found == defaults


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (JWTAuth, (SECRET, retrieve_user)),
        (JWTCookieAuth, (SECRET, retrieve_user)),
        (OAuth2PasswordBearerAuth, (SECRET, "/login", retrieve_user)),
    ],
)
def test_first_arguments_may_be_positional(kind: Any, arguments: tuple[Any, ...]) -> None:
    auth = kind(*arguments)
    assert answers(auth, auth.create_token("ann"), "x") == [200, 401]


@pytest.mark.parametrize("kind", [JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth])
def test_required_arguments_are_asked_for(kind: Any) -> None:
    with pytest.raises(TypeError):
        kind(token_secret=SECRET)
    with pytest.raises(TypeError):
        OAuth2PasswordBearerAuth(token_secret=SECRET, retrieve_user_handler=retrieve_user)


def test_package_lists_all_that_it_exports_whether_that_was_needed_yet_or_not() -> None:
    exported: set[str] = set(litestar.security.jwt.__all__)
    assert exported <= set(dir(litestar.security.jwt))
    assert not [name for name in exported if getattr(litestar.security.jwt, name, None) is None]
    with pytest.raises(AttributeError, match="has no attribute 'Jws'"):
        litestar.security.jwt.Jws


def test_application_with_a_secret_imports_neither_an_http_client_nor_what_fetches_keys() -> None:
    code = (
        "import sys; from litestar.security.jwt import JWTAuth, Token; "
        "JWTAuth(retrieve_user_handler=print, token_secret='s' * 32).middleware; "
        "print(*(m for m in sys.modules if m.startswith(('httpx', 'litestar.security.jwt'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "litestar.security.jwt.token" in imported
    unneeded = ("jwks", "discovery", "issuers", "publishing", "guards", "testing", "_http", "_documents", "_injection")
    assert not imported & {"httpx", "httpx2", *(f"litestar.security.jwt.{name}" for name in unneeded)}
