"""What one request to an issuer may come to, and what it is made with."""

from __future__ import annotations

import gc
import json
import re
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import anyio
import httpx
import httpx2
import pytest
from anyio.to_thread import current_default_thread_limiter

from litestar.exceptions import MissingDependencyException
from litestar.security.jwt import KeysUnavailableException, RemoteJWKSet
from litestar.security.jwt.key_providers.fetch import is_loopback
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .authority import Authority
from .event_loops import without_waiting
from .issuer_server import STRANGER, Answer, Clock, Issuer, bogus, jwks_of
from .lookups import APP, Log, answer_to, answers_at_once, lines_of


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 400}, ": status 400$"),
        ({"status": 500}, ": status 500$"),
        ({"status": 204, "document": b""}, ": status 204$"),
        ({"status": 300}, ": status 300, and redirects are not followed$"),
        ({"status": 399, "headers": {"Location": "/elsewhere"}}, ": status 399, and redirects are not followed$"),
        ({"headers": {"Content-Encoding": "gzip"}}, "compressed"),
        ({"headers": {"Content-Length": "10000"}}, "Error"),
        ({"document": b" " * (512 * 1024 + 1)}, "524,288"),
        ({"document": b"<html>"}, "not JSON"),
        ({"document": b"[" * 100_000}, "not JSON"),
        ({"document": b"\xff"}, "not JSON"),
        ({"document": []}, "not a JWK Set"),
        ({"document": {"keys": {}}}, "not a JWK Set"),
        ({"document": {"keys": []}}, "no usable key"),
        ({"document": {"keys": [1, {"kid": "enc", "kty": "oct"}]}}, "'enc': unsupported 'kty'"),
        ({"document": {"keys": [1] * 1001}}, "more than 1,000 keys"),
        ({"status": 403}, "User-Agent"),
        ({"document": {}}, "Has the provider a signing key"),
        ({"document": {"jwks_uri": ""}}, "Use OpenIDProvider with the issuer"),
        (
            {"document": {"keys": [{"kid": "bad", "kty": "RSA", "n": "AQAB", "e": "AQAB"}]}},
            "'bad': invalid key material .e must be",
        ),
        (
            {"document": {"keys": [{"kid": "bad", "kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}]}},
            "'bad': .*32 bytes",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
@on_both_libraries
async def test_bad_answer_never_replaces_good_keys(issuer: Issuer, clock: Clock, fault: Any, reason: str) -> None:
    good, token = issuer.jwks, issuer.token()
    provider = RemoteJWKSet(issuer.url, timeout=30)
    assert provider.status().last_error is None
    issuer.answers["/jwks"] = bad = replace(good, **fault)
    assert await answer_to(provider, token) == "503"
    assert re.search(reason, str(provider.status().last_error))
    assert (provider.status().usable, provider.status().fetched_at) == (False, None)
    issuer.answers["/jwks"] = good
    clock.shift(1)
    assert await answer_to(provider, token) == "200"
    issuer.answers["/jwks"] = bad
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert answers_at_once(provider, token)
    assert (provider.status().usable, provider.status().failures) == (True, 2)


@pytest.mark.parametrize(
    ("options", "chunk_size", "seconds", "error"),
    [({}, 0, 5, " 5 s"), ({"timeout": 0.1}, 0, 0.1, " 0.1 s"), ({}, 512 * 1024, 0.06, "524,288")],
)
@without_waiting
async def test_answer_that_never_ends_is_left_when_it_is_late_or_too_large(
    options: Any, chunk_size: int, seconds: float, error: str
) -> None:
    async def content() -> AsyncIterator[bytes]:
        while True:
            yield json.dumps(jwks_of(STRANGER)).encode().ljust(chunk_size)
            await anyio.sleep(0.06)

    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=content()))
    async with httpx2.AsyncClient(transport=transport) as client:
        provider = RemoteJWKSet("https://issuer.test/keys", client=client, **options)
        started_at = anyio.current_time()
        assert await answer_to(provider, STRANGER.token()) == "503"
        assert anyio.current_time() - started_at == pytest.approx(seconds)
    assert error in str(provider.status().last_error)


@on_both_libraries
async def test_server_that_never_speaks_tls_is_left_in_time(issuer: Issuer) -> None:
    # On a busy machine, the deadline of the fetch may come before the client's own, which ends connections properly.
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # what other tests have left
    for timeout in (0.5, 5, 30):
        with warnings.catch_warnings(record=True, action="always") as caught:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                provider = RemoteJWKSet(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=timeout)
                started_at = anyio.current_time()
                assert await answer_to(provider, issuer.token()) == "503"
                assert anyio.current_time() - started_at > timeout / 2
            gc.collect()
        if "ConnectTimeout" in str(provider.status().last_error):
            assert [str(w.message) for w in caught if w.category is ResourceWarning] == []
            return
    pytest.fail("the client never comes first")


@on_both_libraries
async def test_secrets_of_a_url_are_shown_nowhere(issuer: Issuer, records: Log) -> None:
    issuer.stop()
    provider = RemoteJWKSet(f"{issuer.url}?code=secret", timeout=30)
    assert await answer_to(provider, issuer.token()) == "503"
    assert "ConnectError" in str(provider.status().last_error)
    (line,) = lines_of(records)
    assert "secret" not in f"{provider.status()}{provider!r}{line}"


@pytest.mark.parametrize("used", ["httpx2", "httpx"])
@on_both_libraries
async def test_httpx2_is_preferred_and_sends_what_a_function_gets(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, used: str
) -> None:
    if used == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    headers = {"X-A": "b", "Accept-Encoding": "br"}
    expected = {"x-a": "b", "accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
    expected["user-agent"] = "Litestar"
    await RemoteJWKSet(issuer.url, timeout=30, headers=headers).refresh()
    (sent,) = issuer.headers
    assert sent.items() >= expected.items()
    assert sent["cache-control"] == "no-cache"
    function = AsyncMock(spec=[], return_value=None)
    await answer_to(RemoteJWKSet(issuer.url, client=function, headers=headers), bogus())
    function.assert_awaited_once_with(issuer.url, expected)


def test_missing_library_is_told_at_construction(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("httpx", "httpx2"):
        RemoteJWKSet("https://issuer.example/keys")
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyException, match=r"litestar\[jwks\]"):
        RemoteJWKSet("https://issuer.example/keys")


@on_both_libraries
async def test_busy_threads_of_the_application_hold_up_no_fetch(issuer: Issuer) -> None:
    limiter = current_default_thread_limiter()
    limiter.total_tokens = 1
    async with limiter:
        assert await answer_to(RemoteJWKSet(issuer.url, timeout=10), issuer.token()) == "200"


@pytest.mark.parametrize("http", [httpx, httpx2])
@on_both_libraries
async def test_clients_of_the_application_are_used_and_not_closed(issuer: Issuer, http: Any) -> None:
    issuer.answers["/moved"] = Answer(status=302, headers={"Location": "/jwks"})
    async with http.AsyncClient(headers={"x-mine": "yes"}, follow_redirects=True) as client:
        for path, answer in (("/jwks", "200"), ("/moved", "503")):
            provider = RemoteJWKSet(issuer.issuer + path, timeout=30, client=client)
            async with provider.lifespan(APP):
                assert await answer_to(provider, issuer.token()) == answer
        assert not client.is_closed
    assert issuer.requests == ["/jwks", "/moved"]
    assert (issuer.headers[0]["x-mine"], issuer.headers[0]["accept-encoding"]) == ("yes", "identity")


@pytest.mark.parametrize("response", [None, Mock(status_code=200, headers={}, content=None), KeyError("?")])
@on_both_libraries
async def test_function_that_returns_nonsense_is_a_failed_fetch(response: Any) -> None:
    provider = RemoteJWKSet("https://issuer.test/keys", client=AsyncMock(spec=[], side_effect=[response]))
    assert await answer_to(provider, bogus()) == "503"
    assert "Error" in str(provider.status().last_error)


@on_both_libraries
async def test_loopback_is_reached_with_the_ca_file_and_without_the_proxy_of_the_environment(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer.speak_tls()
    (tmp_path / "ca.pem").write_bytes(issuer.authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await answer_to(RemoteJWKSet(issuer.url, timeout=30), issuer.token()) == "200"


@pytest.mark.parametrize("used", ["httpx2", "httpx"])
@on_both_libraries
async def test_proxy_and_ca_file_of_the_environment_are_used_and_a_renewed_file_is_read(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock, used: str
) -> None:
    if used == "httpx":
        monkeypatch.setitem(sys.modules, "httpx2", None)
    bundle, ca_file = tmp_path / "bundle.pem", tmp_path / "ca.pem"
    bundle.write_bytes(issuer.authority.pem)
    monkeypatch.setattr("certifi.where", lambda: str(bundle))  # the file of the environment takes its place
    ca_file.write_bytes(Authority().pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, issuer.issuer)
    url = "https://issuer.test/jwks"
    issuer.answers[url] = issuer.jwks
    provider = RemoteJWKSet(url, timeout=30)
    assert await answer_to(provider, issuer.token()) == "503"
    assert "ConnectError" in str(provider.status().last_error)
    ca_file.write_bytes(issuer.authority.pem)
    clock.shift(1)
    assert await answer_to(provider, issuer.token()) == "200"
    assert issuer.requests == [url]


@pytest.mark.parametrize(
    ("client_headers", "headers", "sent"),
    [
        pytest.param({}, {}, "Litestar", id="neither"),
        pytest.param({"user-agent": "mine"}, {}, "mine", id="client"),
        pytest.param({}, {"User-Agent": "other"}, "other", id="headers"),
    ],
)
@on_both_libraries
async def test_user_agent_is_not_the_default_of_the_client(
    issuer: Issuer, client_headers: Any, headers: Any, sent: str
) -> None:
    async with httpx.AsyncClient(headers=client_headers) as client:
        await RemoteJWKSet(issuer.url, timeout=30, client=client, headers=headers).refresh()
    assert issuer.headers[0]["user-agent"] == sent


@on_both_libraries
async def test_ca_file_that_is_not_there_is_named(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setenv("SSL_CERT_FILE", "/not/there.pem")
    monkeypatch.setattr(httpx2, "create_ssl_context", fail)
    provider = RemoteJWKSet(issuer.url, timeout=30)
    assert await answer_to(provider, issuer.token()) == "503"
    assert "'SSL_CERT_FILE': '/not/there.pem'" in str(provider.status().last_error)


@on_both_libraries
async def test_header_fields_and_credentials_in_errors_of_a_client_are_not_shown(records: Log) -> None:
    error = ValueError("x-key: hush at https://user:hush@issuer.test/?hush=hush")
    client = AsyncMock(spec=[], side_effect=error)
    provider = RemoteJWKSet("https://issuer.test/keys", client=client, headers={"x-key": "hush", "x-empty": ""})
    assert await answer_to(provider, bogus()) == "503"
    assert "ValueError" in str(provider.status().last_error)
    assert "hush" not in f"{provider.status()}{lines_of(records)}"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(
            pytest.param(host, True, id=host)
            for host in ("localhost", "a.localhost", "LOCALHOST", "127.8.9.1", "127.0.0.1.")
        ),
        *(pytest.param(host, True, id=host) for host in ("017700000001", "[::1]", "[::ffff:0.0.0.0]")),
        *(
            pytest.param(host, False, id=host)
            for host in ("localhost.example", "128.0.0.1", "[2001:db8::1]", "1.a.example")
        ),
    ],
)
def test_spellings_of_loopback(host: str, expected: bool) -> None:
    assert is_loopback(f"https://{host}:8000/keys") is expected
