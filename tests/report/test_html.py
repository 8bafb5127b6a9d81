"""The page: complete, self-contained, well formed, and deaf to whatever users write into names."""

import base64
import hashlib
import html
import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.gauge import WIDTH, gauge
from jaxrecipe.report.html import framed, page
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Evidence, Status
from tests.report import made_up

ALL_EVIDENCE = [*made_up.curves(), *made_up.histograms(), *made_up.matrices(), *made_up.images(), *made_up.tables()]
VOID = {"meta", "br", "img", "input", "hr", "link"}


@dataclass
class Reader(HTMLParser):
    """Reads a page with the standard library's parser: tags, texts, and whether every tag is closed in turn."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and dict(self.tags[-1][1]).get("type") is None:
            self.scripts.append(data)
        self.texts.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def with_evidence(*evidence: Evidence) -> Report:
    return Report(task="t", results=(replace(made_up.ending(Status.FAIL), evidence=evidence),))


@pytest.mark.parametrize(
    "report", [made_up.report(), made_up.evil_report(), Report(task="", results=())], ids=["all", "evil", "empty"]
)
def test_one_script_ours_and_nothing_from_elsewhere(report: Report) -> None:
    text = page(report)
    reader = read(text)
    assert len(reader.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(reader.scripts[0].encode()).digest()).decode()
    policy = next(str(a["content"]) for tag, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    for tag, attributes in reader.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href"):
            assert re.match(r"#|data:image/png;base64,", attributes.get(name) or "#")
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_markup_in_names_is_shown_and_never_read() -> None:
    text = page(made_up.evil_report())
    reader = read(text)
    shown = [part for part in reader.texts if part.strip() == made_up.EVIL]
    assert len(shown) > 12
    assert 'alert("x")' not in re.sub(r"&quot;", "", text)
    assert text.count("<script") == 1 + text.count('<script type="application/json">')
    assert "\x1b" not in text


def test_every_check_is_there_with_all_that_it_says() -> None:
    text = html.unescape(page(made_up.report()))
    for result in made_up.results():
        assert result.headline in text
        assert all(evidence.title in text for evidence in result.evidence)
        assert all(name in text for name in [*result.measured, *result.thresholds])
        for finding in result.findings:
            assert finding.code in text
            assert finding.message in text
            for cause in finding.causes:
                assert all(part in text for part in (cause.title, cause.here, cause.fix))
                assert f"jaxrecipe explain {cause.code}" in text
    assert made_up.report().notes[0] in text
    assert "1 min 27 s" in text


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    reader = read(page(made_up.report()))
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    targets = {str(attributes["href"])[1:] for tag, attributes in reader.tags if tag == "a"}
    assert targets <= set(ids)
    assert len([target for target in targets if target.startswith("check-")]) == len(made_up.results())


@pytest.mark.parametrize("status", list(Status))
def test_what_did_not_pass_is_open(status: Status) -> None:
    report = Report(task="t", results=(replace(made_up.ending(status), evidence=made_up.tables()),))
    details = next(attributes for tag, attributes in read(page(report)).tags if tag == "details")
    assert ("open" in details) is (status not in (Status.PASS, Status.SKIP))
    assert details["data-status"] == status


def test_the_page_ends_with_the_likeliest_causes() -> None:
    report = made_up.report()
    text = html.unescape(page(report))
    end = text[text.index('id="causes"') :]
    first, second = report.causes
    assert end.index(first.title) < end.index(second.title)
    assert first.harm in end
    assert f"jaxrecipe explain {first.code}" in end
    assert 'href="#check-3"' in end
    assert 'id="causes"' not in page(Report(task="t", results=(made_up.ending(Status.PASS),)))


@pytest.mark.parametrize(
    ("measure", "mark"),
    [
        (Measure(name="m", value=2.0, low=0.0, high=1.0), "fail"),
        (Measure(name="m", value=0.5, low=0.0, high=1.0), "inside"),
        (Measure(name="m", value=0.5, high=1.0, severity=Severity.WARN), "inside"),
        (Measure(name="m", value=3.0, high=1.0, fail_high=4.0, severity=Severity.WARN), "warn"),
    ],
)
def test_a_gauge_marks_the_value_inside_or_outside_of_its_band(measure: Measure, mark: str) -> None:
    """Read back: the mark is right of the band where the value is above the bound, within it where it is not."""
    [rects, circle] = [[a for tag, a in read(gauge(measure)).tags if tag == wanted] for wanted in ("rect", "circle")]
    right = next(a for a in rects if a["class"] == "right")
    start, width, at = float(str(right["x"])), float(str(right["width"])), float(str(circle[0]["cx"]))
    assert (start - 0.1 <= at <= start + width + 0.1) is (mark == "inside")
    assert circle[0]["class"] == f"mark {mark}"
    assert all(float(str(a["x"])) >= 0 and float(str(a["x"])) + float(str(a["width"])) <= WIDTH for a in rects)


def test_what_has_no_place_has_no_gauge() -> None:
    for value in (float("nan"), float("inf")):
        assert gauge(Measure(name="m", value=value, high=1.0)) == ""
    assert gauge(Measure(name="m", value=1.0)) == ""


def test_verdicts() -> None:
    passed, warned = made_up.results()[0], made_up.results()[1]
    assert "<title>1 check failed, 1 crashed, 1 ran out of time · digits ConvNet</title>" in page(made_up.report())
    assert "<title>No check failed, 1 warning · t</title>" in page(Report(task="t", results=(passed, warned)))
    assert "<title>No check failed · t</title>" in page(Report(task="t", results=(passed,)))
    assert "<title>No check was run · t</title>" in page(Report(task="t", results=()))


@pytest.mark.parametrize("evidence", ALL_EVIDENCE, ids=lambda e: e.title)
def test_every_evidence_can_be_drawn(evidence: Evidence) -> None:
    reader = read(page(with_evidence(evidence)))
    assert "figure" in [tag for tag, _ in reader.tags]
    numbers = " ".join(
        str(a[name])
        for _, a in reader.tags
        for name in ("x", "y", "x1", "y1", "cx", "cy", "points", "width")
        if name in a
    )
    assert "nan" not in numbers
    assert "inf" not in numbers


@pytest.mark.parametrize("evidence", ALL_EVIDENCE, ids=lambda e: e.title)
def test_pictures_and_drawings_have_words(evidence: Evidence) -> None:
    for tag, attributes in read(page(with_evidence(evidence))).tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_large_evidence_stays_a_small_file() -> None:
    assert len(page(with_evidence(made_up.matrices()[0]))) < 250_000


def test_the_same_report_gives_the_same_page() -> None:
    assert page(made_up.report()) == page(made_up.report())


def test_a_notebook_gets_the_page_in_a_sandboxed_frame() -> None:
    report = made_up.evil_report()
    assert report._repr_html_() == framed(report)
    reader = read(framed(report))
    [(tag, attributes)] = reader.tags
    assert tag == "iframe"
    assert attributes["sandbox"] == "allow-scripts"
    assert attributes["srcdoc"] == page(report)


def test_the_page_travels_with_the_package() -> None:
    folder = Path(__file__).parents[2] / "jaxrecipe" / "report" / "page"
    assert sorted(path.name for path in folder.iterdir()) == ["script.js", "style.css", "template.html"]


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
@pytest.mark.parametrize("report", [made_up.report(), made_up.evil_report()], ids=["all", "evil"])
def test_the_script_runs_in_a_browser(tmp_path: Path, report: Report) -> None:
    report.save(tmp_path / "r.html")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    flags += ["--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [str(CHROMIUM), *flags, (tmp_path / "r.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    total = len(report.results)
    assert f">{total} of {total} shown</output>" in shown  # the script writes it at its end
