"""Installs peers that cannot be in the environment of this package, each once, below ``build/bench``."""

from __future__ import annotations

import shutil
import subprocess
import venv
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

_BASE = "litestar[jwt]==2.25.0"
_SAME_VERSION = ("cryptography", "msgspec", "pyjwt", "uvicorn")
_NODE_PACKAGES = ("fast-jwt@6.3.6", "jose@6.2.18")


def released_litestar() -> Path:
    """Install the released Litestar, with the same versions of what both use. Return its interpreter."""
    directory = Path("build", "bench", "released")
    python = directory / "bin" / "python"

    def install(packages: Sequence[str]) -> None:
        venv.create(directory, with_pip=True, clear=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *packages], check=True)

    _once(directory, [_BASE, *(f"{name}=={version(name)}" for name in _SAME_VERSION)], install)
    return python


def node_packages() -> Path | None:
    """Install packages for Node. Return where they are, ``None`` if there is no Node."""
    directory = Path("build", "bench", "node")
    if not shutil.which("node") or not shutil.which("npm"):
        return None

    def install(packages: Sequence[str]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "package.json").write_text("{}")  # or npm takes one further up
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        subprocess.run(command, cwd=directory, check=True)

    _once(directory, _NODE_PACKAGES, install)
    return directory


def _once(directory: Path, packages: Sequence[str], install: Callable[[Sequence[str]], None]) -> None:
    complete = directory / "complete"
    if not complete.exists() or complete.read_text().split() != list(packages):
        install(packages)
        complete.write_text("\n".join(packages))
