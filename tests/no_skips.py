"""Pytest plugin that turns every skipped test into a failure; `make test REQUIRE_ALL_TESTS=1` loads it."""

import pytest


def _fail(report):
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"This run allows no skipped tests. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report():
    report = yield
    if report.skipped:
        _fail(report)
    return report
