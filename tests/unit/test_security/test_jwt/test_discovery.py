from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator, Mapping
from inspect import isawaitable
from typing import Any

import anyio
import httpx
import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundError, KeysUnavailableError, OpenIDProvider, RemoteJWKSet, UnverifiedToken
from litestar.security.jwt.discovery import RemoteOptions
from litestar.security.jwt.testing import LocalIssuer
from litestar.stores.memory import MemoryStore
from litestar.testing import TestClient
from tests.unit.test_security.test_jwt.injected import backend, whoami
from tests.unit.test_security.test_jwt.remote import Clock, is_verified, responds, until

pytestmark = pytest.mark.anyio

TENANTS = "https://login.test/{tenantid}/v2.0"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture
def provider(issuer: LocalIssuer, clock: Clock) -> OpenIDProvider:
    return OpenIDProvider(issuer.url, clock=clock)


async def keys_for(provider: OpenIDProvider, token: str, checked: tuple[str, ...] = ()) -> tuple[jwt.PyJWK, ...]:
    keys = provider(UnverifiedToken(token, checked=checked))
    return await keys if isawaitable(keys) else keys


async def accepts(provider: OpenIDProvider, token: str, checked: tuple[str, ...] = ()) -> bool:
    """Tell whether a provider has keys that verify a token."""
    try:
        return is_verified(token, await keys_for(provider, token, checked))
    except KeyNotFoundError:
        return False


def at_once(provider: OpenIDProvider, token: str) -> bool:
    """Tell whether a provider has keys that verify a token, without anything to wait for."""
    keys = provider(UnverifiedToken(token))
    assert isinstance(keys, tuple)
    return is_verified(token, keys)


def asked(issuer: LocalIssuer) -> list[str]:
    """Return the last part of what an issuer has been asked for."""
    return [request.path.rpartition("/")[2] for request in issuer.requests]


def discovered(provider: OpenIDProvider) -> str:
    """Return where a provider has found the keys to be."""
    keys = provider.status().keys
    assert keys is not None
    return keys.url


async def settled(provider: OpenIDProvider) -> None:
    """Wait until nothing runs in the background any more."""
    await until(lambda: not provider._document._running and not provider._keys._document._running)


async def test_keys_are_found_by_the_name_of_the_issuer(issuer: LocalIssuer, provider: OpenIDProvider) -> None:
    token = issuer.token()
    assert await accepts(provider, token)
    assert asked(issuer) == ["openid-configuration", "jwks.json"]
    assert at_once(provider, token)
    assert len(issuer.requests) == 2


@pytest.mark.parametrize(
    ("name", "well_known", "url"),
    [
        ("https://idp.test", "openid-configuration", "https://idp.test/.well-known/openid-configuration"),
        ("https://idp.test/", "openid-configuration", "https://idp.test/.well-known/openid-configuration"),
        (
            "https://idp.test:8443/a/b",
            "openid-configuration",
            "https://idp.test:8443/a/b/.well-known/openid-configuration",
        ),
        ("https://idp.test/a/b/", "openid-configuration", "https://idp.test/a/b/.well-known/openid-configuration"),
        ("https://idp.test/a//", "openid-configuration", "https://idp.test/a//.well-known/openid-configuration"),
        ("https://idp.test", "oauth-authorization-server", "https://idp.test/.well-known/oauth-authorization-server"),
        ("https://idp.test/", "oauth-authorization-server", "https://idp.test/.well-known/oauth-authorization-server"),
        (
            "https://idp.test:8443/a/b",
            "oauth-authorization-server",
            "https://idp.test:8443/.well-known/oauth-authorization-server/a/b",
        ),
        ("https://[::1]/a/", "oauth-authorization-server", "https://[::1]/.well-known/oauth-authorization-server/a"),
    ],
)
def test_url_of_the_document_is_made_of_the_issuer(name: str, well_known: Any, url: str) -> None:
    provider = OpenIDProvider(name, well_known=well_known)
    assert provider.status().url == url
    assert provider.openid_connect_url == (url if well_known == "openid-configuration" else None)


