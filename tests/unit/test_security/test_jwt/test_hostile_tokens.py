"""Whatever is sent as a token, it is accepted only if PyJWT accepts it. The answer is 200 or 401, and repeats nothing of it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import anyio
import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litestar.exceptions import NotAuthorizedException
from litestar.security.jwt import JWTCookieAuth, Reason, Token, TokenRefused

from .backends import PRIVATE_KEYS, SECRET, app_of, backend, base64url, send_request, sign

NOW = int(time.time())
CLAIMS = {"sub": "canary-subject", "iss": "https://issuer.test", "aud": "api", "iat": NOW - 60, "exp": NOW + 86_400}
PAYLOAD = json.dumps(CLAIMS).encode()
KEYS: dict[str, Any] = {**PRIVATE_KEYS, "HS256": SECRET}
VERIFYING: dict[str, Any] = {name: key if name == "HS256" else key.public_key() for name, key in KEYS.items()}
APPS = {name: app_of(backend([key], JWTCookieAuth, key_algorithms=name)) for name, key in VERIFYING.items()}
# Why a token is refused that PyJWT accepts.
STRICTER = {
    Reason.MALFORMED,
    Reason.EXTENSION,
    Reason.TYPE,
    Reason.BOUND,
    Reason.UNKNOWN_KEY,
    Reason.MISSING_CLAIM,
    Reason.INVALID_CLAIM,
    Reason.CLAIMS,
}
LINES: list[str] = []
each_algorithm = pytest.mark.parametrize("algorithm", KEYS)
# With FUZZING=thorough in the environment, as many tokens are tried as it takes to be sure.
QUICK = os.environ.get("FUZZING") != "thorough"
fuzz = settings(
    deadline=None,
    derandomize=QUICK,
    max_examples=40 if QUICK else 2_000,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True, scope="module")
def _collect_logs() -> Iterator[None]:
    """Collect what is logged by whomever, at whatever level."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("logging.Logger.isEnabledFor", lambda *_: True)
        patch.setattr("logging.Logger.handle", lambda _, record: LINES.append(logging.Formatter().format(record)))
        yield


def plain(algorithm: str) -> bytes:
    return b'{"alg": "%s", "typ": "JWT"}' % algorithm.encode()


_texts = st.text(max_size=12) | st.sampled_from(
    ["", " ", "\x00", "\ud800", "\u202e", "null", "a" * 3000, "api", "JWT", "RS256", "none"]
)
_times = st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e308, NOW, NOW + 1000, NOW - 1000, NOW + 0.5, str(NOW + 99)])
_json = st.sampled_from([50, 400]).map(lambda depth: json.loads("[" * depth + "]" * depth)) | st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | _times | _texts,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(_texts, values, max_size=3),
    max_leaves=6,
)
_STRANGE = [
    *(b"", b"{", b"{}", b"null", b"[]", b'""', b"0", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"{'a': 1}"),
    *(b"[" * 9_999, b'{"a":' * 5_000, b"9" * 5_000, b'{"alg": "HS256", "alg": "none"}', b'{"exp": NaN}'),
    *(b'{"sub": "\\ud800"}', b'{"sub": "\xff"}', b"{} {}", b"{}\x00", b'{"a": 1,}', b'{"a": Infinity}'),
]
_strange = st.binary(max_size=40) | _json.map(lambda value: json.dumps(value).encode()) | st.sampled_from(_STRANGE)


@st.composite
def objects(draw: Any, base: dict[str, Any], names: str) -> bytes:
    """Make the JSON text of an object with members changed, left out, or there twice."""
    changed = {**base, **draw(st.dictionaries(st.sampled_from(names.split()) | _texts, _json, max_size=3))}
    name, fate = draw(st.sampled_from(sorted(base))), draw(st.integers(0, 9))
    if fate == 0:
        changed.pop(name)
    text = json.dumps(changed, ensure_ascii=draw(st.booleans()))
    if fate == 1:
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(draw(_json))}}}"
    return text.encode("utf-8", "surrogatepass")


payloads = objects(CLAIMS, "sub iss aud exp nbf iat jti extras cnf scope é") | _strange


def headers(algorithm: str) -> Any:
    members = "alg typ cty kid jku jwk x5u x5c x5t crit b64 zip enc"
    return objects(json.loads(plain(algorithm)), members) | st.just(plain(algorithm)) | _strange


@st.composite
def mutations(draw: Any, token: str) -> str:
    """Change a token so that its bytes differ, on whatever level."""
    parts, position, segment = token.split("."), draw(st.integers(0, len(token) - 1)), draw(st.integers(0, 2))
    part, inserted = (
        parts[segment],
        draw(st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=1, max_size=9)),
    )
    spellings = [
        part + "=" * draw(st.integers(1, 4)),
        part[:5] + draw(st.sampled_from("\t+/ \n\r\x00%~")) + part[5:],
        part[:-1] + chr(ord(part[-1]) ^ 1),  # perhaps bits that do not count
        draw(st.sampled_from(["", "e30", "bnVsbA", parts[0] * 2, part.swapcase()])),
    ]
    changed = [".".join([*parts[:segment], spelled, *parts[segment + 1 :]]) for spelled in spellings]
    whole = [token[:position] + inserted + token[position + cut :] for cut in (0, 1)]
    whole += [token[:position] + token[position + 1 :], token[:position], ".".join(draw(st.permutations(parts)))]
    return str(draw(st.sampled_from([*whole, *changed, token + draw(st.sampled_from([".", ".AA", ".AA.AA"]))])))


def pyjwt_claims(token: str, algorithm: str) -> dict[str, Any] | None:
    try:
        return jwt.decode(token, VERIFYING[algorithm], [algorithm], leeway=30, options={"verify_aud": False})
    except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError, RecursionError):  # its ways to stumble
        return None


