"""What a ``SigningKey`` signs and ``create_jwks_handler`` publishes, the npm package ``jose`` verifies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from litestar import Litestar
from litestar.security.jwt import SigningKey, create_jwks_handler

from .backends import PRIVATE_KEYS, secret_backend
from .node_packages import installed_package, listening, program, serving


@pytest.mark.xdist_group("round_trips")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_jose_verifies(algorithm: str, pytestconfig: pytest.Config) -> None:
    folder, key = (
        installed_package(Path(__file__).parent / "jose", pytestconfig.rootpath),
        SigningKey(PRIVATE_KEYS[algorithm]),
    )
    token = secret_backend(token_secret=key, algorithm=algorithm).create_token("ann")
    with listening() as (listener, url), serving(Litestar([create_jwks_handler(key, algorithm=algorithm)]), listener):
        command = [program("node"), str(folder / "verify.js"), f"{url}/.well-known/jwks.json"]
        good, forged = (
            subprocess.run([*command, sent], capture_output=True, text=True, check=False)
            for sent in (token, f"{token[:-8]}AAAAAAAA")
        )
    assert good.stdout == "ann\n", good.stderr
    assert forged.returncode != 0
    assert "signature verification failed" in forged.stderr
