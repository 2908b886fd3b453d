from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import anyio
import pytest
from jwt.exceptions import InvalidIssuerError

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeyNotFoundException, OpenIDProvider, UnverifiedToken
from tests.unit.test_security.test_jwt.backends import backend, on_both_libraries

from .asking import APP, Log, answer_to, answers_at_once, asking, lines_of
from .event_loops import without_waiting
from .issuer_server import DISCOVERY, Answer, Issuer, Signer, bogus, client_of, jwks_of

A = "https://a.example"
KEYS = "https://keys.example/"
ENTRA = "https://login.microsoftonline.com"
OPENID, OAUTH = "openid-configuration", "oauth-authorization-server"


@pytest.fixture
def provider(issuer: Issuer) -> OpenIDProvider:
    return OpenIDProvider(issuer.issuer, timeout=30, headers={"X-Api-Key": "abc"})


@on_both_libraries
async def test_keys_are_found_once_by_the_name_of_the_issuer(provider: OpenIDProvider, issuer: Issuer) -> None:
    token = issuer.token(iss=issuer.issuer)
    async with provider.lifespan(APP), asking(provider, *[token] * 100) as answers:
        pass
    assert answers == ["200"] * 100
    assert answers_at_once(provider, token)
    assert issuer.requests == [DISCOVERY, "/jwks"]
    assert [sent["x-api-key"] for sent in issuer.headers] == ["abc", "abc"]
    status = provider.status()
    assert (status.issuer, status.url, status.fetches) == (issuer.issuer, issuer.issuer + DISCOVERY, 1)
    assert repr(provider) == f"OpenIDProvider({issuer.issuer!r})"


@pytest.mark.parametrize(
    ("name", "well_known", "url"),
    [
        (A, OPENID, f"{A}/.well-known/openid-configuration"),
        (f"{A}/", OPENID, f"{A}/.well-known/openid-configuration"),
        (f"{A}/b", OPENID, f"{A}/b/.well-known/openid-configuration"),
        (A, OAUTH, f"{A}/.well-known/oauth-authorization-server"),
        (f"{A}/b/", OAUTH, f"{A}/.well-known/oauth-authorization-server/b"),
    ],
)
def test_url_of_the_document_is_made_of_the_issuer(name: str, well_known: Any, url: str) -> None:
    provider = OpenIDProvider(name, well_known=well_known)
    assert provider.status().url == url
    assert provider.openid_connect_url == (url if well_known == OPENID else None)
    schemes: Any = backend(provider).openapi_components.security_schemes
    assert schemes["BearerToken"].open_id_connect_url == provider.openid_connect_url
    assert provider.issuers == (name,)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {}, f"'issuer' is {name!r}. Set it") for name in (None, 1, "", " https://a.example")),
        (f"{ENTRA}/<tenant>/v2.0", {}, "Replace the placeholder"),
        (f"{ENTRA}/{{tenant}}/v2.0", {}, "placeholders"),
        (f"https://a.example{DISCOVERY}", {}, "Remove the part"),
        *((name, {}, "'discovery_url'") for name in (f"{ENTRA}/{{tenantid}}/", "a.example", "https://a.example/?a=1")),
        ("http://a.example", {}, "allow_http=True"),
        (A, {"discovery_url": "http://a.example"}, "allow_http=True"),
        (A, {"well_known": "openid"}, "'well_known'"),
        *((A, {"issuer_in_tokens": names}, "'issuer_in_tokens'") for names in ([1], "")),
        (A, {"timeout": -1}, "'timeout'"),
    ],
)
def test_mistakes_are_told_at_construction(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException) as caught:
        OpenIDProvider(name, **options)
    assert message in caught.value.detail


@pytest.mark.parametrize(
    ("document", "reasons"),
    [
        ([], ["names 'None'"]),
        ({"issuer": f"{A}/"}, [f"'{A}/'", f"'{A}'"]),
        ({"jwks_uri": f"{A}/keys"}, ["'None'"]),
        ({"issuer": A}, ["'jwks_uri'", "'None'"]),
        ({"issuer": A, "jwks_uri": "http://keys.example/"}, ["'jwks_uri'", "allow_http=True"]),
        ({"issuer": A, "jwks_uri": "https://127.0.0.1/keys"}, ["'jwks_uri'", "loopback"]),
    ],
)
@on_both_libraries
async def test_document_that_breaks_the_rules_is_refused(document: Any, reasons: list[str]) -> None:
    document_at = Mock(return_value=document)
    provider = OpenIDProvider(A, client=client_of(document_at))
    assert await answer_to(provider, bogus(iss=A)) == "503"
    assert [reason for reason in reasons if reason not in str(provider.status().last_error)] == []
    document_at.assert_called_once_with(A + DISCOVERY)


@on_both_libraries
async def test_keys_may_be_on_plain_http_if_that_is_allowed() -> None:
    signer, keys = Signer(), "http://keys.example/"
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": keys}, keys: jwks_of(signer)}
    provider = OpenIDProvider(A, allow_http=True, client=client_of(documents.__getitem__))
    assert await answer_to(provider, signer.token(iss=A)) == "200"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": f"{A}/"}, {"iss": 1}])
def test_tokens_of_others_are_refused_before_anyone_is_asked(claims: Any) -> None:
    token = UnverifiedToken(bogus())
    token.claims.update(claims)
    with pytest.raises(KeyNotFoundException, match="Invalid token") as caught:
        OpenIDProvider(A)(token)
    assert isinstance(caught.value.__cause__, InvalidIssuerError)
    assert A in str(caught.value.__cause__)


