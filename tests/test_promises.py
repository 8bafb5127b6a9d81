"""The promises themselves: a result that breaks one is found."""

from dataclasses import replace

from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.result import Result
from tests.promises import broken_promises

NUMBER = Measure(name="n", value=3.0, high=2.0, thresholds={"high": "most"}, code="loss/flat")
FOUND = failure("loss/flat", "Flat.", measures=(NUMBER,))
WHOLE = Result(summary="", findings=(FOUND,), measures=(NUMBER,), name="c", thresholds={"most": 2.0})


def test_a_whole_result_breaks_none() -> None:
    assert broken_promises(WHOLE) == []


def test_each_promise_that_is_broken_is_found() -> None:
    broken = (
        replace(WHOLE, thresholds={}),
        replace(WHOLE, findings=()),
        replace(WHOLE, findings=(FOUND, replace(FOUND, code="no/such"))),
        replace(WHOLE, findings=(FOUND, replace(FOUND, message="flat"))),
        replace(WHOLE, findings=(FOUND, replace(FOUND, causes=FOUND.causes * 6))),
    )
    for result in broken:
        assert len(broken_promises(result)) == 1, result
    lone = Finding(code="mine/own", severity=Severity.FAIL, message="Mine.")
    assert len(broken_promises(replace(WHOLE, findings=(FOUND, lone)))) == 2, "an unknown code, and no cause"
