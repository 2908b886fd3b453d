"""What type checkers say about applications: wrong calls are reported, and right ones are not."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_overloads

import pytest

from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, _constructor

# Each line that ends in "# wrong" has to be reported, and no other.
BACKENDS = """
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.security.jwt import (
    BaseJWTAuth, JWTAuth, JWTAuthenticationMiddleware, JWTCookieAuth, Key, KeyProvider, OAuth2PasswordBearerAuth,
    SigningKey, Token, UnverifiedToken,
)
from litestar.security.jwt import JWTAuht  # wrong

Connection = ASGIConnection[Any, Any, Any, Any]


@dataclass
class User:
    name: str


async def find(token: Token, connection: Connection) -> User | None: ...
def find_now(token: Token, connection: Connection) -> User | None: ...
async def is_revoked(token: Token, connection: Connection) -> bool: ...
async def find_key(token: UnverifiedToken) -> Key: ...
def find_key_of_tenant(token: UnverifiedToken, connection: Connection) -> KeyProvider: ...
async def accepts(issuer: str) -> bool: ...
async def audiences_of(issuer: str) -> Sequence[str]: ...
def make() -> KeyProvider: ...
def is_number(token: UnverifiedToken) -> int: ...
class Middleware(JWTAuthenticationMiddleware): ...


# As released
auth = JWTAuth[User, Token]("secret", find)
JWTAuth[User, Token]("secret", find_now, is_revoked)
JWTAuth[User](token_secret="secret", retrieve_user_handler=find, exclude=["/"], authentication_middleware_class=Middleware)
declared: JWTAuth[User, Token] = JWTAuth("secret", retrieve_user_handler=find, auth_header="X-Token")
JWTCookieAuth[User, Token]("secret", find, key="session", samesite="strict")
OAuth2PasswordBearerAuth[User, Token]("secret", "/login", find)
OAuth2PasswordBearerAuth[User](token_secret="secret", token_url="/login", retrieve_user_handler=find, oauth_scopes={})
other: JWTAuth[User, Token] = replace(auth, algorithm="HS384", token_secret="other")
Litestar(on_app_init=[auth.on_app_init], middleware=[auth.middleware])
JWTAuth[User, Token](5, find)  # wrong
JWTAuth[User, Token](token_secret=5, retrieve_user_handler=find)  # wrong
JWTAuth[User, Token](None, find)  # wrong
JWTAuth[User, Token](os.environ.get("SECRET"), find)  # wrong
JWTAuth[User, Token](token_secret=None, retrieve_user_handler=find)  # wrong
JWTAuth[User, Token](retrieve_user_handler=find)  # wrong
JWTAuth[User, Token]("secret")  # wrong
JWTAuth[User, Token]("secret", 5)  # wrong
JWTAuth[User, Token]("secret", find, algorithm=256)  # wrong
JWTAuth[User, Token]("secret", find, accepted_audiences=5)  # wrong
JWTAuth[User, Token]("secret", find, accepted_issuers=7)  # wrong
JWTAuth[User, Token]("secret", find, token_cls=User)  # wrong
JWTAuth[User, Token]("secret", find, authentication_middleware_class=User)  # wrong
JWTAuth[User, Token]("secret", find, default_token_expiration=60)  # wrong
JWTAuth[User, Token]("secret", find, key="session")  # wrong
JWTCookieAuth[User, Token]("secret")  # wrong
JWTCookieAuth[User, Token]("secret", find, samesite="never")  # wrong
JWTCookieAuth[User, Token]("secret", find, authentication_middleware_class=Middleware)  # wrong
OAuth2PasswordBearerAuth[User, Token]("secret", retrieve_user_handler=find)  # wrong
OAuth2PasswordBearerAuth[User, Token]("secret", token_url="/login")  # wrong
OAuth2PasswordBearerAuth[User, Token]("secret", find, "/login")  # wrong

