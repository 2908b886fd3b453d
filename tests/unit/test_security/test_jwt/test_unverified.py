"""The strict parser: what is a token, and what a token says before anybody has verified it."""

from __future__ import annotations

import json
import string
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litestar.security.jwt.refusals import Reason, TokenRefused
from litestar.security.jwt.unverified import UnverifiedToken

from .backends import base64url, compact

HEADER = {"alg": "RS256", "kid": "k"}
GOOD = compact(HEADER)
HEAD, PAYLOAD, SIGNATURE = GOOD.split(".")
BASE64URL = string.ascii_letters + string.digits + "-_"


def padded(data: bytes) -> str:
    return b64encode(data).decode()


def reason_for(encoded: Any, **options: Any) -> Reason | None:
    """Return the reason to refuse a token, ``None`` if it is parsed."""
    try:
        UnverifiedToken(encoded, **options)
    except TokenRefused as e:
        return e.reason
    return None


def test_shows_what_the_token_says() -> None:
    payload = {"iss": "a", "sub": "ann"}
    header = {**HEADER, "typ": "application/AT+JWT", "x": "?????~~~~~"}  # base64 and base64url differ for these
    token = UnverifiedToken(compact(header, payload, b"\xff\xfe"))
    assert (token.algorithm, token.kid, token.typ, token.issuer) == ("RS256", "k", "at+jwt", "a")
    assert (token.header, token.claims, json.loads(token.payload)) == (header, payload, payload)
    assert token.signature == b"\xff\xfe"
    assert f"{token.signing_input.decode()}.{base64url(token.signature)}" == token.encoded
    assert "ann" not in repr(token)


def test_parameters_may_be_absent() -> None:
    token = UnverifiedToken(compact({"alg": "RS256", "typ": 5}, {"iss": 5}))
    assert (token.kid, token.typ, token.issuer) == (None, None, None)


def test_bytes_are_a_token() -> None:
    assert UnverifiedToken(GOOD.encode()).encoded == GOOD


def test_header_is_a_new_object_each_time() -> None:
    encoded = compact({**HEADER, "x": {"y": 1}})
    header: Any = UnverifiedToken(encoded).header
    header["x"]["y"] = header["alg"] = "changed"
    token = UnverifiedToken(encoded)
    assert (token.header, token.algorithm) == ({**HEADER, "x": {"y": 1}}, "RS256")


def test_claims_are_parsed_once() -> None:
    token = UnverifiedToken(compact(HEADER, {"a": 1}))
    assert token.claims is token.claims


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("", id="empty"),
        pytest.param("x", id="one-segment"),
        pytest.param(f"{HEAD}.{PAYLOAD}", id="two-segments"),
        pytest.param(f"{GOOD}.AA", id="four-segments"),
        pytest.param(f"{GOOD}.AA.AA.AA", id="six-segments"),
        pytest.param("..", id="empty-segments"),
        pytest.param("." * 65_536, id="dots"),
        pytest.param(f" {GOOD}", id="space-before"),
        pytest.param(f"{GOOD}\n", id="line-break-after"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AA==", id="padding"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AA=", id="wrong-padding"),
        pytest.param(f"={GOOD}", id="padding-before"),
        pytest.param(f"{HEAD}.{PAYLOAD}.+/+/", id="standard-alphabet"),
        pytest.param(f"{HEAD}.{PAYLOAD}.A!AA", id="foreign-character"),
        pytest.param(f"{HEAD}.{PAYLOAD}.A AA", id="space-inside"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AAAAA", id="impossible-length"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AB", id="unused-bits-after-one-byte"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AAB", id="unused-bits-after-two-bytes"),
        pytest.param(f"{HEAD}.{PAYLOAD}.é", id="not-ascii"),
        pytest.param(f"{HEAD}.{PAYLOAD}.\ud800", id="surrogate"),
        pytest.param(b"\xff", id="bytes-not-ascii"),
        pytest.param(None, id="none"),
        pytest.param(5, id="number"),
    ],
)
def test_malformed_serialization_is_refused(encoded: Any) -> None:
    assert reason_for(encoded) is Reason.MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="not-json"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[" * 6000, id="deep"),
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param(b'\xef\xbb\xbf{"alg": "RS256"}', id="byte-order-mark"),
        pytest.param(b'{"alg": "RS256", "x": NaN}', id="nan"),
        pytest.param(b'{"alg": "RS256", "x": -Infinity}', id="infinity"),
        pytest.param(b'{"alg": "RS256", "alg": "RS256"}', id="member-twice"),
        pytest.param(b'{"alg": "RS256", "x": {"y": 1, "y": 2}}', id="nested-member-twice"),
        pytest.param({**HEADER, "x": "y" * 9000}, id="long"),
        pytest.param({**HEADER, "kid": 5}, id="kid-is-a-number"),
        pytest.param({**HEADER, "kid": None}, id="kid-is-null"),
        pytest.param({**HEADER, "kid": "k" * 1025}, id="long-kid"),
        pytest.param(b'{"alg": "RS256", "kid": "\\ud800"}', id="kid-with-a-lone-surrogate"),
        pytest.param(b'{"alg": "RS256", "kid": "a\\udfffb"}', id="kid-with-a-low-surrogate"),
    ],
)
def test_malformed_header_is_refused(header: Any) -> None:
    assert reason_for(compact(header)) is Reason.MALFORMED


