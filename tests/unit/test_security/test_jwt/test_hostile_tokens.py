from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import jwt
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from litestar import Litestar
from litestar.security.jwt import JWTAuth, JWTCookieAuth, OAuth2PasswordBearerAuth, RemoteJWKSet, UnverifiedToken
from litestar.security.jwt.testing import LocalIssuer
from litestar.security.jwt.unverified import MAX_TOKEN_LENGTH
from tests.unit.test_security.test_jwt.hostile import (
    ALGORITHMS,
    CLAIMS,
    EC_KEY,
    ED_KEY,
    NOW,
    RSA_KEY,
    SECRET,
    base64url,
    claims,
    headers,
    mutations,
    sign,
    strange_segments,
    valid_token,
)
from tests.unit.test_security.test_jwt.injected import retrieve_user, whoami

BACKENDS: dict[str, Callable[..., Any]] = {
    "header": JWTAuth,
    "cookie": JWTCookieAuth,
    "oauth": lambda **options: OAuth2PasswordBearerAuth(token_url="/login", **options),
}
KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "secret": ("HS256", {"token_secret": SECRET, "accepted_audiences": ["api"]}),
    "rsa": ("RS256", {"key_provider": RSA_KEY.public_key(), "accepted_audiences": ["api"]}),
    "ec": ("ES256", {"key_provider": EC_KEY.public_key(), "accepted_audiences": ["api"]}),
    "ed": ("EdDSA", {"key_provider": ED_KEY.public_key(), "accepted_audiences": ["api"]}),
    "remote": ("RS256", {"accepted_audiences": ["api"], "accepted_issuers": [CLAIMS["iss"]]}),
}
FUZZED = [(backend, key) for backend in BACKENDS for key in KEYS]
fuzz = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: Any


class Target:
    """An app under attack, with the algorithm of its tokens."""

    def __init__(self, app: Litestar, algorithm: str, kid: str | None, portal: BlockingPortal) -> None:
        self.app = app
        self.algorithm = algorithm
        self.token = valid_token(algorithm, kid)
        self.portal = portal

    def send(self, *fields: tuple[bytes, bytes]) -> Answer:
        answer: Answer = self.portal.call(_request, self.app, list(fields))
        return answer

    def offer(self, token: str) -> Answer:
        """Send a token in a header, or what cannot be sent there as it would arrive if a server let it through."""
        return self.send((b"authorization", b"Bearer " + token.encode("latin-1", "replace")))

    def offer_cookie(self, token: str) -> Answer:
        return self.send((b"cookie", b"token=" + token.encode("latin-1", "replace")))


async def _request(app: Litestar, fields: list[tuple[bytes, bytes]]) -> Answer:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "server": ("localhost", 80),
        "client": ("localhost", 1),
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "query_string": b"",
        "headers": fields,
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)  # type: ignore[arg-type]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    fields_sent = {name.lower(): value for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], fields_sent, json.loads(body) if body.startswith(b"{") else body)


@pytest.fixture(scope="module")
def target() -> Iterator[Callable[[str, str], Target]]:
    """Apps by their backend and key, each started once."""
    with ExitStack() as stack:
        issuer = stack.enter_context(LocalIssuer(CLAIMS["iss"], keys=[RSA_KEY]))
        portal = stack.enter_context(start_blocking_portal())
        started: dict[tuple[str, str], Target] = {}

        def start(backend: str, key: str) -> Target:
            if (backend, key) not in started:
                algorithm, options = KEYS[key]
                if key == "remote":
                    options = {**options, "key_provider": RemoteJWKSet(issuer.jwks_url)}
                auth = BACKENDS[backend](retrieve_user_handler=retrieve_user, **options)
                app = Litestar([whoami], on_app_init=[auth.on_app_init], openapi_config=None)
                stack.enter_context(portal.wrap_async_context_manager(app.lifespan()))
                kid = issuer.kid if key == "remote" else None
                started[backend, key] = Target(app, algorithm, kid, portal)
            return started[backend, key]

        yield start


