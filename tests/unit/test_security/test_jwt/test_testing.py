from __future__ import annotations

import json
import socket
import ssl
import struct
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, IncompleteRead
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier
from time import monotonic, sleep
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import testing
from litestar.security.jwt.keys import ASYMMETRIC_ALGORITHMS, KeyNotFoundError, KeyProvider, thumbprint
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.token import Token
from litestar.security.jwt.unverified import UnverifiedToken

ALGORITHMS = sorted(ASYMMETRIC_ALGORITHMS)
NOW = 1_700_000_000
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


def get(url: str, *, context: ssl.SSLContext | None = None, **headers: str) -> Answer:
    request = Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urlopen(request, timeout=10, context=context) as response:
            return Answer(response.status, dict(response.headers), response.read())
    except HTTPError as e:
        with e:
            return Answer(e.code, dict(e.headers), e.read())


def get_json(url: str) -> Any:
    return json.loads(get(url).body)


def served_kids(issuer: LocalIssuer) -> list[str]:
    return [key["kid"] for key in get_json(issuer.jwks_url)["keys"]]


def verify(issuer: LocalIssuer, token: str) -> dict[str, Any]:
    """Verify a token with what the issuer publishes over HTTP, by means of PyJWT alone."""
    kid = jwt.get_unverified_header(token)["kid"]
    jwk = next(jwk for jwk in get_json(issuer.jwks_url)["keys"] if jwk["kid"] == kid)
    return jwt.decode(token, jwt.PyJWK(jwk, issuer.algorithm), [issuer.algorithm], issuer=issuer.issuer)


def private_jwk(issuer: LocalIssuer) -> dict[str, Any]:
    jwk: dict[str, Any] = jwt.get_algorithm_by_name(issuer.algorithm).to_jwk(issuer.private_key, as_dict=True)
    return jwk


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def is_refused(issuer: LocalIssuer) -> bool:
    try:
        get(issuer.jwks_url)
    except URLError as e:
        return isinstance(e.reason, ConnectionRefusedError)
    return False


