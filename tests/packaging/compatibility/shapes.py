"""What can be seen without running anything: signatures, fields, annotations, documentation.

Answers are lists of rows that start with a name, so that the parent can say which rows are new.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import litestar.security.jwt as package
from litestar.security.jwt import auth, middleware, token
from tests.packaging.compatibility.harness import BACKENDS, case, cases, outcome

MODULES = {"auth": auth, "middleware": middleware, "token": token}
DATACLASSES = (*BACKENDS, package.OAuth2Login, package.Token)
MIDDLEWARES = (package.JWTAuthenticationMiddleware, package.JWTCookieAuthenticationMiddleware)
CLASSES: tuple[Any, ...] = (*DATACLASSES, *MIDDLEWARES, package.BaseJWTAuth)
METHODS = {
    f"{cls.__name__}.{name}": getattr(cls, name)
    for cls in CLASSES
    for name in vars(cls)
    if inspect.isroutine(getattr(cls, name)) and name not in object.__dict__ and name != "__replace__"
}


@cases({cls.__name__: cls for cls in CLASSES[:-1]} | METHODS)
def signature(function: Any) -> object:
    """Rows of name, annotation, default and kind."""
    found = inspect.signature(function)
    rows = [[p.name, str(p.annotation), p.default, p.kind.name] for p in found.parameters.values()]
    return [["return", str(found.return_annotation)], *rows]


@case
def argument_names() -> object:
    return [inspect.getfullargspec(cls.__init__).args for cls in BACKENDS]


@cases(METHODS)
def type_hints(function: Any) -> object:
    try:
        return [[name, str(hint)] for name, hint in typing.get_type_hints(function).items()]
    except NameError:  # of what is imported for type checkers only
        return []


@cases(DATACLASSES)
def fields(cls: Any) -> object:
    flags = ("init", "repr", "hash", "compare", "kw_only")
    found = dataclasses.fields(cls)
    return [[f.name, str(f.type), f.default, f.default_factory, *(getattr(f, flag) for flag in flags)] for f in found]


@cases(CLASSES)
def attributes(cls: Any) -> object:
    """The values of all fields, as far as the class itself has them: `JWTAuth.algorithm`."""
    names = sorted({name for base in DATACLASSES for name in base.__annotations__})
    facts = ("__match_args__", "__parameters__", "__abstractmethods__", "__hash__", "__module__", "__qualname__")
    return [[name, outcome(getattr, cls, name)] for name in [*names, *facts]]


@cases(CLASSES)
def names(cls: Any) -> object:
    return [[name] for name in dir(cls)]


@cases(CLASSES)
def bases(cls: Any) -> object:
    return [[base.__qualname__] for base in cls.__mro__]


@cases(MIDDLEWARES)
def slots(cls: Any) -> object:
    return [[name] for name in cls.__slots__]


@case
def exported_names() -> object:
    return [[name] for name in package.__all__]


def definitions(module: Any) -> dict[str, Any]:
    """The classes and functions of a module's source, by qualified name."""
    body = ast.parse(Path(module.__file__).read_text()).body
    found: dict[str, Any] = {node.name: node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    members = {f"{name}.{node.name}": node for name in found for node in found[name].body if hasattr(node, "name")}
    return found | members


@cases(MODULES)
def documented_fields(module: Any) -> object:
    """Rows of class, field and the text below it."""
    bodies = {name: node.body for name, node in definitions(module).items() if isinstance(node, ast.ClassDef)}
    pairs = [(name, pair) for name, body in bodies.items() for pair in pairwise(body)]
    return [[name, *map(ast.unparse, pair)] for name, pair in pairs if isinstance(pair[0], ast.AnnAssign)]


@cases({f"{kind}.{name}": node for kind, module in MODULES.items() for name, node in definitions(module).items()})
def docstring(node: Any) -> object:
    """Rows of first word and text, for each paragraph and each parameter."""
    parts = re.split(r"\n\n|\n(?=    \S)", ast.get_docstring(node) or "")
    return [[part.strip().partition(":")[0], part] for part in parts]


@cases(MODULES)
def code(module: Any) -> object:
    """Rows of function, decorators and body, without its docstring."""
    found = [(name, node) for name, node in definitions(module).items() if not isinstance(node, ast.ClassDef)]
    bodies = [(name, [*node.decorator_list, *node.body[bool(ast.get_docstring(node)) :]]) for name, node in found]
    return [[name, *map(ast.unparse, body)] for name, body in bodies]
