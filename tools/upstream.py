"""Put the patch into a checkout of Litestar's ``main``: five branches, each a pull request on top of the one before.

The files of this repository take their places. STACK says what each branch brings. What a file says about something that a
later branch brings is left out by one rule (see ``Cut``); where that is not enough, EDITS has the words. Every rule has to
apply, and each branch is checked, or else no branch is made.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = "litestar/security/jwt"
DOTTED = "litestar.security.jwt"
TESTS = "tests/unit/test_security/test_jwt"
EXAMPLES = "docs/examples/security/jwt"
EXTRA_FILES = "tools/for_upstream"
PAGE = "docs/usage/security/jwt.rst"
NOTES = "docs/release-notes/changelog.rst"


class RefusedError(Exception):
    """The branches cannot be made."""


@dataclass(frozen=True)
class Branch:
    """One pull request. Its files are those of the branches below it, and these."""

    name: str
    subject: str
    body: str
    modules: tuple[str, ...]
    """Modules of the package. ``__init__`` exports what they have."""
    names: tuple[str, ...] = ()
    """Options and attributes that come with it, in modules that are there before."""
    tests: tuple[str, ...] = ()
    """Files in the folder of tests, helpers included. A file, or a colon and names of the tests that come first, or with a
    minus names of those that come later or never."""
    examples: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    """Titles of its entries in the release notes."""


STACK = (
    Branch(
        "jwt-1-keys",
        "feat(jwt): verify tokens with asymmetric keys and key providers",
        "A backend asks its key_provider for the key of a token: a key, a function, a PyJWKClient, or a dependency that makes\n"
        "one of these. The options of the backends are declared once instead of four times, so that there is one place for it.",
        ("unverified", "keys", "token", "_injection", "_refusals", "middleware", "auth"),
        tests=(
            "backends.py",
            "conftest.py",
            "test_backends.py: test_nothing_is_issued_without_a_key_that_signs test_token_class_may_sign_as_it_likes"
            " test_private_key_issues_tokens_that_name_it_by_its_thumbprint test_type_of_the_token_is_verified"
            " test_provider_is_asked_once_more test_provider_without_an_audience_is_warned_of"
            " test_scheme_is_bearer_with_a_key_provider_and_any_without test_times_are_verified_with_leeway_or_not_at_all",
            "test_closed_by_default.py: test_backend_whose_middleware_ignores_the_provider_is_refused"
            " test_client_of_pyjwt_is_a_provider_whose_faults_are_not_those_of_the_token"
            " test_coroutine_of_a_function_that_is_not_asynchronous_is_no_answer test_defect_is_named_at_construction"
            " test_function_accepts_an_issuer_by_exactly_true test_text_is_a_secret_where_an_hmac_algorithm_is_set"
            " test_middleware_of_ones_own_takes_any_secret_and_no_unknown_option"
            " test_text_that_is_no_key_is_refused_and_verifies_nothing",
            "test_injection.py: test_dependencies_that_go_in_a_circle_are_refused_at_start_up"
            " test_factory_may_return_whatever_a_backend_takes"
            " test_nobody_replaces_a_default_value_by_a_request test_tenant_comes_from_a_path_parameter"
            " test_two_backends_of_an_application_have_their_providers_under_two_names"
            " test_whatever_else_a_factory_asks_for_is_refused",
            "test_injection_lifespan.py: test_cancelled_first_request_breaks_no_other"
            " test_generators_are_resumed_when_the_application_shuts_down",
            "test_keys.py: test_keys_are_selected_by_id_and_kind test_unusable_key_is_an_error_of_the_application",
            "test_openapi.py: test_security_scheme_shows_where_tokens_come_from",
            "test_reasons.py: test_reason_is_logged_once_and_told_in_the_challenge"
            " test_refusal_of_a_handler_keeps_its_own_words_and_challenge",
            "test_tokens.py: test_asynchronous_provider_is_refused test_claims_are_looked_at_when_asked_for"
            " test_errors_of_a_provider_tell_whose_fault_it_is test_malformed_token_is_refused_before_anything_else"
            " test_padding_may_be_allowed test_unverified_token_shows_what_the_token_says"
            " test_what_cannot_sign_is_an_error_of_the_application test_what_is_no_token_is_refused",
        ),
        examples=("keys_from_database", "missing_claims", "moving_from_pyjwkclient", "pem_keys"),
        changes=(
            "Verify JWTs with asymmetric keys from key providers",
            "Say why a token is refused",
            "Sign JWTs with private keys",
            "Add further options to the JWT backends",
            "Refuse every invalid JWT with 401",
            "Require PyJWT 2.14 for the extra ``jwt``",
        ),
    ),
    Branch(
        "jwt-2-remote",
        "feat(jwt): keep the keys that an issuer publishes",
        "RemoteJWKSet fetches a JWK Set without blocking the event loop, keeps it, and outlives rotations and outages.",
        ("key_providers/__init__", "key_providers/_fetch", "key_providers/_store", "key_providers/jwks"),
        names=("from_jwk", "_load_jwk", "_ANY_ALGORITHM"),
        tests=(
            "key_providers/__init__.py",
            "key_providers/asking.py",
            "key_providers/authority.py",
            "key_providers/conftest.py",
            "key_providers/event_loops.py",
            "key_providers/issuer_server.py",
            "key_providers/test_fetching.py: -test_server_that_never_speaks_tls_is_left_in_time"
            " -test_proxy_and_ca_file_of_the_environment_are_used_and_a_renewed_file_is_read",
            "key_providers/test_remote_jwk_set.py: -test_clock_that_was_set_back -test_fleet_does_not_ask_at_once"
            " -test_fork_after_load -test_no_more_than_200_keys_are_kept -test_one_event_loop_after_the_other",
            "key_providers/test_store.py: test_garbage_is_replaced test_name_of_a_store_is_looked_up_at_the_start"
            " test_worker_without_network_sees_what_others_fetch",
            "test_keys.py: test_published_key_that_verifies_nothing_says_why",
            "test_released_api.py: test_package_lists_all_that_it_exports_whether_that_was_needed_yet_or_not",
        ),
        examples=("remote_jwks",),
        changes=("Add ``RemoteJWKSet``",),
    ),
    Branch(
        "jwt-3-issuers",
        "feat(jwt): find the keys of issuers by their names",
        "OpenIDProvider reads the discovery document of an issuer. IssuerKeyProvider serves applications with several issuers.\n"
        "LocalIssuer issues tokens for tests.",
        ("key_providers/openid", "key_providers/issuers", "testing"),
        tests=(
            "key_providers/test_fetching.py",
            "key_providers/test_issuer_key_provider.py",
            "key_providers/test_openid_provider.py",
            "key_providers/test_remote_jwk_set.py",
            "key_providers/test_store.py: -test_processes_share_a_store -test_redis_that_fails_fails_no_request",
            "test_testing.py",
        ),
        examples=("verify_published_keys", "settings_provide", "two_providers"),
        changes=("Add ``OpenIDProvider`` and ``IssuerKeyProvider``", "Add ``litestar.security.jwt.testing``"),
    ),
    Branch(
        "jwt-4-scopes",
        "feat(jwt): guard routes by scopes, and publish keys and metadata",
        "requires_scopes guards routes. create_jwks_handler publishes the keys that an application signs with, and\n"
        "protected_resource the metadata of RFC 9728, which MCP clients need.",
        ("guards", "publishing", "_resource_metadata"),
        names=("protected_resource", "resource_metadata"),
        tests=(
            "test_backends.py",
            "test_guards.py",
            "test_injection.py: test_failing_factory_is_called_again",
            "test_injection_lifespan.py: test_provider_that_cannot_start_stops_the_start_and_closes_the_others",
            "test_keys.py: -test_key_that_comes_with_a_token_is_never_used -test_public_key_is_no_hmac_secret"
            " -test_published_signature_is_verified_and_belongs_to_nothing_else -test_published_thumbprint_is_computed"
            " -test_token_without_a_signature_is_refused",
            "test_openapi.py",
            "test_publishing.py",
            "test_reasons.py",
            "test_released_api.py",
        ),
        examples=("require_scopes", "publish_keys", "protected_resource"),
        changes=("Add ``requires_scopes``", "Add ``create_jwks_handler``", "Serve protected resource metadata"),
    ),
    Branch(
        "jwt-5-faster",
        "perf(jwt): parse tokens once, and remember verified signatures",
        "PyJWT goes on verifying. It gets tokens that are taken apart already, and a signature by an asymmetric key that has\n"
        "verified is not verified again. Claims, times, keys and users are looked at each time.",
        ("_verifier",),
        tests=(
            "test_closed_by_default.py",
            "test_hostile_tokens.py",
            "test_signature_memory.py",
            "test_tokens.py",
        ),
        changes=("Verify JWTs faster",),
    ),
)


@dataclass(frozen=True)
class Edit:
    """Other words in the branches from one on and below another. What they replace has to be there exactly once."""

    path: str
    since: int
    before: int
    old: str
    new: str


ALWAYS = len(STACK) + 1
EDITS = (
    # Litestar 2 merges the dependencies of all layers when it is asked to.
    Edit(
        f"{PACKAGE}/_injection.py",
        1,
        ALWAYS,
        """ Litestar 3 has merged those of all layers.\"\"\"
    is_merged = not hasattr(BaseRouteHandler, "ownership_layers")
    return cast("Mapping[str, Provide]", handler.dependencies if is_merged else handler.resolve_dependencies())
