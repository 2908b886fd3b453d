"""Remembering tokens that have been verified, which spares the mathematics and nothing else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any, Self

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from litestar import Controller, Litestar, Request, Router, get
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import JWTAuthenticationMiddleware, JWTCookieAuth, Key, RemoteJWKSet, Token, UnverifiedToken
from litestar.security.jwt._verified import Recollection, VerifiedTokens
from litestar.security.jwt._verifier import _Verifier
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.hostile import ALGORITHMS, mutations, valid_token
from tests.unit.test_security.test_jwt.injected import backend, status_of, whoami


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer(audience="api")


@pytest.fixture()
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What RSA signatures were verified of."""
    seen: list[bytes] = []
    verify = RSAAlgorithm.verify

    def verify_and_note(self: RSAAlgorithm, msg: bytes, key: RSAPublicKey, sig: bytes) -> bool:
        seen.append(msg)
        return verify(self, msg, key, sig)

    monkeypatch.setattr(RSAAlgorithm, "verify", verify_and_note)
    return seen


@pytest.fixture()
def travel(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that moves the clock of this process, and of PyJWT, by a number of seconds."""
    offset = 0.0
    now = time.time

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(now() + offset, tz)

    def move(seconds: float) -> None:
        nonlocal offset
        offset += seconds

    monkeypatch.setattr("time.time", lambda: now() + offset)
    monkeypatch.setattr("jwt.api_jwt.datetime", Clock)
    return move


def remembering(key_provider: Any, *handlers: Any, size: int = 10, **options: Any) -> TestClient[Litestar]:
    auth = backend(key_provider, **{"verified_token_cache_size": size, **options})
    return TestClient(Litestar(list(handlers or [whoami]), on_app_init=[auth.on_app_init]))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def statuses(client: TestClient[Litestar], *tokens: str) -> list[int]:
    return [client.get("/", headers=bearer(token)).status_code for token in tokens]


@pytest.mark.parametrize(("size", "expected"), [(0, 3), (1, 1), (10, 1)])
def test_signature_of_a_repeated_token_is_verified_once_if_tokens_are_remembered(
    size: int, expected: int, issuer: LocalIssuer, verifications: list[bytes]
) -> None:
    token = issuer.token()
    with remembering(issuer.key_provider, size=size) as client:
        assert statuses(client, token, token, token) == [200] * 3
    assert len(verifications) == expected


KEYS: dict[str, Callable[[LocalIssuer], Any]] = {
    "PEM": lambda issuer: issuer.public_pem,
    "bytes": lambda issuer: issuer.public_pem.encode(),
    "public key": lambda issuer: issuer.private_key.public_key(),
    "private key": lambda issuer: issuer.private_key,
    "PyJWK": lambda issuer: issuer.pyjwk,
    "PyJWKSet": lambda issuer: jwt.PyJWKSet.from_dict(issuer.jwks),
    "several": lambda issuer: [LocalIssuer().public_pem, issuer.public_pem],
}


@pytest.mark.parametrize("form", KEYS)
@pytest.mark.parametrize("option", ["key_provider", "token_secret"])
def test_token_is_known_with_keys_in_every_form(
    form: str, option: str, issuer: LocalIssuer, verifications: list[bytes]
) -> None:
    token = issuer.token()
    options = {"algorithm": "RS256", "key_provider": None, option: KEYS[form](issuer)}
    with remembering(**options) as client:
        assert statuses(client, token) == [200]
        before = len(verifications)
        assert statuses(client, token, token) == [200, 200]
        assert len(verifications) == before


def test_secrets_and_cookies_are_no_different(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret that is long enough for HS256"
    auth = JWTCookieAuth[str, Token](
        retrieve_user_handler=lambda token, _: token.sub, token_secret=secret, verified_token_cache_size=1
    )
    token = auth.create_token("ann")
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        client.cookies = {"token": token}
        assert client.get("/").text == "ann"
        monkeypatch.setattr("jwt.algorithms.HMACAlgorithm.verify", lambda *_: False)
        assert client.get("/").text == "ann"
        client.cookies = {"token": auth.create_token("bob")}
        assert client.get("/").status_code == 401


def test_routes_and_copies_of_controllers_know_the_same_tokens(issuer: LocalIssuer, verifications: list[bytes]) -> None:
    class Users(Controller):
        path = "/users"

        @get("/")
        async def index(self) -> None: ...

        @get("/first")
        async def first(self) -> None: ...

    auth = backend(issuer.key_provider, verified_token_cache_size=10)
    router = Router("/layer", route_handlers=[Users], middleware=[auth.middleware])
    headers = issuer.auth_header()
    with TestClient(Litestar([router])) as client:
        assert {client.get(f"/layer/users{path}", headers=headers).status_code for path in ("", "/first")} == {200}
    assert len(verifications) == 1


TIMES: dict[str, tuple[dict[str, Any], float, int]] = {
    "expired": ({"expires_in": 60}, 61, 401),
    "not expired": ({"expires_in": 60}, 50, 200),
    "not yet valid": ({"nbf": int(time.time()) - 5, "iat": int(time.time()) - 5000}, -1000, 401),
    "issued in the future": ({}, -1000, 401),
}


@pytest.mark.parametrize("case", TIMES)
def test_known_token_is_compared_with_the_clock_of_today(
    case: str, issuer: LocalIssuer, travel: Callable[[float], None]
) -> None:
    claims, seconds, expected = TIMES[case]
    token = issuer.token(**claims)
    with remembering(issuer.key_provider) as client:
        assert statuses(client, token) == [200]
        travel(seconds)
        assert statuses(client, token) == [expected]


def test_leeway_applies_to_known_tokens(issuer: LocalIssuer, travel: Callable[[float], None]) -> None:
    token = issuer.token(expires_in=60)
    with remembering(issuer.key_provider, leeway=30) as client:
        assert statuses(client, token) == [200]
        travel(75)
        assert statuses(client, token) == [200]
        travel(20)
        assert statuses(client, token) == [401]


OPTIONS: dict[str, tuple[str, Any, Any]] = {
    "accepted_audiences": ("token_audience", ["api"], ["other"]),
    "accepted_issuers": ("token_issuer", ["https://issuer.test"], ["https://other.test"]),
    "require_claims": ("require_claims", ["sub"], ["sub", "azp"]),
    "strict_audience": ("strict_audience", False, True),
    "accepted_types": ("accepted_types", ["JWT"], frozenset({"at+jwt"})),
    "max_token_length": ("max_token_length", 10_000, 10),
    "algorithm": ("algorithm", "RS256", "RS384"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_known_token_is_refused_by_other_options(option: str, issuer: LocalIssuer) -> None:
    attribute, lenient, strict = OPTIONS[option]
    token = issuer.token(audience=["api"])
    made: list[JWTAuthenticationMiddleware] = []

    class Middleware(JWTAuthenticationMiddleware):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    options = {"algorithm": "RS256", "accepted_audiences": ["api"], option: lenient}
    with remembering(
        None, token_secret=issuer.public_pem, authentication_middleware_class=Middleware, **options
    ) as client:
        assert statuses(client, token, token) == [200, 200]
        for middleware in made:
            setattr(middleware, attribute, strict)
        assert statuses(client, token) == [401]


def test_function_for_issuers_is_asked_about_known_tokens(issuer: LocalIssuer) -> None:
    trusted = {"https://issuer.test"}
    token = issuer.token()
    with remembering(issuer.key_provider, accepted_issuers=trusted.__contains__) as client:
        assert statuses(client, token, token) == [200, 200]
        trusted.clear()
        assert statuses(client, token) == [401]


def test_revocation_and_user_are_looked_up_each_time(issuer: LocalIssuer) -> None:
    calls: Counter[str] = Counter()
    revoked: set[str] = set()

    def find_user(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
        calls["user"] += 1
        return token.sub if token.sub not in gone else None

    def is_revoked(token: Token, connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
        calls["revoked"] += 1
        return token.sub in revoked

    gone: set[str] = set()
    token = issuer.token("ann")
    with remembering(issuer.key_provider, retrieve_user_handler=find_user, revoked_token_handler=is_revoked) as client:
        assert statuses(client, token, token) == [200, 200]
        revoked.add("ann")
        assert statuses(client, token) == [401]
        revoked.clear()
        gone.add("ann")
        assert statuses(client, token) == [401]
    assert calls == {"user": 4, "revoked": 4}


def test_what_is_done_to_a_token_is_not_remembered(issuer: LocalIssuer) -> None:
    @get("/")
    async def grant(request: Request[str, Token, Any]) -> list[str]:
        before = sorted(request.auth.extras)
        request.auth.extras["admin"] = True
        request.auth.extras["roles"].append("admin")
        return [*before, *request.auth.extras["roles"]]

    headers = issuer.auth_header(roles=["user"])
    with remembering(issuer.key_provider, grant) as client:
        assert {tuple(client.get("/", headers=headers).json()) for _ in range(3)} == {("roles", "user", "admin")}


@pytest.mark.parametrize("grace", [0, 60])
@pytest.mark.anyio
async def test_known_token_is_refused_when_its_key_is_withdrawn_for_good(grace: float) -> None:
    now = time.time()
    with LocalIssuer(audience="api") as issuer:
        keys = RemoteJWKSet(issuer.jwks_url, withdrawn_grace=grace, cooldown=1000, clock=lambda: now)
        auth = backend(keys, verified_token_cache_size=10)
        app = Litestar([whoami], on_app_init=[auth.on_app_init])
        headers = issuer.auth_header()
        assert [await status_of(app, headers) for _ in range(2)] == [200, 200]
        withdrawn = issuer.kid
        issuer.rotate()
        issuer.withdraw(withdrawn)
        await keys.refresh()
        assert await status_of(app, headers) == (200 if grace else 401)
        now += grace
        assert await status_of(app, headers) == 401
        assert await status_of(app, issuer.auth_header()) == 200


@pytest.mark.anyio
async def test_token_stays_known_while_its_key_is_fetched_again(verifications: list[bytes]) -> None:
    with LocalIssuer(audience="api") as issuer:
        keys = RemoteJWKSet(issuer.jwks_url)
        auth = backend(keys, verified_token_cache_size=10)
        app = Litestar([whoami], on_app_init=[auth.on_app_init])
        headers = issuer.auth_header()
        assert await status_of(app, headers) == 200
        issuer.publish()
        await keys.refresh()
        assert len(keys.status().key_ids) == 2
        assert await status_of(app, headers) == 200
    assert len(verifications) == 1


def test_token_is_verified_anew_with_another_key_of_the_same_id(
    issuer: LocalIssuer, verifications: list[bytes]
) -> None:
    other = LocalIssuer().private_key.public_key()
    current: list[Key] = [issuer.private_key.public_key()]

    def find(token: UnverifiedToken) -> Key:
        return current[0]

    token = issuer.token()
    with remembering(find) as client:
        assert statuses(client, token, token) == [200, 200]
        current[0] = other
        assert statuses(client, token, token) == [401, 401]
        current[0] = issuer.private_key.public_key()
        assert statuses(client, token) == [200]
    assert len(verifications) == 3


def test_token_that_another_key_has_verified_is_remembered_with_that(
    issuer: LocalIssuer, verifications: list[bytes]
) -> None:
    """As when a set is replaced by one with a copy of the key."""
    token = issuer.token()
    with remembering(lambda _: issuer.pyjwk) as client:
        assert statuses(client, token, token, token) == [200] * 3
    assert len(verifications) == 3


def test_only_valid_tokens_are_remembered(issuer: LocalIssuer, verifications: list[bytes]) -> None:
    token = issuer.token()
    bad = [
        issuer.forged_token(),
        issuer.token(expires_in=-1),
        issuer.token(audience="other"),
        issuer.token(headers={"kid": "unknown"}),
        "x",
        "\u00e9.\u00e9.\u00e9",
    ]
    with remembering(issuer.key_provider, size=1, accepted_audiences=["api"]) as client:
        assert statuses(client, token) == [200]
        for _ in range(2):
            assert {client.get("/", headers={b"Authorization": f"Bearer {t}".encode()}).status_code for t in bad} == {
                401
            }
        before = len(verifications)
        assert statuses(client, token) == [200]
    assert len(verifications) == before


@pytest.mark.parametrize("method", ["decode", "decode_payload"])
def test_overridden_methods_are_called_for_known_tokens(
    method: str, issuer: LocalIssuer, verifications: list[bytes]
) -> None:
    calls: list[str] = []
    refused: set[str] = set()

    def overriding(cls: Any, encoded_token: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(encoded_token)
        if encoded_token in refused:
            raise NotAuthorizedException("Invalid token") if method == "decode" else jwt.InvalidTokenError
        return getattr(super(OwnToken, cls), method)(encoded_token, *args, **kwargs)

    OwnToken: Any = type("OwnToken", (Token,), {method: classmethod(overriding)})
    token = issuer.token()
    with remembering(issuer.key_provider, token_cls=OwnToken) as client:
        assert statuses(client, token, token) == [200, 200]
        refused.add(token)
        assert statuses(client, token) == [401]
    assert calls == [token] * 3
    assert len(verifications) == 1


def test_token_inside_a_known_token_is_verified_each_time(issuer: LocalIssuer, verifications: list[bytes]) -> None:
    class Outer(Token):
        @classmethod
        def decode_payload(cls, encoded_token: str, secret: Key, *args: Any, **kwargs: Any) -> Any:
            claims = super().decode_payload(encoded_token, secret, *args, **kwargs)
            return super().decode_payload(claims["inner"], secret, *args, **kwargs)

    forged = issuer.token(inner=issuer.forged_token("eve"))
    nested = issuer.token(inner=issuer.token("ann"))
    with remembering(issuer.key_provider, token_cls=Outer) as client:
        answers = [client.get("/", headers=bearer(token)) for token in (nested, nested, forged, forged)]
    assert [answer.status_code for answer in answers] == [200, 200, 401, 401]
    assert answers[1].text == "ann"
    assert len(verifications) == 3 + 4


def test_negative_size_is_refused(issuer: LocalIssuer) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="verified_token_cache_size"):
        backend(issuer.key_provider, verified_token_cache_size=-1)


def test_middleware_is_told_of_the_option_only_if_it_is_set(issuer: LocalIssuer) -> None:
    assert "verified_tokens" not in backend(issuer.key_provider).middleware.kwargs
    assert isinstance(
        backend(issuer.key_provider, verified_token_cache_size=1).middleware.kwargs["verified_tokens"], VerifiedTokens
    )


def digest(number: int) -> bytes:
    return number.to_bytes(32)


def known(tokens: VerifiedTokens, count: int) -> set[int]:
    return {number for number in range(count) if tokens.key_of(digest(number)) is not None}


def test_expired_token_is_forgotten_first_and_then_the_one_not_seen_for_longest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    tokens = VerifiedTokens(3)
    for number, expires_at in enumerate([5000, 1500, 4000]):
        tokens.add(digest(number), "key", expires_at)
    monkeypatch.setattr("time.time", lambda: 1500.0)
    tokens.add(digest(3), "key", 6000)
    assert known(tokens, 4) == {0, 2, 3}  # 1 has expired
    assert tokens.key_of(digest(0)) == "key"
    tokens.add(digest(4), "key", 6000)
    assert known(tokens, 5) == {0, 3, 4}  # 2 was not seen for longest


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 50), st.integers(0, 5)), max_size=120), st.integers(1, 5))
@settings(deadline=None)
def test_memory_is_bounded_and_holds_what_was_added_last(steps: list[tuple[int, int, int]], size: int) -> None:
    tokens, now = VerifiedTokens(size), 1000.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: now)
        for number, lifetime, passing in steps:
            now += passing
            tokens.add(digest(number), now, now + lifetime)
            assert tokens.key_of(digest(number)) == now
            assert len(tokens) <= size
            assert len(tokens._by_expiry) <= 2 * size


def test_expired_tokens_make_room_before_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    tokens = VerifiedTokens(100)
    for number in range(100):
        tokens.add(digest(number), "key", 1100 if number % 2 else 5000)
    monkeypatch.setattr("time.time", lambda: 1200.0)
    for number in range(100, 150):
        tokens.add(digest(number), "key", 5000)
    assert known(tokens, 150) == {*range(0, 100, 2), *range(100, 150)}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_no_other_spelling_of_a_known_token_is_known(algorithm: str, data: st.DataObject) -> None:
    tokens, token = VerifiedTokens(10), valid_token(algorithm)
    key = ALGORITHMS[algorithm]
    changed = data.draw(mutations(token))

    def accepts(encoded: str) -> bool:
        try:
            Token.decode(encoded, key, algorithm)
        except NotAuthorizedException:
            return False
        return True

    def accepts_with_memory(encoded: str) -> bool:
        with Recollection(tokens, encoded) as recollection:
            accepted = accepts(encoded)
        if accepted:
            recollection.keep(datetime.fromtimestamp(time.time() + 60, UTC))
        return accepted

    assert accepts_with_memory(token)
    for encoded in (changed, token, changed):
        assert accepts_with_memory(encoded) == accepts(encoded)


class _ThreeParts(jwt.PyJWS):
    def _load(self, jwt: str | bytes) -> Any:
        return super()._load(jwt)[:3]


class _NoParts(jwt.PyJWS):
    _load: Any = property()


@pytest.mark.parametrize("insides", [_ThreeParts, _NoParts])
def test_pyjwt_takes_tokens_apart_by_itself_if_it_wants_them_otherwise(
    insides: type[jwt.PyJWS], issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(_Verifier()._jws) is not jwt.PyJWS
    monkeypatch.setattr("jwt.PyJWS", insides)
    verifier = _Verifier()
    assert type(verifier._jws) is jwt.api_jws.PyJWS
    claims = verifier.decode(issuer.token("ann"), issuer.pyjwk, ["RS256"], audience="api")
    assert claims["sub"] == "ann"


@pytest.mark.anyio
async def test_concurrent_requests_do_not_see_what_is_known_of_each_other(issuer: LocalIssuer) -> None:
    async def find(token: UnverifiedToken) -> Key:
        await anyio.sleep(0)
        return issuer.pyjwk

    auth = backend(find, verified_token_cache_size=10)
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    seen: Counter[tuple[str, int]] = Counter()

    async def send(kind: str, headers: dict[str, str]) -> None:
        seen[kind, await status_of(app, headers)] += 1

    good, forged = issuer.auth_header(), bearer(issuer.forged_token())
    async with anyio.create_task_group() as group:
        for _ in range(20):
            _ = group.start_soon(send, "good", good)
            _ = group.start_soon(send, "forged", forged)
    assert seen == {("good", 200): 20, ("forged", 401): 20}
