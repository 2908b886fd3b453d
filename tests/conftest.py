from __future__ import annotations

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport | pytest.CollectReport, object]:
    """Turn a skip into a failure in CI: what that leaves out, nobody runs."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"Nothing may be skipped in CI. {reason}"
    return report


pytest_make_collect_report = pytest_runtest_makereport


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow tests, so that no worker is left with one of them in the end. Their order stays random."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
