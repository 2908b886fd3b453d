"""What this package signs and publishes, the npm package ``jose`` verifies."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from litestar import Litestar
from litestar.security.jwt import JWTAuth, Token, create_jwks_handler

from .backends import PRIVATE_KEYS, retrieve_user
from .node_packages import installed_package, listening, program, serving

pytestmark = pytest.mark.xdist_group("round_trips")


@pytest.fixture(scope="module", params=["RS256", "PS256", "ES256", "EdDSA"])
def auth(request: pytest.FixtureRequest) -> JWTAuth[str, Token]:
    secret: Any = PRIVATE_KEYS[request.param]
    return JWTAuth(secret, retrieve_user_handler=retrieve_user, algorithm=request.param)


@pytest.fixture(scope="module")
def jwks_url(auth: JWTAuth[str, Token]) -> Iterator[str]:
    app = Litestar([create_jwks_handler(auth.token_secret, algorithm=auth.algorithm)])
    with listening() as (listener, url), serving(app, listener):
        yield f"{url}/.well-known/jwks.json"


def test_jose_verifies(auth: JWTAuth[str, Token], jwks_url: str, pytestconfig: pytest.Config) -> None:
    node = program("node")
    directory = installed_package(Path(__file__).parent / "jose", pytestconfig.rootpath)
    token = auth.create_token("ann")

    def verify(token: str) -> subprocess.CompletedProcess[str]:
        command = [node, str(directory / "verify.js"), jwks_url, token]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert verify(token).stdout == "ann\n"
    refused = verify(token[:-8] + "AAAAAAAA")
    assert refused.returncode != 0
    assert "signature verification failed" in refused.stderr
