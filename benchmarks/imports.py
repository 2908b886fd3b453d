"""Times the import of the package, in processes of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from measure import Report

_OURS, _RELEASED = "this package", "released Litestar"
_BEFORE = {
    "import with Litestar and PyJWT": "",
    "import alone": "import litestar, litestar.openapi.spec, litestar.security, cryptography, jwt",
}

_CODE = """
import sys, time
{before}
start = time.perf_counter()
import litestar.security
litestar.security.__path__[:0] = {found_in!r}
import litestar.security.jwt
print((time.perf_counter() - start) * 1e6)
assert litestar.security.jwt.__file__.startswith(tuple({found_in!r}) or sys.prefix), "the wrong package was imported"
assert not {{"httpx", "httpx2"}} & set(sys.modules), "an HTTP client was imported"
"""


def measure(report: Report, python: Path, *, rounds: int) -> None:
    """Measure the import with and without that of what it needs. Only the one with is what a user waits for."""
    report.heading("Import of litestar.security.jwt, in a process of its own")
    for what, before in _BEFORE.items():
        report.note(what)
        times = _import_times(python, before=before, rounds=rounds)
        report.times(what, times, against=_RELEASED)
        if not before:
            report.limit_ratio(what, times, _OURS, _RELEASED, 1.05)


def _import_times(python: Path, *, before: str, rounds: int) -> dict[str, float]:
    """Import this package and the released one with the same Litestar, and return the best times in microseconds.

    Args:
        python: The interpreter of an environment with the released Litestar.
        before: What has been imported already.
        rounds: How many times to import each.
    """
    package = _package_alone()
    subprocess.run([str(python), "-m", "compileall", "-q", str(package)], check=True)
    codes = {
        _OURS: _CODE.format(before=before, found_in=[str(package)]),
        _RELEASED: _CODE.format(before=before, found_in=[]),
    }
    best = dict.fromkeys(codes, float("inf"))
    for _ in range(rounds):
        for name, code in codes.items():
            done = subprocess.run([str(python), "-E", "-c", code], stdout=subprocess.PIPE, text=True, check=True)
            best[name] = min(best[name], float(done.stdout))
    return best


def _package_alone() -> Path:
    """Put this package where another installation of Litestar can take it from, compiled like any that is installed."""
    directory = Path("build", "bench", "security").absolute()
    shutil.rmtree(directory, ignore_errors=True)
    source = Path(__file__).parent.parent / "build" / "editable" / "litestar" / "security"
    shutil.copytree(source, directory, ignore=shutil.ignore_patterns("__pycache__"))
    return directory
