from __future__ import annotations

import json
from typing import Any
from unittest.mock import Mock

import anyio
import pytest

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import KeysUnavailableException, OpenIDProvider, UnverifiedToken
from litestar.security.jwt.keys import UnknownIssuerException
from tests.unit.test_security.test_jwt.backends import on_both_libraries

from .event_loops import without_waiting
from .issuer_server import DISCOVERY, Answer, Issuer, Signer, bogus, fake_client, jwks_of
from .lookups import APP, Log, answer_to, answers_at_once, lines_of, looking_up

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
    async with provider.lifespan(APP), looking_up(provider, *[token] * 100) as answers:
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
    fetch_document = Mock(return_value=document)
    provider = OpenIDProvider(A, client=fake_client(fetch_document))
    assert await answer_to(provider, bogus(iss=A)) == "503"
    assert [reason for reason in reasons if reason not in str(provider.status().last_error)] == []
    fetch_document.assert_called_once_with(A + DISCOVERY)


@on_both_libraries
async def test_keys_may_be_on_plain_http_if_that_is_allowed() -> None:
    signer, keys = Signer(), "http://keys.example/"
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": keys}, keys: jwks_of(signer)}
    provider = OpenIDProvider(A, allow_http=True, client=fake_client(documents.__getitem__))
    assert await answer_to(provider, signer.token(iss=A)) == "200"


@pytest.mark.parametrize("claims", [{}, {"iss": ""}, {"iss": f"{A}/"}, {"iss": 1}])
def test_tokens_of_others_are_refused_before_anyone_is_asked(claims: Any) -> None:
    token = UnverifiedToken(bogus())
    token.claims.update(claims)
    with pytest.raises(UnknownIssuerException, match="Invalid token") as caught:
        OpenIDProvider(A)(token)
    assert caught.value.expected == (A,)


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

    async def fetch_document(url: str) -> Any:
        await anyio.sleep(sleeps.get(url, 0))
        return documents[url]

    provider = OpenIDProvider(A, timeout=10, client=fake_client(fetch_document))
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
        ("shared", {"iss": V2, "tid": "{tenantid}"}, {}, "401"),
        ("shared", {"iss": "https://other.example/a/v2.0", "tid": "a"}, {}, "401"),
        # A key verifies only tokens of its own issuer.
        ("unbound", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "200"),
        ("consumers", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "401"),
        ("consumers", {"iss": f"{ENTRA}/9188040d/v2.0", "tid": "9188040d"}, {}, "200"),
        ("unnamed", {"iss": f"{ENTRA}/a/v2.0", "tid": "a"}, {}, "200"),
        # Other spellings of the issuer do not make its tokens those of another issuer.
        ("shared", {"iss": V1_OF_A, "tid": "a"}, {"issuer_in_tokens": V1_OF_A}, "200"),
        ("shared", {"iss": V1_OF_A, "tid": "a"}, {"issuer_in_tokens": V1}, "200"),
        ("shared", {"iss": V1_OF_A, "tid": "b"}, {"issuer_in_tokens": V1}, "401"),
        ("consumers", {"iss": V1_OF_A, "tid": "a"}, {"issuer_in_tokens": V1_OF_A}, "401"),
    ],
)
@on_both_libraries
async def test_tenants_of_entra(kid: str, claims: dict[str, Any], options: Any, answer: str) -> None:
    url = f"{ENTRA}/organizations/v2.0{DISCOVERY}"
    documents = {url: {"issuer": V2, "jwks_uri": f"{ENTRA}/keys"}, f"{ENTRA}/keys": jwks_of(*SIGNERS.values())}
    provider = OpenIDProvider(V2, discovery_url=url, client=fake_client(documents.__getitem__), **options)
    for _ in range(2):
        assert await answer_to(provider, SIGNERS[kid].token(**claims)) == answer
    assert provider.issuers == ()


@pytest.mark.parametrize(
    "host", ["127.1", "0", "0.0.0.0", "2130706433", "[::ffff:127.0.0.1]", "0x7f.1", "localhost.", "[::]"]
)
@on_both_libraries
async def test_public_issuer_cannot_point_to_this_machine(host: str) -> None:
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": f"https://{host}/keys"}}
    provider = OpenIDProvider(A, client=fake_client(documents.__getitem__))
    assert await answer_to(provider, bogus(iss=A)) == "503"
    assert "loopback interface of the issuer. If this application reaches" in str(provider.status().last_error)
    assert "RemoteJWKSet with that URL, and 'accepted_issuers'" in str(provider.status().last_error)


@pytest.mark.parametrize(
    ("jwks_uri", "is_sent"), [pytest.param(f"{A}/keys", True, id="same"), pytest.param(KEYS, False, id="other")]
)
@on_both_libraries
async def test_headers_are_sent_to_the_origin_of_the_issuer_only(jwks_uri: str, is_sent: bool) -> None:
    sent = dict[str, Any]()
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": jwks_uri}, jwks_uri: jwks_of(Signer())}

    async def client(url: str, headers: Any) -> Any:
        sent[url] = headers
        return Mock(status_code=200, headers={}, content=json.dumps(documents[url]).encode())

    await OpenIDProvider(A, client=client, headers={"X-Api-Key": "secret"}).refresh()
    assert sent[A + DISCOVERY]["x-api-key"] == "secret"
    assert ("x-api-key" in sent[jwks_uri]) is is_sent


@on_both_libraries
async def test_query_of_a_url_is_shown_nowhere(issuer: Issuer, records: Log) -> None:
    discovery_url = f"{issuer.issuer}{DISCOVERY}?code=secret"
    provider = OpenIDProvider(issuer.issuer, discovery_url=discovery_url, timeout=30)
    issuer.answers[f"{DISCOVERY}?code=secret"] = issuer.discovery
    for jwks_uri in (
        f"{issuer.url}?code=secret",
        "http://keys.example/?code=secret",
        "https://0/?code=secret",
        "?code=secret",
    ):
        issuer.discovery.document["jwks_uri"] = jwks_uri
        with pytest.raises(KeysUnavailableException):
            await provider.refresh()
        assert provider.status().last_error
        assert "secret" not in f"{provider.status()}{provider!r}{provider.openid_connect_url}{lines_of(records)}"
    issuer.answers.clear()
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    assert "secret" not in f"{provider.status()}{lines_of(records)}"


@pytest.mark.parametrize(
    ("failing", "hint"), [pytest.param(A + DISCOVERY, False, id="discovery"), pytest.param(KEYS, True, id="keys")]
)
@on_both_libraries
async def test_error_names_the_url_that_failed(failing: str, hint: bool) -> None:
    documents = {A + DISCOVERY: {"issuer": A, "jwks_uri": KEYS}, KEYS: jwks_of(Signer())}
    del documents[failing]
    provider = OpenIDProvider(A, client=fake_client(documents.__getitem__))
    with pytest.raises(KeysUnavailableException):
        await provider.refresh()
    error = str(provider.status().last_error)
    assert error.startswith(f"{failing}: KeyError")
    assert ("RemoteJWKSet" in error) is hint


@on_both_libraries
async def test_document_without_a_key_set_is_explained(issuer: Issuer) -> None:
    provider = OpenIDProvider(issuer.issuer, timeout=30)
    documents: list[Any] = [{}, [], {"keys": []}, {"keys": None}]
    for document in documents:
        issuer.jwks.document = document
        with pytest.raises(KeysUnavailableException):
            await provider.refresh()
        assert "Has the provider a signing key?" in str(provider.status().last_error)
        assert "OpenIDProvider" not in str(provider.status().last_error)
