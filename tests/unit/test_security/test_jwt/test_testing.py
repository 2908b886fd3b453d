"""The issuer that takes the place of an identity provider in tests."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urljoin, urlsplit

import freezegun
import httpx2
import jwt
import pytest
import time_machine

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundException, KeyProvider, UnverifiedToken
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS
from litestar.security.jwt.testing import LocalIssuer

from .backends import on_both_libraries

NOW = 1_700_000_000
JWKS = "/.well-known/jwks.json"
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
EXAMPLE = "https://me.example"


def get_jwks(issuer: LocalIssuer) -> Any:
    return httpx2.get(issuer.jwks_url, trust_env=False).json()


def kids(issuer: LocalIssuer) -> list[str]:
    return [key["kid"] for key in issuer.jwks["keys"]]


def connect(issuer: LocalIssuer) -> HTTPConnection:
    """Open a connection, which goes past any proxy."""
    connection = HTTPConnection(urlsplit(issuer.jwks_url).netloc, timeout=20)
    connection.connect()
    return connection


@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
def test_tokens_of_every_algorithm_verify(algorithm: str) -> None:
    with LocalIssuer(algorithm=algorithm) as issuer:
        (jwk,) = get_jwks(issuer)["keys"]
        token = issuer.token("alice")
        (key,) = issuer.key_provider(UnverifiedToken(token)).keys
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": jwk["kid"], "typ": "JWT"}
    for fitting in (key, jwt.PyJWK(jwk)):
        assert jwt.decode(token, fitting, [algorithm], issuer=issuer.issuer)["sub"] == "alice"
    assert (jwk["use"], jwk["alg"]) == ("sig", algorithm)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & jwk.keys()


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1", None, 1])
def test_other_algorithms_are_refused(algorithm: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"'algorithm' .* Use one of RS256, "):
        LocalIssuer(algorithm=algorithm)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ({}, {}),
        ({"sub": None}, {"sub": None}),
        ({"scopes": ["read", "write"]}, {"scope": "read write"}),
        ({"expires_in": 60.5}, {"exp": NOW + 60}),
        ({"expires_in": timedelta(minutes=2)}, {"exp": NOW + 120}),
        ({"expires_in": -1}, {"exp": NOW - 1}),
        (given := {"iss": "https://other.example", "exp": 1, "iat": None, "aud": ["a", "b"], "tid": "t1"}, given),
        *(({"headers": {"typ": None, **more}}, {}) for more in ({"kid": None, "x": None}, {"kid": "a", "y": 1})),
        ({"headers": {"alg": "RS512", "typ": "x"}}, {}),
    ],
)
def test_claims_and_headers_can_be_added_replaced_and_removed(arguments: Any, changes: dict[str, Any]) -> None:
    issuer = LocalIssuer(audience="api", issuer=EXAMPLE)  # RS256 signs the same way each time
    claims = {"iss": EXAMPLE, "sub": "user", "aud": "api", "iat": NOW, "exp": NOW + 3600, **changes}
    header = {"alg": "RS256", "kid": kids(issuer)[0], "typ": "JWT", **arguments.get("headers", {})}
    with time_machine.travel(NOW, tick=False):
        token = issuer.token(**arguments)
        assert issuer.auth_header(**arguments) == {"Authorization": f"Bearer {token}"}
    decoded = UnverifiedToken(token)
    assert decoded.claims == {name: value for name, value in claims.items() if value is not None}
    assert decoded.header == {name: value for name, value in header.items() if value is not None}


def test_rotation_keeps_the_previous_key() -> None:
    with LocalIssuer(algorithm="ES256") as issuer:
        provider, (first,), old = issuer.key_provider, kids(issuer), UnverifiedToken(issuer.token())
        assert isinstance(provider, KeyProvider)
        second = issuer.rotate()
        assert [key["kid"] for key in get_jwks(issuer)["keys"]] == kids(issuer) == [first, second]
        assert UnverifiedToken(issuer.token()).kid == second
        nameless = UnverifiedToken(issuer.token(headers={"kid": None}))
        assert [len(provider(token).keys) for token in (old, UnverifiedToken(issuer.token()), nameless)] == [1, 1, 2]
        third = issuer.rotate()
        assert [key["kid"] for key in get_jwks(issuer)["keys"]] == kids(issuer) == [second, third]
    with pytest.raises(KeyNotFoundException):
        provider(old)


def test_issuers_never_share_a_key() -> None:
    one, other = LocalIssuer(), LocalIssuer()
    assert len({*kids(one), *kids(other), one.rotate(), other.rotate()}) == 4
    seen = [kids(LocalIssuer())[0] for _ in range(10)]  # the token of a dropped issuer is a forgery for the next ones
    assert all(kid not in seen[position + 1 : position + 5] for position, kid in enumerate(seen))


def test_key_provider_refuses_another_issuer() -> None:
    issuer = LocalIssuer(algorithm="ES256", issuer=EXAMPLE)
    for iss in (None, "", "https://other.example", EXAMPLE + "/", EXAMPLE.upper()):
        with pytest.raises(KeyNotFoundException) as raised:
            issuer.key_provider(UnverifiedToken(issuer.token(iss=iss)))
        assert isinstance(raised.value.__cause__, jwt.InvalidIssuerError)


def test_url_is_the_same_before_while_and_after_the_server_runs() -> None:
    issuer, other = LocalIssuer(algorithm="ES256"), LocalIssuer(algorithm="ES256")
    url, tokens = issuer.issuer, [issuer.token()]
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(issuer)
        with issuer as entered:
            assert entered is issuer
            with issuer, other:
                assert get_jwks(other) == other.jwks != issuer.jwks
            assert get_jwks(issuer) == issuer.jwks
            connection = connect(issuer)
            connection.request("GET", JWKS)
            assert connection.getresponse().read()
            tokens.append(issuer.token())
        with closing(connection):
            assert connection.sock.recv(1) == b""
        tokens.append(issuer.token())
    with pytest.raises(ConnectionRefusedError):
        connect(issuer)
    assert {issuer.issuer, *(UnverifiedToken(token).issuer for token in tokens)} == {url}
    assert issuer.jwks_url == url + JWKS
    assert urlsplit(url).hostname == "127.0.0.1"


@pytest.mark.parametrize("name", [None, EXAMPLE])
@on_both_libraries
async def test_discovery_documents_lead_to_the_keys(name: str | None) -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        with LocalIssuer(algorithm="ES256", issuer=name) as issuer:
            paths = (OPENID, OAUTH, JWKS)
            document, same, keys = [(await client.get(urljoin(issuer.jwks_url, path))).json() for path in paths]
    assert (document, keys) == (same, issuer.jwks)
    assert name in {None, issuer.issuer}
    assert document["issuer"] == UnverifiedToken(issuer.token()).issuer == issuer.issuer
    assert document["jwks_uri"] == issuer.jwks_url
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]
    # OpenID Connect Discovery 1.0, section 3, requires these.
    assert document.keys() >= {"authorization_endpoint", "response_types_supported", "subject_types_supported"}


def test_one_connection_answers_get_and_head_and_blocks_no_other() -> None:
    paths = {JWKS: 200, JWKS + "?p=policy": 200, OPENID: 200, OAUTH: 200, "/": 404, JWKS + "/": 404}
    with LocalIssuer() as issuer, closing(connect(issuer)) as slow, closing(connect(issuer)) as connection:
        slow.sock.sendall(b"GET ")
        first_socket = connection.sock
        for path, status in paths.items():
            bodies = []
            for method in ("GET", "HEAD"):
                connection.request(method, path)
                response = connection.getresponse()
                bodies.append(response.read())
                assert (response.status, response.headers["Content-Length"]) == (status, str(len(bodies[0])))
                assert response.headers["Content-Type"] == "application/json"
            assert bodies[0] and not bodies[1]
        assert connection.sock is first_socket


class Mistaken(LocalIssuer):
    @property
    def jwks(self) -> dict[str, Any]:
        raise LookupError("a mistake")


@pytest.mark.parametrize(("kind", "printed"), [(LocalIssuer, ""), (Mistaken, "LookupError: a mistake")])
def test_lost_connections_print_nothing_and_mistakes_of_a_subclass_are_printed(
    kind: type[LocalIssuer], printed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with kind(algorithm="ES256") as issuer:
        with closing(connect(issuer)) as connection:
            connection.request("GET", JWKS)
            assert connection.sock.recv(1) == (b"" if printed else b"H")
            # The connection is reset when a socket that does not linger closes.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for thread in threading.enumerate():
            if "process_request_thread" in thread.name:
                thread.join(20)
                assert not thread.is_alive()
    output = "".join(capfd.readouterr())
    assert printed in output if printed else not output


@pytest.mark.parametrize("moment", [datetime(1985, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("travel", [time_machine.travel, freezegun.freeze_time])
def test_tokens_have_the_date_of_the_test(travel: Any, moment: datetime) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with travel(moment), issuer:
        (jwk,) = get_jwks(issuer)["keys"]
        claims = jwt.decode(issuer.token(), jwt.PyJWK(jwk))
        with pytest.raises(jwt.ExpiredSignatureError):
            jwt.decode(issuer.token(expires_in=-5), jwt.PyJWK(jwk))
    assert 0 <= claims["iat"] - moment.timestamp() < 3600
    assert claims["exp"] == claims["iat"] + 3600


SCRIPT = """
import gc, http.client, json
from litestar.security.jwt.testing import LocalIssuer

with LocalIssuer() as issuer:
    connection = http.client.HTTPConnection(issuer.issuer.removeprefix("http://"))
    connection.request("GET", "/.well-known/jwks.json")
    assert json.load(connection.getresponse()) == issuer.jwks
    connection.close()
del issuer
gc.collect()
running, kept = LocalIssuer().__enter__(), LocalIssuer()
kept.token()
"""


def test_no_warning_in_the_development_mode_of_python() -> None:
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "default::DeprecationWarning", "-c", SCRIPT]
    result = subprocess.run(command, env={**os.environ, **proxies}, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
