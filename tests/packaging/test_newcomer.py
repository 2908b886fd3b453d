"""What somebody does who sees this repository for the first time, in an environment that holds nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Python compiles what it imports, which is less than pip installs.
ENVIRONMENT = {name: os.environ[name] for name in ("HOME", "PATH")} | {"PIP_NO_COMPILE": "1"}
APPLICATION, TEST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
[EXTRAS] = re.findall(r'^pip install "\.(\[.+\])"$', README, re.MULTILINE)

# One worker runs them all, since they share a clone.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("newcomer")]


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@contextmanager
def started(*command: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, of which nothing is left in the end."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=cwd, env=ENVIRONMENT, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def line_of(process: subprocess.Popen[str], start: str) -> str:
    """Read what a process prints up to a line that starts in this way."""
    assert process.stdout
    seen = [""]
    while not seen[-1].startswith(start):
        seen.append(process.stdout.readline())
        assert seen[-1], "".join(seen)
    return seen[-1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `make demo` has run."""
    target = tmp_path_factory.mktemp("newcomer") / "clone"
    run("git", "clone", "-q", ROOT, target, cwd=ROOT)
    assert "All as expected" in run("make", "demo", f"PYTHON={sys.executable}", cwd=target)
    return target


def test_demo_leaves_the_clone_clean(clone: Path) -> None:
    assert run("git", "status", "--porcelain", cwd=clone) == ""


@pytest.mark.parametrize(
    ("command", "number"),
    [
        (("make", "serve", f"PYTHON={sys.executable}"), signal.SIGTERM),
        ((".venv/bin/python", "tools/demo.py", "--serve"), signal.SIGKILL),
    ],
)
def test_serve_prints_a_command_that_works_and_leaves_no_process_behind(
    command: tuple[str, ...], number: signal.Signals, clone: Path
) -> None:
    with started(*command, cwd=clone) as process:
        answer = run("bash", "-c", line_of(process, "curl"), cwd=clone)
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith('{"user":"alice"}')
        process.send_signal(number)
        process.wait()
        with suppress(ProcessLookupError):  # which is raised when even the last one is gone and its parent has noticed
            while True:
                os.killpg(process.pid, 0)
                time.sleep(0.1)


def test_application_of_the_readme_asks_for_a_token_and_passes_its_test(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.replace("<tenant>", "4f1a"))
    (tmp_path / "test_app.py").write_text(TEST)
    run(sys.executable, "-m", "venv", ".venv", cwd=tmp_path)
    run(".venv/bin/pip", "install", "-q", f"{clone}{EXTRAS}", "pytest", cwd=tmp_path)
    with started(".venv/bin/litestar", "run", "--port", "0", cwd=tmp_path) as process:
        url = line_of(process, "INFO:     Uvicorn running on").split()[4]
        answer = httpx2.get(f"{url}/me", trust_env=False)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "1 passed" in run(".venv/bin/pytest", "-q", "-W", "error", cwd=tmp_path)
