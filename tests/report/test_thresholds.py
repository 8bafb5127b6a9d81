"""Judging again by other thresholds: the same as judging for the first time, and nothing is run."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result, Status, skipped

CODE = "model/starts-far-off"
LIMITS = st.floats(0.5, 8.0)


def judged(value: float, warn: float, fail: float, code: str = CODE) -> Result:
    """What a check with one number and two thresholds returns."""
    excess = Measure(
        name="excess",
        value=value,
        high=warn,
        fail_high=fail,
        severity=Severity.WARN,
        thresholds={"high": "high_warn", "fail_high": "high_fail"},
        code=code,
    )
    found = ()
    if excess.verdict is not None:
        found = (Finding(code=code, severity=excess.verdict, message="Too much.", measures=(excess,)),)
    return Result(
        summary="Measured.",
        findings=found,
        measures=(excess, Measure(name="other", value=1.0)),
        name="loss_at_init",
        stage="skeleton",
        thresholds={"high_warn": warn, "high_fail": fail, "steps": 5, "mode": "fast"},
    )


def reported(*results: Result) -> Report:
    return Report(task="t", results=results)


def again(result: Result, **values: float) -> Result:
    return reported(result).with_thresholds({result.name: values}).results[0]


@settings(deadline=None, max_examples=60)
@given(st.floats(0.0, 9.0), LIMITS, LIMITS, LIMITS, LIMITS)
def test_judging_again_is_judging_for_the_first_time(
    value: float, warn: float, fail: float, new_warn: float, new_fail: float
) -> None:
    first, wanted = judged(value, warn, fail), judged(value, new_warn, new_fail)
    second = again(first, high_warn=new_warn, high_fail=new_fail)
    assert second.status is wanted.status
    assert second.codes == wanted.codes
    assert second.measures == wanted.measures
    assert dict(second.thresholds) == dict(wanted.thresholds)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.0, 9.0), LIMITS, LIMITS)
def test_a_looser_threshold_never_finds_more(value: float, one: float, other: float) -> None:
    tight, loose = sorted((one, other))
    first = judged(value, 2.0, 100.0)
    assert len(again(first, high_warn=loose).findings) <= len(again(first, high_warn=tight).findings)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.0, 9.0))
def test_the_thresholds_in_force_change_nothing(value: float) -> None:
    first = judged(value, 2.0, 4.0)
    assert again(first, high_warn=2.0, high_fail=4.0) == first
    assert reported(first).with_thresholds({}) == reported(first)


def test_a_number_that_leaves_its_bounds_becomes_a_finding_with_the_row_of_the_table() -> None:
    result = again(judged(1.5, 2.0, 4.0), high_warn=1.0)
    [finding] = result.findings
    assert (result.status, finding.code, finding.severity) == (Status.WARN, CODE, Severity.WARN)
    assert finding.causes[0].code == CODE
    assert finding.measures[0].high == 1.0
    assert "1.5" in finding.message


def test_other_findings_and_those_of_other_numbers_stay() -> None:
    first = judged(3.0, 2.0, 4.0)
    unrelated = Finding(code="loss/flat", severity=Severity.FAIL, message="Flat.", measures=first.findings[0].measures)
    both = replace(first, findings=(*first.findings, unrelated))
    result = again(both, high_warn=3.5)
    assert result.codes == ("loss/flat",)
    assert result.findings[0].measures[0].high == 3.5


def test_one_finding_on_several_numbers_goes_with_the_last_of_them() -> None:
    measures = [
        Measure(name=name, value=value, high=1.0, code=CODE, thresholds={"high": "most"})
        for name, value in (("a", 2.0), ("b", 4.0))
    ]
    finding = Finding(code=CODE, severity=Severity.FAIL, message="Both.", measures=tuple(measures))
    result = Result(summary="", findings=(finding,), name="c", thresholds={"most": 1.0})
    assert again(result, most=3.0).codes == (CODE,)
    assert again(result, most=5.0).codes == ()
    assert again(again(result, most=5.0), most=1.0).codes == (CODE, CODE)


def test_a_severity_that_the_check_chose_itself_is_kept() -> None:
    first = judged(3.0, 2.0, 10.0)
    stern = replace(first, findings=(replace(first.findings[0], severity=Severity.FAIL),))
    assert again(stern, high_warn=2.5).status is Status.FAIL
    assert again(stern, high_warn=3.5).status is Status.PASS


def test_an_expected_failure_that_goes_is_a_pass() -> None:
    expected = replace(judged(3.0, 2.0, 4.0), expected="known")
    assert expected.status is Status.EXPECTED
    assert again(expected, high_warn=3.5).status is Status.PASS
    assert again(expected, high_warn=1.5).status is Status.EXPECTED


def test_every_check_that_has_the_threshold() -> None:
    report = reported(judged(3.0, 2.0, 4.0), replace(judged(3.0, 2.0, 4.0), name="other"), Result(summary="", name="c"))
    moved = report.with_thresholds({"*": {"high_warn": 3.5}, "other": {"high_warn": 2.5}})
    assert [result.status for result in moved.results] == [Status.PASS, Status.WARN, Status.PASS]


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"no_such": {"high_warn": 1.0}}, "no check no_such; it has loss_at_init, human_baseline"),
        ({"loss_at_init": {"no_such": 1.0}}, "loss_at_init has no threshold no_such; it has high_warn"),
        ({"loss_at_init": {"steps": 9}}, "no number in this report has steps as its bound; run the check again"),
        ({"loss_at_init": {"high_warn": "much"}}, "loss_at_init.high_warn: got 'much', wanted a number"),
        ({"loss_at_init": {"high_warn": True}}, "got True, wanted a number"),
        ({"human_baseline": {"at_least": 0.5}}, "no number in this report has at_least as its bound"),
        ({"*": {"no_such": 1.0}}, '"\\*" has no_such, which no check has'),
    ],
)
def test_what_cannot_be_moved_is_refused(thresholds: dict, message: str) -> None:
    idle = replace(skipped("No labels."), name="human_baseline", thresholds={"at_least": 0.9})
    with pytest.raises(ValueError, match=message):
        reported(judged(3.0, 2.0, 4.0), idle).with_thresholds(thresholds)


def test_a_bound_computed_from_a_threshold_is_not_one() -> None:
    """A level divided by the number of tests is a bound that does not move with the level as it is."""
    first = judged(3.0, 2.0, 4.0)
    with pytest.raises(ValueError, match="run the check again"):
        again(replace(first, thresholds={**first.thresholds, "high_warn": 20.0}), high_warn=30.0)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        reported(judged(3.0, 2.0, 4.0)).with_thresholds({"no_such": {}, "loss_at_init": {"steps": 1, "absent": 2}})
    assert all(word in str(caught.value) for word in ("no_such", "steps", "absent"))
