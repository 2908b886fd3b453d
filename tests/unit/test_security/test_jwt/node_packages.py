"""Packages of npm that tests run against."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

__all__ = ("installed_package", "program")


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    if (path := shutil.which(name)) is None:
        pytest.skip(f"{name} is not installed")
    return path


def installed_package(sources: Path, root: Path) -> Path:
    """Copy a folder with a ``package.json`` out of the tree, and install there what that asks for, once for each version."""
    files = sorted(path for path in sources.iterdir() if path.suffix in {".js", ".json"})
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    target = root / "build" / "node" / f"{sources.name}-{digest[:16]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            fresh = Path(scratch, "fresh")
            fresh.mkdir()
            for path in files:
                shutil.copy(path, fresh)
            _install(fresh, sources.name)
            with suppress(OSError):  # another process was first
                fresh.rename(target)
    return target


def _install(directory: Path, name: str) -> None:
    action = "ci" if (directory / "package-lock.json").exists() else "install"
    command = [program("npm"), action, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=90, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install {name} in time")
    if done.returncode:
        pytest.skip(f"npm cannot install {name}: {done.stderr.strip()}")
