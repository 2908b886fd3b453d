from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from jwt.exceptions import InvalidIssuerError
from time_machine import Traveller

from litestar import Litestar
from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt.key_providers.openid import OpenIDProvider
from litestar.security.jwt.keys import KeyNotFoundException, KeysUnavailableException

from .issuer_server import IssuerServer, Signer, answer_to, answers_at_once, ask, bogus

pytestmark = pytest.mark.anyio

DISCOVERY = "/.well-known/openid-configuration"
ENTRA = "https://login.microsoftonline.com"
COMMON = f"{ENTRA}/organizations/v2.0/.well-known/openid-configuration"


@pytest.fixture
def provider(issuer: IssuerServer, clock: Traveller) -> OpenIDProvider:
    issuer.discover()
    return OpenIDProvider(issuer.issuer, timeout=30)


def token_of(issuer: IssuerServer) -> str:
    return issuer.token(iss=issuer.issuer)


async def test_keys_are_found_by_the_name_of_the_issuer(provider: OpenIDProvider, issuer: IssuerServer) -> None:
    assert await answer_to(provider, token_of(issuer)) == "200"
    assert answers_at_once(provider, token_of(issuer))
    assert issuer.requests == [DISCOVERY, "/jwks"]
    status = provider.status()
    assert (status.issuer, status.url, status.fetches) == (issuer.issuer, issuer.issuer + DISCOVERY, 1)
    assert repr(provider) == f"OpenIDProvider({issuer.issuer!r})"


@pytest.mark.parametrize(
    ("name", "well_known", "url"),
    [
        ("https://a.example", "openid-configuration", "https://a.example/.well-known/openid-configuration"),
        ("https://a.example/", "openid-configuration", "https://a.example/.well-known/openid-configuration"),
        ("https://a.example/b", "openid-configuration", "https://a.example/b/.well-known/openid-configuration"),
        ("https://a.example", "oauth-authorization-server", "https://a.example/.well-known/oauth-authorization-server"),
        (
            "https://a.example/b/",
            "oauth-authorization-server",
            "https://a.example/.well-known/oauth-authorization-server/b",
        ),
    ],
)
async def test_url_of_the_document_is_made_of_the_issuer(name: str, well_known: Any, url: str) -> None:
    provider = OpenIDProvider(name, well_known=well_known)
    assert provider.status().url == url
    assert provider.openid_connect_url == (url if "openid" in url else None)
    assert provider.issuers == (name,)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (None, {}, "'issuer' is None"),
        ("", {}, "'issuer' is ''"),
        (" https://a.example", {}, "'issuer' is"),
        (f"{ENTRA}/<tenant>/v2.0", {}, "placeholders"),
        (f"{ENTRA}/{{tenant}}/v2.0", {}, "placeholders"),
        (f"{ENTRA}/{{tenantid}}/v2.0", {}, "'discovery_url'"),
        (f"https://a.example{DISCOVERY}", {}, "'discovery_url'"),
        ("accounts.example", {}, "'discovery_url'"),
        ("https://a.example/?tenant=1", {}, "Set 'discovery_url'"),
        ("http://a.example", {}, "allow_http=True"),
        ("https://a.example", {"discovery_url": "http://a.example"}, "allow_http=True"),
        ("https://a.example", {"well_known": "openid"}, "'well_known'"),
        ("https://a.example", {"issuer_in_tokens": [None]}, "'issuer_in_tokens'"),
        ("https://a.example", {"timeout": -1}, "'timeout'"),
    ],
)
async def test_mistakes_are_told_at_construction(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException) as caught:
        OpenIDProvider(name, **options)
    assert message in caught.value.detail


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (None, "not a JSON object"),
        ({"issuer": "https://other.example"}, "of the issuer 'https://other.example'"),
        ({"issuer": None}, "of the issuer 'None'"),
        ({"jwks_uri": None}, "'jwks_uri' of the discovery document is 'None'"),
        ({"jwks_uri": "http://keys.example/"}, "allow_http=True"),
    ],
)
async def test_document_that_breaks_the_rules_is_refused(
    provider: OpenIDProvider, issuer: IssuerServer, members: Any, reason: str
) -> None:
    if members is None:
        issuer.discover().document = []
    else:
        issuer.discover(**members)
    assert await answer_to(provider, token_of(issuer)) == "503"
    assert reason in str(provider.status().last_error)
    assert issuer.requests == [DISCOVERY]


async def test_trailing_slash_is_part_of_the_name(issuer: IssuerServer, caplog: pytest.LogCaptureFixture) -> None:
    issuer.discover(issuer=f"{issuer.issuer}/")
    provider = OpenIDProvider(issuer.issuer)
    assert await answer_to(provider, token_of(issuer)) == "503"
    (message,) = caplog.messages
    assert f"{issuer.issuer}/'" in message and f"{issuer.issuer}'" in message