@contextmanager
def nothing_logged_of(token: str) -> Iterator[None]:
    """Check that no part of a token gets into a log, at whatever level."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root, collector = logging.getLogger(), Collector()
    level = root.level
    root.addHandler(collector)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.removeHandler(collector)
        root.setLevel(level)
    parts = [part for part in (token, *token.split(".")) if len(part) > 8]
    assert not [line for line in lines if "canary" in line or any(part in line for part in parts)]


def assert_refused(answer: Answer) -> None:
    assert answer.status == 401
    assert answer.body == {"status_code": 401, "detail": "Invalid token"}
    assert answer.headers[b"www-authenticate"] == b'Bearer error="invalid_token"'


def assert_refused_or_taken_whole(answer: Answer, token: str) -> None:
    """Whatever an issuer signs may be taken as it is, or refused."""
    if answer.status == 200:
        assert json.loads(jwt.PyJWS().decode(token, options={"verify_signature": False}))["sub"]
    else:
        assert_refused(answer)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_untouched_token_is_accepted(target: Callable[[str, str], Target], backend: str, key: str) -> None:
    attacked = target(backend, key)
    assert attacked.offer(attacked.token) == attacked.offer(attacked.token)
    assert attacked.offer(attacked.token).body == b"canary-subject"
    assert attacked.offer_cookie(attacked.token).status == (401 if backend == "header" else 200)


@pytest.mark.parametrize(("backend", "key"), FUZZED)
@given(data=st.data())
@fuzz
def test_changed_token_is_refused(
    target: Callable[[str, str], Target], backend: str, key: str, data: st.DataObject
) -> None:
    attacked = target(backend, key)
    token = data.draw(mutations(attacked.token))
    assume(token != attacked.token)
    with nothing_logged_of(token):
        answer = attacked.offer(token)
        if not token:
            assert answer.status == 401
        else:
            assert_refused(answer)
        if backend != "header":
            assert attacked.offer_cookie(token).status == 401


@pytest.mark.parametrize(("backend", "key"), FUZZED)
@given(data=st.data())
@fuzz
def test_whatever_an_issuer_signs_is_no_server_error(
    target: Callable[[str, str], Target], backend: str, key: str, data: st.DataObject
) -> None:
    attacked = target(backend, key)
    header = data.draw(headers(attacked.algorithm) | strange_segments)
    payload = data.draw(claims | strange_segments)
    token = sign(header, payload, attacked.algorithm)
    with nothing_logged_of(token):
        assert_refused_or_taken_whole(attacked.offer(token), token)


@pytest.mark.parametrize(("backend", "key"), FUZZED)
@given(data=st.data())
@fuzz
def test_token_that_nobody_signed_is_refused(
    target: Callable[[str, str], Target], backend: str, key: str, data: st.DataObject
) -> None:
    attacked = target(backend, key)
    header = data.draw(headers(attacked.algorithm) | strange_segments)
    payload = data.draw(claims | strange_segments)
    signature = data.draw(st.binary(max_size=300) | st.sampled_from([b"", b"\x00" * 64, b"\x00" * 256]))
    token = f"{base64url(header)}.{base64url(payload)}.{base64url(signature)}"
    with nothing_logged_of(token):
        assert_refused(attacked.offer(token))


_field_values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b" ", b"Bearer", b"Bearer ", b"bearer  ", b"Basic Zm9vOmJhcg==", b"Bearer\t", b"Bearer ..", b"\xff" * 40]
    ),
)


@pytest.mark.parametrize("backend", BACKENDS)
@given(values=st.lists(_field_values, max_size=5), cookies=st.lists(_field_values, max_size=3))
@fuzz
def test_garbage_in_headers_is_refused(
    target: Callable[[str, str], Target], backend: str, values: list[bytes], cookies: list[bytes]
) -> None:
    fields = [(b"authorization", value) for value in values]
    fields += [(b"cookie", b"token=" + cookie) for cookie in cookies]
    answer = target(backend, "rsa").send(*fields)
    assert answer.status == 401
    assert answer.headers[b"www-authenticate"].startswith(b"Bearer")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
def test_case_of_the_scheme_does_not_matter(target: Callable[[str, str], Target], backend: str, scheme: bytes) -> None:
    attacked = target(backend, "rsa")
    assert attacked.send((b"authorization", scheme + b" " + attacked.token.encode())).status == 200


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_of_a_thousand_headers_is_read(target: Callable[[str, str], Target], backend: str) -> None:
    attacked = target(backend, "rsa")
    noise = [(b"x-%d" % number, b"Bearer " + attacked.token.encode()) for number in range(1000)]
    assert attacked.send(*noise).status == 401
    assert attacked.send(*noise, (b"authorization", b"Bearer " + attacked.token.encode())).status == 200


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_several_authorization_headers_one_decides_alone(target: Callable[[str, str], Target], backend: str) -> None:
    attacked = target(backend, "rsa")
    good = (b"authorization", b"Bearer " + attacked.token.encode())
    bad = (b"authorization", b"Bearer " + attacked.token[:-8].encode() + b"AAAAAAAA")
    statuses = {attacked.send(good, bad).status, attacked.send(bad, good).status}
    assert statuses == {200, 401}
    joined = (b"authorization", good[1] + b", " + good[1])
    assert_refused(attacked.send(joined))


@pytest.mark.parametrize("key", KEYS)
def test_token_beyond_the_limit_is_refused_whatever_it_is(target: Callable[[str, str], Target], key: str) -> None:
    attacked = target("header", key)
    padded = json.dumps({**CLAIMS, "padding": "x" * MAX_TOKEN_LENGTH}).encode()
    header = attacked.token.split(".")[0]
    token = sign(json.dumps({"alg": attacked.algorithm}).encode(), padded, attacked.algorithm)
    assert_refused(attacked.offer(token))
    assert_refused(attacked.offer("." * 10_000_000))
    assert_refused(attacked.offer(header * 100_000))


@pytest.mark.parametrize("depth", [100, 1_000, 5_000])
@pytest.mark.parametrize("key", KEYS)
def test_depth_of_a_token_is_no_server_error(target: Callable[[str, str], Target], key: str, depth: int) -> None:
    attacked = target("header", key)
    deep = b"[" * depth + b"]" * depth
    members = json.dumps(CLAIMS).encode()[:-1] + b', "deep": ' + deep + b"}"
    header = b'{"alg": "%s", "deep": %s}' % (attacked.algorithm.encode(), deep)
    plain = json.dumps({"alg": attacked.algorithm}).encode()
    for token in (
        sign(plain, members, attacked.algorithm),
        sign(header, json.dumps(CLAIMS).encode(), attacked.algorithm),
    ):
        assert_refused_or_taken_whole(attacked.offer(token), token)


@pytest.mark.parametrize("changed", [{"exp": NOW - 100_000}, {"nbf": NOW + 100_000}, {"iat": NOW + 100_000}])
@pytest.mark.parametrize(("leeway", "status"), [(0, 401), (50_000, 401), (300_000, 200), (timedelta(days=4), 200)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_clocks_may_be_apart_by_the_leeway(
    target: Callable[[str, str], Target], backend: str, leeway: Any, status: int, changed: dict[str, int]
) -> None:
    auth = BACKENDS[backend](retrieve_user_handler=retrieve_user, token_secret=SECRET, leeway=leeway)
    app = Litestar([whoami], on_app_init=[auth.on_app_init], openapi_config=None)
    token = sign(b'{"alg": "HS256"}', json.dumps({**CLAIMS, **changed}).encode(), "HS256")
    assert Target(app, "HS256", None, target(backend, "secret").portal).offer(token).status == status


SPOILT: dict[str, Callable[[Target], str]] = {
    "not three segments": lambda t: t.token + ".x",
    "not base64url": lambda t: t.token.replace("e", "é", 1),
    "padded": lambda t: t.token + "=",
    "long header": lambda t: sign(
        b'{"alg": "%s", "x": "%s"}' % (t.algorithm.encode(), b"x" * 9_000), b"{}", t.algorithm
    ),
    "no JSON in the header": lambda t: sign(b"{", b"{}", t.algorithm),
    "a member twice": lambda t: sign(
        b'{"alg": "%s", "kid": "a", "kid": "b"}' % t.algorithm.encode(), b"{}", t.algorithm
    ),
    "crit": lambda t: sign(b'{"alg": "%s", "crit": ["exp"]}' % t.algorithm.encode(), b"{}", t.algorithm),
    "zip": lambda t: sign(b'{"alg": "%s", "zip": "DEF"}' % t.algorithm.encode(), b"{}", t.algorithm),
    "none": lambda t: sign(b'{"alg": "none"}', b"{}", t.algorithm),
    "another algorithm": lambda t: sign(b'{"alg": "HS512"}', b"{}", t.algorithm),
    "too long": lambda t: t.token + "A" * MAX_TOKEN_LENGTH,
}


@pytest.mark.parametrize("defect", SPOILT)
@pytest.mark.parametrize("key", KEYS)
def test_cheap_checks_come_before_cryptography(
    target: Callable[[str, str], Target], key: str, defect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked = target("header", key)
    verified: list[str] = []
    algorithm = type(jwt.get_algorithm_by_name(attacked.algorithm))
    verify = algorithm.verify

    def counting(self: Any, message: Any, key: Any, signature: Any) -> bool:
        verified.append("once")
        return verify(self, message, key, signature)

    monkeypatch.setattr(algorithm, "verify", counting)
    assert_refused(attacked.offer(SPOILT[defect](attacked)))
    assert not verified
    assert attacked.offer(attacked.token).status == 200
    assert verified == ["once"]


def test_unknown_key_id_costs_no_cryptography(
    target: Callable[[str, str], Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked = target("header", "remote")
    assert attacked.offer(attacked.token).status == 200
    monkeypatch.setattr(type(jwt.get_algorithm_by_name("RS256")), "verify", lambda *_: pytest.fail("verified"))
    assert_refused(attacked.offer(valid_token("RS256", "nobody's")))


def test_claims_are_read_alike_before_and_after_verification() -> None:
    """Of a claim that is there twice, the last counts, for those who look up keys by it as for those who verify it."""
    payload = b'{"iss": "first", "iss": "last", "nested": {"a": 1, "a": 2}}'
    token = sign(b'{"alg": "RS256"}', payload, "RS256")
    verified = jwt.decode(token, RSA_KEY.public_key(), ["RS256"])
    assert UnverifiedToken(token).claims == verified == {"iss": "last", "nested": {"a": 2}}


def test_keys_of_the_tests_are_of_every_kind() -> None:
    assert {algorithm for algorithm, _ in KEYS.values()} == set(ALGORITHMS)
