"""A report as one HTML file that needs no network and no other file, and shows everything without its script."""

import base64
import hashlib
from importlib import resources
from string import Template

from jaxrecipe.report.figures import figure, pairs
from jaxrecipe.report.markup import Markup, element, join
from jaxrecipe.report.numbers import number, plural, seconds
from jaxrecipe.report.page_findings import finding_block, likeliest, measure_table
from jaxrecipe.report.result import Result, Status
from jaxrecipe.report.run import Run
from jaxrecipe.report.text import MOST_CAUSES, OUTCOMES, STYLES, by_stage

_OPEN = (Status.WARN, Status.FAIL, Status.EXPECTED, Status.CRASHED, Status.TIMEOUT)


def page(run: Run) -> str:
    """The whole page."""
    script = _file("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    stages = by_stage(run)
    anchors = {id(result): f"check-{i}" for i, result in enumerate(run.results)}
    return Template(_file("template.html")).substitute(
        title=element("title", f"{run.verdict} · {run.task}"),
        digest=digest,
        style=_file("style.css"),
        script=script,
        verdict=_header(run),
        bar=_bar(run),
        overview=element(
            "nav",
            *(_overview(name, group, anchors) for name, group in stages.items()),
            aria_label="Checks",
            class_="overview",
        ),
        filters=_filters(run, list(stages)),
        stages=join(_stage(name, group, anchors) for name, group in stages.items())
        or element("p", "No check was run.", class_="empty"),
        causes=likeliest(run, anchors, most=MOST_CAUSES),
        footer=_footer(run),
    )


def framed(run: Run) -> str:
    """The page for a notebook: in a frame of its own, which its style and script cannot leave."""
    return element(
        "iframe",
        srcdoc=page(run),
        sandbox="allow-scripts",
        title=f"Report on {run.task}",
        style="width:100%;height:720px;border:1px solid #8884;border-radius:8px;resize:vertical",
    )


def _file(name: str) -> str:
    return resources.files("jaxrecipe.report").joinpath("page", name).read_text(encoding="utf-8")


def _header(run: Run) -> Markup:
    worst = next((status for status in (Status.FAIL, Status.CRASHED, Status.WARN) if run.counts[status]), Status.PASS)
    facts = [
        ("time", seconds(run.seconds)),
        ("programs compiled", number(run.programs)),
        ("seed", str(run.seed)),
    ]
    return element(
        "header",
        element("p", "jaxrecipe report", class_="kicker"),
        element("h1", run.task),
        element("p", run.verdict, class_=f"verdict {worst.lower()}"),
        *(element("p", note, class_="remark") for note in run.notes),
        *(
            element("p", "Most likely cause: ", element("a", cause.title, href="#causes"), class_="remark")
            for cause in run.causes[:1]
        ),
        pairs([*facts, *run.versions.items()], "facts"),
    )


def _bar(run: Run) -> Markup:
    """How many of each status, as a bar."""
    parts = [
        element("rect", class_=status.lower(), x=start, y=0, width=run.counts[status], height=1)
        for status, start in zip(OUTCOMES, _starts(run), strict=True)
        if run.counts[status]
    ]
    words = ", ".join(f"{run.counts[status]} {word}" for status, word in OUTCOMES.items() if run.counts[status])
    view = f"0 0 {max(1, len(run.results))} 1"
    return element("svg", *parts, viewBox=view, preserveAspectRatio="none", role="img", aria_label=words, class_="bar")


def _starts(run: Run) -> list[int]:
    counts = [run.counts[status] for status in OUTCOMES]
    return [sum(counts[:i]) for i in range(len(counts))]


def _overview(stage: str, results: list[Result], anchors: dict[int, str]) -> Markup:
    """A stage's checks at a glance, each a link to its section."""
    tiles = [
        element(
            "li",
            element(
                "a",
                element("span", STYLES[result.status][0], class_="sign", aria_hidden="true"),
                element("span", result.name),
                element("span", f" ({result.status})", class_="unseen"),
                href=f"#{anchors[id(result)]}",
                class_=result.status.lower(),
            ),
        )
        for result in results
    ]
    return element("section", element("h2", stage), element("ul", *tiles))


def _filters(run: Run, stages: list[str]) -> Markup:
    """Buttons for the statuses that occur, the stages, and a search."""
    statuses = [
        element(
            "button",
            f"{STYLES[status][0]} {status} ",
            element("b", run.counts[status]),
            type="button",
            aria_pressed="false",
            data_status=status,
            class_=f"chip {status.lower()}",
        )
        for status in OUTCOMES
        if run.counts[status]
    ]
    chosen = [element("option", "All stages", value=""), *(element("option", stage, value=stage) for stage in stages)]
    return join(
        [
            element("div", *statuses, role="group", aria_label="Show only these statuses", class_="chips"),
            element("select", *chosen, id="stage", aria_label="Stage"),
            element(
                "input", type="search", id="search", placeholder="Search checks  ( / )", aria_label="Search checks"
            ),
        ]
    )


def _stage(stage: str, results: list[Result], anchors: dict[int, str]) -> Markup:
    checks = [_check(result, anchors[id(result)]) for result in results]
    return element("section", element("h2", stage), *checks, class_="stage", data_stage=stage)


def _check(result: Result, anchor: str) -> Markup:
    """One check: its finding always in sight, the rest folded away when it passed."""
    sign = STYLES[result.status][0]
    head = [
        element(
            "span",
            element("span", sign, aria_hidden="true"),
            f" {result.status}",
            class_=f"pill {result.status.lower()}",
        ),
        element("h3", result.name),
        element("span", "" if result.status is Status.SKIP else seconds(result.seconds), class_="took"),
        element("p", result.headline, class_="finding"),
    ]
    body = _body(result)
    attributes = {"id": anchor, "class_": f"check {result.status.lower()}", "data_status": result.status}
    if not body:
        return element("div", element("div", *head, class_="head"), **attributes)
    inside = element("div", *body, class_="body")
    return element(
        "details", element("summary", *head, class_="head"), inside, open=result.status in _OPEN, **attributes
    )


def _body(result: Result) -> list[Markup]:
    parts = [finding_block(finding, first=place == 0) for place, finding in enumerate(result.findings)]
    shown = {measure.name for finding in result.findings for measure in finding.measures}
    others = [measure for measure in result.measures if measure.name not in shown]
    if others:
        title = [element("h4", "Also measured")] if shown else []
        parts.append(element("div", *title, measure_table(others), class_="small"))
    if result.evidence:
        parts.append(element("div", *(figure(evidence) for evidence in result.evidence), class_="evidence"))
    small = [(f"{name} =", number(value)) for name, value in result.thresholds.items()]
    if small:
        parts.append(element("div", element("h4", "Thresholds in force"), pairs(small, "thresholds"), class_="small"))
    if parts and result.programs:
        parts.append(element("p", f"{plural(result.programs, 'program')} compiled.", class_="note"))
    return parts


def _footer(run: Run) -> Markup:
    took = f"{plural(len(run.results), 'check')} in {seconds(run.seconds)}, {plural(run.programs, 'program')} compiled."
    meaning = " PASS: measured and right. WARN: worth a look. FAIL: almost certainly a bug."
    return element("footer", element("p", took, meaning))
