"""Packages of npm that tests run against, and a server for applications that they ask."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

# What tests put into the environment later, such as a proxy, is not for npm.
_ENVIRONMENT = dict(os.environ)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """Take a free port of the loopback interface, and tell its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def serving(app: Any, listener: socket.socket) -> Iterator[None]:
    """Run an application in a thread."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def installed_package(sources: Path, root: Path) -> Path:
    """Copy a folder with a ``package.json`` out of the tree, and install there what that asks for, once for each version."""
    content = b"".join(path.read_bytes() for path in sorted(sources.glob("*.js*")))
    target = root / "build" / "node" / f"{sources.name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = shutil.copytree(sources, Path(scratch, "fresh"))
        action = "ci" if (fresh / "package-lock.json").exists() else "install"
        command = [program("npm"), action, "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        try:
            subprocess.run(command, cwd=fresh, env=_ENVIRONMENT, capture_output=True, text=True, timeout=90, check=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            pytest.skip(f"{sources.name}: {e} {e.stderr!r}")
        with suppress(OSError):  # another process was first
            fresh.rename(target)
    return target
