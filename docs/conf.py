"""How to build these pages alone. In Litestar's own tree they are built with the configuration that is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from litestar.security.jwt import keys

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGE = "litestar.security.jwt"
OTHERS = re.compile(
    r"(anyio|asyncio|collections|contextlib|cryptography|datetime|enum|httpx2?|jwt|litestar|msgspec|ssl|time|typing"
    # Docstrings of Litestar leave its name out.
    r"|middleware|openapi|response)\."
)

project = "Litestar"
author = "Litestar Organization"
html_title = "JWT security for Litestar"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build"]
nitpicky = True
# Not part of the API, but named in signatures.
nitpick_ignore_regex = [(r"py:.*", r"(.*\.)?(\w+Options|AuthType|KeySet|LocalKeyProvider|TokenT|UserType)")]
# Quotation marks in the caption of a command stay what they are.
smartquotes = False

autoclass_content = "class"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True, "show-inheritance": True, "special-members": "__init__"}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
toc_object_entries_show_parents = "hide"
napoleon_attr_annotations = True
napoleon_google_docstring = True

html_theme = "shibuya"
html_static_path = ["_static"]
html_css_files = ["style.css"]


def find_elsewhere(app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    """Resolve what annotations and docstrings call by the name that their module gives it.

    What is documented here under a public name is linked. What is documented elsewhere is left without a link, as finding
    that would take a network. Whatever else is not found is a warning.
    """
    target = str(node["reftarget"])
    name = target.rpartition(".")[2]
    for module in ("", ".guards", ".keys", ".options", ".testing"):
        public = f"{PACKAGE}{module}.{name}"
        if public in env.domains.python_domain.objects:
            return env.domains.python_domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", public, node, contnode
            )
    is_ours = target.startswith(f"{PACKAGE}.")
    return contnode if target in imported_names() or (OTHERS.match(target) and not is_ours) else None


@cache
def imported_names() -> frozenset[str]:
    """List the names that modules of the package have from elsewhere, be it for annotations alone."""
    # Litestar's own files are in the editable package, which links to the additions.
    folders = {Path(keys.__file__).parent, Path(keys.__file__).resolve().parent}
    trees = (ast.parse(file.read_text()) for folder in folders for file in folder.rglob("*.py"))
    imports = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    return frozenset(alias.asname or alias.name for node in imports for alias in node.names)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", find_elsewhere)