def reason_for(token: str, algorithm: str) -> Reason | None:
    try:
        Token.decode(token, [VERIFYING[algorithm]], algorithm)
    except NotAuthorizedException as e:
        assert isinstance(e.__cause__, TokenRefused)
        return e.__cause__.reason
    return None


def answer_to(algorithm: str, *fields: tuple[bytes, bytes]) -> tuple[int, dict[str, str], str]:
    start, *rest = anyio.run(send_request, APPS[algorithm], fields)
    shown = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
    return start["status"], shown, b"".join(message.get("body", b"") for message in rest).decode()


def is_accepted(token: str, algorithm: str) -> bool:
    """Send a token to an application in a header twice, and in a cookie. Tell whether it is accepted in the header."""
    LINES.clear()
    claims, header = pyjwt_claims(token, algorithm), (b"authorization", b"Bearer " + token.encode("latin-1"))
    answers = [answer_to(algorithm, header), answer_to(algorithm, header)]
    assert answers[0] == answers[1]
    if token.isascii():
        answers.append(answer_to(algorithm, (b"cookie", b"token=" + token.encode())))
    parts = [part for part in (token, *token.split("."), "canary") if len(part) > 5]
    for status, fields, body in answers:
        if status == 200:
            claims = claims or pyjwt_claims(token.strip(), algorithm)  # so cookies are read
            assert claims is not None
            assert body == claims["sub"]
        else:
            assert (status, json.loads(body)["status_code"]) == (401, 401)
            assert fields["www-authenticate"].startswith("Bearer")
        shown = LINES if status == 200 else [*LINES, *fields.values(), body]
        assert not [line for line in shown if any(part in line for part in parts)]
    return answers[0][0] == 200


def check(token: str, algorithm: str) -> bool:
    """Compare all ways to verify a token, and tell whether it is accepted."""
    reason, by_pyjwt = reason_for(token, algorithm), pyjwt_claims(token, algorithm) is not None
    assert by_pyjwt if reason is None else (not by_pyjwt or reason in STRICTER)
    assert is_accepted(token, algorithm) == (reason is None)
    return reason is None


@each_algorithm
@given(data=st.data())
@fuzz
def test_whatever_an_issuer_signs_is_accepted_only_if_pyjwt_accepts_it(algorithm: str, data: st.DataObject) -> None:
    check(sign(data.draw(headers(algorithm)), data.draw(payloads), KEYS[algorithm], algorithm), algorithm)


@each_algorithm
@given(data=st.data())
@fuzz
def test_changed_or_unsigned_token_is_refused(algorithm: str, data: st.DataObject) -> None:
    good = sign(plain(algorithm), PAYLOAD, KEYS[algorithm], algorithm)
    signatures = st.binary(max_size=300) | st.sampled_from([b"", bytes(64), bytes(256)])
    made_up = st.tuples(headers(algorithm), payloads, signatures).map(lambda parts: ".".join(map(base64url, parts)))
    token = data.draw((mutations(good) | made_up).filter(bool))
    assert not check(token, algorithm) or token == good


@each_algorithm
def test_good_token_has_one_spelling(algorithm: str) -> None:
    good = sign(plain(algorithm), PAYLOAD, KEYS[algorithm], algorithm)
    assert check(good, algorithm)
    spellings = [f"{good}==", f"{good}===", f"{good}\n", good.replace(".", ".."), ".!".join(good.rsplit(".", 1))]
    spellings += [good[:-1] + chr(ord(good[-1]) + bit) for bit in (1, 2)]
    assert not any(check(token, algorithm) for token in spellings)


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
@pytest.mark.parametrize("depth", [100, 5_000])
def test_depth_and_length_are_no_server_error(algorithm: str, depth: int) -> None:
    deep = b', "deep": ' + b"[" * depth + b"]" * depth + b"}"
    is_accepted(sign(plain(algorithm), PAYLOAD[:-1] + deep, KEYS[algorithm], algorithm), algorithm)
    is_accepted(sign(plain(algorithm)[:-1] + deep, PAYLOAD, KEYS[algorithm], algorithm), algorithm)
    assert not any(is_accepted(text * 100 * depth, algorithm) for text in (".", "A", "e30."))


_fields = st.binary(max_size=60) | st.sampled_from(b"|=|Bearer|bearer  |Basic Zm9vOmJhcg==|Bearer ..".split(b"|"))


@given(values=st.lists(_fields, max_size=5), cookies=st.lists(_fields, max_size=3))
@fuzz
def test_garbage_in_headers_is_refused(values: list[bytes], cookies: list[bytes]) -> None:
    fields = [(b"authorization", value) for value in values] + [(b"cookie", b"token=" + value) for value in cookies]
    assert [answer_to(algorithm, *fields)[0] for algorithm in ("RS256", "HS256")] == [401, 401]


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        *(pytest.param(b'{"alg": %b}' % rest, {}, id=rest.decode()) for rest in (b'"none"', b'"HS512"', b"")),
        pytest.param(b'{"alg": "RS256", "crit": ["exp"]}', {}, id="extension"),
        pytest.param(b'{"alg": "RS256", "alg": "RS256"}', {}, id="member-twice"),
        pytest.param(b'{"alg": "RS256", "typ": "dpop+jwt"}', {}, id="type"),
        pytest.param(b'{"alg": "RS256"}', {"cnf": {}}, id="bound"),
    ],
)
def test_cheap_checks_come_before_the_mathematics(header: bytes, claims: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", lambda *_: pytest.fail("verified"))
    token = sign(header, {**CLAIMS, **claims}, KEYS["RS256"], "RS256")
    assert answer_to("RS256", (b"authorization", b"Bearer " + token.encode()))[0] == 401