async def test_keys_on_loopback_are_only_for_issuers_on_loopback() -> None:
    asked = []

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        asked.append(url)
        document = {"issuer": "https://a.example", "jwks_uri": "http://127.0.0.1/keys"}
        return SimpleNamespace(status_code=200, headers={}, content=json.dumps(document).encode())

    provider = OpenIDProvider("https://a.example", client=fetch)
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert asked == [f"https://a.example{DISCOVERY}"]
    assert "loopback" in str(provider.status().last_error)


@pytest.mark.parametrize("iss", [None, "", "https://other.example", 1])
async def test_tokens_of_others_are_refused_before_anyone_is_asked(
    provider: OpenIDProvider, issuer: IssuerServer, iss: Any
) -> None:
    with pytest.raises(KeyNotFoundException, match="Invalid token") as caught:
        ask(provider, issuer.token() if iss is None else _with_claims(issuer, iss=iss))
    assert isinstance(caught.value.__cause__, InvalidIssuerError)
    assert issuer.issuer in str(caught.value.__cause__)
    assert issuer.requests == []


def _with_claims(issuer: IssuerServer, iss: Any) -> str:
    if isinstance(iss, str):
        return issuer.token(iss=iss)
    from base64 import urlsafe_b64encode

    head, _, signature = issuer.token().split(".")
    return f"{head}.{urlsafe_b64encode(json.dumps({'iss': iss}).encode()).decode().rstrip('=')}.{signature}"


async def test_spellings_of_the_issuer_in_tokens(issuer: IssuerServer) -> None:
    issuer.discover()
    provider = OpenIDProvider(issuer.issuer, issuer_in_tokens=["accounts.example", "https://accounts.example"])
    for iss in ("accounts.example", "https://accounts.example"):
        assert await answer_to(provider, issuer.token(iss=iss)) == "200"
    assert await answer_to(provider, token_of(issuer)) == "401"
    assert provider.issuers == (issuer.issuer,)


async def test_moved_keys_are_followed(provider: OpenIDProvider, issuer: IssuerServer, clock: Traveller) -> None:
    await answer_to(provider, token_of(issuer))
    new = Signer("moved")
    issuer.answers["/moved"] = type(issuer.jwks)({"keys": [new.jwk]})
    issuer.discover(jwks_uri=f"{issuer.issuer}/moved")
    assert await answer_to(provider, new.token(iss=issuer.issuer)) == "200"
    assert issuer.requests[-2:] == [DISCOVERY, "/moved"]


