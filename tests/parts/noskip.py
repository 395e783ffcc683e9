"""What was left out, said plainly; and with `SICKBAY_NO_SKIP=1` nothing may be.

A test that skips proves nothing, and a run full of skips looks like a good one. So the last lines name each reason, and
where everything must run a skip is a failure of the test that skipped, with the reason it gave.
"""

import os
from collections import Counter
from collections.abc import Generator

import pytest

STRICT = "SICKBAY_NO_SKIP"
REFUSAL = f"left out, and {STRICT}=1 allows no leaving out: "


def _strict() -> bool:
    return os.environ.get(STRICT) == "1"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr)


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure; an expected failure (`xfail`) is no skip."""
    if _strict() and report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = REFUSAL + _reason(report)
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Refuse skips of tests and fixtures."""
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse skips of whole files."""
    report = yield
    _refuse(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out, once per reason."""
    reports = [
        report
        for outcome in ("skipped", "failed", "error")
        for report in terminalreporter.getreports(outcome)
    ]
    reasons = Counter(
        _reason(report).removeprefix(REFUSAL)
        for report in reports
        if report.skipped or _reason(report).startswith(REFUSAL)
    )
    terminalreporter.section("left out")
    if not reasons:
        terminalreporter.line("Nothing was left out.")
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"Left out: {count} {'test' if count == 1 else 'tests'}: {reason}")
