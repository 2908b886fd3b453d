"""Keys of a certified OpenID provider: the npm package ``oidc-provider``."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar.security.jwt import KeysUnavailableException, OpenIDProvider
from tests.unit.test_security.test_jwt.backends import on_both_libraries
from tests.unit.test_security.test_jwt.node_packages import installed_package, program

from .asking import answer_to, answers_at_once
from .issuer_server import RSA_KEY, Signer

ED_KEY = Ed25519PrivateKey.generate()
OLDEST_NODE = 20


@pytest.fixture(scope="module")
def command(pytestconfig: pytest.Config) -> list[str]:
    program("npm")
    node = program("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"oidc-provider needs Node {OLDEST_NODE}, this is {version}")
    folder = installed_package(Path(__file__).parents[1] / "oidc_provider", pytestconfig.rootpath)
    return [node, str(folder / "provider.js")]


@contextmanager
def running(command: list[str], generation: str, issuer: str = "") -> Iterator[str]:
    """Run the provider with keys of a generation, on the port that it had before, and have its name."""
    keys = [private_jwk(f"{generation}-rsa", "RS256", RSA_KEY), private_jwk(f"{generation}-ed", "EdDSA", ED_KEY)]
    options = json.dumps({"port": int(issuer.rpartition(":")[2] or 0), "jwks": {"keys": keys}})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write(f"{options}\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
        process.stdin.close()  # which ends it


def private_jwk(kid: str, algorithm: str, key: Any) -> dict[str, Any]:
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"} | {"use": "sig", "kid": kid}


def tokens_of(issuer: str) -> Iterator[str]:
    """Get access tokens by client credentials (RFC 6749, section 4.4) for resources (RFC 8707) with various algorithms."""
    headers = {"Authorization": f"Basic {b64encode(b'client:secret').decode()}"}
    for algorithm in ("RS256", "PS256", "EdDSA"):
        resource = f"https://api.example/{algorithm}"
        form = {"grant_type": "client_credentials", "scope": "read", "resource": resource}
        with urlopen(Request(f"{issuer}/token", urlencode(form).encode(), headers)) as response:
            yield json.load(response)["access_token"]


@pytest.mark.xdist_group("oidc_provider")  # one worker installs it
@on_both_libraries
async def test_restart_and_rotation_go_unnoticed(command: list[str]) -> None:
    with running(command, "first") as issuer:
        provider, old = OpenIDProvider(issuer, timeout=30), list(tokens_of(issuer))
        assert [await answer_to(provider, token) for token in old] == ["200"] * 3
        assert provider.status().skipped == ()
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert all(answers_at_once(provider, token) for token in old)
    with running(command, "first", issuer):
        await provider.refresh()
        assert provider.status().last_error is None
    with running(command, "second", issuer):
        new = list(tokens_of(issuer))
        assert [await answer_to(provider, token) for token in new] == ["200"] * 3
        assert all(answers_at_once(provider, token) for token in old)
        assert await answer_to(provider, Signer("second-ed").token(iss=issuer)) == "401"
