"""Report: what it says of its results, raising, and saving."""

import os
import pickle
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from jaxrecipe.report.report import RecipeFailedError, Report
from jaxrecipe.report.result import Result, Status
from tests.report import made_up


def one(status: Status) -> Report:
    return Report(task="t", results=(made_up.ending(status),))


@pytest.mark.parametrize("status", list(Status))
def test_ok_unless_failed_or_crashed(status: Status) -> None:
    report = one(status)
    bad = status in (Status.FAIL, Status.CRASHED)
    assert report.ok is not bad
    assert len(report.failed) == int(bad)
    if bad:
        with pytest.raises(RecipeFailedError):
            report.raise_if_failed()
    else:
        report.raise_if_failed()


def test_counts_and_names() -> None:
    report = made_up.report()
    assert report.counts == {s: 2 if s is Status.PASS else 1 for s in Status}
    assert list(report.by_name) == [result.name for result in report.results]
    assert report.by_name["loss_at_init"].measured["loss"] == 2.3146
    assert [result.name for result in report.failed] == ["chart_dependencies", "overfit_one_batch"]


def test_message_lists_every_failure_with_finding_numbers_and_hint() -> None:
    report = made_up.report()
    with pytest.raises(RecipeFailedError) as caught:
        report.raise_if_failed()
    message = str(caught.value)
    assert "1 check failed, 1 crashed, 1 ran out of time (of 8)" in message
    for result in report.failed:
        assert result.name in message
        assert result.headline in message
        assert result.hint in message
    assert "largest leak: measured 0.6, expected 0" in message
    assert "look_at_batch" not in message
    assert caught.value.report is report


def test_a_crash_is_never_called_a_failure() -> None:
    assert one(Status.CRASHED).verdict == "No check failed, 1 crashed"
    assert made_up.report().verdict == "1 check failed, 1 crashed, 1 ran out of time"
    assert one(Status.FAIL).verdict == "1 check failed"
    assert one(Status.WARN).verdict == "No check failed, 1 warning"
    assert one(Status.EXPECTED).verdict == one(Status.SKIP).verdict == "No check failed"
    assert Report(task="t", results=()).verdict == "No check was run"


def test_every_finding_of_a_failed_check_is_in_the_message() -> None:
    worst = replace(made_up.leaking(), findings=(*made_up.leaking().findings, *made_up.unscaled().findings))
    message = str(RecipeFailedError(Report(task="t", results=(worst,))))
    assert all(finding.message in message for finding in worst.findings)


def test_an_expectation_makes_a_failure_expected_and_a_pass_doubtful() -> None:
    for status, wanted in {
        Status.FAIL: Status.EXPECTED,
        Status.WARN: Status.EXPECTED,
        Status.PASS: Status.PASS,
        Status.SKIP: Status.SKIP,
        Status.CRASHED: Status.CRASHED,
        Status.TIMEOUT: Status.TIMEOUT,
    }.items():
        result = replace(made_up.ending(status), expected="for a reason")
        assert result.status is wanted
        assert ("for a reason" in result.headline) is (wanted in (Status.EXPECTED, Status.PASS))


def test_findings_stand_worst_first_and_their_measures_among_all() -> None:
    first, second = made_up.unscaled().findings
    result = Result(summary="", findings=(first, second, *made_up.leaking().findings))
    assert result.codes == ("model/mixes-examples", first.code, second.code)
    assert list(result.measured) == ["largest leak", "mean", "deviation"]
    assert result.headline.endswith("And 2 more.")


def test_the_likeliest_causes_are_those_of_failures_with_the_checks_that_name_them() -> None:
    report = made_up.report()
    assert [cause.code for cause in report.causes] == ["model/reshape-for-transpose", "loss/mixes-examples"]
    assert report.checks_that_name("loss/mixes-examples") == ("chart_dependencies",)
    warned = Report(task="t", results=(made_up.unscaled(),))
    assert [cause.code for cause in warned.causes] == ["data/inputs-not-scaled", "data/constant-feature"]
    assert one(Status.EXPECTED).causes == ()


def test_exception_survives_another_process() -> None:
    error = RecipeFailedError(one(Status.FAIL))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_repr_is_short() -> None:
    assert len(repr(made_up.report())) < 200


@pytest.mark.parametrize(
    ("name", "start"), [("r.html", "<!doctype html>"), ("r.json", "{"), ("R.TXT", "digits ConvNet")]
)
def test_save_by_suffix(tmp_path: Path, name: str, start: str) -> None:
    made_up.report().save(tmp_path / name)
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(start)
    assert os.listdir(tmp_path) == [name]


def test_save_takes_a_string_and_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("old " * 100_000)
    one(Status.PASS).save(str(path))
    assert "old" not in path.read_text(encoding="utf-8")


def test_saved_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    one(Status.PASS).save(tmp_path / "r.txt")
    assert stat.S_IMODE((tmp_path / "r.txt").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize("name", ["r.pdf", "r", "html", "r.html.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"must be one of \.html, \.json, \.txt"):
        one(Status.PASS).save(tmp_path / name)
    assert os.listdir(tmp_path) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere is not an existing directory; create it first"):
        one(Status.PASS).save(tmp_path / "nowhere" / "r.json")


def test_a_directory_as_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    with pytest.raises(IsADirectoryError, match="give the name of a file"):
        one(Status.PASS).save(tmp_path / "r.json")


def test_a_failed_write_says_where_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.txt"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot save .*r\.txt.*No space left"):
        one(Status.PASS).save(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.txt"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot save"):
        one(Status.PASS).save(tmp_path / "r.txt")


@pytest.mark.parametrize("suffix", [".html", ".json", ".txt"])
def test_lone_surrogates_can_be_saved(tmp_path: Path, suffix: str) -> None:
    report = replace(one(Status.PASS), task="name \udc80")
    report.save(tmp_path / f"r{suffix}")
    text = (tmp_path / f"r{suffix}").read_text(encoding="utf-8")
    if suffix == ".json":
        assert Report.from_json(text).task == report.task
