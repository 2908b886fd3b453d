"""Keys of a certified OpenID provider: the npm package ``oidc-provider``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from litestar.security.jwt import KeysUnavailableException, OpenIDProvider
from tests.unit.test_security.test_jwt.backends import PRIVATE_KEYS, on_both_libraries
from tests.unit.test_security.test_jwt.node_packages import installed_package, program

from .issuer_server import Signer
from .lookups import answer_to, answers_at_once


@contextmanager
def running(command: list[str], generation: str, issuer: str = "") -> Iterator[str]:
    """Run the provider with keys of a generation, on the port that it had before, and have its name."""
    keys = []
    for algorithm in ("RS256", "EdDSA"):
        jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(PRIVATE_KEYS[algorithm], as_dict=True)
        jwk.pop("key_ops", None)  # which goes with no "use"
        keys.append({**jwk, "use": "sig", "kid": f"{generation} {algorithm}"})
    options = json.dumps({"port": int(issuer.rpartition(":")[2] or 0), "jwks": {"keys": keys}})
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        process.stdin.write(f"{options}\n")
        process.stdin.flush()
        yield process.stdout.readline().strip()
        process.stdin.close()  # which ends it


def tokens_of(issuer: str) -> Iterator[str]:
    """Get access tokens by client credentials (RFC 6749, section 4.4) for resources (RFC 8707) with various algorithms."""
    for algorithm in ("RS256", "PS256", "EdDSA"):
        resource = f"https://api.example/{algorithm}"
        form = {"grant_type": "client_credentials", "scope": "read", "resource": resource}
        response = httpx.post(f"{issuer}/token", data=form, auth=("client", "secret"), trust_env=False)
        yield response.json()["access_token"]


@pytest.mark.xdist_group("oidc_provider")  # one worker installs it
@on_both_libraries
async def test_restart_and_rotation_go_unnoticed(pytestconfig: pytest.Config) -> None:
    folder = installed_package(Path(__file__).parents[1] / "oidc_provider", pytestconfig.rootpath)
    command = [program("node"), str(folder / "provider.js")]
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
        assert await answer_to(provider, Signer("second EdDSA").token(iss=issuer)) == "401"