def self_signed_context(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    path = directory / "server.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.mark.parametrize("declare_alg", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_of_every_algorithm_verifies_with_keys_fetched_over_http(algorithm: str, declare_alg: bool) -> None:
    with LocalIssuer(algorithm=algorithm, declare_alg=declare_alg) as issuer:
        token = issuer.token("alice")

        assert verify(issuer, token)["sub"] == "alice"
        assert jwt.get_unverified_header(token) == {"alg": algorithm, "kid": issuer.kid, "typ": "JWT"}
        assert [key.get("alg") for key in issuer.jwks["keys"]] == [algorithm if declare_alg else None]
        assert [key["use"] for key in issuer.jwks["keys"]] == ["sig"]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_forged_token_differs_in_nothing_but_its_signature(algorithm: str) -> None:
    with LocalIssuer(algorithm=algorithm, clock=lambda: NOW) as issuer:
        forged = issuer.forged_token("alice", scopes="read")

        assert claims_of(forged) == claims_of(issuer.token("alice", scopes="read"))
        assert jwt.get_unverified_header(forged) == jwt.get_unverified_header(issuer.token())
        with pytest.raises(jwt.InvalidSignatureError):
            verify(issuer, forged)


def test_forged_token_takes_headers() -> None:
    issuer = LocalIssuer(algorithm="ES256")

    assert jwt.get_unverified_header(issuer.forged_token(headers={"kid": None, "typ": "at+jwt"})) == {
        "alg": "ES256",
        "typ": "at+jwt",
    }
    assert jwt.get_unverified_header(issuer.forged_token())["kid"] == issuer.kid


@pytest.mark.parametrize("declare_alg", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_forms_of_the_public_key_verify(algorithm: str, declare_alg: bool) -> None:
    issuer = LocalIssuer(algorithm=algorithm, declare_alg=declare_alg)
    token = issuer.token("alice")

    assert jwt.decode(token, issuer.pyjwk)["sub"] == "alice"
    assert jwt.decode(token, issuer.public_pem, [algorithm])["sub"] == "alice"
    assert issuer.pyjwk.key_id == issuer.kid
    assert issuer.private_key.public_key() == load_pem_public_key(issuer.public_pem.encode())


@pytest.mark.parametrize("algorithm", ["HS256", "none", "RS1"])
def test_algorithm_that_is_not_asymmetric_is_refused(algorithm: str) -> None:
    with pytest.raises(ValueError, match="not one of ES256, "):
        LocalIssuer(algorithm=algorithm)


def test_claims_follow_clock_and_arguments() -> None:
    issuer = LocalIssuer("https://me.example", algorithm="EdDSA", audience="api", clock=lambda: NOW + 0.7)

    assert claims_of(issuer.token("alice", scopes=["read", "write"], expires_in=60, tid="t1")) == {
        "iss": "https://me.example",
        "sub": "alice",
        "aud": "api",
        "iat": NOW,
        "exp": NOW + 60,
        "scope": "read write",
        "tid": "t1",
    }


def test_defaults_make_a_complete_token_of_one_hour() -> None:
    issuer = LocalIssuer(algorithm="EdDSA", clock=lambda: NOW)

    assert claims_of(issuer.token()) == {
        "iss": "https://issuer.test",
        "sub": "user",
        "iat": NOW,
        "exp": NOW + 3600,
    }


@pytest.mark.parametrize(
    ("arguments", "claim", "expected"),
    [
        ({"scopes": "read write"}, "scope", "read write"),
        ({"scopes": []}, "scope", ""),
        ({"audience": ["a", "b"]}, "aud", ["a", "b"]),
        ({"aud": None}, "aud", None),
        ({"sub": None}, "sub", None),
        ({"exp": None}, "exp", None),
        ({"exp": 1}, "exp", 1),
        ({"iss": "https://other.example"}, "iss", "https://other.example"),
        ({"expires_in": timedelta(minutes=2)}, "exp", NOW + 120),
        ({"expires_in": -1}, "exp", NOW - 1),
    ],
)
def test_each_claim_can_be_set_or_left_out(arguments: dict[str, Any], claim: str, expected: Any) -> None:
    issuer = LocalIssuer(algorithm="EdDSA", audience="api", clock=lambda: NOW)

    assert claims_of(issuer.token(**arguments)).get(claim) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"typ": "at+jwt"}, {"alg": "RS256", "kid": "<kid>", "typ": "at+jwt"}),
        ({"typ": None}, {"alg": "RS256", "kid": "<kid>"}),
        ({"kid": None, "x": None, "y": 1}, {"alg": "RS256", "typ": "JWT", "y": 1}),
        ({"kid": "unknown"}, {"alg": "RS256", "kid": "unknown", "typ": "JWT"}),
        ({"alg": "PS256"}, {"alg": "PS256", "kid": "<kid>", "typ": "JWT"}),
    ],
)
def test_each_header_parameter_can_be_set_or_left_out(headers: dict[str, Any], expected: dict[str, Any]) -> None:
    issuer = LocalIssuer()
    token = issuer.token(headers=headers)
    header = jwt.get_unverified_header(token)

    assert header == {k: issuer.kid if v == "<kid>" else v for k, v in expected.items()}
    assert jwt.decode(token, issuer.public_pem, [header["alg"]])["sub"] == "user"


def test_auth_header_carries_a_token() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    header = issuer.auth_header("alice", scopes=["read"])

    assert list(header) == ["Authorization"]
    scheme, token = header["Authorization"].split(" ")
    assert scheme == "Bearer"
    assert jwt.decode(token, issuer.pyjwk)["scope"] == "read"


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_seed_keys_and_fixed_clock_give_the_same_tokens(algorithm: str) -> None:
    seeds = [LocalIssuer(algorithm=algorithm).private_key for _ in range(2)]
    one, other = (LocalIssuer(algorithm=algorithm, keys=seeds, clock=lambda: NOW) for _ in range(2))

    assert one.token() == other.token()
    assert one.rotate() == other.rotate() == thumbprint(one.jwks["keys"][1])
    assert one.private_key is seeds[1]
    assert one.token() == other.token()
    assert one.rotate() != other.rotate()


