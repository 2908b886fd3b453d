"""The way from discovery to a verified token with a certified OpenID provider, the npm package ``oidc-provider``."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request as HTTPRequest
from urllib.request import urlopen

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from litestar import Litestar
from litestar.security.jwt import JWTAuth, KeysUnavailableError, OpenIDProvider, Token
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import retrieve_user, whoami
from tests.unit.test_security.test_jwt.node_packages import installed_package, program
from tests.unit.test_security.test_jwt.remote import Clock

# One worker runs them all, so that the package is installed once.
pytestmark = pytest.mark.xdist_group("oidc_provider")

SOURCES = Path(__file__).parent / "oidc_provider"
API = "https://api.example"
ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
SECONDS = 30
OLDEST_NODE = 20


class CertifiedProvider:
    """A process that can be stopped, and started again on the same port."""

    def __init__(self, node: str, directory: Path) -> None:
        self._command = [node, str(directory / "provider.js")]
        self._process: subprocess.Popen[str] | None = None
        self._port = 0
        self.keys: list[dict[str, Any]] = []
        self.issuer = ""
        self.rotate()

    def rotate(self) -> None:
        """Make new keys, for the next start. One RSA key is for both of its algorithms."""
        self.keys = [
            private_jwk("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
            private_jwk("ES256", ec.generate_private_key(ec.SECP256R1())),
            private_jwk("EdDSA", Ed25519PrivateKey.generate()),
        ]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"port": self._port, "jwks": {"keys": self.keys}}) + "\n")
        self._process.stdin.flush()
        self.issuer = self._process.stdout.readline().strip()
        assert self.issuer, "The provider did not start"
        self._port = int(self.issuer.rpartition(":")[2])

    def stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.communicate(timeout=SECONDS)  # closes its input, which ends it

    def token(self, algorithm: str, api: str = API) -> str:
        """Get an access token by client credentials (RFC 6749, section 4.4) for a resource (RFC 8707)."""
        form = {"grant_type": "client_credentials", "scope": "read", "resource": f"{api}/{algorithm}"}
        credentials = b64encode(b"client:secret").decode()
        request = HTTPRequest(
            f"{self.issuer}/token", urlencode(form).encode(), headers={"Authorization": f"Basic {credentials}"}
        )
        with urlopen(request, timeout=SECONDS) as response:
            token: str = json.load(response)["access_token"]
        return token


def private_jwk(algorithm: str, key: Any) -> dict[str, Any]:
    jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"} | {"use": "sig"}


@pytest.fixture(scope="module")
def node() -> str:
    program("npm")
    node = program("node")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"oidc-provider needs Node {OLDEST_NODE}, this is {version}")
    return node


@pytest.fixture(scope="module")
def installed(node: str, pytestconfig: pytest.Config) -> Path:
    return installed_package(SOURCES, pytestconfig.rootpath)


@pytest.fixture
def certified(node: str, installed: Path) -> Iterator[CertifiedProvider]:
    provider = CertifiedProvider(node, installed)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(certified: CertifiedProvider, clock: Clock) -> OpenIDProvider:
    return OpenIDProvider(certified.issuer, clock=clock)


@pytest.fixture
def status_of(keys: OpenIDProvider) -> Iterator[Callable[[str], int]]:
    """Start an app, and return a function that tells how it answers to a token."""
    jwt_auth = JWTAuth[str, Token](
        retrieve_user_handler=retrieve_user,
        key_provider=keys,
        accepted_audiences=[API],
        accepted_types=["at+jwt"],
    )
    with TestClient(Litestar([whoami], on_app_init=[jwt_auth.on_app_init])) as client:
        yield lambda token: client.get("/", headers={"Authorization": f"Bearer {token}"}).status_code


def refresh(keys: OpenIDProvider) -> None:
    anyio.run(keys.refresh)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tokens_of_the_provider_are_verified(
    algorithm: str, certified: CertifiedProvider, status_of: Callable[[str], int]
) -> None:
    token = certified.token(algorithm)
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"]) == (algorithm, "at+jwt")
    assert status_of(token) == 200
    head, _, signature = token.split(".")
    other_payload = certified.token(algorithm).split(".")[1]
    assert status_of(f"{head}.{other_payload}.{signature}") == 401
    assert status_of(certified.token(algorithm, "https://other.example")) == 401


def test_discovery_finds_keys_and_algorithms(certified: CertifiedProvider, keys: OpenIDProvider) -> None:
    refresh(keys)
    status = keys.status()
    assert set(status.algorithms) == set(ALGORITHMS)
    assert status.keys is not None
    assert status.keys.url == f"{certified.issuer}/jwks"
    assert (len(status.keys.key_ids), status.keys.skipped) == (3, ())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_rotation_is_followed(
    algorithm: str, certified: CertifiedProvider, keys: OpenIDProvider, status_of: Callable[[str], int], clock: Clock
) -> None:
    before = certified.token(algorithm)
    assert status_of(before) == 200
    certified.stop()
    certified.rotate()
    certified.start()
    after = certified.token(algorithm)
    assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
    assert status_of(after) == 200
    assert status_of(before) == 200
    clock.advance(3601)
    refresh(keys)
    assert status_of(after) == 200
    assert status_of(before) == 401


def test_restart_goes_unnoticed(
    certified: CertifiedProvider, keys: OpenIDProvider, status_of: Callable[[str], int], clock: Clock
) -> None:
    token = certified.token("RS256")
    certified.stop()
    clock.advance(3600)
    with pytest.raises(KeysUnavailableError):
        refresh(keys)
    assert status_of(token) == 200
    certified.start()
    clock.advance(3600)
    refresh(keys)
    status = keys.status()
    assert (status.stale, status.last_error) == (False, None)
    assert status_of(token) == 200
    assert status_of(certified.token("ES256")) == 200


def test_application_that_was_started_first_waits_for_nobody(
    certified: CertifiedProvider, keys: OpenIDProvider, clock: Clock, request: pytest.FixtureRequest
) -> None:
    token = certified.token("RS256")
    certified.stop()
    status_of: Callable[[str], int] = request.getfixturevalue("status_of")
    assert status_of(token) == 503
    certified.start()
    clock.advance(31)
    assert status_of(token) == 200
