"""What all tests share: skipped tests are counted aloud."""

import pytest

OUTSIDE = "../shared"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped, for what reason, and which data they would need."""
    reports = terminalreporter.stats.get("skipped", [])
    if not reports:
        return
    reasons: dict[str, int] = {}
    for report in reports:
        place = report.longrepr
        text = place[2] if isinstance(place, tuple) else str(place)
        reason = text.removeprefix("Skipped: ")
        reasons[reason] = reasons.get(reason, 0) + 1
    outside = sum(count for reason, count in reasons.items() if OUTSIDE in reason)
    line = f"{len(reports)} tests skipped"
    if outside:
        line += f", {outside} of them because data in {OUTSIDE} is missing"
    terminalreporter.section(line, sep="=", yellow=True, bold=True)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"{count:4}  {reason}")