@pytest.mark.parametrize("well_known", ["openid-configuration", "oauth-authorization-server"])
@pytest.mark.parametrize("path", ["", "/", "/realms/demo", "/realms/demo/"])
async def test_issuers_of_all_forms_are_discovered(path: str, well_known: Any) -> None:
    with LocalIssuer(path=path) as issuer:
        assert await accepts(OpenIDProvider(issuer.url, well_known=well_known), issuer.token())
        assert asked(issuer)[-1] == "jwks.json"
        assert well_known in issuer.requests[0].path


@pytest.mark.parametrize(
    "name",
    [
        "",
        "idp.test",
        "ftp://idp.test",
        "http://idp.test",
        "https://idp.test?a=b",
        "https://idp.test/#a",
        "https://u:p@idp.test",
        TENANTS,
        None,
    ],
)
def test_issuers_that_no_url_can_be_made_of_are_refused(name: Any) -> None:
    with pytest.raises(ImproperlyConfiguredException):
        OpenIDProvider(name)


def test_name_with_a_tenant_asks_for_a_discovery_url() -> None:
    with pytest.raises(ImproperlyConfiguredException, match="'discovery_url'"):
        OpenIDProvider(TENANTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"cooldown": 0}, "out of range"), ({"withdrawn_grace": -1}, "out of range"), ({"store": 1}, "neither a store")],
)
def test_options_are_checked_at_construction(options: Any, message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=message):
        OpenIDProvider("https://idp.test", **options)


def test_options_are_those_of_the_key_set() -> None:
    options = {name: hint.__forward_arg__ for name, hint in RemoteOptions.__annotations__.items()}
    parameters = inspect.signature(RemoteJWKSet).parameters
    assert options == {name: parameter.annotation for name, parameter in parameters.items() if name != "url"}


async def test_options_apply_to_both_documents(issuer: LocalIssuer) -> None:
    provider = OpenIDProvider(issuer.url, headers={"X-Gateway": "secret"})
    await provider.refresh()
    assert [request.headers["x-gateway"] for request in issuer.requests] == ["secret", "secret"]


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"issuer": None}, "no 'issuer'"),
        ({"jwks_uri": None}, "no 'jwks_uri'"),
        ({"issuer": 5}, "'issuer' is not a string"),
        ({"jwks_uri": ["https://idp.test"]}, "'jwks_uri' is not a string"),
        ({"issuer": "https://other.test"}, "'issuer' is 'https://other.test', not 'http"),
        ({"jwks_uri": "http://idp.test/keys"}, "'jwks_uri': https is required"),
        ({"jwks_uri": "file:///etc/passwd"}, "'jwks_uri': not an HTTP URL"),
        ({"jwks_uri": "https://u:p@idp.test/keys"}, "'jwks_uri': a URL must not hold credentials"),
        ({"id_token_signing_alg_values_supported": "RS256"}, "'id_token_signing_alg_values_supported' is not a list"),
        ({"id_token_signing_alg_values_supported": [1]}, "'id_token_signing_alg_values_supported' is not a list"),
        (b"<html>Sign in</html>", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{" + b" " * 600_000 + b"}", "more than 524288 bytes"),
    ],
)
async def test_bad_document_says_which_rule_it_broke_and_is_asked_for_under_the_cooldown(
    metadata: Any,
    rule: str,
    issuer: LocalIssuer,
    provider: OpenIDProvider,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if isinstance(metadata, bytes):
        issuer.responder = responds(issuer, body=metadata)
    else:
        issuer.metadata = metadata
    for _ in range(5):
        with pytest.raises(KeysUnavailableError) as raised:
            await keys_for(provider, issuer.token())
        assert raised.value.headers == {"Retry-After": "30"}
    messages = [record.getMessage() for record in caplog.records if record.name == "litestar.security.jwt"]
    assert len(messages) == len(issuer.requests) == 1
    assert rule in messages[0]
    assert rule in (provider.status().last_error or "")
    issuer.responder = None
    issuer.metadata = {}
    clock.advance(30)
    assert await accepts(provider, issuer.token())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("", "/"), ("/", ""), ("/a", "/a/"), ("/a", "/A"), ("/a", "/%61"), ("/a", "/./a")],
)
async def test_issuer_has_to_be_exactly_the_same(ours: str, theirs: str, issuer: LocalIssuer) -> None:
    issuer.metadata = {"issuer": issuer.url + theirs}
    provider = OpenIDProvider(issuer.url + ours, discovery_url=issuer.discovery_url)
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    issuer.metadata = {"issuer": issuer.url + ours}
    await provider.refresh()
    assert await accepts(provider, issuer.token(iss=issuer.url + ours))
    assert not await accepts(provider, issuer.token(iss=issuer.url + theirs))