""",
        """\"\"\"
    return cast("Mapping[str, Provide]", handler.dependencies)
""",
    ),
    # Litestar 2 copies routers and controllers.
    Edit(
        f"{PACKAGE}/_injection.py",
        1,
        ALWAYS,
        """    def __deepcopy__(self, memo: Any) -> Self:
        \"\"\"Return itself: Litestar copies routers and controllers, and with them the options of their middleware.\"\"\"
        return self

""",
        "",
    ),
    # Only OpenIDProvider knows where a discovery document is.
    Edit(
        f"{PACKAGE}/auth.py",
        1,
        3,
        """        elif (url := getattr(self.key_provider, "openid_connect_url", None)) is not None:
            fields = {"type": "openIdConnect", "open_id_connect_url": url}
""",
        "",
    ),
    Edit(
        f"{TESTS}/test_openapi.py",
        1,
        3,
        """    "discovery": (Discovering(), {}, {"type": "openIdConnect", "openIdConnectUrl": URL}),
""",
        "",
    ),
    Edit(
        f"{PACKAGE}/keys.py",
        1,
        3,
        "    - ``openid_connect_url``: URL of the discovery document, shown in the OpenAPI document.\n",
        "",
    ),
    # Only guards ask for nested claims.
    Edit(f"{PACKAGE}/token.py", 1, 4, "(payload, is_foreign=isinstance(secret, SelectedKeys))", "(payload)"),
    Edit(f"{PACKAGE}/token.py", 1, 4, "payload: dict[str, Any], *, is_foreign: bool)", "payload: dict[str, Any])"),
    Edit(
        f"{PACKAGE}/token.py",
        1,
        4,
        "        nested = extras.keys() - payload if is_foreign and extras else ()\n",
        "",
    ),
    Edit(
        f"{PACKAGE}/token.py",
        1,
        4,
        """        token = msgspec.convert(claims, cls, strict=False)
        if nested:  # what other issuers put under "extras" grants nothing
            token.__dict__["_nested_claims"] = nested
        return token
