"""Keys of a certified OpenID provider: the npm package ``oidc-provider``."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar.security.jwt.key_providers.openid import OpenIDProvider
from litestar.security.jwt.keys import KeysUnavailableException
from tests.unit.test_security.test_jwt.node_packages import installed_package, program

from .issuer_server import RSA_KEY, Signer, answer_to, answers_at_once

# One worker of xdist runs them all, so that the package is installed once.
pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("oidc_provider")]

SOURCES = Path(__file__).parents[1] / "oidc_provider"
OLDEST_NODE = 20


class CertifiedProvider:
    """A process that can be stopped, and started again on the same port with other keys."""

    def __init__(self, node: str, directory: Path) -> None:
        self._command = [node, str(directory / "provider.js")]
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self._generation = 0
        self.issuer = ""

    def start(self, *, rotate: bool = False) -> None:
        self._generation += rotate
        kid = f"generation-{self._generation}"
        keys = [private_jwk(f"{kid}-rsa", "RS256", RSA_KEY), private_jwk(f"{kid}-ed", "EdDSA", ED_KEY)]
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"port": self._port, "jwks": {"keys": keys}}) + "\n")
        self._process.stdin.flush()
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer, "the provider did not start"
        self._port = int(self.issuer.rpartition(":")[2])

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate(timeout=30)  # the end of its input ends it

    def token(self, algorithm: str) -> str:
        """Get an access token by client credentials (RFC 6749, section 4.4) for a resource (RFC 8707)."""
        resource = f"https://api.example/{algorithm}"
        form = {"grant_type": "client_credentials", "scope": "read", "resource": resource}
        headers = {"Authorization": f"Basic {b64encode(b'client:secret').decode()}"}
        with urlopen(Request(f"{self.issuer}/token", urlencode(form).encode(), headers), timeout=30) as response:
            token: str = json.load(response)["access_token"]
        return token


ED_KEY = Ed25519PrivateKey.generate()


def private_jwk(kid: str, algorithm: str, key: Any) -> dict[str, Any]:
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"} | {"use": "sig", "kid": kid}


@pytest.fixture(scope="module")
def certified_provider(pytestconfig: pytest.Config) -> CertifiedProvider:
    program("npm")
    node = program("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"oidc-provider needs Node {OLDEST_NODE}, this is {version}")
    return CertifiedProvider(node, installed_package(SOURCES, pytestconfig.rootpath))


@pytest.fixture
def certified(certified_provider: CertifiedProvider) -> Iterator[CertifiedProvider]:
    certified_provider.start()
    try:
        yield certified_provider
    finally:
        certified_provider.stop()


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
async def test_tokens_are_verified_and_rotation_is_followed(certified: CertifiedProvider, algorithm: str) -> None:
    provider = OpenIDProvider(certified.issuer, timeout=30)
    before = certified.token(algorithm)
    assert await answer_to(provider, before) == "200"
    assert provider.status().skipped == ()
    certified.stop()
    certified.start(rotate=True)
    after = certified.token(algorithm)
    assert await answer_to(provider, after) == "200"
    assert answers_at_once(provider, before)
    assert await answer_to(provider, Signer(provider.status().key_ids[0]).token(iss=certified.issuer)) == "401"


async def test_restart_goes_unnoticed(certified: CertifiedProvider) -> None:
    provider = OpenIDProvider(certified.issuer, timeout=30)
    token = certified.token("RS256")
    assert await answer_to(provider, token) == "200"
    certified.stop()
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert answers_at_once(provider, token)
    certified.start()
    await provider.refresh()
    assert provider.status().last_error is None
    assert answers_at_once(provider, certified.token("EdDSA"))
