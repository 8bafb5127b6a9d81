"""The examples of CONTRIBUTING.md are right: the check, its row and its test, the cause, the planted fault."""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrecipe.catalogue.fault import Fault
from jaxrecipe.checks.table import Check
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import CAUSES
from jaxrecipe.recipe import check, run_one
from jaxrecipe.report.result import Result
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task

PAGE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHECK, ROW, TEST, CAUSE, FAULT = map(textwrap.dedent, re.findall(r"^ *```python\n(.*?)^ *```", PAGE, re.S | re.M))


def run_code(source: str, **names: Any) -> dict[str, Any]:
    exec(compile(source, "CONTRIBUTING.md", "exec"), names)
    return names


def run_check(one: Callable[..., Result], task: Task, **thresholds: float) -> Result:
    return run_one(make_setup(task), one, thresholds=thresholds)


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    return run_code(CHECK)


def test_the_check_and_its_row(example: dict[str, Any]) -> None:
    row = eval(ROW, {**example, "Check": Check})
    assert (row.name, row.thresholds) == ("blank_in_batch", {"most": 0.1})
    assert all(heading in row.run.__doc__ for heading in ("What it does:", "Why it matters:", "What to do:", "Args:"))
    (result,) = check(digits_task(), checks=[row]).results
    assert (result.name, result.stage, result.measured) == ("blank_in_batch", "data", {"fraction of blank examples": 0})


def test_the_test_of_the_check(example: dict[str, Any]) -> None:
    run_code(TEST, **example)["test_blank_in_batch"](run_check)


def test_the_cause() -> None:
    assert eval(CAUSE, {"Cause": Cause}).code not in CAUSES


def test_the_planted_fault(example: dict[str, Any]) -> None:
    fault = eval(FAULT[FAULT.rindex("Fault(") :], run_code(FAULT))
    assert isinstance(fault, Fault)
    assert set(fault.causes) <= set(CAUSES)
    images, _ = fault.make(0).train
    assert np.array_equal(images[::2], fault.on(0).train[0][::2])
    assert not images[1::2].any()
    assert run_check(example["blank_in_batch"], fault.make(0)).codes == fault.causes