""",
        "        return msgspec.convert(claims, cls, strict=False)\n",
    ),
    Edit(
        f"{PACKAGE}/token.py",
        1,
        5,
        """        # A shared secret is verified by PyJWT as it is, so that its tokens are judged as they always were.
        decode: Callable[..., Any] = verify if _ASYMMETRIC.issuperset(algorithms) else jwt.decode_complete
""",
        """        decode: Callable[..., Any] = jwt.decode_complete
""",
    ),
    Edit(f"{PACKAGE}/_injection.py", 1, 2, " an object such as OpenIDProvider(...),", ""),
    Edit(f"{PACKAGE}/_injection.py", 2, 3, "such as OpenIDProvider(", "such as RemoteJWKSet("),
    Edit(
        f"{PACKAGE}/_injection.py",
        1,
        3,
        "class, the content of a file, and IssuerKeyProvider(...) for several issuers.",
        "class, and the content of a file.",
    ),
    *(
        edit
        for path in (f"{PACKAGE}/keys.py", f"{TESTS}/test_closed_by_default.py")
        for edit in (
            Edit(path, 1, 2, "Use OpenIDProvider(issuer), or RemoteJWKSet(url) with", "Use a PyJWKClient with"),
            Edit(path, 2, 3, "Use OpenIDProvider(issuer), or RemoteJWKSet(url)", "Use RemoteJWKSet(url)"),
        )
    ),
    # Litestar's tests know no validator for OpenAPI documents.
    Edit(f"{TESTS}/test_openapi.py", 1, ALWAYS, "from openapi_spec_validator import OpenAPIV31SpecValidator\n", ""),
    Edit(f"{TESTS}/test_openapi.py", 1, ALWAYS, "    OpenAPIV31SpecValidator(document).validate()\n", ""),
    # Nor do they know freezegun, or Litestar 2, which configures logging for all.
    Edit(f"{TESTS}/test_testing.py", 3, ALWAYS, "import freezegun\n", ""),
    Edit(
        f"{TESTS}/test_testing.py", 3, ALWAYS, "[time_machine.travel, freezegun.freeze_time]", "[time_machine.travel]"
    ),
    Edit(
        f"{TESTS}/backends.py",
        1,
        ALWAYS,
        """# Applications of Litestar 2 configure logging for the whole process unless they are told not to.
