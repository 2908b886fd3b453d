"""Every code block of the documentation is a tested file that fits its place, and every option is explained."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from litestar.exceptions import ImproperlyConfiguredException
from litestar.security.jwt import JWTAuth, OpenIDProvider, Reason, RemoteJWKSet, Token
from tests.examples.test_security.test_jwt.internet import client_of
from tests.unit.test_security.test_jwt.key_providers.issuer_server import DISCOVERY

DOCS = Path(__file__).parents[4] / "docs"
TESTS = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
PAGES = {path.stem: path.read_text() for path in (DOCS / "usage/security").glob("jwt-*.rst")}
ALL_PAGES = "".join(PAGES.values())
SOURCES = {path.stem: path.read_text() for path in sorted((DOCS / "examples/security/jwt").glob("[!_]*.py"))}


def test_blocks_are_files() -> None:
    included = set(re.findall(r"literalinclude:: /examples/security/jwt/(\w+)\.py", ALL_PAGES))
    assert included == SOURCES.keys()
    assert "code-block:: python" not in ALL_PAGES


@pytest.mark.parametrize("name", SOURCES)
def test_examples_fit_and_are_tested(name: str) -> None:
    source = SOURCES[name]
    assert max(map(len, source.splitlines())) <= 88
    assert re.search(rf'"{name}"|jwt\.{name} import [\s\S]{{0,60}}\btest_', TESTS)
    if "login.microsoftonline.com" in source or "b2clogin" in source:
        assert "withdrawn_grace=timedelta(days=1)" in source


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if "\napp = " in source])
def test_schema_is_reachable_without_a_token(name: str) -> None:
    with client_of(name) as client:
        assert client.get("/schema/openapi.json").status_code == 200


def test_refusals_are_explained() -> None:
    explained = re.findall(r"^    \* - ``([^`<]+)", PAGES["jwt-security"].partition("401, 403")[0], re.MULTILINE)
    assert {reason.strip() for reason in explained} == set(Reason)


backend = partial(JWTAuth[Any, Token], retrieve_user_handler=lambda token, connection: token.sub)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: OpenIDProvider("https://idp/<tenant>"), "Replace the placeholder in it with its value"),
        (lambda: OpenIDProvider(f"https://idp{DISCOVERY}"), "Remove the part from '/.well-known/' on"),
        (lambda: RemoteJWKSet("http://idp/keys"), "keys fetched over plain http can be replaced"),
        (partial(backend, key_provider="https://idp/keys"), "a URL. Use OpenIDProvider(issuer)"),
        (partial(backend, key_provider="-----BEGIN PUBLIC KEY-----\\nMII"), "a PEM with line breaks written as '\\n'"),
        (partial(backend, key_provider=__file__), "a path. Pass the content of the file"),
        (partial(backend, key_provider=lambda: OpenIDProvider("https://idp.example.com")), "wrap it in 'Provide'"),
        (partial(backend, key_provider=lambda token: None), "'accepted_audiences' is missing or empty"),
    ],
)
def test_mistakes_are_explained(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(ImproperlyConfiguredException, match=re.escape(message)):
        mistake()
    assert f"``{message}``" in ALL_PAGES