def test_seed_keys_may_be_pem_or_jwk_or_ed448() -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    jwk = jwt.PyJWK({**private_jwk(LocalIssuer(algorithm="EdDSA")), "kid": "mine"})
    with LocalIssuer(algorithm="EdDSA", keys=[pem, jwk, Ed448PrivateKey.generate()]) as issuer:
        kids = [issuer.kid, issuer.rotate(), issuer.rotate()]

        assert kids[1] == "mine"
        assert [key["crv"] for key in issuer.jwks["keys"]] == ["Ed25519", "Ed448"]
        assert verify(issuer, issuer.token())["sub"] == "user"
        assert verify(issuer, issuer.token(key="mine"))["sub"] == "user"


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256R1()).public_key(), id="public"),
        pytest.param(Ed25519PrivateKey.generate(), id="other kind"),
        pytest.param("not a key", id="no PEM"),
    ],
)
def test_key_that_cannot_sign_is_refused(key: Any) -> None:
    issuer = LocalIssuer(algorithm="ES256")

    with pytest.raises(ValueError, match="key"):
        LocalIssuer(algorithm="ES256", keys=[key])
    with pytest.raises(ValueError, match="key"):
        issuer.publish(key)
    with pytest.raises(ValueError, match="key"):
        issuer.token(key=key)


def test_new_key_is_published_at_once_and_the_one_before_stays(issuer: LocalIssuer) -> None:
    old, old_token = issuer.kid, issuer.token()
    new = issuer.rotate()

    assert served_kids(issuer) == [old, new]
    assert issuer.kid == new != old
    assert jwt.get_unverified_header(issuer.token())["kid"] == new
    for token in (old_token, issuer.token(), issuer.token(key=old)):
        assert verify(issuer, token)["sub"] == "user"
    assert jwt.get_unverified_header(issuer.token(key=old))["kid"] == old


@pytest.mark.parametrize("keep", [0, 1, 2, 9])
def test_rotation_keeps_as_many_older_keys_as_asked_for(keep: int) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    kids = [issuer.kid, issuer.rotate(keep=9), issuer.rotate(keep=9), issuer.rotate(keep=keep)]

    assert [key["kid"] for key in issuer.jwks["keys"]] == kids[-1 - keep :]


def test_key_published_ahead_is_the_next_to_sign() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    first, ahead, dropped, later = issuer.kid, issuer.publish(), issuer.publish(), issuer.publish()
    issuer.withdraw(dropped)

    assert issuer.kid == first
    assert [key["kid"] for key in issuer.jwks["keys"]] == [first, ahead, later]
    assert issuer.rotate(keep=0) == ahead
    assert [key["kid"] for key in issuer.jwks["keys"]] == [ahead, later]
    assert issuer.rotate() == later


def test_withdrawn_key_vanishes_and_can_come_back(issuer: LocalIssuer) -> None:
    old, old_key = issuer.kid, issuer.private_key
    issuer.rotate()
    issuer.withdraw(old)
    assert served_kids(issuer) == [issuer.kid]

    assert issuer.publish(old) == old
    assert served_kids(issuer) == [old, issuer.kid]

    issuer.withdraw(old)
    assert issuer.publish(old_key) == old
    assert served_kids(issuer) == [old, issuer.kid]


def test_withdrawn_key_goes_on_signing() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.withdraw(issuer.kid)

    assert issuer.jwks == {"keys": []}
    assert jwt.decode(issuer.token(), issuer.pyjwk)["sub"] == "user"
    assert issuer.rotate() == issuer.jwks["keys"][0]["kid"]


def test_withdrawing_an_unknown_key_is_an_error() -> None:
    with pytest.raises(KeyError, match="unknown"):
        LocalIssuer(algorithm="ES256").withdraw("unknown")


def test_other_key_under_the_same_id_takes_its_place() -> None:
    keys = [jwt.PyJWK({**private_jwk(LocalIssuer(algorithm="ES256")), "kid": "a"}) for _ in range(2)]
    issuer = LocalIssuer(algorithm="ES256", keys=keys)
    old_token = issuer.token()

    assert issuer.rotate() == "a"
    assert [key["kid"] for key in issuer.jwks["keys"]] == ["a"]
    assert jwt.decode(issuer.token(), issuer.pyjwk)["sub"] == "user"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(old_token, issuer.pyjwk)