_QUIETLY: Final = {"logging_config": None} if "logging_config" in signature(Litestar).parameters else {}
""",
        "",
    ),
    Edit(f"{TESTS}/backends.py", 1, ALWAYS, '"openapi_config": None, **_QUIETLY,', '"openapi_config": None,'),
    Edit(f"{PACKAGE}/keys.py", 1, 4, "the issuers, listed in protected resource metadata.", "the issuers."),
    Edit(
        f"{PACKAGE}/auth.py",
        1,
        3,
        " :class:`OpenIDProvider` and\n    :class:`IssuerKeyProvider` check the issuer in any case.",
        "",
    ),
    Edit(
        f"{PACKAGE}/auth.py",
        1,
        2,
        "    - an :class:`OpenIDProvider`, a :class:`RemoteJWKSet` or an :class:`IssuerKeyProvider`,\n",
        "",
    ),
    Edit(
        f"{PACKAGE}/auth.py",
        2,
        3,
        "an :class:`OpenIDProvider`, a :class:`RemoteJWKSet` or an :class:`IssuerKeyProvider`,",
        "a :class:`RemoteJWKSet`,",
    ),
    Edit(f"{PACKAGE}/key_providers/jwks.py", 2, 3, " keys. OpenIDProvider takes an issuer", " keys"),
    Edit(
        f"{PACKAGE}/key_providers/jwks.py", 2, 3, "`RemoteJWKSet` or an :class:`OpenIDProvider` at", "`RemoteJWKSet` at"
    ),
)

# What the reference has besides what the package exports.
REFERENCES = {
    1: "\n.. autodata:: litestar.security.jwt.keys.Key\n    :no-value:\n",
    3: "\n.. automodule:: litestar.security.jwt.testing\n    :members:\n",
}
# What has no page of its own: PyJWT, whose documentation has no inventory, and what is not part of the API.
UNDOCUMENTED = (
    r"jwt\..*",
    r"(.*\.)?(AsyncHTTPClient|FetchFunction|MiddlewareOptions|_CookieAuth)",
    r"Callable\[\[\]",
    r"timedelta",
)

# Options of the backends that Litestar does not have yet.
NEW_OPTIONS = {"key_provider", "key_provider_name", "leeway", "accepted_types", "auth_scheme", "protected_resource"}


def git(tree: Path, *arguments: str) -> str:
    return run(tree, "git", *arguments)


def run(tree: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RefusedError(f"{shlex.join(command)}: {(result.stdout + result.stderr).strip()}")
    return result.stdout.rstrip()


def replaced(text: str, old: str, new: str, where: str) -> str:
    """Replace words that have to be there exactly once."""
    if (count := text.count(old)) != 1:
        raise RefusedError(f"{where}: {old!r} is there {count} times, not once")
    return text.replace(old, new)


class Cut:
    """What is left of a Python file at a branch.

    What mentions a name that comes later goes with it: an import, a statement, a field with its docstring, a row of a table.
    In a test file, the whole function goes. What is gone is a later name itself, for the rest of the file and for those that
    import it.
    """

    def __init__(self, source: str, later: Iterable[str], absent: Iterable[str], *, is_test: bool) -> None:
        self._absent = set(absent)
        self._is_test = is_test
        self._source = source.encode()
        self._lines = self._source.splitlines(keepends=True)
        self._starts = [sum(map(len, self._lines[:number])) for number in range(len(self._lines))]
        self._spans: set[tuple[int, int]] = set()
        self.later = set(later)
        self.gone: set[str] = set()
        tree = ast.parse(source)
        before = -1
        while before != len(self.later):
            before = len(self.later)
            self._body(tree.body, is_global=True)
            self.later |= self.gone

    @property
    def text(self) -> str:
        kept = bytearray(self._source)
        last = len(kept) + 1
        for start, end in sorted(self._spans, key=lambda span: (-span[1], span[0])):
            if end <= last:
                del kept[start:end]
                last = start
        return kept.decode()

    def _body(self, body: list[ast.stmt], *, is_global: bool) -> bool:
        """Cut statements, and tell whether any is left."""
        left = len(body)
        for number, statement in enumerate(body):
            names = list(self._cut(statement, is_global=is_global))
            if names:
                left -= 1
                following = body[number + 1] if number + 1 < len(body) else None
                if isinstance(statement, (ast.Assign, ast.AnnAssign)) and is_docstring(following):
                    self._remove(following)
                    left -= 1
                if is_global:
                    self.gone.update(names)
        return left > 0

    def _cut(self, statement: ast.stmt, *, is_global: bool) -> Iterator[str]:
        """Cut a statement. If nothing is left of it, list the names that are gone with it, at least one."""
        match statement:
            case ast.ImportFrom():
                yield from self._import(statement)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                is_gone = statement.name in self.later or (
                    self._is_test and any(map(self._mentions, [*statement.body, *signature_of(statement)]))
                )
                is_gone = is_gone or not all(map(self._rows, statement.decorator_list))
                if is_gone or not self._body(statement.body, is_global=False):
                    self._remove(statement)
                    yield statement.name
            case ast.If() | ast.With() | ast.For() | ast.Try():
                headers = [node for name, node in ast.iter_fields(statement) if name in ("test", "iter")]
                is_gone = any(map(self._mentions, headers)) or not self._body(statement.body, is_global=is_global)
                if is_gone and getattr(statement, "orelse", None):
                    raise RefusedError(f"'else' of what comes later, in line {statement.lineno}")
                if is_gone:
                    self._remove(statement)
                    yield ""
            case _ if not self._rows(statement):
                self._remove(statement)
                targets = getattr(statement, "targets", [getattr(statement, "target", None)])
                yield from [target.id for target in targets if isinstance(target, ast.Name)] or [""]

    def _import(self, statement: ast.ImportFrom) -> Iterator[str]:
        if statement.module in self._absent:
            self._remove(statement)
            yield from (alias.asname or alias.name for alias in statement.names)
        else:
            dropped = [alias for alias in statement.names if alias.name in self.later]
            if len(dropped) == len(statement.names):
                self._remove(statement)
                yield ""
            else:
                for alias in dropped:
                    self._remove_row(alias)

    def _rows(self, node: ast.AST) -> bool:
        """Cut rows out of the outermost tables in a node, and tell whether the node is free of later names then."""
        rows: list[list[ast.AST]] = []
        match node:
            case ast.Dict():
                rows = [[n for n in pair if n is not None] for pair in zip(node.keys, node.values, strict=True)]
            case ast.List() | ast.Tuple() | ast.Set():
                rows = [[element] for element in node.elts]
        for row in rows:
            if any(map(self._mentions, row)):
                self._remove_row(row[0], row[-1])
        if rows or not self._mentions(node):
            return True
        children = list(ast.iter_child_nodes(node))
        return not self._mentions_itself(node) and all(map(self._rows, children))

    def _mentions(self, node: ast.AST) -> bool:
        return any(map(self._mentions_itself, ast.walk(node)))

    def _mentions_itself(self, node: ast.AST) -> bool:
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
                return name in self.later
            case ast.Constant(value=str(text)):
                words = set(re.findall(r"\w+", text)) if self._is_test else {text}
                return not words.isdisjoint(self.later)
        return False

    def _remove(self, node: Any) -> None:
        """Remove the lines of a statement, with its decorators and the comment above it."""
        first = min([node.lineno, *(n.lineno for n in getattr(node, "decorator_list", ()))]) - 1
        while first and self._lines[first - 1].strip().startswith(b"#"):
            first -= 1
        self._spans.add(
            (self._starts[first], self._starts[node.end_lineno - 1] + len(self._lines[node.end_lineno - 1]))
        )

    def _remove_row(self, first: Any, last: Any = None) -> None:
        start = self._starts[first.lineno - 1] + first.col_offset
        last = last or first
        end = self._starts[last.end_lineno - 1] + last.end_col_offset
        rest = re.match(rb"\s*,|", self._source[end:])
        self._spans.add((start, end + len(rest[0] if rest else b"")))


def is_docstring(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def signature_of(node: Any) -> list[ast.AST]:
    return (
        [node.args, *([node.returns] if node.returns else [])] if hasattr(node, "args") else getattr(node, "bases", [])
    )


class Plan:
    """What the files of a branch say."""

    def __init__(self, number: int, version: str) -> None:
        self.number = number
        self.version = version
        self.branches = STACK[:number]
        self.modules = {name for branch in self.branches for name in branch.modules}
        self.absent = {dotted(name) for branch in STACK[number:] for name in branch.modules}
        self.later = {name for branch in STACK[number:] for name in branch.names}
        self.later |= {name for name, module in lazy_exports().items() if module in self.absent}
        self._cuts: dict[str, Cut] = {}

    @cached_property
    def files(self) -> dict[str, str]:
        """The files to place, by their names."""
        names = [f"{PACKAGE}/{name}.py" for name in ("__init__", *sorted(self.modules))]
        for branch in self.branches:
            names += [f"{TESTS}/{name.partition(':')[0]}" for name in branch.tests]
            names += [f"{EXAMPLES}/{name}.py" for name in branch.examples]
        files = {name: self.content(name) for name in names}
        for number in range(1, self.number + 1):
            folder = ROOT / EXTRA_FILES / f"branch_{number}"
            for path in folder.rglob("*.py"):
                name = str(path.relative_to(folder))
                files[name] = self.content(name, path)
        return files

    def content(self, name: str, path: Path | None = None) -> str:
        text = self.edited(name, (path or ROOT / name).read_text())
        if not name.endswith(".py"):
            return text
        text = self._cut(name, text).text
        if Path(name).name.startswith("test_"):
            text = without_unused(Cut(text, self._left_out(name, text), (), is_test=True).text)
        return with_versions(text, self.version) if name.startswith(PACKAGE) else text

    def _left_out(self, name: str, text: str) -> set[str]:
        """Return the tests of a file that come later."""
        tests = {test for test in bound_in(text) if test.startswith("test_")}
        left_out = tests
        for path, colon, names in (entry.partition(":") for branch in self.branches for entry in branch.tests):
            if f"{TESTS}/{path}" == name:
                named = {word.lstrip("-") for word in names.split()}
                if missing := named - tests:
                    raise RefusedError(f"{name} has no tests {', '.join(sorted(missing))}")
                left_out = left_out & named if not colon or "-" in names else left_out - named
        return left_out

    def edited(self, name: str, text: str) -> str:
        edited = text
        for edit in EDITS:
            if edit.path == name:
                replaced(text, edit.old, "", name)
                if edit.since <= self.number < edit.before:
                    edited = replaced(edited, edit.old, edit.new, name)
        return edited

    def _cut(self, name: str, text: str) -> Cut:
        if name not in self._cuts:
            is_test = name.startswith("tests/")
            later = set(self.later)
            if name == f"{PACKAGE}/__init__.py" and self.absent.issuperset(lazy_exports().values()):
                later |= {"TYPE_CHECKING", "Any", "Final", "import_module", "__dir__"}  # nothing is loaded lazily
            for module, _ in imports(name, text):
                helper = f"{module.replace('.', '/')}.py"
                if helper.startswith("tests/") and (ROOT / helper).exists():
                    later |= self._cut(helper, self.edited(helper, (ROOT / helper).read_text())).gone
            self._cuts[name] = Cut(text, later, self.absent, is_test=is_test)
        return self._cuts[name]

    def check(self, tree: Path) -> None:
        """Check that all that a branch refers to is there."""
        known = {"litestar", "tests", "docs", *sys.stdlib_module_names, *dependencies(tree)}
        for name in self.files:
            text = (tree / name).read_text()
            if early := self.later.intersection(re.findall(r"\w+", text)):
                raise RefusedError(f"{name} names what comes later: {', '.join(sorted(early))}. Add to EDITS")
            if name.endswith(".py"):
                for module, names in imports(name, text):
                    check_import(tree, name, module, names)
                    if (package := module.partition(".")[0]) not in known:
                        raise RefusedError(f"{name} imports {package}, which Litestar does not depend on")
        for example in re.findall(r"literalinclude:: /(\S+)", (tree / PAGE).read_text()):
            if not (tree / "docs" / example).exists():
                raise RefusedError(f"{PAGE} includes {example}, which is not there")


def without_unused(text: str) -> str:
    """Leave out what only tests used that are left out."""
    while True:
        tree = ast.parse(text)
        used = {word for node in ast.walk(tree) for word in used_by(node)}
        bound = {
            word for node in tree.body if not isinstance(node, ast.ImportFrom | ast.Import) for word in binds(node)
        }
        unused = {word for word in bound - used if not word.startswith("test_") and word != "pytestmark"}
        if not unused:
            return text
        text = Cut(text, unused, (), is_test=True).text


def used_by(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Load()) | ast.arg(arg=name):
            return [name]
        case ast.Constant(value=str(text)):
            return re.findall(r"\w+", text)
        case ast.Call(keywords=keywords):
            return ["autouse"] if any(k.arg == "autouse" for k in keywords) else []
    return []


def binds(statement: ast.stmt) -> list[str]:
    """Return the one name that a statement binds, if it binds just one."""
    match statement:
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
            return bound_by(target)
    return bound_by(statement)


def lazy_exports() -> dict[str, str]:
    """Return the modules of what the package loads lazily, and of what is imported from its module, by name."""
    tree = ast.parse((ROOT / PACKAGE / "__init__.py").read_text())
    tables = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)]
    if len(tables) != 1:
        raise RefusedError(f"{PACKAGE}/__init__.py has {len(tables)} tables of what it loads lazily, not one")
    exports = {name: f"{DOTTED}.{module}" for name, module in ast.literal_eval(tables[0]).items()}
    return {**exports, "LocalIssuer": f"{DOTTED}.testing"}


def dotted(module: str) -> str:
    return f"{DOTTED}.{module.replace('/', '.')}".removesuffix(".__init__")


@cache
def imports(name: str, text: str) -> list[tuple[str, list[str]]]:
    """List the modules that a file imports, with the names that it takes from them."""
    found: list[tuple[str, list[str]]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, []) for alias in node.names]
        if isinstance(node, ast.ImportFrom) and node.module:
            package = name.split("/")[: -node.level] if node.level else []
            found.append((".".join([*package, node.module]), [alias.name for alias in node.names]))
    return found


def check_import(tree: Path, name: str, module: str, names: list[str]) -> None:
    if not module.startswith((DOTTED, "tests.", "docs.")):
        return
    folder = tree / module.replace(".", "/")
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    if not path.exists():
        raise RefusedError(f"{name} imports {module}, which is not there")
    for missing in set(names) - bound_in(path.read_text()):
        if not (folder / f"{missing}.py").exists():
            raise RefusedError(f"{name} imports {missing!r} from {module}, which does not have it")


@cache
def bound_in(text: str) -> set[str]:
    return {word for node in ast.walk(ast.parse(text)) for word in bound_by(node)}


def bound_by(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.ImportFrom() | ast.Import():
            return [alias.asname or alias.name for alias in node.names]
        case ast.Name(id=name, ctx=ast.Store()):
            return [name]
    return []


def with_versions(source: str, version: str) -> str:
    """Say since when the public names and the options are there that Litestar does not have yet."""
    public = public_names()
    lines = source.splitlines(keepends=True)
    tree = ast.parse(source)
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    documented: list[Any] = []
    for body in bodies:
        for node, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name in public and body is tree.body:
                documented.append(node.body[0])
            elif is_docstring(following) and {*binds(node)} & (public if body is tree.body else NEW_OPTIONS):
                documented.append(following)
    for node in reversed(documented):
        line = lines[node.end_lineno - 1].rstrip()
        margin = " " * node.col_offset
        text = line.removesuffix('"""').rstrip()
        ended = f"{text}\n\n" if text.strip() else "\n"
        lines[node.end_lineno - 1] = f'{ended}{margin}.. versionadded:: {version}\n{margin}"""\n'
    return "".join(lines)


