"""What was found, as parts of the page: findings with causes, numbers with bounds, and the likeliest causes."""

from collections.abc import Mapping, Sequence

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.bounds import distance, with_unit
from jaxrecipe.report.gauge import gauge
from jaxrecipe.report.markup import Markup, element, join
from jaxrecipe.report.run import Run


def finding_block(finding: Finding, *, first: bool = False) -> Markup:
    """One finding: its message (that of a check's first one is the headline), its numbers, and its causes."""
    code = element("code", finding.code, class_="code")
    head = element("p", element("b", finding.severity, class_="tone"), " ", code, class_="what")
    parts = [head]
    if not first:
        parts.append(element("p", finding.message, class_="message"))
    if finding.measures:
        parts.append(measure_table(finding.measures))
    if finding.causes:
        parts.append(_causes(finding.causes))
    return element("section", *parts, class_=f"found {finding.severity.lower()}")


def measure_table(measures: Sequence[Measure]) -> Markup:
    """What was measured beside what was expected, and how far inside or outside it lies, where there are bounds."""
    bounded = any(measure.bounded for measure in measures)
    titles = ("measured", "expected", "", "margin") if bounded else ("measured",)
    head = element("tr", element("td"), *(element("th", title, scope="col") for title in titles))
    rows = [
        element("tr", element("th", measure.name, scope="row"), *_cells(measure)[: len(titles)]) for measure in measures
    ]
    return element("div", element("table", element("thead", head), element("tbody", *rows)), class_="scroll comparison")


def _cells(measure: Measure) -> list[Markup]:
    """Value, bounds, their drawing, and the distance."""
    return [
        element("td", with_unit(measure), title=str(measure.value)),
        element("td", measure.wanted, class_="wanted"),
        element("td", gauge(measure)),
        element("td", distance(measure), class_="inside" if measure.verdict is None else "outside"),
    ]


def likeliest(run: Run, anchors: Mapping[int, str], *, most: int) -> Markup:
    """The causes that the findings of all checks point to most, with the checks that name each."""
    if not run.causes:
        return Markup("")
    items = [
        element("li", *_words(cause), element("p", cause.harm, class_="note"), _named_by(cause, run, anchors))
        for cause in run.causes[:most]
    ]
    return element("section", element("h2", "Most likely causes"), element("ol", *items), id="causes", class_="causes")


def _causes(causes: Sequence[Cause]) -> Markup:
    """What to do: one cause as a paragraph, several as a list in order."""
    title = "What to do" if len(causes) == 1 else "What may be behind it, the likeliest first"
    tag, around = ("p", "div") if len(causes) == 1 else ("li", "ol")
    items = [element(tag, *_words(cause), " ", _explain(cause)) for cause in causes]
    return element("div", element("b", title, class_="tone"), element(around, *items), class_="hint")


def _words(cause: Cause) -> list[Markup]:
    """Title, what points to it here, and what to do."""
    rest = [element("span", f" {part}") for part in (cause.here, cause.fix) if part]
    return [element("b", cause.title), *rest]


def _explain(cause: Cause) -> Markup:
    return element("code", f"jaxrecipe explain {cause.code}", class_="code")


def _named_by(cause: Cause, run: Run, anchors: Mapping[int, str]) -> Markup:
    names = run.checks_that_name(cause.code)
    checks = [result for result in run.results if result.name in names]
    links = [element("a", result.name, href=f"#{anchors[id(result)]}") for result in checks]
    return element("p", _explain(cause), " named by ", join(links, ", "), class_="note")