def test_foreign_key_signs_under_its_own_id() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    foreign = LocalIssuer(algorithm="ES256")
    token = issuer.token(key=foreign.private_key)

    assert jwt.get_unverified_header(token)["kid"] == foreign.kid
    assert jwt.decode(token, foreign.pyjwk)["iss"] == issuer.url
    assert len(issuer.jwks["keys"]) == 1


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_issuers_never_share_a_key(algorithm: str) -> None:
    one, other = LocalIssuer(algorithm=algorithm), LocalIssuer(algorithm=algorithm)
    kids = [one.kid, other.kid, one.rotate(), other.rotate(), one.publish()]
    forged = one.forged_token()

    assert len(set(kids)) == 5
    for kid in (one.kid, other.kid):
        assert thumbprint(next(k for k in one.jwks["keys"] + other.jwks["keys"] if k["kid"] == kid)) == kid
    for issuer in (one, other):
        for jwk in issuer.jwks["keys"]:
            with pytest.raises(jwt.InvalidSignatureError):
                jwt.decode(forged, jwt.PyJWK(jwk))


def test_rsa_keys_are_used_again_but_not_by_the_next_issuers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "_spare_rsa_keys", deque())
    kids = [LocalIssuer().kid for _ in range(24)]

    assert len(set(kids)) < 24
    for position, kid in enumerate(kids):
        assert kid not in kids[position + 1 : position + 5]


def test_name_is_the_url_and_made_up_until_the_server_has_one() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    assert (issuer.issuer, issuer.url) == ("https://issuer.test", "https://issuer.test")
    assert claims_of(issuer.token())["iss"] == "https://issuer.test"

    with issuer:
        url = issuer.url
        assert urlsplit(url).hostname == "127.0.0.1"
        assert claims_of(issuer.token())["iss"] == issuer.issuer == url
    assert issuer.url == url


def test_discovery_documents_lead_to_the_keys(issuer: LocalIssuer) -> None:
    document = get_json(issuer.discovery_url)

    assert document == issuer.discovery == get_json(issuer.url + "/.well-known/oauth-authorization-server")
    assert document["issuer"] == issuer.url
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    assert get_json(document["jwks_uri"]) == issuer.jwks
    # OpenID Connect Discovery 1.0, section 3, requires these.
    assert document.keys() >= {"authorization_endpoint", "response_types_supported", "subject_types_supported"}


def test_path_of_the_issuer_goes_where_each_standard_puts_it() -> None:
    with LocalIssuer(algorithm="ES256", path="/realms/demo") as issuer:
        host, path = issuer.url.split("/realms")
        openid = get_json(issuer.url + "/.well-known/openid-configuration")

        assert path == "/demo"
        assert openid["issuer"] == issuer.url
        assert get_json(host + "/.well-known/oauth-authorization-server/realms/demo") == openid
        assert get_json(openid["jwks_uri"]) == issuer.jwks
        assert get(host + "/.well-known/openid-configuration").status == 404
        assert get(issuer.url + "/.well-known/oauth-authorization-server").status == 404


def test_discovery_document_can_be_changed() -> None:
    with LocalIssuer("https://named.example", algorithm="ES256", metadata={"token_endpoint": None}) as issuer:
        issuer.metadata["id_token_signing_alg_values_supported"] = ["none", "ES256"]
        document = get_json(issuer.discovery_url)

        assert document["issuer"] == "https://named.example"
        assert document["jwks_uri"] == issuer.jwks_url
        assert document["id_token_signing_alg_values_supported"] == ["none", "ES256"]
        assert "token_endpoint" not in document


def test_media_types_are_those_of_the_standards(issuer: LocalIssuer) -> None:
    assert get(issuer.jwks_url).headers["Content-Type"] == "application/jwk-set+json"
    assert get(issuer.discovery_url).headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", ["/", "/nothing", "/.well-known/jwks"])
def test_everything_else_is_not_found(issuer: LocalIssuer, path: str) -> None:
    assert get(issuer.url + path).status == 404


def test_query_is_ignored_and_logged(issuer: LocalIssuer) -> None:
    assert get(issuer.jwks_url + "?p=policy").status == 200
    assert issuer.requests[0].path == "/.well-known/jwks.json?p=policy"


def test_cache_control_is_sent_as_set(issuer: LocalIssuer) -> None:
    assert "Cache-Control" not in get(issuer.jwks_url).headers

    issuer.cache_control = "public, max-age=300"
    assert get(issuer.jwks_url).headers["Cache-Control"] == "public, max-age=300"
    assert get(issuer.discovery_url).headers["Cache-Control"] == "public, max-age=300"


def test_unchanged_document_is_answered_with_304(issuer: LocalIssuer) -> None:
    issuer.cache_control = "max-age=60"
    etag = get(issuer.jwks_url).headers["ETag"]

    answer = get(issuer.jwks_url, If_None_Match=f'"other", W/{etag}')
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert answer.headers["Cache-Control"] == "max-age=60"

    issuer.rotate()
    changed = get(issuer.jwks_url, If_None_Match=etag)
    assert changed.status == 200
    assert changed.headers["ETag"] != etag


