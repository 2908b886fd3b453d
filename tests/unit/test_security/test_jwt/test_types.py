"""What type checkers say about applications: mistakes are reported, and what was written for released Litestar is not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Each line that ends in "# wrong" has to be reported, and no other.
PROGRAM = """
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.middleware.authentication import AuthenticationResult
from litestar.security.jwt import JWTAuth, JWTAuthenticationMiddleware, JWTCookieAuth, Key, KeyProvider
from litestar.security.jwt import JWTCookieAuthenticationMiddleware, OAuth2PasswordBearerAuth, Token, UnverifiedToken
from litestar.security.jwt import RemoteJWKset  # wrong
from litestar.security.jwt.token import JWTDecodeOptions
from litestar.types import ASGIApp

Connection = ASGIConnection[Any, Any, Any, Any]


@dataclass
class OwnToken(Token):
    tenant: str = ""

    @classmethod
    def decode_payload(
        cls, encoded_token: str, secret: str, algorithms: list[str], issuer: str | Sequence[str] | None = None,
        audience: str | Sequence[str] | None = None, options: JWTDecodeOptions | None = None,
    ) -> Any:
        return super().decode_payload(encoded_token, secret, algorithms, issuer, audience, options)


@dataclass
class OwnAuth(JWTAuth[str, OwnToken]):
    algorithm: str = field(default="HS512")
    token_cls: type[Token] = OwnToken
    accepted_audiences: Sequence[str] | None = field(default=None)
    accepted_issuers: Sequence[str] | None = field(default=None)


class Middleware(JWTAuthenticationMiddleware):
    async def authenticate_token(self, encoded_token: str, connection: Connection) -> AuthenticationResult:
        self.token_secret = "other"
        return await super().authenticate_token(encoded_token, connection)


async def find(token: OwnToken, connection: Connection) -> str | None: ...
async def find_key(token: UnverifiedToken) -> Key: ...
async def accepts(issuer: str) -> bool: ...
def make() -> KeyProvider: ...


OwnAuth(token_secret="secret", retrieve_user_handler=find, authentication_middleware_class=Middleware).login("ann")
JWTCookieAuth[str, Token](token_secret="secret", retrieve_user_handler=find, exclude=["/"])
JWTCookieAuth[str, Token](token_secret="secret")  # wrong
OAuth2PasswordBearerAuth[str](token_secret="secret", token_url="/login", retrieve_user_handler=find)
OAuth2PasswordBearerAuth[str, Token](retrieve_user_handler=find)  # wrong
OAuth2PasswordBearerAuth[str, Token](token_url="/login")  # wrong
JWTAuth[str, Token](retrieve_user_handler=find, key_provider=find_key, accepted_issuers=accepts, algorithm=["ES256"])
JWTAuth[str](retrieve_user_handler=find, key_provider=Provide(make), accepted_audiences={"https://a.test": ["api"]})
JWTAuth[str, Token](retrieve_user_handler=find, key_provder=None)  # wrong
JWTAuth[str, Token]("secret")  # wrong
auth = JWTAuth[str, Token]("secret", retrieve_user_handler=find)
auth.login("ann", token_expiration=timedelta(1))
auth.login("ann", token_expiration="tomorrow")  # wrong
auth.login("ann", token_expiraton=timedelta(1))  # wrong
Token.decode("token", secret="key", algorithm="RS256", leeway=5)


def wrap(app: ASGIApp, options: Any) -> None:
    JWTCookieAuthenticationMiddleware(app, auth_cookie_key="token", **options)
    JWTCookieAuthenticationMiddleware(app, auth_cookie_key="token", tokn_cls=Token, **options)  # wrong
"""
COMMANDS = {
    "mypy": ("--strict", "--disable-error-code=empty-body", "--config-file=", "."),
    "pyright": ("--pythonpath", sys.executable),
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", COMMANDS)
def test_type_checker_reports_mistakes_and_nothing_else(
    checker: str, tmp_path: Path, cache: pytest.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(checker)
    monkeypatch.setenv("MYPY_CACHE_DIR", str(cache.mkdir("types")))
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", checker, *COMMANDS[checker]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        pytest.skip(f"{checker} cannot run: {done.stderr or done.stdout}")
    lines = PROGRAM.splitlines()
    reported = {lines[int(number) - 1] for number in re.findall(r"program\.py:(\d+)(?::\d+ -|:) error: ", done.stdout)}
    assert reported == {line for line in lines if line.endswith("# wrong")}, done.stdout