@on_both_libraries
async def test_spellings_of_the_issuer_in_tokens(issuer: Issuer) -> None:
    spellings = ["accounts.example", "https://accounts.example"]
    provider = OpenIDProvider(issuer.issuer, timeout=30, issuer_in_tokens=spellings)
    for iss, answer in [*((spelling, "200") for spelling in spellings), (issuer.issuer, "401")]:
        assert await answer_to(provider, issuer.token(iss=iss)) == answer
    assert provider.issuers == (issuer.issuer,)


@on_both_libraries
async def test_moved_keys_are_followed(provider: OpenIDProvider, issuer: Issuer) -> None:
    await provider.refresh()
    new = Signer("moved")
    issuer.answers["/moved"] = Answer(jwks_of(new))
    issuer.discovery.document["jwks_uri"] = f"{issuer.issuer}/moved"
    assert await answer_to(provider, new.token(iss=issuer.issuer)) == "200"
    assert issuer.requests[-2:] == [DISCOVERY, "/moved"]
    assert await answer_to(provider, bogus(iss=issuer.issuer)) == "401"


@pytest.mark.parametrize("fault", [{"status": 500}, {"document": {"issuer": "https://b.example"}}])
@on_both_libraries
async def test_failed_discovery_is_skipped(provider: OpenIDProvider, issuer: Issuer, fault: Any, records: Log) -> None:
    await provider.refresh()
    vars(issuer.discovery).update(fault)
    for _ in range(2):
        assert await answer_to(provider, issuer.rotate().token(iss=issuer.issuer)) == "200"
    assert (provider.status().failures, provider.status().last_error) == (0, None)
    assert len([line for line in lines_of(records) if "discovery failed" in line]) == 2


@pytest.mark.parametrize(
    ("knows_the_url", "discovery", "keys", "answer", "seconds"),
    [
        (True, 60, 4.9, "200", 9.9),
        (True, 60, 5.1, "503", 10),
        (False, 6, 3.9, "200", 9.9),
        (False, 6, 6, "503", 10),
        (False, 60, 0, "503", 10),
    ],
)
@without_waiting
async def test_one_deadline_is_for_discovery_and_keys(
    knows_the_url: bool, discovery: float, keys: float, answer: str, seconds: float
) -> None:
    sleeps = dict[str, float]()
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": KEYS}, KEYS: jwks_of(Signer("old"))}

    async def document_at(url: str) -> Any:
        await anyio.sleep(sleeps.get(url, 0))
        return documents[url]

    provider = OpenIDProvider(A, timeout=10, client=client_of(document_at))
    if knows_the_url:
        await provider.refresh()
    sleeps.update({A + DISCOVERY: discovery, KEYS: keys})
    documents[KEYS] = jwks_of(new := Signer("new"))
    started_at = anyio.current_time()
    assert await answer_to(provider, new.token(iss=A)) == answer
    assert anyio.current_time() - started_at == pytest.approx(seconds)
    assert answer == "200" or "10 s" in str(provider.status().last_error)


# Tenants of Microsoft Entra ID
V1, V2, V1_OF_A = "https://sts.windows.net/{tenantid}/", f"{ENTRA}/{{tenantid}}/v2.0", "https://sts.windows.net/a/"
SIGNERS = {
    "shared": Signer("shared", issuer=V2),
    "unnamed": Signer("unnamed", issuer=V2),
    "unbound": Signer("unbound"),
    "consumers": Signer("consumers", issuer=f"{ENTRA}/9188040d/v2.0"),
}
SIGNERS["unnamed"].named = {}  # in tokens


@pytest.mark.parametrize(
    ("kid", "claims", "options", "answer"),
    [
        # The tenant and the issuer of a token have to agree.
        ("shared", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "200"),
        ("shared", {"iss": f"{ENTRA}/a/v2.0", "tid": "b"}, {}, "401"),
        ("shared", {"iss": f"{ENTRA}/None/v2.0"}, {}, "401"),
        ("shared", {"iss": f"{ENTRA}/a/v2.0", "tid": ["a"]}, {}, "401"),
        ("shared", {"iss": f"{ENTRA}//v2.0"}, {}, "401"),
        ("shared", {"iss": V2, "tid": "{tenantid}"}, {}, "200"),
        ("shared", {"iss": "https://other.example/a/v2.0", "tid": "a"}, {}, "401"),
        # A key verifies only tokens of its own issuer.
        ("unbound", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "200"),
        ("consumers", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "401"),
        ("consumers", {"iss": f"{ENTRA}/9188040d/v2.0", "tid": "9188040d"}, {}, "200"),
        ("unnamed", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "200"),
        # Tokens of version 1 over keys of version 2 need the literal name.
        ("shared", {"iss": V1_OF_A, "tid": "a"}, {"issuer_in_tokens": V1_OF_A}, "200"),
        ("shared", {"iss": V1_OF_A, "tid": "a"}, {"issuer_in_tokens": V1}, "401"),
    ],
)
@on_both_libraries
async def test_tenants_of_entra(kid: str, claims: dict[str, Any], options: Any, answer: str) -> None:
    url = f"{ENTRA}/organizations/v2.0{DISCOVERY}"
    documents = {url: {"issuer": V2, "jwks_uri": f"{ENTRA}/keys"}, f"{ENTRA}/keys": jwks_of(*SIGNERS.values())}
    provider = OpenIDProvider(V2, discovery_url=url, client=client_of(documents.__getitem__), **options)
    for _ in range(2):
        assert await answer_to(provider, SIGNERS[kid].token(**claims)) == answer
    assert provider.issuers == ()
