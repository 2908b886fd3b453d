"""Whatever is sent as a token, the answer is 200 or 401, and nothing of it gets into a log or the answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import anyio
import jwt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from litestar import Litestar
from litestar.security.jwt import JWTAuth, JWTCookieAuth

from .backends import app_of, backend, base64url, exchange, own_backend
from .hostile import CLAIMS, KEYS, claims, forms, fuzz, headers, mutations, sign, strange_segments, valid_token


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def _attacked(algorithm: str, form: str, kind: Any = JWTAuth) -> tuple[str, Litestar]:
    options: Any = {"accepted_audiences": ["api"], "algorithm": algorithm}
    if algorithm == "HS256":
        return algorithm, app_of(own_backend(kind, **options))
    return algorithm, app_of(backend(forms(algorithm)[form], kind, **options))


# Which forms of keys are given makes no difference any more: see test_differential.py.
TARGETS = {
    "RS256": _attacked("RS256", "object"),
    "RS256 in a cookie": _attacked("RS256", "PEM", JWTCookieAuth),
    "ES256": _attacked("ES256", "PyJWKSet"),
    "EdDSA": _attacked("EdDSA", "PyJWK"),
    "HS256": _attacked("HS256", "text"),
}
each_target = pytest.mark.parametrize("target", TARGETS)


def send(app: Litestar, *fields: tuple[bytes, bytes]) -> Answer:
    sent = anyio.run(partial(exchange, app, fields))
    answered = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:]).decode())


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Collect what is logged at whatever level."""
    lines: list[str] = []
    collector = logging.Handler()
    setattr(collector, "emit", lambda record: lines.append(collector.format(record)))
    loggers = [logging.getLogger(name) for name in ("", "litestar", "litestar.security.jwt")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(collector)
            logger.setLevel(level)


def offer(target: str, token: str) -> Answer:
    """Send a token twice, as it would arrive if a server let it through."""
    algorithm, app = TARGETS[target]
    field = (b"authorization", b"Bearer " + token.encode("latin-1", "replace"))
    if "cookie" in target and token.isascii():
        field = (b"cookie", b"token=" + token.encode())
    with everything_logged() as lines:
        answer = send(app, field)
        assert send(app, field) == answer
    parts = [part for part in (token, *token.split(".")) if len(part) > 8]
    shown = lines if answer.status == 200 else [*lines, *answer.headers.values(), answer.body]
    assert not [line for line in shown if "canary" in line or any(part in line for part in parts)]
    if answer.status == 200:
        key = KEYS[algorithm]
        verified = jwt.decode(token, key if algorithm == "HS256" else key.public_key(), [algorithm], audience="api")
        assert answer.body == verified["sub"]
    else:
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert json.loads(answer.body)["status_code"] == 401
    return answer


@each_target
def test_untouched_token_is_accepted(target: str) -> None:
    assert offer(target, valid_token(TARGETS[target][0])).body == CLAIMS["sub"]


@each_target
@given(data=st.data())
@fuzz(800, default=10)
def test_changed_token_is_refused(target: str, data: st.DataObject) -> None:
    good = valid_token(TARGETS[target][0])
    token = data.draw(mutations(good))
    assume(token.rstrip("=") != good and token)
    answer = offer(target, token)
    assert answer.status == 401
    if "cookie" not in target and token.isprintable():
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@each_target
@given(data=st.data())
@fuzz(800, default=10)
def test_whatever_an_issuer_signs_is_no_server_error(target: str, data: st.DataObject) -> None:
    algorithm = TARGETS[target][0]
    header = data.draw(headers(algorithm) | strange_segments)
    offer(target, sign(header, data.draw(claims | strange_segments), algorithm))


@each_target
@given(data=st.data(), signature=st.binary(max_size=300) | st.sampled_from([b"", b"\x00" * 64, b"\x00" * 256]))
@fuzz(400, default=6)
def test_token_that_nobody_signed_is_refused(target: str, data: st.DataObject, signature: bytes) -> None:
    header = data.draw(headers(TARGETS[target][0]) | strange_segments)
    payload = data.draw(claims | strange_segments)
    assert offer(target, ".".join(map(base64url, (header, payload, signature)))).status == 401


FIELDS = st.binary(max_size=60) | st.sampled_from(
    [b"", b" ", b"Bearer", b"bearer  ", b"Basic Zm9vOmJhcg==", b"Bearer .."]
)


@each_target
@given(values=st.lists(FIELDS, max_size=5), cookies=st.lists(FIELDS, max_size=3))
@fuzz(100, default=6)
def test_garbage_in_headers_is_refused(target: str, values: list[bytes], cookies: list[bytes]) -> None:
    fields = [(b"authorization", value) for value in values] + [(b"cookie", b"token=" + value) for value in cookies]
    assert send(TARGETS[target][1], *fields).status == 401


@pytest.mark.parametrize("depth", [100, 5_000])
@pytest.mark.parametrize("target", ["RS256", "HS256"])
def test_depth_and_length_are_no_server_error(target: str, depth: int) -> None:
    deep, good = b"[" * depth + b"]" * depth, json.dumps(CLAIMS).encode()
    offer(target, sign(b'{"alg": "%s"}' % target.encode(), good[:-1] + b', "deep": ' + deep + b"}", target))
    offer(target, sign(b'{"alg": "%s", "deep": %s}' % (target.encode(), deep), good, target))
    for token in ("." * 100 * depth, "A" * 100 * depth, "e30." * 100 * depth):
        assert offer(target, token).status == 401


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg": "none"}',
        b'{"alg": "HS512"}',
        b'{"alg": "RS256", "crit": ["exp"]}',
        b'{"alg": "RS256", "alg": "RS256"}',
        b"{",
    ],
)
def test_cheap_checks_come_before_the_mathematics(header: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    token = sign(header, json.dumps(CLAIMS).encode(), "RS256")
    monkeypatch.setattr("jwt.algorithms.RSAAlgorithm.verify", lambda *_: pytest.fail("verified"))
    assert offer("RS256", token).status == 401
