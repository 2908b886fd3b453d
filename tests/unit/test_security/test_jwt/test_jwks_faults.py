"""What an identity provider's server can do wrong, over real sockets: what requests see, and what is in memory then."""

from __future__ import annotations

import gc
import gzip
import json
import socket
import ssl
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from time import monotonic, perf_counter, sleep
from typing import Any

import anyio
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from litestar.security.jwt import _http
from litestar.security.jwt.jwks import RemoteJWKSet
from litestar.security.jwt.keys import KeyNotFoundError, KeysUnavailableError
from litestar.security.jwt.testing import LocalIssuer

from .remote import Clock, answers_at_once, idle, responds, verifies

pytestmark = pytest.mark.anyio

Responder = Callable[[BaseHTTPRequestHandler], None]
Fault = Callable[[LocalIssuer], None]

TIMEOUT = 0.5
MEGABYTE = 1024 * 1024


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer(algorithm="EdDSA") as issuer:
        yield issuer


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_BACKOFF", 0.005)


def raw(*parts: bytes, pause: float = 0, reset: bool = False) -> Fault:
    """Send bytes as they are, with pauses between them, then close the connection or reset it."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        try:
            for part in parts:
                handler.wfile.write(part)
                sleep(pause)
        finally:
            if reset:
                handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                handler.connection.close()

    return using(lambda issuer: respond)


def using(make: Callable[[LocalIssuer], Responder]) -> Fault:
    def fault(issuer: LocalIssuer) -> None:
        issuer.responder = make(issuer)

    return fault


def status(code: int, headers: dict[str, str] | None = None) -> Fault:
    return lambda issuer: issuer.fail_with(code, headers)


def body(content: bytes | Callable[[LocalIssuer], bytes], **headers: str) -> Fault:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return using(lambda issuer: responds(issuer, fields, content if isinstance(content, bytes) else content(issuer)))


def document(issuer: LocalIssuer) -> bytes:
    return json.dumps(issuer.jwks).encode()


def hang(issuer: LocalIssuer) -> None:
    issuer.delay = 30


OK = b"HTTP/1.1 200 OK\r\n"

FAULTS: dict[str, tuple[Fault, str]] = {
    "refused": (LocalIssuer.gone, "ConnectError"),
    "reset-before-headers": (raw(reset=True), "Error"),
    "reset-mid-headers": (raw(OK + b"Content-Len", pause=0.01, reset=True), "Error"),
    "reset-mid-body": (raw(OK + b"Content-Length: 900\r\n\r\n", b'{"keys": [', pause=0.01, reset=True), "Error"),
    "closed-mid-body": (raw(OK + b'Content-Length: 900\r\n\r\n{"keys": ['), "RemoteProtocolError"),
    "closed-mid-chunk": (raw(OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"), "RemoteProtocolError"),
    "hang-before-headers": (hang, "no answer within 0.5 seconds"),
    "slow-drip-headers": (raw(OK, *[b"X-Header: x\r\n"] * 500, pause=0.02), "no answer within"),
    "slow-drip-body": (raw(OK + b"\r\n", *[b" "] * 500, pause=0.02), "no answer within"),
    "endless-headers": (raw(OK, b"X-Header: x\r\n" * 50_000), "Error"),
    "not-http": (raw(b"220 smtp.issuer.test ESMTP\r\n"), "RemoteProtocolError"),
    "429": (status(429), "status 429"),
    "500": (status(500), "status 500"),
    "502": (status(502), "status 502"),
    "503": (status(503, {"Retry-After": "3600"}), "status 503"),
    "404": (status(404), "status 404"),
    "redirect": (status(301, {"Location": "/.well-known/openid-configuration"}), "redirects are not followed"),
    "redirect-to-http": (status(302, {"Location": "http://issuer.test/"}), "redirects are not followed"),
    "redirect-to-file": (status(307, {"Location": "file:///etc/passwd"}), "redirects are not followed"),
    "html": (body(b"<!doctype html><title>Log in</title>", Content_Type="text/html"), "not JSON"),
    "empty": (body(b""), "not JSON"),
    "truncated-json": (body(lambda issuer: document(issuer)[:-2]), "not JSON"),
    "trailing-garbage": (body(lambda issuer: document(issuer) + b"}"), "not JSON"),
    "deep-nesting": (body(b"[" * 200_000 + b"]" * 200_000), "not JSON"),
    "deep-nesting-of-objects": (body(b'{"keys":' * 50_000), "not JSON"),
    "not-utf-8": (body(lambda issuer: document(issuer).replace(b'"use"', b'"\xff\xfe"')), "not JSON"),
    "utf-16": (body(lambda issuer: document(issuer).decode().encode("utf-16")), "not JSON"),
    "nan": (body(lambda issuer: document(issuer).replace(b'"sig"', b"NaN")), "not JSON"),
    "duplicate-members-last-unusable": (
        body(lambda issuer: document(issuer)[:-1] + b', "keys": []}'),
        "no usable key",
    ),
    "large": (body(b" " * (512 * 1024 + 1)), "more than 524288 bytes"),
    "large-chunked": (
        raw(OK + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + b" " * 65_536 + b"\r\n"] * 160),
        "more than 524288 bytes",
    ),
    "gzip-bomb": (body(gzip.compress(bytes(64 * MEGABYTE)), Content_Encoding="gzip"), "more than 524288 bytes"),
    "gzip-in-gzip": (
        body(gzip.compress(gzip.compress(bytes(8 * MEGABYTE))), Content_Encoding="gzip, gzip"),
        "unsupported content coding",
    ),
    "brotli": (body(b"\x0b\x02\x80{}\x03", Content_Encoding="br"), "unsupported content coding"),
    "damaged-gzip": (body(b"not gzip", Content_Encoding="gzip"), "damaged"),
    "truncated-gzip": (
        body(lambda issuer: gzip.compress(document(issuer))[:-9], Content_Encoding="x-gzip"),
        "cut off",
    ),
}


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
async def test_fault_on_a_cold_start_answers_503_and_leaves_nothing_in_memory(
    issuer: LocalIssuer, clock: Clock, fault: Fault, error: str
) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, timeout=TIMEOUT, clock=clock)
    fault(issuer)
    started = monotonic()
    with pytest.raises(KeysUnavailableError) as unavailable:
        await verifies(provider, issuer.token())
    assert monotonic() - started < TIMEOUT + 1
    assert unavailable.value.headers == {"Retry-After": "30"}
    assert error in (provider.status().last_error or "")
    assert provider.status().key_ids == ()
    requests = len(issuer.requests)
    with pytest.raises(KeysUnavailableError):
        await verifies(provider, issuer.token())
    assert len(issuer.requests) == requests <= 3
    issuer.recover()
    clock.advance(30)
    assert await verifies(provider, issuer.token())


@pytest.mark.parametrize(("fault", "error"), FAULTS.values(), ids=FAULTS)
async def test_fault_with_keys_in_memory_is_not_seen_by_requests(
    issuer: LocalIssuer, clock: Clock, fault: Fault, error: str
) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, timeout=TIMEOUT, clock=clock)
    await provider.refresh()
    before = provider.status()
    fault(issuer)
    for seconds in (500, 3600, 80_000):
        clock.advance(seconds)
        assert answers_at_once(provider, issuer.token())
    await idle(provider)
    assert error in (provider.status().last_error or "")
    assert provider.status().key_ids == before.key_ids
    assert provider.status().fetched_at == before.fetched_at
    assert answers_at_once(provider, issuer.token())
    issuer.recover()
    clock.advance(30)
    assert answers_at_once(provider, issuer.token())
    await idle(provider)
    assert provider.status().fetched_at == datetime.fromtimestamp(clock.now, UTC)


HARMLESS: dict[str, Fault] = {
    "wrong-content-type": body(document, Content_Type="text/html; charset=utf-16"),
    "no-content-type": body(document),
    "white-space": body(lambda issuer: b"\r\n\t " + document(issuer) + b"\n\n"),
    "unasked-gzip": body(lambda issuer: gzip.compress(document(issuer)), Content_Encoding="gzip"),
    "unasked-deflate": body(lambda issuer: zlib.compress(document(issuer)), Content_Encoding="DEFLATE"),
    "identity": body(document, Content_Encoding="identity"),
    "until-close": lambda issuer: raw(OK + b"\r\n" + document(issuer))(issuer),
    "byte-by-byte": lambda issuer: raw(*[bytes([byte]) for byte in OK + b"\r\n" + document(issuer)])(issuer),
    "chunked": lambda issuer: raw(
        OK + b"Transfer-Encoding: chunked\r\n\r\n",
        *[b"1;extension=1\r\n%c\r\n" % byte for byte in document(issuer)],
        b"0\r\n\r\n",
    )(issuer),
    "duplicate-members-last-usable": body(lambda issuer: b'{"keys": 1, ' + document(issuer)[1:]),
    "unknown-members": body(lambda issuer: b'{"issuer": [{}], ' + document(issuer)[1:]),
    "as-large-as-it-may-be": body(lambda issuer: document(issuer).ljust(512 * 1024)),
}


@pytest.mark.parametrize("oddity", HARMLESS.values(), ids=HARMLESS)
async def test_harmless_oddity_is_accepted(issuer: LocalIssuer, oddity: Fault) -> None:
    provider = RemoteJWKSet(issuer.jwks_url)
    oddity(issuer)
    assert await verifies(provider, issuer.token())
    assert provider.status().last_error is None


async def test_redirect_reaches_no_other_server(issuer: LocalIssuer) -> None:
    with LocalIssuer(algorithm="EdDSA") as other:
        issuer.fail_with(302, {"Location": other.jwks_url})
        with pytest.raises(KeysUnavailableError):
            await RemoteJWKSet(issuer.jwks_url).refresh()
        assert not other.requests


async def test_large_body_is_not_read_to_its_end(issuer: LocalIssuer) -> None:
    written = [0]
    ended = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        try:
            handler.wfile.write(OK + b"\r\n")
            for _ in range(1000):
                handler.wfile.write(b" " * 65_536)
                written[0] += 65_536
        finally:
            ended.set()

    issuer.responder = respond
    with pytest.raises(KeysUnavailableError):
        await RemoteJWKSet(issuer.jwks_url).refresh()
    assert await anyio.to_thread.run_sync(ended.wait, 10)
    assert written[0] < 32 * MEGABYTE  # what fits into the buffers of the kernel, and not all that there was


async def test_compressed_body_is_not_inflated_further_than_the_limit(issuer: LocalIssuer) -> None:
    bomb = gzip.compress(bytes(256 * MEGABYTE), compresslevel=9)
    assert len(bomb) < 512 * 1024
    provider = RemoteJWKSet(issuer.jwks_url)
    await provider.refresh()
    body(bomb, Content_Encoding="gzip")(issuer)
    tracemalloc.start()
    try:
        with pytest.raises(KeysUnavailableError):
            await provider.refresh()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "more than 524288 bytes" in (provider.status().last_error or "")
    assert peak < 8 * MEGABYTE


async def test_host_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    provider = RemoteJWKSet("https://issuer.test/jwks", clock=clock)
    with pytest.raises(KeysUnavailableError):
        await verifies(provider, LocalIssuer(algorithm="EdDSA").token())
    assert "Name or service not known" in (provider.status().last_error or "")
    assert provider.status().key_ids == ()


async def test_host_name_that_resolves_to_nothing_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    release, loop_thread = threading.Event(), threading.current_thread()

    def hang(*args: Any, **kwargs: Any) -> Any:
        if threading.current_thread() is not loop_thread:  # trio looks first whether the host is an address
            release.wait(10)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    provider = RemoteJWKSet("https://issuer.test/jwks", timeout=0.3)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    started = monotonic()
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert monotonic() - started < 2
    assert "no answer within 0.3 seconds" in (provider.status().last_error or "")
    release.set()


async def test_certificate_that_is_not_trusted(tmp_path: Path, clock: Clock) -> None:
    certificate, context = _self_signed(tmp_path)
    with LocalIssuer(algorithm="EdDSA", ssl_context=context) as issuer:
        provider = RemoteJWKSet(issuer.jwks_url, clock=clock)
        with pytest.raises(KeysUnavailableError):
            await verifies(provider, issuer.token())
        assert "certificate" in (provider.status().last_error or "").lower()
        assert not issuer.requests
        assert provider.status().key_ids == ()
        trusting = httpx2.AsyncClient(verify=ssl.create_default_context(cafile=certificate))
        async with trusting:
            assert await verifies(RemoteJWKSet(issuer.jwks_url, client=trusting), issuer.token())


def _self_signed(folder: Path) -> tuple[str, ssl.SSLContext]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    path = folder / "issuer.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return str(path), context


async def test_event_loop_goes_on_while_the_provider_hangs(issuer: LocalIssuer) -> None:
    stalls = []
    for _ in range(3):  # another process may get in the way of one, but not of all
        provider = RemoteJWKSet(issuer.jwks_url, timeout=TIMEOUT)
        issuer.delay = 30
        stalls.append(await _longest_stall(provider, issuer.token()))
        issuer.recover()
    assert min(stalls) <= 0.010


async def _longest_stall(provider: RemoteJWKSet, token: str) -> float:
    """Measure how long the event loop did not get round to a task while requests waited in vain for keys."""
    stalls = [0.0]

    async def watch() -> None:
        while True:
            before = perf_counter()
            await anyio.sleep(0.001)
            stalls.append(perf_counter() - before - 0.001)

    async def request() -> None:
        with pytest.raises(KeysUnavailableError):
            await verifies(provider, token)

    # A full collection of what the test run has piled up stops all threads, whoever triggers it.
    gc.collect()
    gc.freeze()
    try:
        async with anyio.create_task_group() as watching:
            _ = watching.start_soon(watch)
            async with anyio.create_task_group() as requests:
                for _ in range(50):
                    _ = requests.start_soon(request)
                    await anyio.sleep(0)
            watching.cancel_scope.cancel()
    finally:
        gc.unfreeze()
    return max(stalls)


async def test_good_token_is_served_while_the_refetch_for_another_hangs(issuer: LocalIssuer, clock: Clock) -> None:
    provider = RemoteJWKSet(issuer.jwks_url, timeout=TIMEOUT, clock=clock)
    await provider.refresh()
    issuer.delay = 30
    async with anyio.create_task_group() as tasks:

        async def wait_in_vain() -> None:
            with pytest.raises(KeyNotFoundError):
                await verifies(provider, issuer.token(headers={"kid": "bogus"}))

        _ = tasks.start_soon(wait_in_vain)
        for _ in range(50):
            assert answers_at_once(provider, issuer.token())
            await anyio.sleep(0.002)
    assert len(issuer.requests) == 2


async def test_issuers_do_not_vouch_for_each_other() -> None:
    with LocalIssuer(algorithm="EdDSA") as issuer, LocalIssuer(algorithm="EdDSA") as other:
        provider = RemoteJWKSet(issuer.jwks_url)
        assert await verifies(provider, issuer.token())
        assert not await verifies(provider, other.token(headers={"kid": issuer.kid}))