# With a key provider
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=find_key, accepted_issuers=accepts, key_algorithms=["ES256"])
JWTAuth[User](retrieve_user_handler=find, key_provider=Provide(make), accepted_audiences={"https://a.test": ["api"]})
JWTAuth[User, Token](token_secret=None, retrieve_user_handler=find, key_provider=find_key_of_tenant)
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=jwt.PyJWKClient("https://a.test"), accepted_audiences="api")
JWTAuth[User, Token]("secret", find, key_provider=os.environ.get("PEM"), leeway=timedelta(seconds=5))
JWTAuth[User, Token](retrieve_user_handler=find, key_provider="pem", accepted_audiences=audiences_of, auth_scheme="")
JWTCookieAuth[User, Token](retrieve_user_handler=find, key_provider={"keys": []}, key="session", accepted_types="at+jwt")
OAuth2PasswordBearerAuth[User, Token](token_url="/login", retrieve_user_handler=find, key_provider=[b"pem", "pem"])


def sign(private_key: RSAPrivateKey, secret: str | None) -> JWTAuth[User, Token]:
    JWTAuth[User, Token](private_key, find, key_provider=private_key.public_key(), algorithm="RS256")
    JWTAuth[User, Token](token_secret=secret, retrieve_user_handler=find, key_provider="pem")
    return JWTAuth(SigningKey(private_key), find, key_provider=SigningKey(private_key, "2026"))


JWTAuth[User, Token](retrieve_user_handler=find, key_provider=5)  # wrong
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=None)  # wrong
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=is_number)  # wrong
JWTAuth[User, Token](retrieve_user_handler=find, key_provder=find_key)  # wrong
JWTAuth[User, Token](key_provider=find_key)  # wrong
JWTAuth[User, Token](find, key_provider=find_key)  # wrong
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=find_key, leeway="5")  # wrong
JWTAuth[User, Token](retrieve_user_handler=find, key_provider=find_key, accepted_issuers=audiences_of)  # wrong
OAuth2PasswordBearerAuth[User, Token](retrieve_user_handler=find, key_provider=find_key)  # wrong


# Subclasses
@dataclass
class TenantToken(Token):
    tenant: str = ""


@dataclass
class TenantAuth(JWTAuth[User, TenantToken]):
    tenant: str = "default"
    algorithm: str = field(default="HS512")
    token_cls: type[Token] = TenantToken
    accepted_audiences: Sequence[str] | None = field(default=None)


@dataclass
class WithoutSecret(JWTAuth[User, Token]):
    token_secret: str | None = field(default=None, kw_only=True)  # type: ignore[assignment]  # pyright: ignore


class Plain(JWTAuth[User, Token]):
    pass


TenantAuth("secret", find, tenant="one").login("ann", token_extras={"a": 1})
TenantAuth("secret", find, key_provider=find_key)
WithoutSecret(find, key_provider=find_key)
Plain("secret", find)
Plain(retrieve_user_handler=find, key_provider=find_key)
TenantAuth("secret", find, tenant=5)  # wrong
TenantAuth("secret")  # wrong
Plain(retrieve_user_handler=find)  # wrong


async def uses(backend: BaseJWTAuth[User, TenantToken], encoded_token: str) -> str:
    backend.login("ann", token_expiration=timedelta(1))
    backend.login("ann", token_expiration="tomorrow")  # wrong
    backend.login("ann", token_expiraton=timedelta(1))  # wrong
    return (await backend.verify(encoded_token)).tenant
"""
TOKENS = """
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from litestar.connection import ASGIConnection
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import Key, JWTAuthenticationMiddleware, JWTCookieAuthenticationMiddleware, SigningKey, Token
from litestar.security.jwt import UnverifiedToken
from litestar.security.jwt.token import JWTDecodeOptions
from litestar.types import ASGIApp


@dataclass
class CustomToken(Token):
    tenant: str = ""

    @classmethod
    def decode_payload(
        cls, encoded_token: str, secret: str, algorithms: list[str], issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None, options: JWTDecodeOptions | None = None,
    ) -> Any:
        return super().decode_payload(encoded_token, secret, algorithms, issuer, audience, options)


class Middleware(JWTAuthenticationMiddleware):
    async def authenticate_token(
        self, encoded_token: str, connection: ASGIConnection[Any, Any, Any, Any]
    ) -> AuthenticationResult:
        self.token_secret = "other"
        return await super().authenticate_token(encoded_token, connection)