async def test_foreign_tokens_are_refused_before_anything_is_fetched(
    issuer: LocalIssuer, provider: OpenIDProvider
) -> None:
    for iss in ("https://other.test", issuer.url + "/", None, 5, [issuer.url]):
        with pytest.raises(KeyNotFoundError):
            provider(UnverifiedToken(jwt.api_jws.encode(json.dumps({"iss": iss}).encode(), "x" * 32, "HS256")))
    assert not issuer.requests


async def test_issuers_that_the_backend_accepts_are_left_to_it(issuer: LocalIssuer, provider: OpenIDProvider) -> None:
    token = issuer.token(iss="https://other.test")
    assert not await accepts(provider, token, ("alg",))
    assert await accepts(provider, token, ("iss",))


@pytest.mark.parametrize(
    ("listed", "algorithm", "accepted"),
    [
        (None, "RS256", True),
        (None, "PS256", False),
        ([], "RS256", True),
        (["none"], "RS256", True),
        (["HS256", "none", "made-up"], "RS256", True),
        (["RS256", "ES256"], "ES256", True),
        (["ES256"], "RS256", False),
        (["PS256", "none"], "PS256", True),
        (["EdDSA"], "EdDSA", True),
    ],
)
async def test_algorithms_are_the_asymmetric_ones_that_the_document_lists(
    listed: list[str] | None, algorithm: str, accepted: bool
) -> None:
    with LocalIssuer(algorithm=algorithm, metadata={"id_token_signing_alg_values_supported": listed}) as issuer:
        provider = OpenIDProvider(issuer.url)
        assert await accepts(provider, issuer.token()) is accepted
        assert await accepts(provider, issuer.token()) is accepted
        assert await accepts(provider, issuer.token(), ("alg",))
        assert not {"none", "HS256"} & set(provider.status().algorithms)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_tokens_that_are_not_signed_with_a_private_key_have_no_keys(
    algorithm: str, issuer: LocalIssuer, provider: OpenIDProvider
) -> None:
    issuer.metadata = {"id_token_signing_alg_values_supported": [algorithm, "RS256"]}
    token = jwt.encode({"iss": issuer.url}, "x" * 32 if algorithm == "HS256" else "", algorithm)
    for checked in ((), ("alg",)):
        with pytest.raises(KeyNotFoundError):
            await keys_for(provider, token, checked)


