"""The issuer that takes the place of an identity provider in tests."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import freezegun
import httpx2
import jwt
import pytest
import time_machine

from litestar import get
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundException, KeyProvider, OpenIDProvider, UnverifiedToken
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS
from litestar.security.jwt.testing import LocalIssuer

from .backends import backend, client_of, on_both_libraries, provide, whoami

NOW = 1_700_000_000
JWKS = "/.well-known/jwks.json"
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
EXAMPLE = "https://me.example"


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer(algorithm="ES256") as issuer:
        yield issuer


def connect(issuer: LocalIssuer) -> HTTPConnection:
    """Open a connection, which goes past any proxy."""
    connection = HTTPConnection(urlsplit(issuer.jwks_url).netloc, timeout=20)
    connection.connect()
    return connection


def ask(connection: HTTPConnection, path: str = JWKS, method: str = "GET") -> tuple[int, Any, bytes]:
    connection.request(method, path)
    response = connection.getresponse()
    return response.status, response.headers, response.read()


def get_json(issuer: LocalIssuer, path: str = JWKS) -> Any:
    with closing(connect(issuer)) as connection:
        return json.loads(ask(connection, path)[2])


def kids(issuer: LocalIssuer) -> list[str]:
    return [key["kid"] for key in issuer.jwks["keys"]]


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def is_gone(issuer: LocalIssuer) -> bool:
    try:
        connect(issuer).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
def test_tokens_of_every_algorithm_verify(algorithm: str) -> None:
    with LocalIssuer(algorithm=algorithm) as issuer:
        (jwk,) = get_json(issuer)["keys"]
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
        ({"exp": 1, "iat": None}, {"exp": 1, "iat": None}),
        ({"iss": "https://other.example"}, {"iss": "https://other.example"}),
        ({"aud": ["a", "b"], "tid": "t1"}, {"aud": ["a", "b"], "tid": "t1"}),
    ],
)
def test_claims_can_be_added_replaced_and_removed(arguments: dict[str, Any], changes: dict[str, Any]) -> None:
    issuer = LocalIssuer(algorithm="ES256", audience="api", issuer=EXAMPLE)
    expected = {"iss": EXAMPLE, "sub": "user", "aud": "api", "iat": NOW, "exp": NOW + 3600, **changes}
    with time_machine.travel(NOW, tick=False):
        token = issuer.token(**arguments)
    assert claims_of(token) == {name: value for name, value in expected.items() if value is not None}


def test_header_parameters_can_be_added_replaced_and_removed() -> None:
    issuer = LocalIssuer()
    changes: list[dict[str, Any]] = [
        {"typ": None, "kid": None, "x": None},
        {"kid": "a", "y": 1},
        {"alg": "PS256", "typ": "x"},
    ]
    for headers in changes:
        expected = {"alg": "RS256", "kid": kids(issuer)[0], "typ": "JWT", **headers}
        header = jwt.get_unverified_header(issuer.token(headers=headers))
        assert header == {name: value for name, value in expected.items() if value is not None}


def test_auth_header_holds_a_token() -> None:
    issuer = LocalIssuer(algorithm="EdDSA")  # which signs the same way each time
    options: dict[str, Any] = {"scopes": ["read"], "headers": {"typ": "at+jwt"}, "tid": "t1"}
    with time_machine.travel(NOW, tick=False):
        assert issuer.auth_header("alice", **options) == {"Authorization": f"Bearer {issuer.token('alice', **options)}"}


def test_rotation_keeps_the_previous_key(issuer: LocalIssuer) -> None:
    provider, (first,), old = issuer.key_provider, kids(issuer), UnverifiedToken(issuer.token())
    assert isinstance(provider, KeyProvider)
    second = issuer.rotate()
    assert [key["kid"] for key in get_json(issuer)["keys"]] == kids(issuer) == [first, second]
    assert jwt.get_unverified_header(issuer.token())["kid"] == second
    nameless = UnverifiedToken(issuer.token(headers={"kid": None}))
    assert [len(provider(token).keys) for token in (old, UnverifiedToken(issuer.token()), nameless)] == [1, 1, 2]
    third = issuer.rotate()
    assert [key["kid"] for key in get_json(issuer)["keys"]] == kids(issuer) == [second, third]
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


@pytest.mark.parametrize("kind", ["LocalIssuer", "OpenIDProvider"])
def test_key_of_one_issuer_does_not_verify_tokens_in_the_name_of_another(kind: str) -> None:
    with LocalIssuer() as a, LocalIssuer() as b:
        providers: list[Any] = [a.key_provider, b.key_provider]
        if kind == "OpenIDProvider":
            providers = [OpenIDProvider(a.issuer), OpenIDProvider(b.issuer)]
        of_other = get("/b", dependencies={"key_provider": provide(providers[1])})(whoami.fn)
        with client_of(backend(providers[0], accepted_issuers=[a.issuer, b.issuer]), of_other) as client:
            for path, mine, other in (("/", a, b), ("/b", b, a)):
                sent = [issuer.auth_header(iss=name.issuer) for issuer in (mine, other) for name in (mine, other)]
                assert [client.get(path, headers=headers).status_code for headers in sent] == [200, 401, 401, 401]


def test_url_is_the_same_before_while_and_after_the_server_runs() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    url, tokens = issuer.issuer, [issuer.token()]
    assert is_gone(issuer)
    for _ in range(3):
        with issuer as entered:
            assert entered is issuer
            assert get_json(issuer) == issuer.jwks
            connection = connect(issuer)
            assert ask(connection)[0] == 200
            tokens.append(issuer.token())
        assert is_gone(issuer)
        with closing(connection):
            assert connection.sock.recv(1) == b""
        tokens.append(issuer.token())
    assert {issuer.issuer, *(claims_of(token)["iss"] for token in tokens)} == {url}
    assert issuer.jwks_url == url + JWKS
    assert urlsplit(url).hostname == "127.0.0.1"


def test_contexts_can_be_nested(issuer: LocalIssuer) -> None:
    with issuer, LocalIssuer(algorithm="ES256") as other:
        assert get_json(other) == other.jwks != issuer.jwks
    assert get_json(issuer) == issuer.jwks
    assert is_gone(other)


@pytest.mark.parametrize("name", [None, EXAMPLE])
def test_discovery_documents_lead_to_the_keys(name: str | None) -> None:
    with LocalIssuer(algorithm="ES256", issuer=name) as issuer:
        document = get_json(issuer, OPENID)
        assert document == get_json(issuer, OAUTH)
    assert name in {None, issuer.issuer}
    assert document["issuer"] == claims_of(issuer.token())["iss"] == issuer.issuer
    assert document["jwks_uri"] == issuer.jwks_url
    assert document["id_token_signing_alg_values_supported"] == ["ES256"]
    # OpenID Connect Discovery 1.0, section 3, requires these.
    assert document.keys() >= {"authorization_endpoint", "response_types_supported", "subject_types_supported"}


def test_one_connection_answers_get_and_head_and_blocks_no_other(issuer: LocalIssuer) -> None:
    paths = {JWKS: 200, JWKS + "?p=policy": 200, OPENID: 200, OAUTH: 200, "/": 404, JWKS + "/": 404}
    with closing(connect(issuer)) as connection, closing(connect(issuer)) as slow:
        slow.sock.sendall(b"GET ")
        first_socket = connection.sock
        for path, status in paths.items():
            answers = [ask(connection, path, method) for method in ("GET", "HEAD")]
            body = answers[0][2]
            assert [answer[2] for answer in answers] == [body, b""]
            for answered, headers, _ in answers:
                assert (answered, headers["Content-Length"]) == (status, str(len(body)))
                assert headers["Content-Type"] == "application/json"
        assert connection.sock is first_socket


def wait_for_handlers() -> None:
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:
            thread.join(20)
            assert not thread.is_alive()


def test_requests_and_lost_connections_print_nothing(issuer: LocalIssuer, capfd: pytest.CaptureFixture[str]) -> None:
    connection = connect(issuer)
    assert ask(connection)[0] == 200
    # The connection is reset when a socket that does not linger closes.
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    wait_for_handlers()
    assert capfd.readouterr() == ("", "")


def test_mistake_in_a_subclass_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    class Mistaken(LocalIssuer):
        @property
        def jwks(self) -> dict[str, Any]:
            raise LookupError("a mistake")

    with Mistaken(algorithm="ES256") as issuer, pytest.raises(ConnectionError):
        get_json(issuer)
    wait_for_handlers()
    assert "LookupError: a mistake" in capfd.readouterr().err


@pytest.mark.parametrize("moment", [datetime(1985, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)])
@pytest.mark.parametrize("travel", [time_machine.travel, freezegun.freeze_time])
def test_tokens_have_the_date_of_the_test(travel: Any, moment: datetime) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with travel(moment), issuer:
        (jwk,) = get_json(issuer)["keys"]
        claims = jwt.decode(issuer.token(), jwt.PyJWK(jwk))
        with pytest.raises(jwt.ExpiredSignatureError):
            jwt.decode(issuer.token(expires_in=-5), jwt.PyJWK(jwk))
    assert 0 <= claims["iat"] - moment.timestamp() < 3600
    assert claims["exp"] == claims["iat"] + 3600


@on_both_libraries
async def test_server_answers_in_async_tests() -> None:
    async with httpx2.AsyncClient(trust_env=False) as client:
        with LocalIssuer(algorithm="ES256") as issuer:
            assert (await client.get(issuer.jwks_url)).json() == issuer.jwks


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