@pytest.mark.parametrize("kid", ["", "k" * 1024, "é\U0001f511", "\x00", "a/../b"])
def test_any_other_string_is_a_key_id(kid: str) -> None:
    assert UnverifiedToken(compact({**HEADER, "kid": kid})).kid == kid


@pytest.mark.parametrize("algorithm", [pytest.param({}, id="absent"), {"alg": 5}, {"alg": None}, {"alg": ""}], ids=str)
def test_algorithm_is_a_string(algorithm: dict[str, Any]) -> None:
    assert reason_for(compact(algorithm)) is Reason.ALGORITHM


@pytest.mark.parametrize("extension", [{"crit": ["exp"]}, {"crit": []}, {"b64": True}, {"zip": "DEF"}], ids=str)
def test_extension_is_refused_and_named(extension: dict[str, Any]) -> None:
    with pytest.raises(TokenRefused) as raised:
        UnverifiedToken(compact({**HEADER, **extension}))
    assert (raised.value.reason, raised.value.subject) == (Reason.EXTENSION, *extension)


def test_encrypted_token_has_a_reason_of_its_own() -> None:
    assert reason_for(f"{HEAD}.AA.AA.AA.AA") is Reason.ENCRYPTED


def test_header_of_8192_characters_is_read() -> None:
    room = 8192 * 3 // 4 - len(json.dumps({**HEADER, "x": ""}))
    for extra, reason in ((0, None), (3, Reason.MALFORMED)):
        assert reason_for(compact({**HEADER, "x": "y" * (room + extra)})) is reason


def test_token_of_64_kib_is_read() -> None:
    front = f"{HEAD}.{PAYLOAD}."
    signature = "A" * ((65_536 - len(front)) // 4 * 4)
    assert reason_for(front + signature) is None
    assert reason_for(front + signature + "A" * 8) is Reason.MALFORMED


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="not-json"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"[" * 5000, id="deep"),
        pytest.param(b"\xff", id="not-utf-8"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": "\\ud800"}', id="surrogate"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte-order-mark"),
    ],
)
def test_malformed_payload_is_refused_when_it_is_read(payload: bytes) -> None:
    token = UnverifiedToken(compact(HEADER, payload))
    for name in ("claims", "issuer"):
        with pytest.raises(TokenRefused) as raised:
            getattr(token, name)
        assert raised.value.reason is Reason.MALFORMED


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(GOOD, id="as-the-standard-says"),
        pytest.param(f"{HEAD}.{PAYLOAD}.AA==", id="one-segment-padded"),
        pytest.param(".".join(map(padded, (json.dumps(HEADER).encode(), b"{}", b"\xff\xfe"))), id="as-aws-writes-it"),
        pytest.param(f"{HEAD}.{PAYLOAD}.+/+/", id="standard-alphabet"),
    ],
)
def test_padding_and_the_standard_alphabet_may_be_allowed(encoded: str) -> None:
    token = UnverifiedToken(encoded, allow_padding=True)
    assert (token.encoded, token.header, token.claims) == (encoded, HEADER, {})
    assert token.signing_input == encoded.rpartition(".")[0].encode()


@pytest.mark.parametrize("signature", ["AA=", "AA===", "AAAA=", "AAAA====", "=", "A=A=", "A==="])
def test_wrong_padding_is_refused_even_if_padding_is_allowed(signature: str) -> None:
    assert reason_for(f"{HEAD}.{PAYLOAD}.{signature}", allow_padding=True) is Reason.MALFORMED


@given(st.text(st.sampled_from(BASE64URL + "+/=.\n é"), max_size=12))
def test_each_signature_has_one_spelling(segment: str) -> None:
    encoded = f"{HEAD}.{PAYLOAD}.{segment}"
    if reason_for(encoded) is None:
        assert base64url(UnverifiedToken(encoded).signature) == segment


@given(st.text(max_size=200) | st.binary(max_size=200), st.booleans())
def test_whatever_is_sent_is_a_token_or_refused(encoded: Any, allow_padding: bool) -> None:
    assert reason_for(encoded, allow_padding=allow_padding) in {None, *Reason}


_values = st.none() | st.integers() | st.floats() | st.text(max_size=9)


@given(st.recursive(_values, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=9), v), max_leaves=5))
def test_whatever_json_is_in_it_it_is_a_token_or_refused(value: Any) -> None:
    reason_for(compact(value))
    if isinstance(value, dict):
        token = UnverifiedToken(compact(HEADER, value))
        try:
            assert token.claims.keys() == value.keys()
        except TokenRefused as e:
            assert e.reason is Reason.MALFORMED