@pytest.mark.parametrize("fault", [{"status": 500}, {"document": {"issuer": "https://b.example"}}])
async def test_keys_alone_are_asked_for_if_discovery_fails(
    provider: OpenIDProvider, issuer: IssuerServer, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await answer_to(provider, token_of(issuer))
    for name, value in fault.items():
        setattr(issuer.answers[DISCOVERY], name, value)
    for _ in range(2):
        assert await answer_to(provider, issuer.rotate().token(iss=issuer.issuer)) == "200"
    assert (provider.status().failures, provider.status().last_error) == (0, None)
    assert len([m for m in caplog.messages if "discovery failed" in m]) == 2


def answering(signers: list[Signer], seconds: dict[str, float]) -> Any:
    """Make a client that has no network to wait for, so that only what a test makes slow is slow."""

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        document = {"issuer": "https://a.example", "jwks_uri": "https://a.example/keys"}
        keys = {"keys": [signer.jwk for signer in signers]}
        path = url.removeprefix("https://a.example")
        if path in seconds:
            await anyio.sleep(seconds[path])
        content = json.dumps(keys if path == "/keys" else document).encode()
        return SimpleNamespace(status_code=200, headers={}, content=content)

    return fetch


async def test_discovery_that_hangs_leaves_time_for_the_keys(caplog: pytest.LogCaptureFixture) -> None:
    signers, seconds = [Signer("old")], dict[str, float]()
    provider = OpenIDProvider("https://a.example", timeout=2, client=answering(signers, seconds))
    assert await answer_to(provider, signers[0].token(iss="https://a.example")) == "200"
    signers[0], seconds[DISCOVERY] = Signer("new"), 60
    assert await answer_to(provider, signers[0].token(iss="https://a.example")) == "200"
    assert (provider.status().failures, provider.status().last_error) == (0, None)
    assert "discovery failed" in caplog.text


async def test_one_deadline_is_for_discovery_and_keys_together() -> None:
    signer = Signer("any")
    client = answering([signer], {DISCOVERY: 0.6, "/keys": 0.6})
    provider = OpenIDProvider("https://a.example", timeout=1, client=client)
    assert await answer_to(provider, signer.token(iss="https://a.example")) == "503"
    assert provider.status().last_error == "no complete answer within 1 s"


async def test_options_apply_to_both_requests(issuer: IssuerServer) -> None:
    issuer.discover()
    provider = OpenIDProvider(issuer.issuer, headers={"X-Api-Key": "abc"}, require_on_startup=True)
    async with provider.lifespan(Litestar()):
        assert answers_at_once(provider, token_of(issuer))
    assert [sent["x-api-key"] for sent in issuer.headers] == ["abc", "abc"]


async def test_a_thousand_first_requests_share_one_discovery(provider: OpenIDProvider, issuer: IssuerServer) -> None:
    token, answers = token_of(issuer), list[str]()

    async def request() -> None:
        answers.append(await answer_to(provider, token))

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            _ = tasks.start_soon(request)
    assert answers == ["200"] * 1000
    assert issuer.requests == [DISCOVERY, "/jwks"]


async def test_unknown_key_is_looked_for(provider: OpenIDProvider, issuer: IssuerServer) -> None:
    await answer_to(provider, token_of(issuer))
    assert await answer_to(provider, issuer.rotate().token(iss=issuer.issuer)) == "200"
    assert await answer_to(provider, bogus(iss=issuer.issuer)) == "401"


# Tenants of Microsoft Entra ID

V1, V2 = "https://sts.windows.net/{tenantid}/", f"{ENTRA}/{{tenantid}}/v2.0"
CONSUMERS = f"{ENTRA}/9188040d/v2.0"


def entra(issuer: str, *, kids: Mapping[str, str | None], name: str | None = None, **options: Any) -> Any:
    """Make a provider, and a signer for each of its keys, which are bound to issuers."""
    signers = {kid: Signer(kid, **({} if owner is None else {"issuer": owner})) for kid, owner in kids.items()}

    async def fetch(url: str, headers: Mapping[str, str]) -> Any:
        keys = {"keys": [signer.jwk for signer in signers.values()]}
        document = {"issuer": issuer, "jwks_uri": f"{ENTRA}/keys"} if url == COMMON else keys
        return SimpleNamespace(status_code=200, headers={}, content=json.dumps(document).encode())

    return OpenIDProvider(issuer, discovery_url=COMMON, client=fetch, **options), signers


@pytest.mark.parametrize(
    ("iss", "tid", "accepted"),
    [
        (f"{ENTRA}/a/v2.0", "a", True),
        (f"{ENTRA}/b/v2.0", "b", True),
        (f"{ENTRA}/a/v2.0", "b", False),
        (f"{ENTRA}/a/v2.0", None, False),
        (f"{ENTRA}/a/v2.0", ["a"], False),
        (V2, "{tenantid}", True),
        ("https://other.example/a/v2.0", "a", False),
    ],
)
async def test_tenant_and_issuer_of_a_token_have_to_agree(iss: str, tid: Any, accepted: bool) -> None:
    provider, signers = entra(V2, kids={"shared": V2})
    claims = {"iss": iss} if tid is None else {"iss": iss, "tid": tid}
    assert await answer_to(provider, signers["shared"].token(**claims)) == ("200" if accepted else "401")
    assert provider.issuers == ()


@pytest.mark.parametrize(
    ("kid", "tid", "accepted"),
    [
        ("shared", "a", True),
        ("unbound", "a", True),
        ("consumers", "a", False),
        ("consumers", "9188040d", True),
        ("other", "a", False),
    ],
)
async def test_key_verifies_only_tokens_of_its_own_issuer(kid: str, tid: str, accepted: bool) -> None:
    kids = {"shared": V2, "unbound": None, "consumers": CONSUMERS, "other": "https://other.example"}
    provider, signers = entra(V2, kids=kids)
    for _ in range(2):
        answer = await answer_to(provider, signers[kid].token(iss=f"{ENTRA}/{tid}/v2.0", tid=tid))
        assert answer == ("200" if accepted else "401")


@pytest.mark.parametrize(
    ("issuer_in_tokens", "accepted"), [("https://sts.windows.net/a/", True), (V1, False)], ids=["literal", "template"]
)
async def test_entra_v1_tokens_over_v2_keys_need_the_literal_name(issuer_in_tokens: str, accepted: bool) -> None:
    provider, signers = entra(V2, kids={"shared": V2}, issuer_in_tokens=issuer_in_tokens)
    token = signers["shared"].token(iss="https://sts.windows.net/a/", tid="a")
    assert await answer_to(provider, token) == ("200" if accepted else "401")
