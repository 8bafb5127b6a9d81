"""A report as text."""

from jaxrecipe.report.result import Report


def render(report: Report) -> str:
    """Temporary plain lines."""
    return plain(report)


def plain(report: Report) -> str:
    """Temporary plain lines."""
    return "\n".join(f"{r.status} {r.stage}/{r.name}: {r.finding}" for r in report.results)