@pytest.mark.parametrize(
    ("document", "body"),
    [({"keys": [{"kty": "oct"}]}, b'{"keys": [{"kty": "oct"}]}'), (b"\xff<html>", b"\xff<html>"), (b"", b"")],
)
def test_anything_can_be_served_in_place_of_the_key_set(issuer: LocalIssuer, document: Any, body: bytes) -> None:
    issuer.serve_jwks(document)
    assert get(issuer.jwks_url).body == body

    issuer.serve_jwks(None)
    assert get_json(issuer.jwks_url) == issuer.jwks


def test_changing_a_document_in_hand_changes_nothing_served(issuer: LocalIssuer) -> None:
    issuer.jwks["keys"][0].clear()

    assert served_kids(issuer) == [issuer.kid]


def test_requests_are_logged_with_their_headers(issuer: LocalIssuer) -> None:
    get(issuer.jwks_url, Accept="application/json")
    issuer.fail_with(500)
    get(issuer.discovery_url)

    assert [request.path for request in issuer.requests] == [
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
    ]
    assert issuer.requests[0].headers["accept"] == "application/json"


def test_one_connection_serves_many_requests(issuer: LocalIssuer) -> None:
    connection = HTTPConnection(urlsplit(issuer.url).netloc, timeout=10)
    connection.connect()
    first_socket = connection.sock
    for path in ("/.well-known/jwks.json", "/nothing", "/.well-known/jwks.json"):
        connection.request("GET", path)
        connection.getresponse().read()

    assert connection.sock is first_socket
    connection.close()


def test_requests_are_answered_side_by_side(issuer: LocalIssuer) -> None:
    all_are_in = Barrier(4, timeout=10)

    def answer_when_all_are_in(handler: BaseHTTPRequestHandler) -> None:
        all_are_in.wait()
        handler.send_error(418)

    issuer.responder = answer_when_all_are_in
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(get, [issuer.jwks_url] * 4))

    assert [answer.status for answer in answers] == [418] * 4


def test_delay_goes_before_the_answer(issuer: LocalIssuer) -> None:
    issuer.delay = 0.2
    started = monotonic()

    assert get(issuer.jwks_url).status == 200
    assert monotonic() - started >= 0.2


def test_failure_lasts_until_recovery(issuer: LocalIssuer) -> None:
    issuer.fail_with(503, {"Retry-After": "7"})
    for url in (issuer.jwks_url, issuer.discovery_url):
        answer = get(url)
        assert (answer.status, answer.body, answer.headers["Retry-After"]) == (503, b"", "7")

    issuer.recover()
    assert get(issuer.jwks_url).status == 200


def test_gone_issuer_refuses_connections_until_it_is_back_at_the_same_url(issuer: LocalIssuer) -> None:
    url = issuer.url
    issuer.gone()
    issuer.gone()
    assert is_refused(issuer)
    assert claims_of(issuer.token())["iss"] == url

    issuer.rotate()
    issuer.back()
    issuer.back()
    assert issuer.url == url
    assert served_kids(issuer) == [key["kid"] for key in issuer.jwks["keys"]]


def test_starting_a_gone_issuer_brings_it_back(issuer: LocalIssuer) -> None:
    url = issuer.url
    issuer.gone()

    assert issuer.start().url == url
    assert get(issuer.jwks_url).status == 200


def test_gone_issuer_cuts_open_connections(issuer: LocalIssuer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(issuer.url).port or 0), timeout=10) as client:
        client.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
        issuer.gone()
        while client.recv(65_536):
            pass

    assert len(issuer.requests) == 1


def test_gone_issuer_does_not_finish_a_delayed_answer(issuer: LocalIssuer) -> None:
    issuer.delay = 60
    with socket.create_connection(("127.0.0.1", urlsplit(issuer.url).port or 0), timeout=10) as client:
        client.sendall(b"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n\r\n")
        while not issuer.requests:
            sleep(0.005)
        issuer.gone()

        assert client.recv(1) == b""