def public_names() -> set[str]:
    """Return the names that users get from this patch, and do not have without it."""
    tree = ast.parse((ROOT / PACKAGE / "__init__.py").read_text())
    eager = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    new = [n for n in eager if n.module in (f"{DOTTED}.keys", f"{DOTTED}.unverified")]
    return {alias.name for node in new for alias in node.names} | lazy_exports().keys()


def settings(tree: Path) -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((tree / "pyproject.toml").read_text())
    return settings


def dependencies(tree: Path) -> set[str]:
    """Return the names of the packages that Litestar and its tests depend on, as they are imported."""
    declared = settings(tree)
    groups = [*declared["project"]["optional-dependencies"].values(), *declared["dependency-groups"].values()]
    names = {re.split(r"[^\w-]", text, maxsplit=1)[0] for text in chain(declared["project"]["dependencies"], *groups)}
    return {"jwt" if name == "pyjwt" else name.replace("-", "_") for name in names}


def edit(tree: Path, name: str, old: str, new: str) -> None:
    path = tree / name
    if not path.exists():
        raise RefusedError(f"{name} does not exist")
    path.write_text(replaced(path.read_text(), old, new, name))


def extend_project(tree: Path, number: int) -> None:
    """Declare the extras of this repository, from the branch on that needs them."""
    extras = settings(ROOT)["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    lines = {name: f"{name} = [{', '.join(map(json.dumps, extras[name]))}]\n" for name in ("jwks", "jwt")}
    if number == 1:
        edit(tree, "pyproject.toml", 'jwt = ["cryptography", "pyjwt>=2.9.0"]\n', lines["jwt"])
    if number == 2:
        edit(tree, "pyproject.toml", lines["jwt"], lines["jwks"] + lines["jwt"])
        edit(tree, "pyproject.toml", "    jwt, \\\n", "    jwks, \\\n    jwt, \\\n")


def extend_docs(tree: Path, number: int) -> None:
    """Add a section to the page on JWT, what the reference does not find, and the release notes."""
    path = tree / PAGE
    section = ROOT / EXTRA_FILES / f"branch_{number}/jwt.rst"
    if section.exists():
        path.write_text(f"{path.read_text().rstrip()}\n\n\n{section.read_text()}")
    reference = tree / "docs/reference/security/jwt.rst"
    reference.write_text(f"{reference.read_text().rstrip()}\n{REFERENCES.get(number, '')}")
    if number == 1:
        anchor = '    (PY_CLASS, "litestar.security.jwt.token.JWTDecodeOptions"),\n'
        lines = "".join(f'    (PY_RE, r"{name}"),\n' for name in UNDOCUMENTED)
        edit(tree, "docs/conf.py", anchor, anchor + lines)
        # Options are documented where they are declared.
        edit(tree, "docs/usage/security/guards.rst", ":meth:`JWTAuth.retr", f":attr:`~{DOTTED}.BaseJWTAuth.retr")
        edit(tree, "typos.toml", "[default.extend-words]\n", "[default.extend-words]\ntyp = 'typ'\n")
    changes = "".join(f"    .. change:: {title}\n{text}" for title, text in release_notes(STACK[number - 1]))
    heading = re.search(r"^\.\. changelog:: .*\n(    :.*\n)*\n", (tree / NOTES).read_text(), re.MULTILINE)
    if heading is None:
        raise RefusedError(f"{NOTES} has no section to add to")
    edit(tree, NOTES, heading[0], heading[0] + changes)


def release_notes(branch: Branch) -> Iterator[tuple[str, str]]:
    """List the entries of a branch, in the order that they have here."""
    parts = (ROOT / "CHANGELOG.rst").read_text().split("    .. change:: ")[1:]
    entries = {title: f"{text.rstrip()}\n\n" for title, _, text in (part.partition("\n") for part in parts)}
    if assigned := {title for other in STACK for title in other.changes} ^ entries.keys():
        raise RefusedError(f"CHANGELOG.rst and STACK differ in {', '.join(sorted(assigned))}")
    yield from ((title, text) for title, text in entries.items() if title in branch.changes)


def lock(tree: Path) -> str:
    """Refresh the lock file, and say what came of it."""
    if shutil.which("uv") is None:
        return "'uv' is not there: run 'uv lock' on each branch"
    try:
        run(tree, "uv", "lock", "-q")
    except RefusedError as e:
        git(tree, "checkout", "-q", "uv.lock")
        return f"run 'uv lock' on each branch, since it failed here: {str(e).splitlines()[-1].strip()}"
    return "refreshed"


def check_checkout(tree: Path) -> None:
    if not (tree / ".git").exists():
        raise RefusedError(f"{tree} is not the top of a git checkout")
    project = settings(tree)["project"] if (tree / "pyproject.toml").exists() else {}
    if project.get("name") != "litestar":
        raise RefusedError(f"{tree} is not a checkout of Litestar")
    if not project["version"].startswith("3."):
        raise RefusedError(
            f"{tree} has Litestar {project['version']}. The branches are for Litestar 3 alone: Litestar 2 supports Python 3.8, and "
            "the patch needs 3.11. Users of Litestar 2 install this repository instead"
        )
    if (tree / PACKAGE / "keys.py").exists():
        raise RefusedError("The patch is there already")
    if status := git(tree, "status", "--porcelain"):
        raise RefusedError(f"The checkout is not clean:\n{status}")
    for branch in STACK:
        if git(tree, "branch", "--list", branch.name):
            raise RefusedError(f"There is a branch {branch.name!r} already. Delete it")


def place(tree: Path, plan: Plan, before: Collection[str]) -> None:
    """Write the files of a branch, which may replace those of the one before and, of Litestar's own, the package's."""
    for name, text in plan.files.items():
        target = tree / name
        is_known = name in before
        if target.exists() and not is_known and not name.startswith(PACKAGE):
            raise RefusedError(f"{name} exists there")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    ruff, python = str(Path(sys.executable).with_name("ruff")), [name for name in plan.files if name.endswith(".py")]
    run(tree, ruff, "check", "-q", "--fix-only", "--unsafe-fixes", "--select", "F401,I001,TC", *python)
    run(tree, ruff, "format", "-q", *python)
    run(tree, ruff, "check", "-q", *python)


def make_branches(tree: Path) -> str:
    """Make all branches, or none.

    Returns:
        What became of the lock file.
    """
    check_checkout(tree)
    start = git(tree, "rev-parse", "HEAD")
    former = git(tree, "branch", "--show-current")
    version = ".".join(settings(tree)["project"]["version"].split(".")[:2])
    made: list[str] = []
    before: Collection[str] = ()
    locked = ""
    try:
        for number, branch in enumerate(STACK, 1):
            plan = Plan(number, version)
            git(tree, "switch", "-q", "-c", branch.name)
            made.append(branch.name)
            place(tree, plan, before)
            before = plan.files
            extend_project(tree, number)
            extend_docs(tree, number)
            plan.check(tree)
            locked = lock(tree)
            git(tree, "add", "--all")
            git(tree, "commit", "-q", "-m", branch.subject, "-m", branch.body)
    except BaseException:
        git(tree, "reset", "-q", "--hard")
        git(tree, "clean", "-q", "-f", "-d")
        git(tree, "switch", "-q", *([former] if former else ["--detach", start]))
        for name in made:
            git(tree, "branch", "-q", "-D", name)
        raise
    return locked


def report(tree: Path, start: str) -> Iterator[str]:
    for below, number in zip([start, *(branch.name for branch in STACK)], range(1, len(STACK) + 1), strict=False):
        name = STACK[number - 1].name
        counts = {"package": net(tree, below, name, PACKAGE), "tests": net(tree, below, name, "tests")}
        growth = ", ".join(f"{what} {count:+}" for what, count in counts.items())
        yield f"{name} (lines: {growth}), with the text in tools/pull_request_{number}.md"


def net(tree: Path, below: str, branch: str, folder: str) -> int:
    rows = [row.split("\t") for row in git(tree, "diff", "--numstat", below, branch, "--", folder).splitlines()]
    return sum(int(added) - int(removed) for added, removed, _ in rows if added != "-")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("checkout", type=Path, help="a clean checkout of Litestar's 'main'")
    tree = parser.parse_args().checkout.resolve()
    try:
        start = git(tree, "rev-parse", "HEAD")
        locked = make_branches(tree)
    except RefusedError as e:
        sys.exit(f"Nothing was changed. {e}")
    print("\n".join(report(tree, start)))
    print(f"\nuv.lock: {locked}.")


if __name__ == "__main__":
    main()
