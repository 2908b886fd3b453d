"""Put the patch into a checkout of Litestar: a branch with a short series of commits, for a pull request.

The files of this repository take their places. What Litestar's own files need besides are a few edits, each at an anchor that
has to be there exactly once. If anything goes wrong, the checkout is left on the branch that it was on, as it was.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "litestar/security/jwt"
PLACES = (PACKAGE, "tests/unit", "tests/examples", "docs/examples", "docs/images", "docs/reference", "docs/usage")
# Litestar's own page of this name only calls for what the modules document.
REPLACED = (f"{PACKAGE}/*", "docs/reference/security/jwt.rst")


class RefusedError(Exception):
    """The patch cannot be put there."""


@dataclass(frozen=True)
class Commit:
    """A part of the series."""

    subject: str
    body: str
    topics: tuple[str, ...] = ()
    """Patterns of files. The last commit with one that fits is the one that a file belongs to."""
    edits: tuple[Callable[[Path], Iterable[str]], ...] = ()
    """Functions that change files of Litestar's own, and return their names."""


def git(tree: Path, *arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=tree, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RefusedError(f"git {shlex.join(arguments)}: {(result.stderr or result.stdout).strip()}")
    return result.stdout.rstrip()


def replaced(text: str, anchor: str, replacement: str, *, where: str) -> str:
    """Replace what a regular expression matches, if it does so exactly once."""
    result, count = re.subn(anchor, replacement, text, flags=re.MULTILINE)
    if count != 1:
        raise RefusedError(f"{where}: the anchor {anchor!r} is there {count} times, not once")
    return result


def edit(tree: Path, name: str, anchor: str, replacement: str) -> str:
    path = tree / name
    if not path.exists():
        raise RefusedError(f"{name} does not exist")
    path.write_text(replaced(path.read_text(), anchor, replacement, where=name))
    return name


def escaped(text: str) -> str:
    return text.replace("\\", r"\\")


def settings(tree: Path) -> dict[str, Any]:
    return tomllib.loads((tree / "pyproject.toml").read_text())


def raise_python(tree: Path) -> Iterator[str]:
    """Litestar 2 still supports versions of Python that this was not written for."""
    name = "pyproject.toml"
    if re.match(r">=3\.([0-9]|10)\b", settings(tree)["project"]["requires-python"]):
        yield edit(tree, name, r'^(requires-python = ">=3\.)\d+', r"\g<1>11")
        yield edit(tree, name, r'^(pythonVersion = "3\.)\d+"$', r'\g<1>11"')


def extend_extra(tree: Path) -> Iterator[str]:
    extras = settings(ROOT)["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    lines = []
    for name in ("jwks", "jwt"):
        requirements = ", ".join(f'"{requirement}"' for requirement in extras[name])
        lines.append(f"{name} = [{requirements}]")
    yield edit(tree, "pyproject.toml", r'^jwt = \["cryptography", "pyjwt>=2\.9\.0"\]$', "\n".join(lines))


def extend_test_requirements(tree: Path) -> Iterator[str]:
    """Add what the tests need that no other tests have needed yet."""
    groups = settings(tree)
    lists = [*groups["dependency-groups"].values(), *groups["project"]["optional-dependencies"].values()]
    known = {name_of(requirement) for requirements in lists for requirement in requirements}
    wanted = (ROOT / "requirements/test.txt").read_text().split()
    missing = sorted({name_of(line) for line in wanted if "==" in line} - known)
    if missing:
        lines = "".join(f'  "{name}",\n' for name in missing)
        yield edit(tree, "pyproject.toml", r"^test = \[\n", rf"\g<0>{lines}")


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()


def extend_contents(tree: Path) -> Iterator[str]:
    """List the new pages after the one on JWT."""
    pages = re.findall(r"^    usage/security/(jwt-.*)$", (ROOT / "docs/index.rst").read_text(), re.MULTILINE)
    lines = "".join(f"    {page}\n" for page in pages)
    yield from edit_docs(tree, "docs/usage/security/index.rst", r"^    jwt\n", rf"\g<0>{lines}")


def extend_ignored_references(tree: Path) -> Iterator[str]:
    """Have no links to PyJWT, of whose documentation there is no inventory, and to what is not part of the API.

    Nor to a piece of the annotation of a function without arguments, which Sphinx takes for a name.
    """
    names = (r"jwt\..*", r"(.*\.)?(RemoteOptions|_CookieAuth)", r"Callable\[\[\]")
    lines = escaped("".join(f'    (PY_RE, r"{name}"),\n' for name in names))
    anchor = r'^    \(PY_OBJ, r"litestar\.security\.jwt\.auth\.TokenT"\),\n'
    yield from edit_docs(tree, "docs/conf.py", anchor, rf"\g<0>{lines}")


def extend_release_notes(tree: Path) -> Iterator[str]:
    """Add the changes to those of the coming release. If the topmost of the release notes is out, begin another."""
    name = "docs/release-notes/changelog.rst"
    notes = (tree / name).read_text() if (tree / name).exists() else ""
    heading, changes = (ROOT / "CHANGELOG.rst").read_text().split("\n\n    .. change::", maxsplit=1)
    topmost = re.search(r"^\.\. changelog:: (\S+)$", notes, re.MULTILINE)
    changes = escaped(f"    .. change::{changes.rstrip()}\n\n")
    if topmost is not None and topmost[1] != settings(tree)["project"]["version"]:
        anchor = rf"^\.\. changelog:: {re.escape(topmost[1])}\n(    :.*\n)*\n"
        yield from edit_docs(tree, name, anchor, rf"\g<0>{changes}")
    else:
        begun = escaped(heading[heading.index(".. changelog::") :])
        anchor = rf"^(?=\.\. changelog:: {re.escape(topmost[1] if topmost else '')}$)"
        yield from edit_docs(tree, name, anchor, f"{begun}\n\n{changes}")


def edit_docs(tree: Path, name: str, anchor: str, replacement: str) -> Iterator[str]:
    if (tree / "PKG-INFO").exists() and not (tree / name).exists():
        print(f"A source distribution has no {name}: it is left out")
    else:
        yield edit(tree, name, anchor, replacement)


SERIES = (
    Commit(
        "build!: require Python 3.11",
        "What follows is written for Python 3.11 and newer, like Litestar 3. The lock file, the classifiers and the test\n"
        "matrix are left to whoever merges this.",
        edits=(raise_python,),
    ),
    Commit(
        "refactor(jwt): declare each option of the backends once",
        "Every option was declared in each of the backends and once more by the middleware. Now there is one place, that\n"
        "also documents it. Names, their order, defaults, exceptions and response bodies stay as they are.\n\n"
        "A file is never split between commits, so what the following ones need in these three is here already, together\n"
        "with the modules that they import. None of it can be reached by a name that is exported.",
        topics=(f"{PACKAGE}/__init__.py", f"{PACKAGE}/auth.py", f"{PACKAGE}/middleware.py", f"{PACKAGE}/token.py"),
        edits=(extend_extra,),
    ),
    Commit(
        "feat(jwt): verify with asymmetric keys and key providers",
        "A key is a secret, a PEM, a key of cryptography, a PyJWK, or several of those. A key provider is any function that\n"
        "finds the key for a token. It is injectable, and routes can override it. LocalIssuer is the issuer that the tests\n"
        "need, and those of users.",
        topics=(
            f"{PACKAGE}/keys.py",
            f"{PACKAGE}/unverified.py",
            f"{PACKAGE}/testing.py",
            "docs/examples/*",
            "tests/*",
        ),
        edits=(extend_test_requirements,),
    ),
    Commit(
        "feat(jwt): keep the keys that a URL has",
        "RemoteJWKSet fetches a JWK Set without blocking the event loop, keeps it, and outlives outages and rotations.",
        topics=(f"{PACKAGE}/key_providers/jwks.py",),
    ),
    Commit(
        "feat(jwt): find the keys of issuers by their names",
        "OpenIDProvider reads an issuer's discovery document. IssuerKeyProvider serves applications with several issuers.",
        topics=(f"{PACKAGE}/key_providers/openid.py", f"{PACKAGE}/key_providers/issuers.py"),
    ),
    Commit(
        "feat(jwt): guard routes by scopes, and hostile tests",
        "requires_scopes answers with what RFC 6750 asks for. The tests attack tokens, headers, claims and key sets.",
        topics=(f"{PACKAGE}/guards.py", "tests/*hostile*", "tests/*attack*", "tests/*fuzz*", "tests/*compatib*"),
    ),
    Commit(
        "feat(jwt): publish the keys of tokens that are issued here",
        "create_jwks_handler serves the public halves of an application's own keys.",
        topics=(f"{PACKAGE}/publishing.py",),
    ),
    Commit(
        "docs(jwt): identity providers, keys, security and moving over",
        "The recipe, how keys are found and kept, what is enforced, and the release notes.",
        topics=("docs/images/*", "docs/reference/*", "docs/usage/*"),
        edits=(extend_contents, extend_ignored_references, extend_release_notes),
    ),
)


class Plan:
    """Which commit each file belongs to.

    A file comes as soon as its topic and everything that it imports are there. The modules of the package come as soon as
    the first one that imports them, so that the package can be imported at each commit.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.texts = {name: (ROOT / name).read_bytes() for name in names}
        self.topics = {name: topic_of(name) for name in self.texts}
        self._exports = {
            alias.name: module_file(node.module or "")
            for node in ast.walk(ast.parse(self.texts[f"{PACKAGE}/__init__.py"]))
            if isinstance(node, ast.ImportFrom) and module_file(node.module or "") in self.texts
            for alias in node.names
        }
        imports = {name: set(self._imports(name)) for name in self.texts if name.endswith(".py")}
        self.commits = dict(self.topics)
        package = {name: used for name, used in imports.items() if is_module(name)}
        settle(self.commits, ((used, [name]) for name in package for used in package[name]), min)
        others = {name: used for name, used in imports.items() if not is_module(name)}
        for name, used in others.items():
            exported = used.intersection(self._exports.values())
            self.commits[name] = max([self.commits[name], *(self.topics[module] for module in exported)])
        settle(self.commits, others.items(), max)
        for data in (name for name in self.texts if name.startswith("tests/") and not name.endswith(".py")):
            file_name = Path(data).name.encode()
            users = [self.commits[name] for name in imports if file_name in self.texts[name]]
            self.commits[data] = min(users, default=self.commits[data])

    def content(self, name: str, commit: int) -> bytes:
        """Return what a file says at a commit. The package only exports what has had its turn."""
        text = self.texts[name]
        if name != f"{PACKAGE}/__init__.py":
            return text
        early = {exported for exported, module in self._exports.items() if self.topics[module] > commit}
        return without_exports(text.decode(), early).encode()

    def _imports(self, name: str) -> Iterator[str]:
        """List the files that one imports, leaving out what is for type checkers alone."""
        nodes: list[ast.AST] = [ast.parse(self.texts[name])]
        for node in nodes:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            nodes += ast.iter_child_nodes(node)
            for file in imported(node, name, self._exports):
                if file in self.texts and file != name and not file.endswith("__init__.py"):
                    yield file


def topic_of(name: str) -> int:
    """Return the last commit that a file could belong to. That is where modules go that nothing imports."""
    return max((n for n, commit in enumerate(SERIES) if fits(name, commit.topics)), default=len(SERIES) - 1)


def is_module(name: str) -> bool:
    return name.startswith(f"{PACKAGE}/") and not name.endswith("__init__.py")


def settle(commits: dict[str, int], rules: Iterable[tuple[str, Iterable[str]]], choose: Callable[..., int]) -> None:
    """Apply rules, that a file's commit is the first or the last of its own and those of others, until all hold."""
    rules = [(name, list(others)) for name, others in rules]
    before: dict[str, int] | None = None
    while before != commits:
        before = dict(commits)
        for name, others in rules:
            if name in commits:
                commits[name] = choose([commits[name], *(commits[other] for other in others)])


def imported(node: ast.AST, name: str, exports: Mapping[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (module_file(alias.name) for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        package = ".".join(name.split("/")[: -node.level]) if node.level else ""
        module = ".".join(part for part in (package, node.module) if part)
        yield module_file(module)
        for alias in node.names:
            is_exported = module_file(module) == f"{PACKAGE}.py" and alias.name in exports
            yield exports[alias.name] if is_exported else module_file(f"{module}.{alias.name}")


def module_file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def without_exports(source: str, names: set[str]) -> str:
    """Leave names out of the imports, the tables and ``__all__`` of a module."""
    lines = source.splitlines(keepends=True)
    for node in reversed(ast.parse(source).body):
        if isinstance(node, ast.If):
            kept = [without_names(lines, child, names) for child in reversed(node.body)]
            if not any(kept):
                del lines[node.lineno - 1]
        else:
            without_names(lines, node, names)
    return "".join(lines)


def without_names(lines: list[str], node: ast.stmt, names: set[str]) -> bool:
    """Leave names out of the lines of a statement, and tell whether any of it is left."""
    start = node.lineno - 1
    listed = lines[start : node.end_lineno]
    if isinstance(node, ast.ImportFrom):
        kept = [alias.name for alias in node.names if alias.name not in names]
        if len(kept) < len(node.names):
            indentation = " " * node.col_offset
            listed = [f"{indentation}from {node.module} import {', '.join(kept)}\n"] if kept else []
    elif isinstance(node, (ast.Assign, ast.AnnAssign)):
        listed = [line for line in listed if line.partition(":")[0].strip(' ",\n') not in names]
    lines[start : node.end_lineno] = listed
    return bool(listed)


def own_files() -> list[str]:
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "--", *PLACES).splitlines()
    return sorted(name for name in listed if (ROOT / name).is_file())


def check(tree: Path, branch: str) -> None:
    if not (tree / ".git").exists():
        raise RefusedError(f"{tree} is not the top of a git checkout")
    if not (tree / "pyproject.toml").exists() or settings(tree)["project"]["name"] != "litestar":
        raise RefusedError(f"{tree} is not a checkout of Litestar")
    if (tree / PACKAGE / "keys.py").exists():
        raise RefusedError("The patch is there already")
    if status := git(tree, "status", "--porcelain"):
        raise RefusedError(f"The checkout is not clean:\n{status}")
    if git(tree, "branch", "--list", branch):
        raise RefusedError(f"There is a branch {branch!r} already: choose another name with --branch, or delete it")


def place(tree: Path, name: str, content: bytes) -> bool:
    """Write a file, unless it is one that makes a package of a folder and is there. Nothing else is overwritten."""
    target = tree / name
    if target.exists() and not fits(name, REPLACED):
        if name.endswith("/__init__.py"):
            return False
        raise RefusedError(f"{name} exists there, and is none of those that are replaced")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def apply(tree: Path, plan: Plan) -> None:
    for number, commit in enumerate(SERIES):
        changed = [name for function in commit.edits for name in function(tree)]
        for name, turn in plan.commits.items():
            is_due = turn == number or (turn < number and name == f"{PACKAGE}/__init__.py")
            if is_due and place(tree, name, plan.content(name, number)):
                changed.append(name)
        if changed:
            git(tree, "add", "--", *dict.fromkeys(changed))
        if git(tree, "diff", "--cached", "--name-only"):
            git(tree, "commit", "-q", "-m", commit.subject, "-m", commit.body)


def make_branch(tree: Path, branch: str) -> str:
    """Make the branch, or nothing.

    Returns:
        The commit that it begins at.
    """
    check(tree, branch)
    plan = Plan(own_files())
    start = git(tree, "rev-parse", "HEAD")
    former = git(tree, "branch", "--show-current") or start
    git(tree, "switch", "-q", "-c", branch)
    try:
        apply(tree, plan)
        if left := git(tree, "status", "--porcelain"):
            raise RefusedError(f"Something is left over:\n{left}")
    except BaseException:
        git(tree, "reset", "-q", "--hard")
        git(tree, "clean", "-q", "-f", "-d")
        git(tree, "switch", "-q", *(["--detach"] if former == start else []), former)
        git(tree, "branch", "-q", "-D", branch)
        raise
    return start


def report(tree: Path, branch: str, start: str) -> str:
    python = [name for name in own_files() if name.startswith("tests/")]
    folders = " ".join(sorted({str(Path(*Path(name).parts[:4])) for name in python if len(Path(name).parts) > 4}))
    commands = f"""
        cd {shlex.quote(str(tree))}
        uv lock && uv sync
        uv run pytest -n auto tests/unit/test_security tests/examples/test_security
        uv run ruff check {PACKAGE} {folders}
        uv run ruff format --check {PACKAGE} {folders}
        uv run mypy
        uv run pyright
        uv run slotscheck -m litestar.security.jwt
        make docs
    """
    stat = git(tree, "diff", "--stat=120", f"{start}..{branch}")
    series = git(tree, "log", "--reverse", "--format=  %s", f"{start}..{branch}")
    return (
        f"{stat}\n\nThe branch {branch!r} has these commits:\n\n{series}\n\nCheck it:\n{indent(dedent(commands), '  ')}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("checkout", type=Path, help="a clean checkout of Litestar's 'main' or 'v2'")
    parser.add_argument("--branch", default="jwt-key-providers", help="name of the branch to make (%(default)s)")
    arguments = parser.parse_args()
    tree = arguments.checkout.resolve()
    try:
        start = make_branch(tree, arguments.branch)
    except RefusedError as e:
        sys.exit(f"Nothing was changed. {e}")
    print(report(tree, arguments.branch, start))


if __name__ == "__main__":
    main()