def test_recovery_ends_every_fault(issuer: LocalIssuer) -> None:
    issuer.delay = 60
    issuer.fail_with(500)
    issuer.responder = lambda handler: handler.send_error(418)
    issuer.gone()
    issuer.recover()

    assert get(issuer.jwks_url).status == 200


def test_issuer_that_was_never_started_has_nowhere_to_vanish_from() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.gone()
    issuer.recover()
    issuer.close()

    assert issuer.url == "https://issuer.test"


def test_start_and_close_work_without_a_context_manager() -> None:
    issuer = LocalIssuer(algorithm="ES256").start()
    url = issuer.url
    assert issuer.start() is issuer
    assert issuer.url == url
    assert get(issuer.jwks_url).status == 200

    issuer.close()
    issuer.close()
    assert is_refused(issuer)
    assert claims_of(issuer.token())["iss"] == url


def test_closing_a_gone_issuer_gives_its_port_back() -> None:
    issuer = LocalIssuer(algorithm="ES256").start()
    port = urlsplit(issuer.url).port
    assert port
    issuer.gone()
    issuer.close()

    with LocalIssuer(algorithm="ES256").start(port) as other:
        assert other.url == issuer.url
        assert served_kids(other) == [other.kid]


def test_port_that_is_taken_is_an_error(issuer: LocalIssuer) -> None:
    port = urlsplit(issuer.url).port
    assert port

    with pytest.raises(OSError, match="in use"):
        LocalIssuer(algorithm="ES256").start(port)


def test_closing_takes_no_time_whatever_clients_do(issuer: LocalIssuer) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(issuer.url).port or 0)) as idle:
        started = monotonic()
        issuer.close()

        assert monotonic() - started < 0.5
        idle.settimeout(10)
        assert idle.recv(1) == b""


def end_within_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b'{"keys":')


def reset_within_body(handler: BaseHTTPRequestHandler) -> None:
    end_within_body(handler)
    # A socket that does not linger resets the connection when it is closed.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()


@pytest.mark.parametrize(
    ("responder", "error"), [(reset_within_body, ConnectionResetError), (end_within_body, IncompleteRead)]
)
def test_responder_may_break_off_within_the_body(
    issuer: LocalIssuer, responder: Callable[[BaseHTTPRequestHandler], None], error: type[Exception]
) -> None:
    issuer.responder = responder
    with pytest.raises(error):
        get(issuer.jwks_url)
    assert len(issuer.requests) == 1

    issuer.responder = None
    assert get(issuer.jwks_url).status == 200


