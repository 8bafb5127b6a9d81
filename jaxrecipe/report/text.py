"""A report as text: with colours on a terminal, plain when piped."""

import io

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from jaxrecipe.report.numbers import clean, number, plural, seconds, shorten
from jaxrecipe.report.result import Report, Result, Status
from jaxrecipe.report.sketch import sketch

STYLES = {
    Status.PASS: ("✓", "green"),
    Status.WARN: ("!", "yellow"),
    Status.FAIL: ("✗", "bold red"),
    Status.SKIP: ("–", "bright_black"),
    Status.EXPECTED: ("≈", "cyan"),
    Status.CRASHED: ("⚡", "bold magenta"),
    Status.TIMEOUT: ("⧗", "magenta"),
}
"""A sign and a style for each status; the word always stands beside them."""
OUTCOMES = {
    Status.FAIL: "failed",
    Status.CRASHED: "crashed",
    Status.TIMEOUT: "ran out of time",
    Status.WARN: "warned",
    Status.EXPECTED: "failed as expected",
    Status.PASS: "passed",
    Status.SKIP: "skipped",
}
"""Words for counts, worst first."""
_DETAILED = (Status.WARN, Status.FAIL, Status.EXPECTED, Status.CRASHED, Status.TIMEOUT)
_NARROWEST = 40
_LONGEST_NAME = 32
_STATUS_WIDTH, _TIME_WIDTH, _GAP = 10, 6, 2
_INDENT = 4
_MOST_EVIDENCE = 4


def plain(report: Report, *, width: int = 100) -> str:
    """The report as plain text without colours, lines at most `width` columns wide where words allow it."""
    file = io.StringIO()
    console = Console(
        file=file, width=max(width, _NARROWEST), color_system=None, force_terminal=False, force_jupyter=False
    )
    console.print(render(report, width=width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def render(report: Report, *, width: int = 100) -> RenderableType:
    """The report as something that rich can print, laid out for `width` columns."""
    width = max(width, _NARROWEST)
    names = [len(result.name) for result in report.results]
    name_width = min(max(names, default=0), _LONGEST_NAME, width // 3)
    parts: list[RenderableType] = [_title(report)]
    for stage, results in by_stage(report).items():
        parts += [Text(""), _stage_heading(stage, results, width)]
        for i, result in enumerate(results):
            parts.append(_line(result, name_width, width))
            if result.status in _DETAILED:
                below = int(i + 1 < len(results))
                parts.append(Padding(_details(result, width - _INDENT), (0, 0, below, _INDENT)))
    return Group(*parts, Text(""), _closing(report, width))


def by_stage(report: Report) -> dict[str, list[Result]]:
    """The results grouped by stage, stages in the order in which they first appear."""
    stages: dict[str, list[Result]] = {}
    for result in report.results:
        stages.setdefault(result.stage, []).append(result)
    return stages


def summary(report: Report) -> list[tuple[Status, str]]:
    """The statuses that occur with their counts in words, worst first."""
    return [(status, f"{report.counts[status]} {word}") for status, word in OUTCOMES.items() if report.counts[status]]


def footing(report: Report) -> str:
    """What the run took."""
    return f"{seconds(report.seconds)} · {plural(report.programs, 'program')} compiled · seed {report.seed}"


def _title(report: Report) -> RenderableType:
    facts = " · ".join(f"{clean(name)} {clean(version)}" for name, version in report.versions.items())
    title = Text(shorten(report.task, 200), style="bold", overflow="fold")
    return Group(title, Text(facts, style="dim")) if facts else title


def _stage_heading(stage: str, results: list[Result], width: int) -> Text:
    applied = [result for result in results if result.status is not Status.SKIP]
    passed = sum(result.status is Status.PASS for result in applied)
    count = f" {passed} of {len(applied)} passed" if applied else " skipped"
    name = shorten(stage, width // 2) + " "
    rule = "─" * max(2, width - Text(name).cell_len - len(count))
    return Text.assemble((name, "bold"), (rule, "bright_black"), (count, "bright_black"))


def _line(result: Result, name_width: int, width: int) -> RenderableType:
    """Status, name, finding and time of one check; of one that passed also its numbers, where they fit beside the finding."""
    sign, style = STYLES[result.status]
    quiet = "dim" if result.status is Status.SKIP else ""
    finding = Text(clean(result.headline), style=quiet)
    room = width - _STATUS_WIDTH - name_width - _TIME_WIDTH - 3 * _GAP
    numbers = Text("  " + _compared(result), style="bright_black")
    if result.status is Status.PASS and numbers.plain.strip() and finding.cell_len + numbers.cell_len <= room:
        finding.append_text(numbers)
    grid = Grid.grid(padding=(0, _GAP, 0, 0), expand=True)
    grid.add_column(width=_STATUS_WIDTH, no_wrap=True)
    grid.add_column(width=name_width, overflow="fold")
    grid.add_column(ratio=1, overflow="fold")
    grid.add_column(justify="right", no_wrap=True, min_width=_TIME_WIDTH)
    took = Text("" if result.status is Status.SKIP else seconds(result.seconds), style="bright_black")
    grid.add_row(
        Text(f"{sign} {result.status}", style=style), Text(shorten(result.name, 120), style=quiet), finding, took
    )
    return grid


def _compared(result: Result) -> str:
    """The bounded measures beside their bounds, on one line."""
    bounded = [measure for measure in result.measures if measure.bounded]
    return "; ".join(
        f"{clean(measure.name)} {number(measure.value)} (expected {measure.wanted})" for measure in bounded
    )


def _details(result: Result, width: int) -> RenderableType:
    """What stands under a check that did not pass: the numbers, the evidence, the hint."""
    parts: list[RenderableType] = []
    if result.measures:
        parts.append(_comparison(result))
    if result.hint:
        hint = Grid.grid(padding=(0, 1, 0, 0))
        hint.add_column(no_wrap=True)
        hint.add_column(overflow="fold")
        hint.add_row(Text("→", style=STYLES[result.status][1]), Text(clean(result.hint), style="bold"))
        parts.append(hint)
    last_rows = result.status is Status.CRASHED  # a traceback says what happened at its end
    parts += [sketch(evidence, width=width, last_rows=last_rows) for evidence in result.evidence[:_MOST_EVIDENCE]]
    left = len(result.evidence) - _MOST_EVIDENCE
    return Group(*parts, Text(f"… {left} more in the HTML report", style="bright_black")) if left > 0 else Group(*parts)


def _comparison(result: Result) -> RenderableType:
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(overflow="fold", style="bright_black")
    grid.add_column(overflow="fold")
    grid.add_column(overflow="fold", style="bright_black")
    for measure in result.measures:
        value = f"{number(measure.value)} {clean(measure.unit)}".rstrip()
        wanted = f"expected {measure.wanted}" if measure.bounded else ""
        grid.add_row(Text(clean(measure.name)), Text(value), Text(wanted))
    return grid


def _closing(report: Report, width: int) -> RenderableType:
    lines: list[RenderableType] = [Text("─" * width, style="bright_black"), *_counts(report, width)]
    lines += [Text(footing(report), style="bright_black"), *(Text(clean(note)) for note in report.notes)]
    return Group(*lines)


def _counts(report: Report, width: int) -> list[Text]:
    """How many of each status, broken between statuses and never within one."""
    lines = [Text("" if report.results else "No check was run.")]
    for status, words in summary(report):
        sign, style = STYLES[status]
        part = Text(f"{sign} {words}", style=style)
        if lines[-1].cell_len and lines[-1].cell_len + 3 + part.cell_len > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1].cell_len else "").append(part)
    return lines
