"""Mutation testing: change the package in thousands of small ways, and see whether a test fails each time.

`mutmut` does the work, in a copy of the package under `build/mutants`. A mutant that no test notices is either listed with a
reason in `tests/mutants.toml`, or fails the run.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import pytest
from mutmut import __main__ as mutmut
from mutmut.configuration import config
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import get_mutant_under_test
from mutmut.runners.harness import PytestRunner
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import change_cwd

ROOT = Path(__file__).parents[1]
PACKAGE = Path("litestar/security/jwt")
WORK = ROOT / "build" / "mutants"
LISTED = ROOT / "tests" / "mutants.toml"
MODULES = ("unverified", "keys", "token", "_verifier", "_injection", "_refusals", "middleware", "key_providers")
STAGES = (0, 50, 300)
Change: TypeAlias = tuple[str, str, str]
# The first argument tells type checkers something, and means nothing when the code runs.
CAST = re.compile(r'\bcast\("[^"]*", ')
PLAIN_DECORATORS = {"classmethod", "staticmethod"}


def pytest_configure() -> None:
    """Take any example that fails: looking for the shortest one takes half a minute.

    `mutmut` loads this module into `pytest` as a plugin.
    """
    hypothesis = import_module("hypothesis")  # only now, after the plugins of `pytest`
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", phases=phases)
    hypothesis.settings.load_profile("mutants")


def pytest_runtest_setup() -> None:
    """Forget what other tests have left in caches: a function whose result is cached is not called, mutated or not."""
    for module in [module for name, module in sys.modules.items() if name.startswith("litestar.security.jwt")]:
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Show what fails without any mutant, which `mutmut` keeps to itself."""
    if report.failed and get_mutant_under_test() == "stats":
        print(report.longreprtext, file=sys.__stderr__)