def test_failing_responder_is_reported(issuer: LocalIssuer, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(handler: BaseHTTPRequestHandler) -> None:
        raise LookupError("mistake in a test")

    issuer.responder = fail
    with pytest.raises(ConnectionError):
        get(issuer.jwks_url)

    assert "LookupError: mistake in a test" in capsys.readouterr().err


def test_client_that_leaves_is_not_reported(issuer: LocalIssuer, capsys: pytest.CaptureFixture[str]) -> None:
    def leave(handler: BaseHTTPRequestHandler) -> None:
        raise BrokenPipeError

    issuer.responder = leave
    with pytest.raises(ConnectionError):
        get(issuer.jwks_url)

    assert capsys.readouterr().err == ""


def test_https_with_a_context(tmp_path: Path) -> None:
    client_context = ssl.create_default_context()
    with LocalIssuer(algorithm="ES256", ssl_context=self_signed_context(tmp_path)) as issuer:
        client_context.load_verify_locations(tmp_path / "server.pem")

        assert issuer.jwks_url.startswith("https://127.0.0.1:")
        assert json.loads(get(issuer.jwks_url, context=client_context).body) == issuer.jwks

        issuer.gone()
        assert is_refused(issuer)
        issuer.back()
        assert json.loads(get(issuer.jwks_url, context=client_context).body) == issuer.jwks


def test_unfinished_handshake_keeps_nobody_waiting(tmp_path: Path) -> None:
    client_context = ssl.create_default_context()
    with LocalIssuer(algorithm="ES256", ssl_context=self_signed_context(tmp_path)) as issuer:
        client_context.load_verify_locations(tmp_path / "server.pem")
        with socket.create_connection(("127.0.0.1", urlsplit(issuer.url).port or 0)):
            assert get(issuer.jwks_url, context=client_context).status == 200


@pytest.mark.parametrize("declare_alg", [True, False])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_key_provider_finds_the_key_without_a_server(algorithm: str, declare_alg: bool) -> None:
    issuer = LocalIssuer(algorithm=algorithm, declare_alg=declare_alg)
    token = issuer.token()
    assert isinstance(issuer.key_provider, KeyProvider)

    keys = issuer.key_provider(UnverifiedToken(token))
    assert [key.key_id for key in keys] == [issuer.kid]
    assert jwt.decode(token, keys[0])["sub"] == "user"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(issuer.forged_token(), keys[0])


def test_key_provider_follows_rotation() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    provider = issuer.key_provider
    old_token = UnverifiedToken(issuer.token())
    issuer.rotate()
    new_token = UnverifiedToken(issuer.token())
    assert provider(old_token)[0].key_id == old_token.kid
    assert provider(new_token)[0].key_id == issuer.kid
    assert len(provider(UnverifiedToken(issuer.token(headers={"kid": None})))) == 2

    issuer.rotate()
    with pytest.raises(KeyNotFoundError):
        provider(old_token)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_litestar_token_is_decoded_with_whatever_the_issuer_hands_out(algorithm: str) -> None:
    issuer = LocalIssuer(algorithm=algorithm, audience="api")
    for key in (issuer.key_provider, issuer.pyjwk, issuer.public_pem, issuer.private_key):
        token = Token.decode(issuer.token("alice", tid="t1"), key, algorithm, audience="api", issuer=issuer.url)

        assert (token.sub, token.extras) == ("alice", {"tid": "t1"})
        with pytest.raises(NotAuthorizedException):
            Token.decode(issuer.forged_token("alice"), key, algorithm)
        with pytest.raises(NotAuthorizedException):
            Token.decode(issuer.token("alice", expires_in=-60), key, algorithm)


def private_values(issuer: LocalIssuer) -> set[str]:
    """The secret numbers of the issuer's current key, as they would look in a JWK, a PEM, or in Python."""
    jwk = private_jwk(issuer)
    secrets = {jwk[member] for member in PRIVATE_MEMBERS & jwk.keys()}
    key = issuer.private_key
    if isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        numbers = key.private_numbers()
        secrets.add(str(numbers.d if isinstance(numbers, rsa.RSAPrivateNumbers) else numbers.private_value))
    else:
        secrets.add(urlsafe_b64encode(key.private_bytes_raw()).decode().rstrip("="))
    return secrets


@given(
    algorithm=st.sampled_from(ALGORITHMS),
    declare_alg=st.booleans(),
    as_jwk=st.booleans(),
    steps=st.lists(st.sampled_from(["rotate", "rotate to none", "publish", "withdraw", "forge"]), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_private_members_never_leave(algorithm: str, declare_alg: bool, as_jwk: bool, steps: list[str]) -> None:
    seed = LocalIssuer(algorithm=algorithm)
    key = jwt.PyJWK(private_jwk(seed), algorithm) if as_jwk else seed.private_key
    with LocalIssuer(algorithm=algorithm, declare_alg=declare_alg, keys=[key]) as issuer:
        secrets = private_values(issuer)
        assert secrets
        actions: dict[str, Callable[[], Any]] = {
            "rotate": issuer.rotate,
            "rotate to none": lambda: issuer.rotate(keep=0),
            "publish": issuer.publish,
            "withdraw": lambda: issuer.withdraw(issuer.kid),
            "forge": issuer.forged_token,
        }
        for step in steps:
            actions[step]()
            secrets |= private_values(issuer)
        provided = issuer.publish() and issuer.key_provider(UnverifiedToken(issuer.token(headers={"kid": None})))
        shown = [
            get(issuer.jwks_url).body.decode(),
            get(issuer.discovery_url).body.decode(),
            json.dumps(issuer.jwks),
            repr(issuer),
            repr(vars(issuer.pyjwk)),
            repr([vars(jwk) for jwk in provided]),
            repr(issuer.requests),
            issuer.public_pem,
        ]

        assert not [secret for secret in secrets for text in shown if secret in text]
        for jwk in json.loads(shown[0])["keys"]:
            assert not PRIVATE_MEMBERS & jwk.keys()
            assert jwk.keys() <= {"kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"}


def test_repr_tells_who_it_is() -> None:
    issuer = LocalIssuer("https://me.example", algorithm="ES256")

    assert repr(issuer) == f"LocalIssuer(issuer='https://me.example', algorithm='ES256', kid='{issuer.kid}')"