async def test_changed_jwks_uri_is_followed_and_old_keys_serve_until_then(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    with LocalIssuer() as moved:
        old = issuer.token()
        new = moved.token(iss=issuer.url)
        assert await accepts(provider, old)
        issuer.metadata = {"jwks_uri": moved.jwks_url}
        moved.fail_with(404)
        clock.advance(500)
        assert at_once(provider, old)
        await settled(provider)
        assert discovered(provider) == moved.jwks_url
        assert at_once(provider, old)
        await settled(provider)
        assert asked(moved) == ["jwks.json"]
        assert "if-none-match" not in moved.requests[0].headers
        moved.recover()
        clock.advance(30)
        assert at_once(provider, old)
        await settled(provider)
        assert at_once(provider, new)
        assert at_once(provider, old)
        status = provider.status().keys
        assert status is not None
        assert (status.key_ids, status.withdrawn_key_ids) == ((moved.kid,), (issuer.kid,))
        clock.advance(3600)
        assert not await accepts(provider, old)
        assert await accepts(provider, new)


async def test_unknown_key_makes_it_look_where_the_keys_are_now(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    with LocalIssuer() as moved:
        assert await accepts(provider, issuer.token())
        issuer.metadata = {"jwks_uri": moved.jwks_url}
        assert await accepts(provider, moved.token(iss=issuer.url))
        assert discovered(provider) == moved.jwks_url


async def test_unknown_key_is_followed_even_while_the_key_set_rests(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    with LocalIssuer() as moved:
        assert await accepts(provider, issuer.token())
        with pytest.raises(KeyNotFoundError):
            await provider._keys(UnverifiedToken(issuer.token(headers={"kid": "bogus"})))  # type: ignore[misc]
        issuer.metadata = {"jwks_uri": moved.jwks_url}
        assert await accepts(provider, moved.token(iss=issuer.url))


async def test_unknown_keys_cost_one_fetch_of_each_document_per_cooldown(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    assert await accepts(provider, issuer.token())
    for round in range(3):
        issuer.requests.clear()
        for number in range(200):
            assert not await accepts(provider, issuer.token(headers={"kid": f"bogus-{round}-{number}"}))
        assert sorted(asked(issuer)) == ["jwks.json", "openid-configuration"]
        clock.advance(31)


async def test_keys_that_cannot_be_had_make_it_look_where_they_are_now(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    issuer.metadata = {"jwks_uri": issuer.url + "/gone"}
    with pytest.raises(KeysUnavailableError):
        await keys_for(provider, issuer.token())
    assert asked(issuer) == ["openid-configuration", "gone"]
    issuer.metadata = {}
    assert await accepts(provider, issuer.token())
    assert asked(issuer)[2:] == ["openid-configuration", "jwks.json"]


@pytest.mark.parametrize("fault", [None, "the connection was cut"])
async def test_answer_from_the_old_place_is_not_taken_for_one_from_the_new(
    fault: str | None, issuer: LocalIssuer, clock: Clock
) -> None:
    entered, leave = anyio.Event(), anyio.Event()

    async def fetch(url: str, headers: Mapping[str, str]) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            response = await client.get(url, headers=dict(headers))
        if url == issuer.jwks_url:
            entered.set()
            await leave.wait()
            if fault is not None:
                raise RuntimeError(fault)
        return response

    provider = OpenIDProvider(issuer.url, client=fetch, clock=clock)
    with LocalIssuer() as moved:
        async with anyio.create_task_group() as tasks:
            _ = tasks.start_soon(provider.refresh)
            await entered.wait()
            issuer.metadata = {"jwks_uri": moved.jwks_url}
            await provider._document.refresh()
            leave.set()
        status = provider.status().keys
        assert status is not None
        assert (status.url, status.key_ids, status.last_error) == (moved.jwks_url, (moved.kid,), None)
        assert not await accepts(provider, issuer.token())
        assert await accepts(provider, moved.token(iss=issuer.url))


class HeldStore(MemoryStore):
    """A store that takes its time to return some value."""

    def __init__(self, held: bytes) -> None:
        super().__init__()
        self.held = held
        self.entered: anyio.Event | None = None
        self.leave = anyio.Event()

    async def get(self, key: str, renew_for: Any = None) -> bytes | None:
        value = await super().get(key, renew_for)
        if self.entered is not None and value is not None and self.held in value:
            self.entered.set()
            await self.leave.wait()
        return value


async def test_copy_of_the_old_place_is_not_taken_for_one_of_the_new(issuer: LocalIssuer, clock: Clock) -> None:
    store = HeldStore(issuer.kid.encode())
    provider = OpenIDProvider(issuer.url, store=store, clock=clock)
    assert await accepts(provider, issuer.token())
    clock.advance(500)
    other = OpenIDProvider(issuer.url, store=store, clock=clock)
    await other.refresh()
    await settled(other)
    store.entered = anyio.Event()
    with LocalIssuer() as moved:
        assert at_once(provider, issuer.token())
        await store.entered.wait()
        await until(lambda: not provider._document._running)
        issuer.metadata = {"jwks_uri": moved.jwks_url}
        await provider._document.refresh()
        store.leave.set()
        await settled(provider)
        status = provider.status().keys
        assert status is not None
        assert (status.url, status.key_ids) == (moved.jwks_url, (moved.kid,))


async def test_copy_that_names_an_old_place_is_checked_with_the_origin(issuer: LocalIssuer, clock: Clock) -> None:
    store = MemoryStore()
    issuer.metadata = {"jwks_uri": issuer.url + "/gone"}
    first = OpenIDProvider(issuer.url, store=store, clock=clock)
    with pytest.raises(KeysUnavailableError):
        await first.refresh()
    await settled(first)
    issuer.metadata = {}
    assert await accepts(OpenIDProvider(issuer.url, store=store, clock=clock), issuer.token())


async def test_copy_that_another_worker_has_renewed_will_do_however_old_the_document_is(
    issuer: LocalIssuer, clock: Clock
) -> None:
    store = MemoryStore()
    first, second = (OpenIDProvider(issuer.url, store=store, max_stale=0, clock=clock) for _ in range(2))
    for provider in (first, second):
        assert await accepts(provider, issuer.token())
        await settled(provider)
    clock.advance(1000)
    assert await accepts(first, issuer.token())
    await settled(first)
    issuer.gone()
    assert await accepts(second, issuer.token())
    await settled(second)
    assert not second.status().stale
    assert second.status().fetches == 0


@pytest.mark.parametrize("fault", ["gone", "html"])
async def test_document_that_fails_does_not_discard_keys(
    fault: str, issuer: LocalIssuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    # The document is at another place than the keys, so that one can fail without the other.
    with LocalIssuer() as front:
        front.metadata = issuer.discovery
        provider = OpenIDProvider(issuer.url, discovery_url=front.discovery_url, max_stale=1000, clock=clock)
        assert await accepts(provider, issuer.token())
        front.requests.clear()
        front.gone() if fault == "gone" else setattr(front, "responder", responds(front, body=b"<html>"))
        for _ in range(10):
            clock.advance(500)
            assert await accepts(provider, issuer.token())
            await settled(provider)
        status = provider.status()
        assert status.keys is not None
        assert (status.stale, status.keys.stale) == (True, False)
        assert status.failures == 10
        new = issuer.rotate(keep=0)
        assert await accepts(provider, issuer.token(headers={"kid": new}))
        front.recover()
        clock.advance(30)
        assert await accepts(provider, issuer.token())
        await settled(provider)
        assert not provider.status().stale


async def test_document_is_renewed_in_the_background(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    assert await accepts(provider, issuer.token())
    clock.advance(479)
    assert at_once(provider, issuer.token())
    await settled(provider)
    assert len(issuer.requests) == 2
    clock.advance(1)
    assert at_once(provider, issuer.token())
    await settled(provider)
    assert sorted(asked(issuer)[2:]) == ["jwks.json", "openid-configuration"]
    assert "if-none-match" in issuer.requests[-1].headers


async def test_clock_that_was_set_back_renews_the_document(
    issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock
) -> None:
    assert await accepts(provider, issuer.token())
    clock.advance(-10_000)
    assert at_once(provider, issuer.token())
    await settled(provider)
    assert provider.status().fetches == 2
    assert not provider.status().stale


async def test_concurrent_first_requests_share_one_discovery(issuer: LocalIssuer, provider: OpenIDProvider) -> None:
    token = issuer.token()
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            _ = tasks.start_soon(accepts, provider, token)
    assert asked(issuer) == ["openid-configuration", "jwks.json"]


async def test_both_documents_are_shared_in_a_store(issuer: LocalIssuer, clock: Clock) -> None:
    store = MemoryStore()
    first = OpenIDProvider(issuer.url, store=store, clock=clock)
    assert await accepts(first, issuer.token())
    await settled(first)
    issuer.gone()
    assert await accepts(OpenIDProvider(issuer.url, store=store, clock=clock), issuer.token())
    assert asked(issuer) == ["openid-configuration", "jwks.json"]


async def test_copy_of_a_document_that_breaks_the_rules_is_not_used(issuer: LocalIssuer, clock: Clock) -> None:
    store = MemoryStore()
    with LocalIssuer() as other:
        other.metadata = {"issuer": other.url}
        url = issuer.discovery_url
        first = OpenIDProvider(other.url, discovery_url=url, store=store, clock=clock)
        issuer.metadata = other.discovery
        assert await accepts(first, other.token())
        await settled(first)
        issuer.metadata = {}
        assert await accepts(OpenIDProvider(issuer.url, store=store, clock=clock), issuer.token())


async def test_named_store_is_that_of_the_application(issuer: LocalIssuer) -> None:
    store = MemoryStore()
    provider = OpenIDProvider(issuer.url, store="keys")
    async with provider.lifespan(Litestar(stores={"keys": store})):
        assert at_once(provider, issuer.token())
        await settled(provider)
    assert len(store._store) == 2
    with LocalIssuer() as moved:
        issuer.metadata = {"jwks_uri": moved.jwks_url}
        await provider.refresh()
        await settled(provider)
    assert len(store._store) == 3


@pytest.mark.parametrize("options", [{}, {"require_on_startup": True}, {"prefetch": False, "require_on_startup": True}])
async def test_start_fetches_both_documents(options: Any, issuer: LocalIssuer) -> None:
    provider = OpenIDProvider(issuer.url, **options)
    async with provider.lifespan(Litestar()):
        assert at_once(provider, issuer.token())


async def test_start_fetches_nothing_without_prefetch(issuer: LocalIssuer) -> None:
    async with OpenIDProvider(issuer.url, prefetch=False).lifespan(Litestar()):
        assert not issuer.requests


@pytest.mark.parametrize("path", ["openid-configuration", "jwks.json"])
def test_start_goes_on_without_keys_unless_they_are_required(path: str, issuer: LocalIssuer) -> None:
    if path == "jwks.json":
        issuer.serve_jwks(b"<html>")
    else:
        issuer.metadata = {"jwks_uri": None}
    auth = backend(OpenIDProvider(issuer.url))
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        response = client.get("/", headers=issuer.auth_header())
        assert response.status_code == 503
        assert 0 < int(response.headers["retry-after"]) <= 30


@pytest.mark.parametrize("missing", ["issuer", "jwks_uri"])
async def test_start_fails_if_keys_are_required(missing: str, issuer: LocalIssuer) -> None:
    issuer.metadata = {missing: None}
    with pytest.raises(KeysUnavailableError):
        async with OpenIDProvider(issuer.url, require_on_startup=True).lifespan(Litestar()):
            pytest.fail("started")  # pragma: no cover


def test_application_verifies_tokens_by_the_name_of_their_issuer(issuer: LocalIssuer) -> None:
    auth = backend(OpenIDProvider(issuer.url))
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        assert client.get("/", headers=issuer.auth_header("alice")).text == "alice"
        for headers in (
            issuer.auth_header(iss="https://other.test"),
            {"Authorization": f"Bearer {issuer.forged_token()}"},
            issuer.auth_header(expires_in=-1),
            {"Authorization": "Bearer a.b.c"},
        ):
            response = client.get("/", headers=headers)
            assert response.status_code == 401
            assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("options", "claims", "status_code"),
    [
        ({"accepted_issuers": ["https://other.test"]}, {"iss": "https://other.test"}, 200),
        ({"accepted_issuers": ["https://other.test"]}, {}, 401),
        ({"accepted_issuers": lambda iss: iss.endswith("other.test")}, {"iss": "https://other.test"}, 200),
        ({"algorithm": "ES256"}, {}, 401),
        ({"algorithm": ["ES256", "RS256"]}, {}, 200),
    ],
)
def test_what_the_backend_was_given_counts(options: Any, claims: Any, status_code: int, issuer: LocalIssuer) -> None:
    auth = backend(OpenIDProvider(issuer.url), **options)
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        assert client.get("/", headers=issuer.auth_header(**claims)).status_code == status_code


async def test_status_tells_what_is_known(issuer: LocalIssuer, provider: OpenIDProvider, clock: Clock) -> None:
    status = provider.status()
    assert (status.issuer, status.url, status.keys) == (issuer.url, issuer.discovery_url, None)
    assert (status.fetched_at, status.expires_at, status.stale, status.fetches) == (None, None, False, 0)
    await provider.refresh()
    status = provider.status()
    assert status.keys is not None
    assert status.fetched_at is not None
    assert status.expires_at is not None
    assert (status.algorithms, status.keys.key_ids) == (("RS256",), (issuer.kid,))
    assert (status.expires_at - status.fetched_at).total_seconds() == 600
    clock.advance(600)
    assert provider.status().stale


async def test_refresh_asks_for_the_keys_even_if_the_document_cannot_be_had(
    issuer: LocalIssuer, provider: OpenIDProvider
) -> None:
    await provider.refresh()
    issuer.metadata = {"issuer": None}
    issuer.requests.clear()
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert asked(issuer) == ["openid-configuration", "jwks.json"]


async def test_refresh_without_any_document_asks_for_that_alone(issuer: LocalIssuer, provider: OpenIDProvider) -> None:
    issuer.metadata = {"issuer": None}
    with pytest.raises(KeysUnavailableError):
        await provider.refresh()
    assert asked(issuer) == ["openid-configuration"]


def test_representation_names_the_issuer(issuer: LocalIssuer, provider: OpenIDProvider) -> None:
    assert repr(provider) == f"OpenIDProvider({issuer.url!r})"


def test_copy_is_the_same(provider: OpenIDProvider) -> None:
    assert copy.deepcopy({"provider": provider})["provider"] is provider


async def test_spellings_of_the_issuer_in_tokens(issuer: LocalIssuer) -> None:
    names = ("accounts.idp.test", "https://accounts.idp.test")
    provider = OpenIDProvider(issuer.url, issuer_in_tokens=names)
    for name in names:
        assert await accepts(provider, issuer.token(iss=name))
    assert not await accepts(provider, issuer.token())
    single = OpenIDProvider(issuer.url, issuer_in_tokens=names[0])
    assert await accepts(single, issuer.token(iss=names[0]))
    assert not await accepts(single, issuer.token(iss=names[1]))


@pytest.fixture
def entra() -> Iterator[LocalIssuer]:
    """An issuer like that of many tenants: the keys say whose they are."""
    with LocalIssuer(TENANTS, declare_alg=False) as issuer:
        sign_for(issuer, TENANTS)
        yield issuer


def sign_for(issuer: LocalIssuer, name: Any) -> None:
    """Publish keys that belong to an issuer."""
    issuer.serve_jwks({"keys": [{**key, "issuer": name} for key in issuer.jwks["keys"]]})


def tenants(issuer: LocalIssuer, **options: Any) -> OpenIDProvider:
    return OpenIDProvider(TENANTS, discovery_url=issuer.discovery_url, **options)


@pytest.mark.parametrize("checked", [(), ("iss",), ("iss", "alg")])
@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        ({"iss": "https://login.test/one/v2.0", "tid": "one"}, True),
        ({"iss": "https://login.test/two/v2.0", "tid": "two"}, True),
        ({"iss": "https://login.test/one/v2.0", "tid": "two"}, False),
        ({"iss": "https://login.test/one/v2.0"}, False),
        ({"iss": "https://login.test/one/v2.0", "tid": ["one"]}, False),
        ({"iss": "https://login.test/one/v2.0/", "tid": "one"}, False),
        ({"iss": "https://login.evil/one/v2.0", "tid": "one"}, False),
        ({"iss": TENANTS, "tid": "one"}, False),
        ({"iss": None, "tid": "one"}, False),
    ],
)
async def test_tenant_and_issuer_of_a_token_have_to_agree(
    claims: Any, accepted: bool, checked: tuple[str, ...], entra: LocalIssuer
) -> None:
    assert await accepts(tenants(entra), entra.token(**claims), checked) is accepted


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        (TENANTS, True),
        ("https://login.test/one/v2.0", True),
        ("https://login.test/two/v2.0", False),
        ("https://login.test/one/v2.0/", False),
        ("https://consumers.test/{tenantid}/v2.0", False),
        (None, True),
    ],
)
async def test_key_of_another_issuer_does_not_verify(name: Any, accepted: bool, entra: LocalIssuer) -> None:
    sign_for(entra, name)
    token = entra.token(iss="https://login.test/one/v2.0", tid="one")
    assert await accepts(tenants(entra), token) is accepted
    single = OpenIDProvider(
        "https://login.test/one/v2.0", discovery_url=entra.discovery_url, issuer_in_tokens="https://login.test/one/v2.0"
    )
    entra.metadata = {"issuer": "https://login.test/one/v2.0"}
    assert await accepts(single, token, ("iss",)) is accepted


async def test_keys_of_other_issuers_are_left_out_of_those_that_fit(
    issuer: LocalIssuer, provider: OpenIDProvider
) -> None:
    other = issuer.publish()
    owners = {issuer.kid: issuer.url, other: "https://other.test"}
    issuer.serve_jwks({"keys": [{**key, "issuer": owners[key["kid"]]} for key in issuer.jwks["keys"]]})
    token = issuer.token(headers={"kid": None})
    assert [key.key_id for key in await keys_for(provider, token)] == [issuer.kid]
    assert not await accepts(provider, issuer.token(headers={"kid": None}, key=other))


def test_tenants_that_are_welcome_are_named_by_the_backend(entra: LocalIssuer) -> None:
    welcome = {"https://login.test/one/v2.0"}
    auth = backend(tenants(entra), accepted_issuers=welcome.__contains__)
    with TestClient(Litestar([whoami], on_app_init=[auth.on_app_init])) as client:
        for iss, tid, status_code in (
            ("one", "one", 200),
            ("two", "two", 401),
            ("one", "two", 401),
            ("two", "one", 401),
        ):
            headers = entra.auth_header(iss=f"https://login.test/{iss}/v2.0", tid=tid)
            assert client.get("/", headers=headers).status_code == status_code


values = st.one_of(
    st.none(),
    st.integers(),
    st.lists(st.sampled_from(["RS256", "none", 5])),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
    st.text(max_size=20),
    st.sampled_from(
        ["https://idp.test", "http://idp.test", "https://idp.test/keys", "//idp.test", "https://[idp.test"]
    ),
)


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["issuer", "jwks_uri", "id_token_signing_alg_values_supported"], values)
    )
)
@example({"issuer": "https://idp.test", "jwks_uri": "https://idp.test/keys"})
def test_any_document_is_judged_or_refused(document: dict[str, Any]) -> None:
    provider = OpenIDProvider("https://idp.test")
    try:
        metadata = provider._document._parse(json.dumps(document).encode())
    except ValueError as e:
        assert str(e)
    else:
        assert document["issuer"] == "https://idp.test"
        assert metadata.jwks_uri == document["jwks_uri"]
        assert metadata.jwks_uri.startswith("https://")
        assert set(metadata.algorithms) == {"RS256"}
