"""Whatever is sent as a token, the answer is 200 or 401, and nothing of it gets into a log or the answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jwt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from litestar import Litestar
from litestar.security.jwt import JWTAuth, JWTCookieAuth
from tests.unit.test_security.test_jwt.backends import retrieve_user, whoami
from tests.unit.test_security.test_jwt.hostile import (
    CLAIMS,
    KEYS,
    SECRET,
    base64url,
    claims,
    forms,
    fuzz,
    headers,
    mutations,
    sign,
    strange_segments,
    valid_token,
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def _attacked(algorithm: str, form: str, kind: Callable[..., Any]) -> Litestar:
    given: dict[str, Any] = {"token_secret": SECRET}
    if algorithm != "HS256":
        given = {"key_provider": forms(algorithm)[form], "algorithm": algorithm}
        if form == "tuple":  # a backend refuses keys that are not for its algorithm
            given["algorithm"] = [algorithm, "ES384"]
    auth = kind(retrieve_user_handler=retrieve_user, accepted_audiences=["api"], **given)
    return Litestar([whoami], on_app_init=[auth.on_app_init], openapi_config=None)


ATTACKED = [(algorithm, form, JWTAuth) for algorithm in KEYS for form in forms(algorithm) if algorithm != "HS256"]
TARGETS: dict[str, tuple[str, Litestar]] = {
    f"{algorithm} {form} {kind.__name__}": (algorithm, _attacked(algorithm, form, kind))
    for algorithm, form, kind in [*ATTACKED, ("RS256", "object", JWTCookieAuth), ("HS256", "", JWTAuth)]
}


def send(app: Litestar, *fields: tuple[bytes, bytes]) -> Answer:
    sent: list[Any] = []

    async def exchange() -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "scheme": "http", "http_version": "1.1"}
        scope |= {"asgi": {"version": "3.0"}, "server": ("localhost", 80), "client": ("localhost", 1)}
        scope |= {"path": "/", "raw_path": b"/", "root_path": "", "query_string": b"", "headers": fields}

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def collect(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, collect)  # type: ignore[arg-type]

    asyncio.run(exchange())
    answered = {name.decode().lower(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, b"".join(m.get("body", b"") for m in sent[1:]).decode())


@contextmanager
def everything_logged() -> Iterator[list[str]]:
    """Collect what is logged at whatever level."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    loggers, collector = (logging.getLogger(), logging.getLogger("litestar.security.jwt")), Collector()
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(collector)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        loggers[0].removeHandler(collector)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def offer(target: str, token: str) -> Answer:
    """Send a token twice, as it would arrive if a server let it through."""
    algorithm, app = TARGETS[target]
    field = (b"authorization", b"Bearer " + token.encode("latin-1", "replace"))
    if "Cookie" in target and token.isascii():
        field = (b"cookie", b"token=" + token.encode("latin-1", "replace"))
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


@pytest.mark.parametrize("target", TARGETS)
def test_untouched_token_is_accepted(target: str) -> None:
    assert offer(target, valid_token(TARGETS[target][0])).body == CLAIMS["sub"]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@fuzz(800, default=6)
def test_changed_token_is_refused(target: str, data: st.DataObject) -> None:
    good = valid_token(TARGETS[target][0])
    token = data.draw(mutations(good))
    assume(token.rstrip("=") != good and token)
    answer = offer(target, token)
    assert answer.status == 401
    if "Cookie" not in target and token.isprintable():
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data())
@fuzz(800, default=6)
def test_whatever_an_issuer_signs_is_no_server_error(target: str, data: st.DataObject) -> None:
    algorithm = TARGETS[target][0]
    header = data.draw(headers(algorithm) | strange_segments)
    offer(target, sign(header, data.draw(claims | strange_segments), algorithm))


@pytest.mark.parametrize("target", TARGETS)
@given(data=st.data(), signature=st.binary(max_size=300) | st.sampled_from([b"", b"\x00" * 64, b"\x00" * 256]))
@fuzz(400, default=4)
def test_token_that_nobody_signed_is_refused(target: str, data: st.DataObject, signature: bytes) -> None:
    header = data.draw(headers(TARGETS[target][0]) | strange_segments)
    payload = data.draw(claims | strange_segments)
    assert offer(target, ".".join(map(base64url, (header, payload, signature)))).status == 401


FIELDS = st.binary(max_size=60) | st.sampled_from(
    [b"", b" ", b"Bearer", b"bearer  ", b"Basic Zm9vOmJhcg==", b"Bearer .."]
)


@pytest.mark.parametrize("target", TARGETS)
@given(values=st.lists(FIELDS, max_size=5), cookies=st.lists(FIELDS, max_size=3))
@fuzz(100, default=4)
def test_garbage_in_headers_is_refused(target: str, values: list[bytes], cookies: list[bytes]) -> None:
    fields = [(b"authorization", value) for value in values] + [(b"cookie", b"token=" + value) for value in cookies]
    assert send(TARGETS[target][1], *fields).status == 401


@pytest.mark.parametrize("depth", [100, 5_000])
@pytest.mark.parametrize("target", ["RS256 object JWTAuth", "HS256  JWTAuth"])
def test_depth_and_length_are_no_server_error(target: str, depth: int) -> None:
    algorithm = TARGETS[target][0]
    deep, name, good = b"[" * depth + b"]" * depth, algorithm.encode(), json.dumps(CLAIMS).encode()
    offer(target, sign(b'{"alg": "%s"}' % name, good[:-1] + b', "deep": ' + deep + b"}", algorithm))
    offer(target, sign(b'{"alg": "%s", "deep": %s}' % (name, deep), good, algorithm))
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
    assert offer("RS256 object JWTAuth", token).status == 401
