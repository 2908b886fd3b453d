from __future__ import annotations

import copy
import gc
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any, TypeAlias

import anyio
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.security.jwt import (
    IssuerKeyProvider,
    KeyNotFoundError,
    KeysUnavailableError,
    OpenIDProvider,
    RemoteJWKSet,
    Token,
    UnverifiedToken,
)
from litestar.security.jwt.keys import candidates, provider_error
from litestar.security.jwt.testing import LocalIssuer
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, status_of, whoami
from tests.unit.test_security.test_jwt.remote import until

pytestmark = pytest.mark.anyio

Make: TypeAlias = Callable[[LocalIssuer], Any]

# Every kind of key and provider that an issuer can have.
KINDS: dict[str, Make] = {
    "discovery": lambda issuer: OpenIDProvider(issuer.url),
    "jwks": lambda issuer: RemoteJWKSet(issuer.jwks_url),
    "pem": lambda issuer: issuer.public_pem,
    "key": lambda issuer: issuer.private_key.public_key(),
    "jwk": lambda issuer: issuer.pyjwk,
    "jwk set": lambda issuer: jwt.PyJWKSet.from_dict(issuer.jwks),
    "sequence": lambda issuer: [issuer.public_pem, issuer.pyjwk],
    "function": lambda issuer: issuer.key_provider,
    "async function": lambda issuer: _asynchronous(issuer),
    "client": lambda issuer: jwt.PyJWKClient(issuer.jwks_url),
    "nested": lambda issuer: IssuerKeyProvider({issuer.issuer: issuer.pyjwk}),
}


def _asynchronous(issuer: LocalIssuer) -> Any:
    async def provide(token: UnverifiedToken) -> Any:
        await anyio.sleep(0)
        return issuer.key_provider(token)

    return provide


