"""Names the failures in a file, for the end of a run that has several stages (tests/run)."""

import os


def pytest_terminal_summary(terminalreporter):
    """Write a line for each failure to the file $TESTS_FAILURES: the test, and the first line of its error."""
    path = os.environ.get("TESTS_FAILURES")
    failed = [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]
    if not path or not failed:
        return
    with open(path, "a") as file:
        for report in failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            error = crash.message if crash else str(report.longrepr)
            when = "" if getattr(report, "when", "call") == "call" else f" ({report.when})"
            file.write(f"{report.nodeid}{when}: {error.strip().partition(chr(10))[0]}\n")
