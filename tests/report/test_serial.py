"""JSON: strict, and nothing is lost on the way there and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Curve, Matrix, Status, Table
from tests.report import made_up


def same(a: Any, b: Any) -> bool:
    """Equal in every bit that counts; lists and tuples are both sequences."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):  # a NaN has a sign bit, but it means nothing
        return isinstance(b, float) and (
            math.isnan(b) if math.isnan(a) else a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    return type(a) is type(b) and a == b


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def holding(**parts: Any) -> Report:
    return Report(task="t", results=(replace(made_up.ending(Status.WARN), **parts),))


MEASURE = Measure(name="m", value=1.0, high=2.0)


@pytest.mark.parametrize(
    "report", [made_up.report(), made_up.evil_report(), Report(task="", results=())], ids=["all", "evil", "empty"]
)
def test_there_and_back(report: Report) -> None:
    text = report.to_json()
    strict(text)
    back = Report.from_json(text)
    assert same(report, back)
    assert back.to_json() == text


ARRAYS = hnp.arrays(
    dtype=st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int64", "uint64", "bool"]),
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5),
)


@settings(deadline=None, max_examples=25)
@given(ARRAYS)
def test_any_array(values: np.ndarray) -> None:
    # A NaN keeps being one; which of its many bit patterns it has is no value.
    values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values) if values.dtype.kind == "f" else values
    report = holding(evidence=(Matrix(title="m", values=values),))
    strict(report.to_json())
    assert same(report, Report.from_json(report.to_json()))


SCALARS = st.one_of(st.floats(), st.integers(), st.text(), st.booleans())


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.text().filter(lambda name: name != "$type"), SCALARS))
def test_any_scalar(thresholds: dict[str, Any]) -> None:
    report = holding(thresholds=thresholds)
    assert same(report, Report.from_json(report.to_json()))


@pytest.mark.parametrize(
    "thresholds", [{"float": "nan"}, {"dtype": "f", "shape": "s", "values": 1}, {"kind": "Curve"}, {"a": "nan"}]
)
def test_names_that_look_like_the_format(thresholds: dict[str, Any]) -> None:
    report = holding(thresholds=thresholds)
    assert same(report, Report.from_json(report.to_json()))


def test_the_one_name_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ValueError, match="rename it"):
        holding(thresholds={"$type": 1}).to_json()


def test_large_arrays_and_other_byte_orders() -> None:
    values = np.random.default_rng(0).normal(size=(90, 80)).astype(">f4")
    back = Report.from_json(holding(evidence=(Matrix(title="m", values=values),)).to_json()).results[0].evidence[0]
    assert isinstance(back, Matrix)
    np.testing.assert_array_equal(back.values, values)
    assert back.values.dtype == np.float32


def test_values_of_foreign_dtypes_become_plain() -> None:
    curve = Curve(title="c", x=np.arange(2), series={"y": np.array([1.5, 2.5], ml_dtypes.bfloat16)})
    table = Table(title="t", columns=("a",), rows=[(np.float64(0.5),), (np.float64("inf"),)])
    evidence = Report.from_json(holding(evidence=(curve, table)).to_json()).results[0].evidence
    assert isinstance(evidence[0], Curve)
    assert evidence[0].series["y"].dtype == np.float32
    assert evidence[0].series["y"].tolist() == [1.5, 2.5]
    assert isinstance(evidence[1], Table)
    assert evidence[1].rows == ((0.5,), (math.inf,))


def test_other_programs_can_read_it() -> None:
    document = strict(made_up.report().to_json())
    assert document["ok"] is False
    measure = document["results"][2]["measures"][0]
    assert (measure["name"], measure["value"], measure["high"]) == ("loss", 2.3146, 2.4)
    finding = document["results"][3]["findings"][0]
    assert (finding["code"], finding["severity"]) == ("model/mixes-examples", "FAIL")
    assert finding["causes"][0]["code"] == "model/reshape-for-transpose"
    assert document["results"][3]["status"] == "FAIL"
    assert document["results"][2]["evidence"][0]["series"]["real inputs"]["values"][0] == pytest.approx(2.3)


NUMBERS = st.one_of(st.none(), st.floats(allow_nan=False))


@settings(deadline=None, max_examples=25)
@given(
    st.builds(
        Measure,
        name=st.text(),
        value=st.floats(),
        low=NUMBERS,
        high=NUMBERS,
        fail_low=NUMBERS,
        fail_high=NUMBERS,
        severity=st.sampled_from(Severity),
        unit=st.text(),
        error=NUMBERS,
        code=st.text(),
        thresholds=st.dictionaries(st.sampled_from(["low", "high"]), st.text()),
    )
)
def test_any_measure(measure: Measure) -> None:
    report = holding(measures=(measure,))
    assert same(report, Report.from_json(report.to_json()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 99}',
        '{"format": 1}',
        '{"format": 1, "task": "t", "results": [{"name": "n"}]}',
        Report(task="t", results=()).to_json().replace('"task"', '"later": 1, "task"'),
        holding().to_json().replace('"summary"', '"later": 1, "summary"'),
        holding().to_json().replace('"severity"', '"later": 1, "severity"'),
        holding().to_json().replace('"harm"', '"later": 1, "harm"'),
        holding().to_json().replace('"WARN"', '"DOUBTFUL"'),
        holding(measures=(MEASURE,)).to_json().replace('"fail_low"', '"later": 1, "fail_low"'),
        holding(measures=(MEASURE,)).to_json().replace('"fail_low"', '"other"'),
        Report(task="t", results=()).to_json().replace('"t"', '{"$type": "os.system"}'),
        Report(task="t", results=())
        .to_json()
        .replace('"t"', '{"$type": "array", "dtype": "object", "shape": [1], "values": [1]}'),
        Report(task="t", results=())
        .to_json()
        .replace('"t"', '{"$type": "array", "dtype": "int8", "shape": [9], "base64": "AA=="}'),
    ],
)
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (also json's own error, whose words are not ours)
        Report.from_json(text)
