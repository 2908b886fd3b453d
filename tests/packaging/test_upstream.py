from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from tools import upstream

ROOT = Path(__file__).parents[2]
BASE = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
BRANCH = "jwt-key-providers"
PACKAGE = "litestar/security/jwt"

# One worker runs them all, since they share the download.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("upstream"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest released source of Litestar, as a git repository."""
    target = tmp_path_factory.mktemp("release")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "litestar", "-d", str(target)]
    result = subprocess.run([*command, f"litestar=={BASE}"], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"The source of Litestar {BASE} cannot be downloaded: {result.stderr[-500:]}")
    with tarfile.open(target / f"litestar-{BASE}.tar.gz") as archive:
        archive.extractall(target, filter="data")
    tree = target / f"litestar-{BASE}"
    git(tree, "init", "-q", "-b", "v2")
    commit_all(tree)
    return tree


@pytest.fixture(autouse=True)
def committer(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Somebody")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "somebody@example.com")


@pytest.fixture
def checkout(release: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "-q", str(release), "checkout")
    return tmp_path / "checkout"


def git(tree: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]
    result = subprocess.run(["git", *identity, *arguments], cwd=tree, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def commit_all(tree: Path) -> None:
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "state")


def put_patch(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/upstream.py"), *arguments, str(tree)]
    return subprocess.run(command, capture_output=True, text=True)


def run_python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the Litestar of a checkout is the one that is imported."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_"))}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)


def test_branch_holds_the_patch_as_a_short_series(checkout: Path) -> None:
    result = put_patch(checkout)
    assert result.returncode == 0, result.stderr
    assert git(checkout, "branch", "--show-current") == BRANCH
    assert not git(checkout, "status", "--porcelain")
    subjects = git(checkout, "log", "--reverse", "--format=%s", f"v2..{BRANCH}").splitlines()
    assert subjects[:2] == ["build!: require Python 3.11", "refactor(jwt): declare each option of the backends once"]
    assert subjects[-1].startswith("docs(jwt)")
    assert all(subject in result.stdout for subject in subjects)
    assert "pyproject.toml" in result.stdout
    for name in upstream.own_files():
        if not name.endswith("__init__.py") or name.startswith(PACKAGE):
            assert (checkout / name).read_bytes() == (ROOT / name).read_bytes()
    extras = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    own = upstream.settings(ROOT)["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    assert {name: extras[name] for name in own} == own


def test_package_can_be_imported_at_each_commit(checkout: Path) -> None:
    assert put_patch(checkout).returncode == 0
    for commit in git(checkout, "rev-list", f"v2..{BRANCH}").splitlines():
        git(checkout, "switch", "-q", "--detach", commit)
        modules = [f"litestar.security.jwt.{path.stem}" for path in (checkout / PACKAGE).glob("*.py")]
        code = f"import {', '.join(modules)}; from litestar.security.jwt import *; print(litestar.__file__)"
        result = run_python(checkout, "-c", code)
        assert result.returncode == 0, result.stderr
        assert Path(result.stdout.strip()).is_relative_to(checkout)


def test_tests_pass_there(checkout: Path) -> None:
    assert put_patch(checkout).returncode == 0
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(checkout), "-o", f"pythonpath={checkout}"]
    options = ["-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup", "-m", "not slow"]
    result = run_python(checkout, "-m", "pytest", *settings, *options, "tests/unit/test_security", "tests/examples")
    assert result.returncode == 0, result.stdout[-5000:]


def test_changed_checkout_is_refused(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("mine")
    result = put_patch(checkout)
    assert result.returncode != 0
    assert "not clean" in result.stderr
    assert git(checkout, "branch", "--format=%(refname:short)") == "v2"
    assert git(checkout, "status", "--porcelain") == "?? notes.txt"


def test_existing_branch_is_refused(checkout: Path) -> None:
    git(checkout, "branch", BRANCH)
    assert "already" in put_patch(checkout).stderr
    assert put_patch(checkout, "--branch", "other").returncode == 0


def test_nothing_is_put_where_it_is_already(checkout: Path) -> None:
    assert put_patch(checkout).returncode == 0
    assert "there already" in put_patch(checkout, "--branch", "again").stderr


@pytest.mark.parametrize("is_detached", [False, True])
def test_missing_anchor_leaves_the_checkout_as_it_was(checkout: Path, is_detached: bool) -> None:
    project = checkout / "pyproject.toml"
    project.write_text(project.read_text().replace('"pyjwt>=2.9.0"', '"pyjwt>=3"'))
    commit_all(checkout)
    if is_detached:
        git(checkout, "switch", "-q", "--detach")
    before = git(checkout, "rev-parse", "HEAD")
    result = put_patch(checkout)
    assert result.returncode != 0
    assert "pyproject.toml: the anchor" in result.stderr
    assert git(checkout, "branch", "--show-current") == ("" if is_detached else "v2")
    assert git(checkout, "rev-parse", "HEAD") == before
    assert not git(checkout, "status", "--porcelain")
    assert not git(checkout, "branch", "--list", BRANCH)


def test_file_that_is_not_replaced_is_not_overwritten(checkout: Path) -> None:
    theirs = checkout / "tests/unit/test_security/test_jwt/conftest.py"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("")
    commit_all(checkout)
    result = put_patch(checkout)
    assert result.returncode != 0
    assert "test_jwt/conftest.py exists there" in result.stderr
    assert not git(checkout, "status", "--porcelain")
    assert theirs.read_text() == ""


def release_notes(tree: Path, version: str, newest: str) -> str:
    """Extend the release notes of a tree that has a version, and whose notes have a newest section."""
    (tree / "docs/release-notes").mkdir(parents=True)
    (tree / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    notes = tree / "docs/release-notes/changelog.rst"
    notes.write_text(
        f"Changes\n\n.. changelog:: {newest}\n    :date: 2030-01-01\n\n    .. change:: Theirs\n\n        It.\n"
    )
    assert list(upstream.extend_release_notes(tree)) == ["docs/release-notes/changelog.rst"]
    return notes.read_text()


def test_changes_join_those_of_the_coming_release(tmp_path: Path) -> None:
    notes = release_notes(tmp_path, "3.0.0b0", "3.0.0")
    assert notes.count(".. changelog::") == 1
    assert notes.index(":date:") < notes.index(":issue: 4471") < notes.index("Theirs")


def test_changes_begin_another_release_when_the_newest_is_out(tmp_path: Path) -> None:
    notes = release_notes(tmp_path, "2.24.0", "2.24.0")
    assert notes.count(".. changelog::") == 2
    assert notes.index(":issue: 4471") < notes.index(".. changelog:: 2.24.0") < notes.index("Theirs")


def test_pages_are_listed_after_that_on_jwt(tmp_path: Path) -> None:
    (tmp_path / "docs/usage/security").mkdir(parents=True)
    contents = tmp_path / "docs/usage/security/index.rst"
    contents.write_text("Security\n\n.. toctree::\n\n    guards\n    jwt\n    secrets\n")
    assert list(upstream.extend_contents(tmp_path)) == ["docs/usage/security/index.rst"]
    pages = contents.read_text().split("\n\n")[-1].split()
    assert pages[:3] == ["guards", "jwt", "jwt-identity-providers"]
    assert pages[-1] == "secrets"
    written = {path.stem for path in (ROOT / "docs/usage/security").glob("*.rst")}
    assert written == set(pages[2:-1])


def test_page_that_has_moved_is_missed(tmp_path: Path) -> None:
    with pytest.raises(upstream.RefusedError, match="does not exist"):
        list(upstream.extend_contents(tmp_path))
