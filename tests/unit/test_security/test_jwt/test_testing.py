"""The issuer that takes the place of an identity provider in tests and in development."""

from __future__ import annotations

import logging
import os
import re
import runpy
import shlex
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, UnknownIssuerException
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.testing.__main__ import main
from litestar.testing import TestClient

from .backends import app_of, backend, client_of, on_both_libraries, statuses

NOW = 1_700_000_000
JWKS = "/.well-known/jwks.json"
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
EXAMPLE = "https://me.example"
COMMAND = [sys.executable, "-m", "litestar.security.jwt.testing"]


def get_jwks(issuer: LocalIssuer) -> Any:
    return httpx2.get(issuer.jwks_url, trust_env=False).json()


def kids(issuer: LocalIssuer) -> list[str]:
    return [key["kid"] for key in issuer.jwks["keys"]]


def connect(url: str) -> HTTPConnection:
    """Open a connection, which goes past any proxy."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.connect()
    return connection


@pytest.mark.parametrize("algorithm", ASYMMETRIC_ALGORITHMS)
def test_tokens_of_every_algorithm_verify(algorithm: str) -> None:
    with LocalIssuer(algorithm=algorithm) as issuer:
        (jwk,) = get_jwks(issuer)["keys"]
        token = issuer.token("alice")
        assert statuses(backend(issuer.key_provider, key_algorithms=algorithm), token) == [200]
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": jwk["kid"], "typ": "JWT"}
    assert statuses(backend(jwk), token) == [200]
    assert (jwk["use"], jwk["alg"]) == ("sig", algorithm)
    assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & jwk.keys()


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1", None, 1])
def test_other_algorithms_are_refused(algorithm: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=r"'algorithm' .* Use one of RS256, "):
        LocalIssuer(algorithm=algorithm)


OTHER_CLAIMS: dict[str, Any] = {"iss": "https://b.test", "exp": 1, "iat": None, "aud": ["a", "b"], "tid": "t1"}


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        pytest.param({}, {}, id="default"),
        pytest.param({"sub": None}, {"sub": None}, id="no-sub"),
        pytest.param({"scopes": ["read", "write"]}, {"scope": "read write"}, id="scopes"),
        pytest.param({"scopes": "read"}, {"scope": "read"}, id="one-scope"),
        pytest.param({"scope": "read write"}, {"scope": "read write"}, id="scope"),
        pytest.param({"expires_in": 60.5}, {"exp": NOW + 60}, id="fraction"),
        pytest.param({"expires_in": timedelta(minutes=2)}, {"exp": NOW + 120}, id="timedelta"),
        pytest.param({"expires_in": -1}, {"exp": NOW - 1}, id="expired"),
        pytest.param(OTHER_CLAIMS, OTHER_CLAIMS, id="claims"),
        pytest.param({"headers": {"typ": None, "kid": None, "x": None}}, {}, id="no-headers"),
        pytest.param({"headers": {"typ": None, "kid": "a", "y": 1}}, {}, id="other-headers"),
        pytest.param({"headers": {"alg": "RS512", "typ": "x"}}, {}, id="other-algorithm"),
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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        pytest.param("scops", "scopes", id="letter-left-out"),
        pytest.param("expires", "expires_in", id="shorter"),
        pytest.param("expire_in", "expires_in", id="no-plural"),
        pytest.param("header", "headers", id="singular"),
        pytest.param("audience", "aud", id="parameter-of-the-issuer"),
        pytest.param("issuer", "iss", id="attribute-of-the-issuer"),
        pytest.param("subject", "sub", id="name-of-the-claim-in-words"),
    ],
)
def test_mistyped_parameter_does_not_become_a_claim(name: str, meant: str) -> None:
    with pytest.raises(TypeError, match=f"'{name}'. Did you mean '{meant}'"):
        LocalIssuer(algorithm="ES256").auth_header(**{name: "read"})


@pytest.mark.parametrize("name", ["scp", "roles", "groups", "sid", "email", "exp", "https://me.example/scopes", "tid"])
def test_usual_claims_are_not_taken_for_mistyped_parameters(name: str) -> None:
    claims: dict[str, Any] = {name: "a"}
    token = LocalIssuer(algorithm="ES256").token(**claims)
    assert UnverifiedToken(token).claims[name] == "a"


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


def test_first_rotation_comes_after_a_first_key() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    second = issuer.rotate()
    assert kids(issuer)[1:] == [second]


def test_issuers_never_share_a_key() -> None:
    issuers = [LocalIssuer(issuer=EXAMPLE) for _ in range(3)]
    token, seen = issuers[0].token(), {kid for issuer in issuers for kid in (*kids(issuer), issuer.rotate())}
    assert len(seen) == 6
    del issuers
    for _ in range(6):  # a token of an issuer that is gone is a forgery
        issuer = LocalIssuer(issuer=EXAMPLE)
        assert statuses(backend(issuer.key_provider), token, issuer.token()) == [401, 200]


def test_threads_that_come_first_get_the_same_key() -> None:
    issuer, barrier, tokens = LocalIssuer(), threading.Barrier(4), list[str]()

    def sign() -> None:
        barrier.wait()
        tokens.append(issuer.token())

    threads = [threading.Thread(target=sign) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {UnverifiedToken(token).kid for token in tokens} == {*kids(issuer)}
    assert len(tokens) == 4


@pytest.mark.parametrize("iss", [None, "", "https://other.example", EXAMPLE + "/", EXAMPLE.upper()])
def test_key_provider_refuses_another_issuer(iss: str | None) -> None:
    issuer = LocalIssuer(algorithm="ES256", issuer=EXAMPLE)
    with pytest.raises(UnknownIssuerException) as raised:
        issuer.key_provider(UnverifiedToken(issuer.token(iss=iss)))
    assert raised.value.expected == issuer.key_provider.issuers == (EXAMPLE,)


def test_repr_says_that_it_is_for_tests() -> None:
    named, unbound = LocalIssuer(issuer=EXAMPLE, algorithm="ES256"), LocalIssuer()
    assert repr(named) == f"<LocalIssuer {EXAMPLE}, which signs ES256 tokens for tests and development>"
    assert repr(unbound) == "<LocalIssuer, which signs RS256 tokens for tests and development>"
    assert unbound.issuer in repr(unbound.key_provider)


@pytest.mark.parametrize(("debug", "count"), [(False, 1), (True, 0)])
def test_application_that_trusts_it_is_warned(debug: bool, count: int, records: list[logging.LogRecord]) -> None:
    issuer = LocalIssuer(issuer=EXAMPLE)
    app = app_of([backend(issuer.key_provider)], debug=debug)
    with TestClient(app) as client:
        assert [client.get("/", headers=issuer.auth_header()).status_code for _ in range(2)] == [200, 200]
    message = f"This application trusts {issuer!r}. Do not use it in production"
    assert [(record.levelname, record.getMessage()) for record in records] == [("WARNING", message)] * count


def test_url_is_the_same_before_while_and_after_the_server_runs() -> None:
    issuer, other = LocalIssuer(algorithm="ES256"), LocalIssuer(algorithm="ES256")
    url, tokens = issuer.issuer, [issuer.token()]
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(url)
        with issuer as entered:
            assert entered is issuer
            with issuer, other:
                assert get_jwks(other) == other.jwks != issuer.jwks
            assert get_jwks(issuer) == issuer.jwks
            connection = connect(url)
            connection.request("GET", JWKS)
            assert connection.getresponse().read()
            tokens.append(issuer.token())
        with closing(connection):
            assert connection.sock.recv(1) == b""
        tokens.append(issuer.token())
    with pytest.raises(ConnectionRefusedError):
        connect(url)
    assert {issuer.issuer, *(UnverifiedToken(token).issuer for token in tokens)} == {url}
    assert issuer.jwks_url == url + JWKS
    assert urlsplit(url).hostname == "127.0.0.1"


def test_port_can_be_chosen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="use"):
            LocalIssuer(port=port).__enter__()
    with LocalIssuer(port=port) as issuer:
        assert issuer.issuer == f"http://127.0.0.1:{port}"
        assert get_jwks(issuer) == issuer.jwks


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
    with (
        LocalIssuer() as issuer,
        closing(connect(issuer.issuer)) as slow,
        closing(connect(issuer.issuer)) as connection,
    ):
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
        with closing(connect(issuer.issuer)) as connection:
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


@contextmanager
def running(*arguments: str, stop: int = signal.SIGTERM) -> Iterator[str]:
    """Run the development issuer, and return what it prints. A signal must end it without an error."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("curl "):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        yield "".join(lines)
        process.send_signal(stop)
        assert (process.wait(20), process.stderr.read()) == (0, "")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_development_issuer_gives_what_a_first_200_needs(stop: int) -> None:
    with running(
        "--port", "0", "--audience", "an-api", "--scope", "read write", "--expires-in", "60", stop=stop
    ) as out:
        (call,) = re.findall(r'key_provider=OpenIDProvider\("(.+)"\), accepted_audiences=\["an-api"\]', out)
        curl = shlex.split(out[out.index("\ncurl ") :])
        header, token = curl[2], curl[2].rpartition(" ")[2]
        assert curl == ["curl", "-H", f"Authorization: Bearer {token}", "http://127.0.0.1:8000/"]
        assert f"\n\n{token}\n" in out
        document = httpx2.get(f"{call}{OPENID}", trust_env=False).json()
        (jwk,) = httpx2.get(document["jwks_uri"], trust_env=False).json()["keys"]
    claims = UnverifiedToken(token).claims
    assert claims["exp"] - claims["iat"] == 60
    expected = {"sub": "user", "scope": "read write", "iss": document["issuer"], "aud": "an-api"}
    assert claims.items() >= expected.items()
    with client_of(backend(jwk, accepted_audiences="an-api", accepted_issuers=call)) as client:
        assert client.get("/", headers=dict([header.split(": ")])).text == "user"


def test_development_issuer_stops_listening_at_a_signal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", handlers.setdefault)  # only the main thread can set them
    thread = threading.Thread(target=main, args=(["--port", "0", "--host", "localhost"],))
    thread.start()
    printed = ""
    while "curl" not in printed:
        time.sleep(0.01)
        printed += capfd.readouterr().out
    url = printed.split('"')[1]
    connect(url).close()
    handlers[signal.SIGTERM](signal.SIGTERM, None)
    thread.join(20)
    assert not thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        connect(url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--host", "0.0.0.0"], "listens on 127.0.0.1 only", id="all-interfaces"),
        pytest.param(["--host", "example.com"], "listens on 127.0.0.1 only", id="other-interface"),
        pytest.param(["--port", "70000"], "cannot listen on port 70000", id="port-out-of-range"),
        pytest.param(["--port", "x"], "invalid int value", id="port-no-number"),
    ],
)
def test_development_issuer_listens_on_loopback_or_not_at_all(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module = main.__module__
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "argv", ["testing", *arguments])
    with pytest.raises(SystemExit) as raised:
        runpy.run_module(module, run_name="__main__")
    assert raised.value.code == 2
    assert message in capfd.readouterr().err
