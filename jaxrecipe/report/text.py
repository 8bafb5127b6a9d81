"""A report as text: with colors on a terminal, plain when piped."""

import io

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.bounds import distance, with_unit
from jaxrecipe.report.numbers import clean, plural, seconds, shorten
from jaxrecipe.report.result import Result, Status
from jaxrecipe.report.run import Run
from jaxrecipe.report.sketch import sketch

STYLES = {
    Status.PASS: ("✓", "green"),
    Status.WARN: ("!", "yellow"),
    Status.FAIL: ("✗", "bold red"),
    Status.SKIP: ("–", "bright_black"),
    Status.EXPECTED: ("≈", "cyan"),
    Status.CRASHED: ("⚡", "bold magenta"),
    Status.TIMEOUT: ("◔", "magenta"),
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
_MOST_MEASURES = 8
MOST_CAUSES = 3
"""How many of the likeliest causes stand at the end of a report."""


def plain(run: Run, *, width: int = 100) -> str:
    """The report as plain text without colors, lines at most `width` columns wide where words allow it."""
    file = io.StringIO()
    console = Console(
        file=file, width=max(width, _NARROWEST), color_system=None, force_terminal=False, force_jupyter=False
    )
    console.print(render(run, width=width))
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def render(run: Run, *, width: int = 100) -> RenderableType:
    """The report as something that rich can print, laid out for `width` columns."""
    width = max(width, _NARROWEST)
    names = [len(result.name) for result in run.results]
    name_width = min(max(names, default=0), _LONGEST_NAME, width // 3)
    parts: list[RenderableType] = [_title(run)]
    for stage, results in by_stage(run).items():
        parts += [Text(""), _stage_heading(stage, results, width)]
        for i, result in enumerate(results):
            parts.append(_line(result, name_width, width))
            if result.status in _DETAILED:
                below = int(i + 1 < len(results))
                parts.append(Padding(_details(result, width - _INDENT), (0, 0, below, _INDENT)))
    return Group(*parts, Text(""), _closing(run, width), *_likeliest(run))


def by_stage(run: Run) -> dict[str, list[Result]]:
    """The results grouped by stage, stages in the order in which they first appear."""
    stages: dict[str, list[Result]] = {}
    for result in run.results:
        stages.setdefault(result.stage, []).append(result)
    return stages


def summary(run: Run) -> list[tuple[Status, str]]:
    """The statuses that occur with their counts in words, worst first."""
    return [(status, f"{run.counts[status]} {word}") for status, word in OUTCOMES.items() if run.counts[status]]


def footing(run: Run) -> str:
    """What the run took."""
    return f"{seconds(run.seconds)} · {plural(run.programs, 'program')} compiled · seed {run.seed}"


def _title(run: Run) -> RenderableType:
    facts = " · ".join(f"{clean(name)} {clean(version)}" for name, version in run.versions.items())
    title = Text(shorten(run.task, 200), style="bold", overflow="fold")
    return Group(title, Text(facts, style="dim")) if facts else title


def _stage_heading(stage: str, results: list[Result], width: int) -> Text:
    applied = [result for result in results if result.status is not Status.SKIP]
    passed = sum(result.status is Status.PASS for result in applied)
    count = f" {passed} of {len(applied)} passed" if applied else " skipped"
    name = shorten(stage, width // 2) + " "
    rule = "─" * max(2, width - Text(name).cell_len - len(count))
    return Text.assemble((name, "bold"), (rule, "bright_black"), (count, "bright_black"))


def _line(result: Result, name_width: int, width: int) -> RenderableType:
    """Status, name, finding and time of one check; of one that passed also its numbers, where there is room."""
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
    return "; ".join(f"{clean(measure.name)} {with_unit(measure)} (expected {measure.wanted})" for measure in bounded)


def _details(result: Result, width: int) -> RenderableType:
    """What stands under a check that did not pass: numbers, the worst finding's causes, other findings, evidence."""
    parts: list[RenderableType] = [_quiet(clean(finding.code)) for finding in result.findings[:1]]
    if result.measures:
        parts.append(_measures(result.measures))
    if result.findings:
        parts.append(_causes_of(result.findings[0]))
        parts += [_in_one_line(finding, width) for finding in result.findings[1:]]
    parts += [sketch(evidence, width=width) for evidence in result.evidence[:_MOST_EVIDENCE]]
    left = len(result.evidence) - _MOST_EVIDENCE
    return Group(*parts, _quiet(f"… {left} more in the HTML report")) if left > 0 else Group(*parts)


def _measures(measures: tuple[Measure, ...]) -> RenderableType:
    """The numbers with the bounds in force and how far inside or outside they lie, those out of bounds first."""
    shown = sorted(measures, key=lambda measure: (measure.verdict is None, not measure.bounded))
    grid = Grid.grid(padding=(0, 2, 0, 0))
    for style in ("bright_black", "", "bright_black", "bright_black"):
        grid.add_column(overflow="fold", style=style)
    for measure in shown[:_MOST_MEASURES]:
        wanted = f"expected {measure.wanted}" if measure.bounded else ""
        grid.add_row(*(Text(words) for words in (clean(measure.name), with_unit(measure), wanted, distance(measure))))
    left = len(measures) - _MOST_MEASURES
    return Group(grid, _quiet(f"… {left} more numbers in the HTML report")) if left > 0 else grid


def _causes_of(finding: Finding) -> RenderableType:
    """The likeliest cause of a finding with what to do, and the titles of the others."""
    style = STYLES[Status(finding.severity.value)][1]
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for rank, cause in enumerate(finding.causes):
        words = Text(clean(cause.title if rank else cause.advice), style="" if rank else "bold")
        named = "" if cause.code == finding.code else f"  {clean(cause.code)}"
        grid.add_row(Text("or" if rank else "→", style=style), words.append(named, style="not bold bright_black"))
    return grid


def _in_one_line(finding: Finding, width: int) -> Text:
    """A finding that is not the worst one of its check."""
    sign, style = STYLES[Status(finding.severity.value)]
    head = Text.assemble((f"{sign} {finding.severity} ", style), (f"{clean(finding.code)}  ", "bright_black"))
    return head.append(shorten(finding.message, max(_NARROWEST, width - head.cell_len)))


def _likeliest(run: Run) -> list[RenderableType]:
    """The causes that the findings of all checks point to most, with what to do."""
    causes = run.causes
    if not causes:
        return []
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for rank, cause in enumerate(causes[:MOST_CAUSES], start=1):
        grid.add_row(f"{rank}.", _likely(cause, run))
    left = len(causes) - MOST_CAUSES
    more = f"; {plural(left, 'less likely cause')} above" if left > 0 else ""
    explain = _quiet(f"jaxrecipe explain {clean(causes[0].code)} says more{more}.")
    return [Text(""), Text("Most likely causes", style="bold"), grid, explain]


def _likely(cause: Cause, run: Run) -> Text:
    named_by = ", ".join(clean(name) for name in run.checks_that_name(cause.code))
    words = Text(clean(cause.title), style="bold")
    words.append("".join(f" {clean(part)}" for part in (cause.here, cause.fix) if part), style="not bold")
    return words.append(f"  {clean(cause.code)}, from {named_by}", style="not bold bright_black")


def _quiet(words: str) -> Text:
    return Text(words, style="bright_black")


def _closing(run: Run, width: int) -> RenderableType:
    lines: list[RenderableType] = [Text("─" * width, style="bright_black"), *_counts(run, width)]
    lines += [Text(footing(run), style="bright_black"), *(Text(clean(note)) for note in run.notes)]
    return Group(*lines)


def _counts(run: Run, width: int) -> list[Text]:
    """How many of each status, broken between statuses and never within one."""
    lines = [Text("" if run.results else "No check was run.")]
    for status, words in summary(run):
        sign, style = STYLES[status]
        part = Text(f"{sign} {words}", style=style)
        if lines[-1].cell_len and lines[-1].cell_len + 3 + part.cell_len > width:
            lines.append(Text())
        lines[-1].append("   " if lines[-1].cell_len else "").append(part)
    return lines
