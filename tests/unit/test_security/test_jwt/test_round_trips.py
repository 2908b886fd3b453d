"""What this package signs and publishes, the npm package ``jose`` verifies."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from litestar import Litestar
from litestar.security.jwt import create_jwks_handler

from .backends import PRIVATE_KEYS, own_backend
from .node_packages import installed_package, listening, program, serving


@pytest.mark.xdist_group("round_trips")
@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_jose_verifies(algorithm: str, pytestconfig: pytest.Config) -> None:
    folder = installed_package(Path(__file__).parent / "jose", pytestconfig.rootpath)
    auth = own_backend(token_secret=PRIVATE_KEYS[algorithm], algorithm=algorithm)
    app = Litestar([create_jwks_handler(auth.token_secret, algorithm=algorithm)])
    with listening() as (listener, url), serving(app, listener):

        def verify(token: str) -> subprocess.CompletedProcess[str]:
            command = [program("node"), str(folder / "verify.js"), f"{url}/.well-known/jwks.json", token]
            return subprocess.run(command, capture_output=True, text=True, check=False)

        token = auth.create_token("ann")
        assert verify(token).stdout == "ann\n"
        refused = verify(token[:-8] + "AAAAAAAA")
    assert refused.returncode != 0
    assert "signature verification failed" in refused.stderr