@pytest.fixture(scope="module")
def issuers() -> Iterator[list[LocalIssuer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(LocalIssuer()) for _ in range(3)]


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture
def other() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


async def claims_of(provider: Any, encoded: str, checked: tuple[str, ...] = ()) -> dict[str, Any]:
    """Verify a token with what a provider returns for it."""
    token = UnverifiedToken(encoded, checked=checked)
    try:
        keys = provider(token)
        keys = await keys if isawaitable(keys) else keys
    except jwt.PyJWKClientError as e:
        raise provider_error(e) from e
    for key in candidates(keys, token):
        try:
            return jwt.decode(encoded, key, [token.algorithm], options={"verify_aud": False})  # type: ignore[arg-type]
        except jwt.InvalidSignatureError:
            continue
    raise KeyNotFoundError("Invalid token")


async def accepts(provider: Any, encoded: str, checked: tuple[str, ...] = ()) -> bool:
    try:
        await claims_of(provider, encoded, checked)
    except KeyNotFoundError:
        return False
    return True


class Started:
    """A key provider that tells whether it runs."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.answer: Callable[[], Awaitable[None]] | None = None
        self.events: list[str] = []
        self.failure: Exception | None = None
        self.issuer = issuer

    def __call__(self, token: UnverifiedToken) -> Any:
        self.events.append("asked")
        return self.issuer.pyjwk if self.answer is None else self._wait()

    async def _wait(self) -> Any:
        assert self.answer is not None
        await self.answer()
        return self.issuer.pyjwk

    @asynccontextmanager
    async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
        if self.failure is not None:
            raise self.failure
        async with anyio.create_task_group() as tasks:
            _ = tasks.start_soon(anyio.sleep_forever)
            self.events.append("started")
            yield
            tasks.cancel_scope.cancel()
        self.events.append("closed")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lookup", ["mapping", "function", "async function"])
async def test_token_is_verified_with_the_keys_of_its_issuer(
    kind: str, lookup: str, issuer: LocalIssuer, other: LocalIssuer
) -> None:
    provider = looked_up(lookup, {known.issuer: KINDS[kind](known) for known in (issuer, other)})
    for known in (issuer, other):
        for _ in range(2):
            assert (await claims_of(provider, known.token("alice")))["sub"] == "alice"


def looked_up(lookup: str, providers: dict[str, Any], **options: Any) -> IssuerKeyProvider:
    """Make a provider that finds those of issuers in one of the ways there are."""
    if lookup == "mapping":
        return IssuerKeyProvider(providers)
    if lookup == "function":
        return IssuerKeyProvider(providers.get, **options)

    async def find(issuer: str) -> Any:
        await anyio.sleep(0)
        return providers.get(issuer)

    return IssuerKeyProvider(find, **options)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_token_that_claims_another_issuer_is_refused(
    kind: str, data: st.DataObject, issuers: list[LocalIssuer]
) -> None:
    drawn = [kind, *(data.draw(st.sampled_from(sorted(KINDS))) for _ in issuers[1:])]
    kinds = dict(zip([issuer.issuer for issuer in issuers], drawn, strict=True))
    provider = looked_up(
        data.draw(st.sampled_from(["mapping", "function", "async function"])),
        {issuer.issuer: KINDS[kinds[issuer.issuer]](issuer) for issuer in issuers},
    )
    checked = data.draw(st.sampled_from([(), ("iss",), ("alg",), ("alg", "iss")]))
    with_kid = data.draw(st.booleans())
    library = data.draw(st.sampled_from(["asyncio", "trio"]))

    async def verify_all() -> None:
        for signer in issuers:
            for claimed in issuers:
                kid = claimed.kid if with_kid else None
                token = signer.token(iss=claimed.issuer, headers={"kid": kid})
                # PyJWT's client does not look for keys that a token does not name.
                verifiable = with_kid or kinds[claimed.issuer] != "client"
                assert await accepts(provider, token, checked) is (signer is claimed and verifiable)

    anyio.run(verify_all, backend=library)


async def test_provider_of_one_issuer_under_the_name_of_another_accepts_nothing(
    issuer: LocalIssuer, other: LocalIssuer
) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="does not accept tokens of"):
        IssuerKeyProvider({issuer.url: OpenIDProvider(other.url)})
    wrong = IssuerKeyProvider({issuer.url: lambda token: OpenIDProvider(other.url)(token)})
    nested = IssuerKeyProvider({issuer.url: IssuerKeyProvider({other.url: OpenIDProvider(other.url)})})
    for provider in (wrong, nested):
        for checked in ((), ("iss",), ("alg", "iss")):
            for signer in (issuer, other):
                for claimed in (issuer, other):
                    assert not await accepts(provider, signer.token(iss=claimed.url), checked)
    assert not issuer.requests
    assert not other.requests


@pytest.mark.parametrize("name", ["https://idp.test/", "https://IDP.test", "idp.test", "https://idp.test/a"])
def test_discovery_under_another_spelling_of_its_issuer_is_refused_at_construction(name: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="does not accept tokens of"):
        IssuerKeyProvider({name: OpenIDProvider("https://idp.test")})


async def test_spellings_of_one_issuer_share_a_provider(issuer: LocalIssuer, other: LocalIssuer) -> None:
    spellings = ("accounts.idp.test", "https://accounts.idp.test")
    shared = OpenIDProvider(issuer.url, issuer_in_tokens=spellings)
    provider = IssuerKeyProvider({**dict.fromkeys(spellings, shared), other.url: OpenIDProvider(other.url)})
    for name in spellings:
        assert await accepts(provider, issuer.token(iss=name), ("iss",))
    assert not await accepts(provider, issuer.token(), ("iss",))
    assert await accepts(provider, other.token())
    assert len(issuer.requests) == 2


async def test_tenants_share_a_provider(issuer: LocalIssuer) -> None:
    template = "https://login.test/{tenantid}/v2.0"
    issuer.metadata = {"issuer": template}
    issuer.serve_jwks({"keys": [{**issuer.jwks["keys"][0], "issuer": template}]})
    shared = OpenIDProvider(template, discovery_url=issuer.discovery_url)
    provider = IssuerKeyProvider({f"https://login.test/{tenant}/v2.0": shared for tenant in ("one", "two")})
    for iss, tid, accepted in (
        ("one", "one", True),
        ("two", "two", True),
        ("one", "two", False),
        ("six", "six", False),
    ):
        token = issuer.token(iss=f"https://login.test/{iss}/v2.0", tid=tid)
        assert await accepts(provider, token, ("iss",)) is accepted


@pytest.mark.parametrize("lookup", ["mapping", "function", "async function"])
async def test_key_of_another_issuer_does_not_verify(lookup: str, issuer: LocalIssuer) -> None:
    foreign = jwt.PyJWK({**issuer.jwks["keys"][0], "issuer": "https://other.test"})
    for keys in (foreign, [foreign], RemoteJWKSet(issuer.jwks_url)):
        issuer.serve_jwks({"keys": [{**issuer.jwks["keys"][0], "issuer": "https://other.test"}]})
        assert not await accepts(looked_up(lookup, {issuer.issuer: keys}), issuer.token())


@pytest.mark.parametrize("lookup", ["mapping", "function", "async function"])
async def test_unknown_issuers_cost_no_request_and_no_memory(lookup: str, issuer: LocalIssuer) -> None:
    provider = looked_up(lookup, {issuer.url: OpenIDProvider(issuer.url)})
    header = _segment({"alg": "RS256", "kid": issuer.kid})
    tokens = [f"{header}.{_segment({'iss': f'{issuer.url}/{number}'})}.AAAA" for number in range(10_000)]
    assert not await accepts(provider, tokens[0])
    gc.collect()
    before = len(gc.get_objects())
    for token in tokens:
        with pytest.raises(KeyNotFoundError):
            keys = provider(UnverifiedToken(token))
            await keys if isawaitable(keys) else None
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert not issuer.requests


def _segment(members: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("iss", [None, 5, ["https://idp.test"], {}, "", "https://idp.test "])
@pytest.mark.parametrize(
    "given", [{"https://idp.test": "x" * 32}, lambda issuer: {"https://idp.test": "x" * 32}.get(issuer)]
)
async def test_issuer_that_is_not_exactly_the_same_is_unknown(iss: Any, given: Any) -> None:
    provider = IssuerKeyProvider(given)
    token = f"{_segment({'alg': 'HS256'})}.{_segment({'iss': iss})}.AAAA"
    with pytest.raises(KeyNotFoundError):
        provider(UnverifiedToken(token, checked=("alg",)))


@pytest.mark.parametrize(
    ("algorithm", "kind", "accepted"),
    [
        ("RS256", "jwks", True),
        ("PS256", "jwks", False),
        ("ES256", "jwks", False),
        ("ES256", "discovery", True),
        ("ES256", "pem", True),
        ("EdDSA", "jwk", True),
        ("PS256", "key", False),
    ],
)
async def test_algorithms_are_those_of_each_issuer(algorithm: str, kind: str, accepted: bool) -> None:
    with LocalIssuer(algorithm=algorithm) as issuer:
        provider = IssuerKeyProvider({issuer.url: KINDS[kind](issuer)})
        assert await accepts(provider, issuer.token()) is accepted
        assert await accepts(provider, issuer.token(), ("alg",))


def test_public_key_is_no_secret(issuer: LocalIssuer) -> None:
    forged = jwt.api_jws.encode(json.dumps({"iss": issuer.url}).encode(), "x" * 32, "HS256")
    provider = IssuerKeyProvider({issuer.url: issuer.public_pem})
    with pytest.raises(KeyNotFoundError):
        provider(UnverifiedToken(forged))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (5, {}),
        ([OpenIDProvider("https://idp.test")], {}),
        ({"https://idp.test": 5}, {}),
        ({"https://idp.test": None}, {}),
        (lambda issuer: None, {"max_issuers": 0}),
    ],
)
def test_what_cannot_work_is_refused_at_construction(given: Any, options: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        IssuerKeyProvider(given, **options)


@pytest.mark.parametrize("lookup", ["function", "async function"])
@pytest.mark.parametrize("runs", [True, False])
async def test_concurrent_requests_share_one_discovery_of_a_tenant(
    lookup: str, runs: bool, issuer: LocalIssuer, other: LocalIssuer
) -> None:
    calls: list[str] = []

    def make(name: str) -> OpenIDProvider:
        calls.append(name)
        return OpenIDProvider(name)

    async def make_later(name: str) -> OpenIDProvider:
        await anyio.sleep(0.01)
        return make(name)

    provider = IssuerKeyProvider(make if lookup == "function" else make_later)
    tokens = [known.token() for known in (issuer, other)]
    async with AsyncExitStack() as stack:
        if runs:
            await stack.enter_async_context(provider.lifespan(Litestar()))
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                for token in tokens:
                    _ = tasks.start_soon(claims_of, provider, token)
        for known in (issuer, other):
            assert [request.path.rpartition("/")[2] for request in known.requests] == [
                "openid-configuration",
                "jwks.json",
            ]
    assert sorted(calls) == sorted([issuer.url, other.url])


@pytest.mark.parametrize("lookup", ["function", "async function"])
async def test_issuer_that_was_not_used_for_longest_is_dropped(lookup: str, issuers: list[LocalIssuer]) -> None:
    first, second, third = (Started(issuer) for issuer in issuers)
    made: list[str] = []

    def make(name: str) -> Started | None:
        made.append(name)
        return next((known for known in (first, second, third) if known.issuer.url == name), None)

    async def make_later(name: str) -> Started | None:
        return make(name)

    provider = IssuerKeyProvider(make if lookup == "function" else make_later, max_issuers=2)
    async with provider.lifespan(Litestar()):
        for known in (first, second, first, third):
            assert await accepts(provider, known.issuer.token())
        await until(lambda: second.events[-1] == "closed")
        assert [known.events[-1] for known in (first, third)] == ["asked", "asked"]
        assert await accepts(provider, first.issuer.token())
        assert await accepts(provider, second.issuer.token())
        await until(lambda: third.events[-1] == "closed")
    assert first.events == ["started", "asked", "asked", "asked", "closed"]
    assert second.events == ["started", "asked", "closed", "started", "asked", "closed"]
    assert made == [known.issuer.url for known in (first, second, third, second)]


async def test_dropped_issuer_is_closed_only_when_nobody_waits_for_its_keys(issuers: list[LocalIssuer]) -> None:
    first, second = (Started(issuer) for issuer in issuers[:2])
    entered, leave = anyio.Event(), anyio.Event()

    async def answer() -> None:
        entered.set()
        await leave.wait()

    providers = {known.issuer.url: known for known in (first, second)}
    provider = IssuerKeyProvider(providers.get, max_issuers=1)
    accepted: list[bool] = []

    async def verify() -> None:
        accepted.append(await accepts(provider, first.issuer.token()))

    async with provider.lifespan(Litestar()):
        assert await accepts(provider, first.issuer.token())
        first.answer = answer
        async with anyio.create_task_group() as tasks:
            _ = tasks.start_soon(verify)
            _ = tasks.start_soon(verify)
            await entered.wait()
            assert await accepts(provider, second.issuer.token())
            await anyio.wait_all_tasks_blocked()
            assert "closed" not in first.events
            leave.set()
        await until(lambda: first.events[-1] == "closed")
    assert accepted == [True, True]


async def test_dropped_discovery_is_finished_for_those_who_wait(issuer: LocalIssuer, other: LocalIssuer) -> None:
    provider = IssuerKeyProvider(lambda name: OpenIDProvider(name, prefetch=False), max_issuers=1)
    issuer.delay = 0.3
    accepted: list[bool] = []

    async def verify() -> None:
        accepted.append(await accepts(provider, issuer.token()))

    async with provider.lifespan(Litestar()), anyio.create_task_group() as tasks:
        for _ in range(5):
            _ = tasks.start_soon(verify)
        await until(lambda: bool(issuer.requests))
        assert await accepts(provider, other.token())
    assert accepted == [True] * 5


async def test_cancelled_request_does_not_take_the_key_provider_from_others(issuer: LocalIssuer) -> None:
    known = Started(issuer)
    reached, go = anyio.Event(), anyio.Event()

    async def make(name: str) -> Started:
        reached.set()
        await go.wait()
        return known

    provider = IssuerKeyProvider(make)
    accepted: list[bool] = []

    async def verify(scope: anyio.CancelScope) -> None:
        with scope:
            accepted.append(await accepts(provider, issuer.token()))

    first = anyio.CancelScope()
    async with provider.lifespan(Litestar()), anyio.create_task_group() as tasks:
        _ = tasks.start_soon(verify, first)
        await reached.wait()
        _ = tasks.start_soon(verify, anyio.CancelScope())
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        go.set()
    assert accepted == [True]
    assert known.events == ["started", "asked", "closed"]


async def test_shutdown_ends_what_is_being_made(issuer: LocalIssuer) -> None:
    async def make(name: str) -> Any:
        await anyio.sleep_forever()

    provider = IssuerKeyProvider(make)
    refused: list[str] = []

    async def verify() -> None:
        try:
            await claims_of(provider, issuer.token())
        except KeysUnavailableError as e:
            refused.append(str(e.status_code))

    async with anyio.create_task_group() as tasks:
        async with provider.lifespan(Litestar()):
            _ = tasks.start_soon(verify)
            await anyio.wait_all_tasks_blocked()
    assert refused == ["503"]


async def test_shutdown_does_not_wait_for_a_provider_that_is_being_started(issuer: LocalIssuer) -> None:
    provider = IssuerKeyProvider(OpenIDProvider)
    issuer.delay = 60
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with provider.lifespan(Litestar()):
                _ = tasks.start_soon(unavailable, provider, issuer.token())
                await until(lambda: bool(issuer.requests))


async def unavailable(provider: Any, token: str) -> None:
    with pytest.raises(KeysUnavailableError):
        await claims_of(provider, token)


async def test_issuers_are_made_anew_after_a_restart(issuer: LocalIssuer) -> None:
    made: list[Started] = []

    def make(name: str) -> Started:
        made.append(Started(issuer))
        return made[-1]

    provider = IssuerKeyProvider(make)
    for _ in range(2):
        async with provider.lifespan(Litestar()):
            assert await accepts(provider, issuer.token())
    assert [known.events for known in made] == [["started", "asked", "closed"]] * 2


async def test_applications_in_one_event_loop_share_issuers(issuer: LocalIssuer) -> None:
    known = Started(issuer)
    provider = IssuerKeyProvider(lambda name: known)
    async with provider.lifespan(Litestar()):
        async with provider.lifespan(Litestar()):
            assert await accepts(provider, issuer.token())
        assert await accepts(provider, issuer.token())
        assert known.events == ["started", "asked", "asked"]
    assert known.events[-1] == "closed"


async def test_known_issuers_are_started_and_closed_with_the_application(issuers: list[LocalIssuer]) -> None:
    first, second = (Started(issuer) for issuer in issuers[:2])
    provider = IssuerKeyProvider(
        {first.issuer.url: first, "https://alias.test": first, second.issuer.url: second, "https://idp.test": "x" * 32}
    )
    async with provider.lifespan(Litestar()):
        assert [first.events, second.events] == [["started"], ["started"]]
    assert [first.events, second.events] == [["started", "closed"]] * 2


@pytest.mark.parametrize("lookup", ["function", "async function"])
@pytest.mark.parametrize("runs", [True, False])
async def test_function_that_fails_is_called_again(lookup: str, runs: bool, issuer: LocalIssuer) -> None:
    failures = [ValueError("database is down"), KeyError("unknown"), KeysUnavailableError("later")]
    expected = [type(failure) for failure in failures]

    def make(name: str) -> Any:
        if failures:
            raise failures.pop(0)
        return issuer.pyjwk

    async def make_later(name: str) -> Any:
        return make(name)

    provider = IssuerKeyProvider(make if lookup == "function" else make_later)
    async with AsyncExitStack() as stack:
        if runs:
            await stack.enter_async_context(provider.lifespan(Litestar()))
        for error in expected:
            with pytest.raises(error):
                await claims_of(provider, issuer.token())
        assert await accepts(provider, issuer.token())


@pytest.mark.parametrize("lookup", ["function", "async function"])
async def test_function_that_returns_something_else_is_to_blame(lookup: str, issuer: LocalIssuer) -> None:
    for wrong in (5, OpenIDProvider("https://other.test")):
        with pytest.raises(ImproperlyConfiguredException):
            await claims_of(looked_up(lookup, {issuer.url: wrong}), issuer.token())


async def test_provider_that_cannot_be_started_is_not_kept(issuer: LocalIssuer) -> None:
    known = Started(issuer)
    known.failure = RuntimeError("no")
    provider = IssuerKeyProvider(lambda name: known)
    async with provider.lifespan(Litestar()):
        with pytest.raises(RuntimeError):
            await claims_of(provider, issuer.token())
        known.failure = None
        assert await accepts(provider, issuer.token())
    assert known.events == ["started", "asked", "closed"]


async def test_provider_that_has_no_keys_yet_is_kept_and_asks_under_its_cooldown(issuer: LocalIssuer) -> None:
    issuer.metadata = {"jwks_uri": None}
    provider = IssuerKeyProvider(lambda name: OpenIDProvider(name, require_on_startup=True))
    async with provider.lifespan(Litestar()):
        for _ in range(5):
            with pytest.raises(KeysUnavailableError):
                await claims_of(provider, issuer.token())
        assert len(issuer.requests) == 1


async def test_provider_that_cannot_be_closed_is_logged(issuer: LocalIssuer, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck(Started):
        @asynccontextmanager
        async def lifespan(self, app: Litestar) -> AsyncIterator[None]:
            yield
            raise RuntimeError("no")

    provider = IssuerKeyProvider(lambda name: Stuck(issuer))
    async with provider.lifespan(Litestar()):
        assert await accepts(provider, issuer.token())
    assert [record.getMessage() for record in caplog.records if record.name == "litestar.security.jwt"] == [
        f"The key provider of {issuer.url!r} could not be closed"
    ]


@pytest.mark.parametrize("lookup", ["mapping", "function"])
def test_token_is_decoded_without_an_event_loop(lookup: str, issuer: LocalIssuer, other: LocalIssuer) -> None:
    provider = looked_up(lookup, {known.url: known.pyjwk for known in (issuer, other)})
    assert Token.decode(issuer.token("alice"), provider, "RS256").sub == "alice"
    for token in (issuer.token(iss=other.url), issuer.token(iss="https://unknown.test"), issuer.forged_token()):
        with pytest.raises(NotAuthorizedException):
            Token.decode(token, provider, "RS256")


def test_asynchronous_function_is_refused_without_an_event_loop(issuer: LocalIssuer) -> None:
    with pytest.raises(ImproperlyConfiguredException, match="asynchronous"):
        Token.decode(issuer.token(), looked_up("async function", {issuer.url: issuer.pyjwk}), "RS256")


@pytest.mark.parametrize("lookup", ["mapping", "function", "async function"])
@pytest.mark.parametrize("options", [{}, {"accepted_issuers": lambda issuer: True}, {"algorithm": "RS256"}])
def test_application_accepts_tokens_of_several_issuers(
    lookup: str, options: Any, issuer: LocalIssuer, other: LocalIssuer
) -> None:
    auth = backend(looked_up(lookup, {known.url: OpenIDProvider(known.url) for known in (issuer, other)}), **options)
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        for known in (issuer, other):
            assert client.get("/", headers=known.auth_header("alice")).text == "alice"
        for headers in (
            issuer.auth_header(iss=other.url),
            other.auth_header(iss=issuer.url, headers={"kid": issuer.kid}),
            issuer.auth_header(iss="https://unknown.test"),
            issuer.auth_header(iss=None),
        ):
            response = client.get("/", headers=headers)
            assert response.status_code == 401
            assert 'error="invalid_token"' in response.headers["www-authenticate"]
        issuer.gone()
        assert client.get("/", headers=other.auth_header("bob")).text == "bob"


@pytest.mark.parametrize("lookup", ["mapping", "function", "async function"])
async def test_outage_of_one_issuer_does_not_concern_the_others(
    lookup: str, issuer: LocalIssuer, other: LocalIssuer
) -> None:
    issuer.gone()
    auth = backend(looked_up(lookup, {known.url: OpenIDProvider(known.url) for known in (issuer, other)}))
    app = Litestar([whoami], on_app_init=[auth.on_app_init])
    assert await status_of(app, issuer.auth_header()) == 503
    assert await status_of(app, other.auth_header()) == 200


@pytest.mark.parametrize("checked", [(), ("iss",), ("alg", "iss")])
async def test_token_is_left_as_it_is(checked: tuple[str, ...], issuer: LocalIssuer) -> None:
    token = UnverifiedToken(issuer.token(), checked=checked)
    assert IssuerKeyProvider({issuer.url: issuer.pyjwk})(token) is not None
    assert token.checked == checked


def test_representation_names_the_issuers() -> None:
    assert repr(IssuerKeyProvider({"https://idp.test": "x" * 32})) == "IssuerKeyProvider(['https://idp.test'])"
    assert repr(IssuerKeyProvider(OpenIDProvider)) == f"IssuerKeyProvider({OpenIDProvider!r})"


def test_copy_is_the_same() -> None:
    provider = IssuerKeyProvider({})
    assert copy.deepcopy({"provider": provider})["provider"] is provider
