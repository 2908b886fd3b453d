"""Changes to Litestar's own files, each at a place that it names: a class, a method, a parameter, a call.

The files below ``patch/litestar`` say what changes in Litestar's files of the same paths. They quote no line of Litestar, so they
apply to several versions. If a place is missing, is there twice, or has been edited already, the error says which.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar

__all__ = ("EditError", "Source", "edit_files")

P = ParamSpec("P")
NodeT = TypeVar("NodeT", bound=ast.stmt | ast.expr)
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Scope: TypeAlias = Function | ast.ClassDef


class EditError(ValueError):
    """An edit that does not apply."""


def operation(method: Callable[Concatenate[Source, P], None]) -> Callable[Concatenate[Source, P], None]:
    """Make a method an operation: it is left out if its pull request is, and errors say what it was called with."""

    @wraps(method)
    def wrapper(source: Source, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if source.skips:
            return
        try:
            method(source, *args, **kwargs)
            source.tree = ast.parse(source.text)
            compile(source.tree, source.name, "exec")
        except (SyntaxError, ValueError) as e:
            arguments = ", ".join(repr(value) for value in args if "\n" not in str(value))
            raise EditError(f"{source.name}: {method.__name__}({arguments}): {e}") from e

    return wrapper


class Source:
    """The text of one file of Litestar, and the operations on it."""

    def __init__(self, name: str, text: str, last: int | None = None) -> None:
        """Parse a file. Edits of pull requests after the last one are left out."""
        self.name = name
        self.skips = False
        self.tree = ast.parse(text)
        self._last = last
        self._lines = text.split("\n")

    @property
    def text(self) -> str:
        """The text after all operations so far."""
        return "\n".join(self._lines)

    @contextmanager
    def pull_request(self, number: int) -> Iterator[None]:
        """Say which pull request the edits in this context belong to."""
        self.skips = self._last is not None and number > self._last
        yield
        self.skips = False

    def has_parameter(self, place: str, name: str) -> bool:
        """Tell whether a function has a parameter, where versions of Litestar differ."""
        return name in [parameter.arg for parameter in _parameters(self._function(place))]

    @operation
    def add_import(self, module: str, *names: str, type_checking: bool = False) -> None:
        """Import names, at the place where isort puts them. With ``type_checking``, only for type checkers."""
        blocks = [n for n in self.tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
        imports = _imports(_one(blocks, "if TYPE_CHECKING").body if type_checking else self.tree.body)
        same = [node for node in imports if node.module == module]
        known = {ast.unparse(name) for node in same for name in node.names}
        line = f"from {module} import {', '.join(sorted({*known, *names}, key=_sort_key))}"
        if same:
            self._replace(same[0], line)
            return
        related = [node for node in imports if str(node.module).split(".")[0] == module.split(".", 1)[0]]
        earlier = [node for node in related if str(node.module) < module] if related else imports
        previous = _one(earlier[-1:], "import before it")
        self._insert(_end(previous), line if related else f"\n{line}", previous.col_offset)

    @operation
    def add_names(self, place: str, *names: str) -> None:
        """Add texts to a sorted tuple that has one on each line: ``__all__``, or ``Class.__slots__``."""
        scope, _, variable = place.rpartition(".")
        assigned = [n for n in (self._find(scope) if scope else self.tree).body if isinstance(n, ast.Assign)]
        value = _one([n.value for n in assigned if ast.unparse(n.targets[0]) == variable], place)
        texts = [node for node in ast.walk(value) if isinstance(node, ast.Constant)]
        for name in sorted(names, key=_sort_key, reverse=True):
            later = [text.lineno - 1 for text in texts if _sort_key(str(text.value)) > _sort_key(name)]
            self._insert([*later, _end(texts[-1])][0], f'"{name}",', texts[0].col_offset)

    @operation
    def base(self, place: str, name: str, *, instead_of: str) -> None:
        """Replace a base class but not its type arguments, and remove the import of the former one."""
        scope = self._find(place)
        bases = scope.bases if isinstance(scope, ast.ClassDef) else []
        bases = [base.value if isinstance(base, ast.Subscript) else base for base in bases]
        self._replace(_one([base for base in bases if ast.unparse(base) == instead_of], f"base {instead_of}"), name)
        imports = [n for n in _imports(self.tree.body) if instead_of in [alias.name for alias in n.names]]
        former = _one(imports, f"import of {instead_of}")
        if others := [alias.name for alias in former.names if alias.name != instead_of]:
            self._replace(former, f"from {former.module} import {', '.join(others)}")
        else:
            del self._lines[former.lineno - 1 : _end(former)]

    @operation
    def decorate(self, place: str, decorator: str) -> None:
        """Add a decorator above the others."""
        node = self._find(place)
        line = min([node.lineno, *(other.lineno for other in node.decorator_list)])
        self._insert(line - 1, f"@{decorator}", node.col_offset)

    @operation
    def annotate(self, place: str, parameter: str, annotation: str) -> None:
        """Replace the annotation of a parameter."""
        found = [p.annotation for p in _parameters(self._function(place)) if p.arg == parameter and p.annotation]
        self._replace(_one(found, f"annotated parameter {place}.{parameter}"), annotation)

    @operation
    def parameter(self, place: str, declaration: str, description: str) -> None:
        """Add a keyword-only parameter after all others, and describe it in the docstring."""
        function = self._function(place)
        docstring = function.body[0]
        lines = [line.strip(' "') for line in self._lines[docstring.lineno : docstring.end_lineno]]
        line = docstring.lineno + lines.index("", lines.index("Args:"))
        self._insert(line, f"{declaration.partition(':')[0]}: {description}", docstring.col_offset + 4)
        defaults = [node for node in [*function.args.defaults, *function.args.kw_defaults] if node]
        last = max([*map(_end, _parameters(function)), *map(_end, defaults)])
        self._insert(last, f"{declaration}," if function.args.kwonlyargs else f"*,\n{declaration},")

    @operation
    def keyword(self, place: str, call: str, argument: str) -> None:
        """Add a keyword argument to the only call of something in a function."""
        calls = [node for node in ast.walk(self._function(place)) if isinstance(node, ast.Call)]
        found = _one([node for node in calls if ast.unparse(node.func) == call], f"call of {call}")
        last = max(_end(value) for value in [*found.args, *(keyword.value for keyword in found.keywords)])
        self._insert(last, f"{argument},")

    @operation
    def insert(self, place: str, block: str, *, at_end: bool = False) -> None:
        """Insert statements into a function, or into a class after an empty line: after its docstring, or at its end."""
        scope = self._find(place)
        first = scope.body[0]
        start = _end(first) if ast.get_docstring(scope) else first.lineno - 1
        empty = "\n" if isinstance(scope, ast.ClassDef) else ""
        self._insert(_end(scope.body[-1]) if at_end else start, f"{empty}{dedent(block).strip()}", first.col_offset)

    def _find(self, place: str) -> Scope:
        body: list[ast.stmt] = self.tree.body
        found: list[Scope] = []
        for name in place.split("."):
            found = [node for node in body if isinstance(node, Scope) and node.name == name]
            body = _one(found, place).body
        return found[0]

    def _function(self, place: str) -> Function:
        return _one([node for node in [self._find(place)] if not isinstance(node, ast.ClassDef)], f"function {place}")

    def _insert(self, line: int, text: str, column: int | None = None) -> None:
        """Insert lines. Without a column, they are one more parameter or argument, indented like the line above them."""
        above = self._lines[line - 1]
        if column is None and not above.endswith(","):
            raise EditError("not on a line of its own")
        new = indent(text, " " * (len(above) - len(above.lstrip()) if column is None else column)).split("\n")
        if new in (self._lines[line : line + len(new)], self._lines[max(line - len(new), 0) : line]):
            raise EditError("there already")
        self._lines[line:line] = new

    def _replace(self, node: ast.stmt | ast.expr, text: str) -> None:
        """Replace a node on one line. The columns of nodes count bytes."""
        old = self._lines[node.lineno - 1].encode()
        new = old[: node.col_offset] + text.encode() + old[node.end_col_offset :]
        if new == old or node.end_lineno != node.lineno:
            raise EditError("there already" if new == old else "not on one line")
        self._lines[node.lineno - 1] = new.decode()


def _one(found: Sequence[NodeT], what: str) -> NodeT:
    if len(found) != 1:
        raise EditError(f"{what} is there {len(found)} times" if found else f"no {what}")
    return found[0]


def _end(node: ast.stmt | ast.expr | ast.arg) -> int:
    """Return the number of a node's last line, which is the index of the next one."""
    return node.end_lineno or node.lineno


def _imports(body: Sequence[ast.stmt]) -> list[ast.ImportFrom]:
    return [node for node in body if isinstance(node, ast.ImportFrom)]


def _parameters(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _sort_key(name: str) -> tuple[int, str]:
    """Sort as ruff does: constants, classes, everything else."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name


def edit_files(patch: Path, read: Callable[[str], str], last: int | None = None) -> dict[str, str]:
    """Apply the edits up to a pull request to texts by path. The folder that holds ``patch`` has to be on ``sys.path``."""
    edited = {}
    for script in sorted(path.relative_to(patch) for path in patch.glob("litestar/**/*.py")):
        source = Source(script.name, read(script.as_posix()), last)
        module = ".".join(["patch", *script.with_suffix("").parts]).removesuffix(".__init__")
        import_module(module).edit(source)
        edited[script.as_posix()] = source.text
    return edited
