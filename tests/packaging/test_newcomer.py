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

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Python compiles what it imports, which is less than pip installs.
ENVIRONMENT = {name: os.environ[name] for name in ("HOME", "PATH")} | {"PIP_NO_COMPILE": "1"}
APPLICATION, TEST = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
[EXTRAS] = re.findall(r'^pip install "\.(\[.+\])"$', README, re.MULTILINE)

# One worker runs them all, since they share a clone.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("newcomer"), pytest.mark.timeout(900)]


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@contextmanager
def started(*command: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group of its own, of which nothing is left in the end."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def line_of(process: subprocess.Popen[str], start: str) -> str:
    """Read what a process prints up to a line that starts in this way."""
    assert process.stdout
    seen = []
    for line in process.stdout:
        seen.append(line)
        if line.startswith(start):
            return line
    raise AssertionError("".join(seen))


def wait_for_the_end_of(group: int) -> None:
    """Return when no process of a group is left. One that has ended is there until its parent has noticed."""
    with suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            time.sleep(0.1)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which `make demo` has run."""
    target = tmp_path_factory.mktemp("newcomer") / "clone"
    run("git", "clone", "-q", ROOT, target, cwd=ROOT)
    assert "All as expected" in run("make", "demo", f"PYTHON={sys.executable}", cwd=target)
    return target


@pytest.fixture(scope="module")
def project(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """README's application and its test, with the package installed as README says."""
    target = tmp_path_factory.mktemp("project")
    (target / "app.py").write_text(APPLICATION.replace("<tenant>", "4f1a"))
    (target / "test_app.py").write_text(TEST)
    run(sys.executable, "-m", "venv", ".venv", cwd=target)
    run(target / ".venv/bin/pip", "install", "-q", f"{clone}{EXTRAS}", "pytest", cwd=target)
    return target


def test_demo_leaves_the_clone_clean(clone: Path) -> None:
    assert run("git", "status", "--porcelain", cwd=clone) == ""


def test_serve_prints_a_command_that_works_and_leaves_no_process_behind(clone: Path) -> None:
    with started("make", "serve", f"PYTHON={sys.executable}", cwd=clone) as process:
        answer = run("bash", "-c", line_of(process, "curl"), cwd=clone)
        assert answer.startswith("HTTP/1.1 200")
        assert answer.endswith('{"user":"alice"}')
        process.terminate()
        process.wait()
        wait_for_the_end_of(process.pid)


def test_application_ends_with_a_demo_that_is_killed(clone: Path) -> None:
    with started(clone / ".venv/bin/python", "tools/demo.py", "--serve", cwd=clone) as process:
        line_of(process, "curl")
        process.kill()
        process.wait()
        wait_for_the_end_of(process.pid)


def test_application_of_the_readme_starts_and_asks_for_a_token(project: Path) -> None:
    with started(project / ".venv/bin/litestar", "run", "--port", "0", cwd=project) as process:
        url = line_of(process, "INFO:     Uvicorn running on").split()[4]
        answer = httpx2.get(f"{url}/me", trust_env=False)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_test_of_the_readme_passes(project: Path) -> None:
    assert "1 passed" in run(project / ".venv/bin/pytest", "-q", "-W", "error", cwd=project)
