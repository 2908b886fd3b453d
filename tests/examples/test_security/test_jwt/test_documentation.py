"""Every code block of the documentation is a tested file that fits its place, and every option is explained."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from litestar.exceptions import ImproperlyConfiguredException, LitestarWarning
from litestar.security.jwt import OpenIDProvider, RemoteJWKSet, _refusals
from tests.examples.test_security.test_jwt.internet import client_of
from tests.unit.test_security.test_jwt.backends import ISSUER, backend
from tests.unit.test_security.test_jwt.key_providers.issuer_server import DISCOVERY

DOCS = Path(__file__).parents[4] / "docs"
TESTS = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
PAGES = {path.stem: path.read_text() for path in (DOCS / "usage/security").glob("jwt-*.rst")}
EXAMPLES = sorted(path for path in (DOCS / "examples/security/jwt").glob("*.py") if path.stem != "__init__")
UNSAFE = "Without 'accepted_audiences'"


def test_blocks_are_files() -> None:
    included = set(re.findall(r"literalinclude:: /examples/security/jwt/(\w+)\.py", "".join(PAGES.values())))
    assert included == {path.stem for path in EXAMPLES}
    assert "code-block:: python" not in "".join(PAGES.values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.stem))
def test_examples_fit_and_are_tested(path: Path) -> None:
    source = path.read_text()
    assert max(map(len, source.splitlines())) <= 88
    assert re.search(rf'"{path.stem}"|jwt\.{path.stem} import .*\btest_', TESTS)
    if "login.microsoftonline.com" in source or "b2clogin" in source:
        assert "withdrawn_grace=timedelta(days=1)" in source


WITHOUT_APP = {"missing_claims", "look_into_token", "testing_an_app", "testing_over_http"}
WITH_ARGUMENTS = {"publish_keys", "moving_from_shared_secret", "pem_keys", "private_ca"}


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES} - WITHOUT_APP - WITH_ARGUMENTS))
def test_schema_is_reachable_without_a_token(name: str) -> None:
    with client_of(name) as client:
        assert client.get("/schema/openapi.json").status_code == 200


def test_refusals_are_explained() -> None:
    package = Path(str(inspect.getsourcefile(_refusals))).parent
    source = "".join((package / name).read_text() for name in ("_refusals.py", "middleware.py"))
    explained = re.findall(r"^    \* - ``([^`<]+)", PAGES["jwt-security"].partition("401, 403")[0], re.MULTILINE)
    assert len(explained) == 14
    assert [reason for reason in explained if f'"{reason.strip()}' not in source] == []


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: OpenIDProvider("https://idp/<tenant>"), "Replace the placeholder in it with its value"),
        (lambda: OpenIDProvider(f"https://idp{DISCOVERY}"), "Remove the part from '/.well-known/' on"),
        (lambda: RemoteJWKSet("http://idp/keys"), "keys fetched over plain http can be replaced"),
        (lambda: backend("https://idp/keys"), "a URL. Use OpenIDProvider(issuer)"),
        (lambda: backend("-----BEGIN PUBLIC KEY-----\\nMII"), "a PEM with line breaks written as '\\n'"),
        (lambda: backend("keys/public.pem"), "Pass the content of a file, not its path"),
        (lambda: backend(lambda: OpenIDProvider("https://idp.example.com")), "wrap it in 'Provide'"),
        (lambda: backend(ISSUER.key, accepted_audiences=None), f"{UNSAFE}, this backend accepts every token"),
    ],
)
def test_mistakes_are_explained(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises((ImproperlyConfiguredException, LitestarWarning), match=re.escape(message)):
        mistake()
    assert f"``{message}``" in PAGES["jwt-security"]
