"""What else verifies tokens, in Python and in Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey
from jwt.utils import base64url_decode
from measure import Turns, in_turn

from litestar.security.jwt.testing import LocalIssuer

HERE = Path(__file__).parent
RAW = "cryptography, the signature alone"


def python_peers(issuer: LocalIssuer, tokens: list[str]) -> dict[str, Callable[[], object]]:
    """Make functions that verify the next token with RS256, each with a peer."""
    public: Any = jwt.PyJWK(issuer.jwks["keys"][-1]).key
    joserfc_key = RSAKey.import_key(issuer.jwks["keys"][-1])
    audience = joserfc_jwt.JWTClaimsRegistry(aud={"essential": True, "value": "api"})
    client = jwt.PyJWKClient(issuer.jwks_url)

    def raw(signed: tuple[bytes, bytes]) -> None:
        public.verify(*signed, padding.PKCS1v15(), hashes.SHA256())

    def joserfc(token: str) -> None:
        audience.validate(joserfc_jwt.decode(token, joserfc_key, algorithms=["RS256"]).claims)

    def with_client(token: str) -> None:
        jwt.decode(token, client.get_signing_key_from_jwt(token), algorithms=["RS256"], audience="api")

    return {
        RAW: in_turn(raw, cycle([_signed(token) for token in tokens])),
        "joserfc": in_turn(joserfc, cycle(tokens)),
        "jwt.decode with the key of a PyJWKClient": in_turn(with_client, cycle(tokens)),
    }


def _signed(token: str) -> tuple[bytes, bytes]:
    """Return the signature of a token, and what it signs."""
    signing_input, _, signature = token.rpartition(".")
    return base64url_decode(signature), signing_input.encode()


def node_peers(directory: Path, issuer: LocalIssuer, tokens: list[str], turns: Turns) -> dict[str, float]:
    """Verify tokens with packages for Node, with RS256, and return the best times in microseconds for a token.

    Args:
        directory: Where the packages are installed.
        issuer: Who has made the tokens.
        tokens: What to verify.
        turns: How many to verify with each.
    """
    given = {"tokens": tokens, "jwks": issuer.jwks, "algorithm": "RS256", "audience": "api"}
    # Given like this, the code finds what is installed in the working directory.
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", (HERE / "peers.js").read_text()],
        cwd=directory,
        input=json.dumps(given | turns._asdict()),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    times: dict[str, float] = json.loads(done.stdout)
    return times
