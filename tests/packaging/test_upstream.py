from __future__ import annotations

import ast
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tools import upstream
from tools.upstream import git

# One worker makes the branches once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("upstream")]

BRANCHES = [branch.name for branch in upstream.STACK]
TREE = {
    "pyproject.toml": '[project]\nname = "litestar"\nversion = "3.0.0b0"\ndependencies = ["anyio", "typing-extensions"]\n'
    "\n[project.optional-dependencies]\n"
    'full = [\n  """litestar[attrs, \\\n    jwt, \\\n    yaml]""",\n]\njwt = ["cryptography", "pyjwt>=2.9.0"]\n'
    '[dependency-groups]\ntest = ["httpx", "hypothesis", "msgspec", "pytest", "sniffio", "time-machine", "trio"]\n'
    '\n[tool.ruff]\nline-length = 120\ntarget-version = "py311"\n',
    "typos.toml": "[default.extend-words]\n",
    "uv.lock": "",
    "docs/conf.py": 'nitpick_ignore_regex = [\n    (PY_CLASS, "litestar.security.jwt.token.JWTDecodeOptions"),\n]\n',
    "docs/reference/security/jwt.rst": "jwt\n===\n",
    "docs/release-notes/changelog.rst": ".. changelog:: 3.0.0\n    :date: 2364-01-27\n\n    .. change:: Theirs\n\n        It.\n",
    "docs/usage/security/guards.rst": "The :meth:`JWTAuth.retrieve_user_handler` method.\n",
    "docs/usage/security/jwt.rst": "JWT Security Backends\n=====================\n",
    "litestar/security/jwt/__init__.py": "",
    "tests/unit/test_security/test_jwt/__init__.py": "",
}


def checkout(tree: Path) -> Path:
    """Make what the tool touches of Litestar's main, as a git repository."""
    for name, text in TREE.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    git(tree, "init", "-q", "-b", "main")
    for name in ("user.name", "user.email"):
        git(tree, "config", name, "somebody@example.com")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "state")
    return tree


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = checkout(tmp_path_factory.mktemp("stack"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.which", lambda _: None)
        assert "run 'uv lock'" in upstream.make_branches(tree)
    return tree


def test_branches_are_on_top_of_each_other_short_enough_to_read_and_export_what_they_have(stack: Path) -> None:
    code = (
        "import sys, litestar.security; litestar.security.__path__[:] = [sys.argv[1]]\n"
        "from litestar.security.jwt import *; import litestar.security.jwt as j; print(j.__file__, *j.__all__)"
    )
    exported: list[set[str]] = []
    for below, name in pairwise(["main", *BRANCHES]):
        git(stack, "switch", "-q", name)
        assert git(stack, "rev-list", "--count", f"{below}..{name}") == "1"
        assert git(stack, "merge-base", below, name) == git(stack, "rev-parse", below)
        path, *names = upstream.run(stack, sys.executable, "-P", "-c", code, str(stack / "litestar/security")).split()
        assert Path(path).is_relative_to(stack)
        exported.append(set(names))
        assert upstream.net(stack, below, name, "tests") <= 1200
        if below != "main":  # which has the package that the first one rewrites
            assert upstream.net(stack, below, name, upstream.PACKAGE) <= 900
    assert "KeyProvider" in exported[0]
    assert [after - before for before, after in pairwise(exported)] == [
        {"KeySetStatus", "RemoteJWKSet"},
        {"IssuerKeyProvider", "OpenIDProvider"},
        {"create_jwks_handler", "requires_scopes"},
        set(),
    ]


def code_of(path: Path) -> list[str]:
    """Return the functions and classes of a module without their docstrings, which may differ."""
    module = ast.parse(path.read_text())
    for node in ast.walk(module):
        if upstream.is_docstring(node):
            node.value = ast.Constant("")  # type: ignore[attr-defined]
    return [ast.unparse(node) for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def test_last_branch_has_the_code_of_this_repository(stack: Path) -> None:
    git(stack, "switch", "-q", BRANCHES[-1])
    changed = []
    for own in (upstream.ROOT / upstream.PACKAGE).rglob("*.py"):
        theirs = stack / own.relative_to(upstream.ROOT)
        changed += [a for a, b in zip(code_of(own), code_of(theirs), strict=True) if a != b]
    assert [re.split(r"\W+", code)[1] for code in changed] == ["KeySource", "layered_dependencies"]
    assert ".. versionadded:: 3.0" in (stack / upstream.PACKAGE / "auth.py").read_text()


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("pyproject.toml", "3.0.0b0", "2.25.0", "Litestar 2 supports Python 3.8"),
        ("pyproject.toml", "litestar", "another", "not a checkout of Litestar"),
        ("pyproject.toml", "pyjwt>=2.9.0", "pyjwt>=3", "is there 0 times, not once"),
        ("pyproject.toml", '"sniffio", ', "", "imports sniffio, which Litestar does not depend on"),
        ("docs/release-notes/changelog.rst", "changelog::", "changes::", "no section to add to"),
        ("tests/unit/test_security/test_jwt/conftest.py", "", "theirs", "conftest.py exists there"),
        ("docs/usage/security/jwt.rst", "JWT", ".. literalinclude:: /examples/absent.py", "absent.py, which is not"),
    ],
)
def test_nothing_is_left_of_what_cannot_be_made(name: str, old: str, new: str, reason: str, tmp_path: Path) -> None:
    tree = checkout(tmp_path)
    path = tree / name
    path.write_text(path.read_text().replace(old, new) if path.exists() else new)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "state")
    with pytest.raises(upstream.RefusedError, match=reason):
        upstream.make_branches(tree)
    assert git(tree, "branch", "--format", "%(refname:short)") == "main"
    assert not git(tree, "status", "--porcelain")


def test_what_comes_later_goes_with_all_that_mentions_it() -> None:
    source = """
from a import Later, now
@parametrize("option", ["now", "Later"])
def test_table(option): pass
def helper(): return Later()
def test_later(): helper()
def test_now(): return now
"""
    cut = upstream.Cut(source, {"Later"}, (), is_test=True)
    assert re.findall(r"def (\w+)", cut.text) == ["test_table", "test_now"]
    assert "Later" not in cut.text


def test_rule_that_does_not_apply_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    edit = upstream.Edit(f"{upstream.PACKAGE}/keys.py", 1, 2, "words that nobody wrote", "")
    monkeypatch.setattr(upstream, "EDITS", (edit,))
    with pytest.raises(upstream.RefusedError, match="words that nobody wrote"):
        _ = upstream.Plan(1, "3.0").files