def find_key(token: UnverifiedToken) -> Key: ...
def wrap(app: ASGIApp, options: dict[str, Any]) -> None:
    JWTCookieAuthenticationMiddleware(app=app, auth_cookie_key="token", **options)
    JWTCookieAuthenticationMiddleware(app=app, auth_cookie_key="token", tokn_cls=Token, **options)  # wrong


def decode(encoded: str, public_key: RSAPublicKey, jwks: jwt.PyJWKSet) -> str:
    Token.decode(encoded, "secret", "HS256")
    Token.decode(encoded, public_key, algorithm="RS256", audience=["api"], verify_exp=False)
    Token.decode(encoded, [public_key, "pem"], ["RS256", "ES256"], leeway=5)
    Token.decode(encoded, jwks, "RS256", leeway=timedelta(seconds=5))
    Token.decode(encoded, secret={"keys": []}, algorithm="RS256")
    Token.decode(encoded, find_key, "RS256")
    Token.decode(encoded, secret=None, algorithm="RS256")  # wrong
    Token.decode(encoded, "secret", None)  # wrong
    Token.decode(encoded, "secret", 256)  # wrong
    Token.decode(encoded, "secret", "HS256", leeway="5")  # wrong
    return CustomToken.decode(encoded, find_key, "RS256").tenant


def encode(exp: datetime, signing_key: SigningKey) -> list[str]:
    token = CustomToken(exp=exp, sub="ann", tenant="one")
    token.encode(None, "HS256")  # wrong
    return [token.encode("secret", "HS256"), token.encode(signing_key, algorithm="ES256")]
"""
PROGRAMS = {"backends": BACKENDS, "tokens": TOKENS}
COMMANDS = {
    "mypy": ("--strict", "--disable-error-code=empty-body", "--config-file=", "."),
    "pyright": ("--pythonpath", sys.executable),
}
RULES = {"typeCheckingMode": "strict", "reportUnusedImport": False}


@pytest.mark.slow
@pytest.mark.parametrize("checker", COMMANDS)
def test_type_checker_reports_wrong_calls_and_nothing_else(
    checker: str, tmp_path: Path, cache: pytest.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(checker)
    monkeypatch.setenv("MYPY_CACHE_DIR", str(cache.mkdir("types")))
    for name, program in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(program)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(RULES))
    command = [sys.executable, "-m", checker, *COMMANDS[checker]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        pytest.skip(f"{checker} cannot run: {done.stderr or done.stdout}")
    found = re.findall(r"(\w+)\.py:(\d+)(?::\d+ -|:) error: ", done.stdout)
    reported = {(name, PROGRAMS[name].splitlines()[int(number) - 1]) for name, number in found}
    wrong = {(name, line) for name in PROGRAMS for line in PROGRAMS[name].splitlines() if line.endswith("# wrong")}
    assert reported == wrong, done.stdout


@pytest.mark.parametrize(
    ("backend", "constructor", "options"),
    [
        pytest.param(JWTAuth, _constructor._jwt_auth, _constructor.HeaderOptions, id="header"),
        pytest.param(JWTCookieAuth, _constructor._jwt_cookie_auth, _constructor.CookieOptions, id="cookie"),
        pytest.param(
            OAuth2PasswordBearerAuth, _constructor._oauth2_password_bearer_auth, _constructor.OAuth2Options, id="oauth2"
        ),
    ],
)
def test_types_of_constructors_name_all_fields(backend: Any, constructor: Any, options: Any) -> None:
    names = {field.name for field in fields(backend)}
    for overload in get_overloads(constructor):
        parameters = inspect.signature(overload).parameters
        assert {*parameters, *options.__annotations__} - {"self", "options"} == names


@pytest.mark.parametrize("name", ["JWTAuthInit", "JWTCookieAuthInit", "OAuth2PasswordBearerAuthInit"])
def test_decorator_gives_a_method_the_type_of_a_constructor(name: str) -> None:
    assert getattr(_constructor, name)(lambda self: None)() is None
