"""What the pages say about log lines, options and attacks is what the package does."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from litestar.security.jwt import RemoteJWKSet
from litestar.security.jwt.options import KeyProviderOptions

ROOT = Path(__file__).parents[4]
PAGES = {path.stem: path.read_text() for path in (ROOT / "docs/usage/security").glob("jwt-*.rst")}


def test_log_lines_are_explained() -> None:
    page = " ".join(PAGES["jwt-operations"].split())
    assert [line for line in log_lines() if line not in page] == []


def log_lines() -> set[str]:
    """List what the package logs: of each line the longest part that is always there."""
    trees = [ast.parse(file.read_text()) for file in (ROOT / "litestar/security/jwt").rglob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    logging = [call for call in calls if re.fullmatch(r"_?logger\.\w+", ast.unparse(call.func))]
    texts = [node.value for call in logging for node in call.args if isinstance(node, ast.Constant)]
    parts = [re.split(r"%[-.\d]*[a-z]", text) for text in texts if isinstance(text, str)]
    return {max(part, key=len).strip(" :,;().") for part in parts}


def test_attacks_are_stopped_by_tests_that_exist() -> None:
    _, _, section = PAGES["jwt-security"].partition("Attacks, and what stops them")
    named = re.findall(r"``(test_\w+)``", section)
    tests = "".join(path.read_text() for path in (ROOT / "tests/unit").rglob("test_*.py"))
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []


def test_options_of_remote_keys_are_explained() -> None:
    options = {field.name for field in fields(RemoteJWKSet) if field.init} - {"url"}
    _, _, section = PAGES["jwt-key-providers"].partition(".. _jwt-provider-options:")
    rows = re.findall(r"^    \* - ``(\w+)``", section.partition(".. _jwt-proxies:")[0], re.MULTILINE)
    assert set(rows) == options


@pytest.mark.parametrize("option", [field.name for field in fields(KeyProviderOptions)])
def test_option_of_backends_is_explained(option: str) -> None:
    assert re.search(rf"``{option}\b", "".join(PAGES.values()))


@pytest.mark.parametrize(
    "label", sorted(set(re.findall(r":(?:doc|ref):`(?:[^<`]*<)?([^>`]+)", (ROOT / "docs/index.rst").read_text())))
)
def test_index_leads_to_a_page_or_a_section(label: str) -> None:
    targets = {label for page in PAGES.values() for label in re.findall(r"^\.\. _(jwt-[\w-]+):", page, re.MULTILINE)}
    assert label in targets or (ROOT / f"docs{label}.rst").exists()
