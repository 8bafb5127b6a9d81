"""The text report: everything that matters is said, within the width, and nothing can disturb the terminal."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Curve, Evidence, Matrix, Status, Table
from jaxrecipe.report.sketch import sketch, sparkline
from jaxrecipe.report.text import plain
from tests.report import made_up

ALL_EVIDENCE = [*made_up.curves(), *made_up.histograms(), *made_up.matrices(), *made_up.images(), *made_up.tables()]


def drawn(evidence: Evidence) -> str:
    console = Console(file=io.StringIO(), width=90, color_system=None)
    console.print(sketch(evidence, width=90))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_every_status_finding_and_hint_is_there(width: int) -> None:
    text = plain(made_up.report(), width=width)
    for result in made_up.results():
        line = next(line for line in text.splitlines() if f" {result.name} " in line)
        assert result.status in line
        assert line.count(result.headline.split()[0])
        for finding in result.findings[:1]:
            assert finding.code in text
            assert words(finding.causes[0].advice) in words(text)
            assert all(words(cause.title) in words(text) for cause in finding.causes)
    assert max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [1, 40, 80])
@pytest.mark.parametrize("report", [made_up.report(), made_up.evil_report()], ids=["all", "evil"])
def test_no_line_is_wider_than_asked(report: Report, width: int) -> None:
    assert max(cell_len(line) for line in plain(report, width=width).splitlines()) <= max(width, 40)


def test_printing_is_plain() -> None:
    text = str(made_up.report())
    assert text == plain(made_up.report())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_plain_whatever_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = plain(made_up.report(), width=90)
    for name, value in {"FORCE_COLOR": "1", "COLUMNS": "33", "TTY_COMPATIBLE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert plain(made_up.report(), width=90) == before


def test_colors_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor")
    console.print(made_up.report())
    assert isinstance(console.file, io.StringIO)
    colored = console.file.getvalue()
    assert "\x1b[1;31m✗ FAIL" in colored
    uncolored = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", colored).splitlines())
    assert uncolored == plain(made_up.report(), width=100)


def test_user_text_cannot_steer_the_terminal() -> None:
    text = str(made_up.evil_report())
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e\ud800-\udfff]", text)
    assert "[bold]" in str(Report(task="[bold]not markup[/bold]", results=()))


def test_numbers_beside_what_was_expected() -> None:
    text = plain(made_up.report(), width=120)
    assert re.search(r"largest leak +0\.6 +expected 0 +outside by 0\.6$", text, re.MULTILINE)
    assert re.search(r"worst +NaN +expected 0 or more$", text, re.MULTILINE)
    assert re.search(
        r"mean +4\.88 ± 0\.02 +expected -1 to 1 +outside by 3\.88, over 100 standard errors$", text, re.MULTILINE
    )
    assert re.search(r"deviation +6\.01 gray levels +expected 0\.3 to 3 +outside by 3\.01$", text, re.MULTILINE)
    assert "loss 2.315 (expected 2.2 to 2.4)" in words(plain(made_up.report(), width=160))


def test_further_findings_take_a_line_each() -> None:
    lines = plain(made_up.report(), width=120).splitlines()
    [line] = [line for line in lines if "3 of 64 features are constant." in line]
    assert line.split()[:3] == ["!", "WARN", "data/constant-feature"]


def test_it_ends_with_the_likeliest_causes() -> None:
    text = plain(made_up.report(), width=120)
    end = text[text.index("Most likely causes") :]
    assert [end.index(cause.code) for cause in made_up.report().causes] == sorted(
        end.index(cause.code) for cause in made_up.report().causes
    )
    assert "jaxrecipe explain model/reshape-for-transpose" in end
    assert "Most likely causes" not in plain(Report(task="t", results=(made_up.ending(Status.PASS),)))
    many = replace(made_up.leaking().findings[0], causes=tuple(list(CAUSES.values())[:9]))
    crowded = plain(Report(task="t", results=(replace(made_up.leaking(), findings=(many,)),)), width=120)
    assert "3. " in crowded[crowded.index("Most likely causes") :]
    assert "4. " not in crowded[crowded.index("Most likely causes") :]
    assert "6 less likely causes above" in crowded


def test_closing_line() -> None:
    end = words(plain(made_up.report()).partition("Most likely causes")[0][-400:])
    assert "✗ 1 failed ⚡ 1 crashed ◔ 1 ran out of time ! 1 warned ≈ 1 failed as expected ✓ 2 passed – 1 skipped" in end
    assert "1 min 27 s · 12 programs compiled · seed 3" in end
    assert made_up.report().notes[0] in end


def test_a_report_without_checks_says_so() -> None:
    assert "No check was run." in plain(Report(task="t", results=()))


def test_passing_checks_take_one_line_without_evidence() -> None:
    passed = [replace(result, findings=(), ended=None) for result in made_up.results()]
    text = plain(Report(task="t", results=tuple(passed)), width=160)
    assert "Who depends on whom" not in text
    assert len(text.splitlines()) < 24


def test_unfinished_stages_are_counted_without_the_skipped() -> None:
    assert re.search(r"skeleton ─+ 1 of 3 passed", plain(made_up.report()))


@pytest.mark.parametrize("evidence", ALL_EVIDENCE, ids=lambda e: e.title)
def test_every_evidence_can_be_sketched(evidence: Evidence) -> None:
    text = drawn(evidence)
    assert evidence.title in text
    assert len(text.splitlines()) > 1


def test_a_sparkline_rises_with_the_values_and_marks_holes() -> None:
    assert sparkline(np.linspace(0, 1, 8), 8, low=0.0, high=1.0) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.array([0.0, np.nan, 1.0, np.inf]), 8, low=0.0, high=1.0) == "▁×█×"
    assert sparkline(np.linspace(0, 1, 800), 8, low=0.0, high=1.0) == "▁▂▃▄▅▆▇█"


def test_series_share_one_scale() -> None:
    text = drawn(Curve(title="t", x=np.arange(3), series={"low": np.zeros(3), "high": np.ones(3)}, levels={"far": 2.0}))
    assert "▁▁▁" in text
    assert "▅▅▅" in text


def test_one_leak_among_many_cells_can_be_seen() -> None:
    values = np.zeros((400, 400))
    clean = drawn(Matrix(title="m", values=values))
    values[399, 0] = 1.0
    leaky = drawn(Matrix(title="m", values=values))
    assert "█" not in clean
    assert leaky.splitlines()[16].startswith("  ▏██")


def test_long_tables_say_what_they_leave_out() -> None:
    table = Table(title="t", columns=("i", "j"), rows=[(f"row{i}", i) for i in range(12)])
    assert "row4" in drawn(table)
    assert "row5" not in drawn(table)
    assert "… 7 more rows" in drawn(table)


def test_of_a_traceback_both_ends_are_shown() -> None:
    crash = replace(made_up.ending(Status.CRASHED), evidence=(made_up.traceback(),))
    text = plain(Report(task="t", results=(crash,)))
    assert "ValueError: <boom>" in text
    assert "Traceback (most recent" in text
    assert 'File "model.py", line 2, in f2' in text
    assert 'File "model.py", line 12, in f12' not in text
    assert "… 10 more rows" in text