def run_tests(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    """Run a few tests first, which nearly always suffice, before `pytest` has to collect hundreds."""
    if get_mutant_under_test() == "":
        return 0  # all tests have passed a moment ago, when it was recorded what they call
    if mutant_name and change_of(mutant_name) in listed_changes():
        return 0  # so that not all tests have to run to show it
    gc.freeze()  # `pytest` collects garbage several times at its end
    ordered = most_telling_first(list(tests))
    for start, end in zip(STAGES, (*STAGES[1:], len(ordered)), strict=True):
        if (stage := ordered[start:end]) or not ordered:
            with change_cwd("mutants"):
                try:
                    status = self.execute_pytest(self._pytest_args_regular_run(stage))
                except (Warning, ExceptionGroup):
                    status = 1  # `pytest` found a coroutine in the garbage that was never awaited
                if status:
                    return status
    return 0


def most_telling_first(tests: list[str]) -> list[str]:
    """Order tests by time, and take one case of each before the second of any."""
    durations = json.loads(Path("mutants/mutmut-stats.json").read_text())["duration_by_test"]
    cases: Counter[str] = Counter()
    ranks = {}
    for test in sorted(tests, key=durations.__getitem__):
        function = test.partition("[")[0]
        # `pytest` does not find a case by a name with a backslash in it, so all cases of that function run.
        ranks[function if "\\" in test else test] = cases[function]
        cases[function] += 1
    return sorted(ranks, key=ranks.__getitem__)


def copy_project() -> None:
    """Copy what the tests need, with the package as a part of the base, which the editable installation keeps apart."""
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(
        ROOT / "build" / "editable" / "litestar", WORK / "litestar", ignore=shutil.ignore_patterns("__pycache__")
    )
    for folder in ("docs/examples", "tests", "tools"):
        shutil.copytree(ROOT / folder, WORK / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, WORK / name)
    for path in (WORK / PACKAGE).rglob("*.py"):
        path.write_text(with_calls_for_decorators(CAST.sub("(", path.read_text())))


def with_calls_for_decorators(source: str) -> str:
    """Write `@decorator` over a function as a call after it, since `mutmut` leaves decorated functions alone."""
    lines = source.splitlines()
    functions = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for function in sorted(functions, key=lambda node: node.lineno, reverse=True):
        decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
        if not decorators or PLAIN_DECORATORS.intersection(decorators):
            continue
        value = function.name
        for decorator in reversed(decorators):
            value = f"{decorator}({value})"
        lines[function.end_lineno : function.end_lineno] = [f"{' ' * function.col_offset}{function.name} = {value}"]
        lines[function.decorator_list[0].lineno - 1 : function.lineno - 1] = []
    return "\n".join(lines) + "\n"


def results(modules: list[str]) -> Iterator[tuple[str, str, int | None]]:
    """Module, name and exit status of the tests for each mutant."""
    for path in sorted((WORK / "mutants" / PACKAGE).rglob("*.meta")):
        module = path.relative_to(WORK / "mutants" / PACKAGE).as_posix().removesuffix(".py.meta")
        if module.partition("/")[0] in modules:
            for name, status in json.loads(path.read_text())["exit_code_by_key"].items():
                yield module, name, status


def change_of(name: str) -> Change:
    """Tell where a mutant is, what it has taken away, and what it has put there instead."""
    module, _, mangled = name.removeprefix(f"{'.'.join(PACKAGE.parts)}.").partition("__mutmut_")[0].rpartition(".")
    # With the path, `mutmut` does not look for it in files that it may be writing at the moment.
    diff = get_diff_for_mutant(name, path=PACKAGE / f"{module.replace('.', '/')}.py").splitlines()
    removed, added = (
        " ".join(line[1:].strip() for line in diff if line.startswith(sign) and not line.startswith(sign * 3))
        for sign in "-+"
    )
    # `xǁKeyǁfits` stands for the method `Key.fits`, and `x_select` for the function `select`.
    function = mangled[2:].replace("ǁ", ".") if mangled.startswith("xǁ") else mangled.removeprefix("x_")
    return f"{module}.{function}", removed, added


@cache
def listed_changes() -> frozenset[Change]:
    """Return the mutants that change nothing, by the list."""
    entries = tomllib.loads(LISTED.read_text()).get("survivor", [])
    return frozenset((entry["function"], entry["line"], mutant) for entry in entries for mutant in entry["mutants"])


def judge(modules: list[str]) -> bool:
    """Print a table and each mutant that should not be alive. Tell whether all is as it should be."""
    counts: dict[str, Counter[str]] = {}
    gone = {change for change in listed_changes() if change[0].partition(".")[0] in modules}
    for module, name, status in results(modules):
        count = counts.setdefault(module, Counter())
        kind = status_by_exit_code[status]
        # A test that hangs fails by its own time limit. Here, "timeout" means that this machine was too slow to tell.
        survived = kind != "killed"
        count.update({"mutants": 1, "survived" if survived else "killed": 1})
        if survived:
            change = change_of(name)
            gone.discard(change)
            if change not in listed_changes():
                count["unlisted"] += 1
                print(f"\n{name}: {kind}\n  in {change[0]}\n- {change[1]}\n+ {change[2]}")
    for change in sorted(gone):
        print(f"\n{LISTED.name} lists a mutant that is not there.\n  in {change[0]}\n- {change[1]}\n+ {change[2]}")
    columns = ("mutants", "killed", "survived", "unlisted")
    print(f"\n{'module':<28}", *(f"{column:>9}" for column in columns))
    total = sum(counts.values(), Counter())
    for module, count in {**counts, "total": total}.items():
        print(f"{module:<28}", *(f"{count[column]:>9}" for column in columns))
    return total["mutants"] > 0 and not total["unlisted"] and not gone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], metavar="module", help=", ".join(MODULES))
    parser.add_argument("--processes", default="2", help="how many mutants are tried at the same time")
    arguments = parser.parse_args()
    modules: list[str] = arguments.modules or [*MODULES]
    copy_project()
    os.chdir(WORK)
    PytestRunner.run_tests = run_tests  # type: ignore[method-assign]
    config().only_mutate = [f"{PACKAGE}/{module}{suffix}" for module in modules for suffix in (".py", "/*.py")]
    mutmut.cli(["run", "--max-children", arguments.processes], standalone_mode=False)
    if not judge(modules):
        sys.exit("A mutant survives that no test notices and no list excuses.")


if __name__ == "__main__":
    main()
