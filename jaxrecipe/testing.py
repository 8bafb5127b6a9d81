"""The recipe as test cases for pytest: `test_recipe = jr.recipe_tests(task)` makes every check a case of its own."""

import functools
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.recipe import (
    AnyCheck,
    Thresholds,
    as_expected,
    as_table,
    require_known,
    run_one,
    select_checks,
    threshold_overrides,
)
from jaxrecipe.report.result import Result, Status, Table
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task
from jaxrecipe.validate import InvalidTaskError, validate


class RecipeWarning(UserWarning):
    """A check ended with WARN. The test passes; pytest shows it in its summary of warnings."""


def recipe_tests(
    task: Task | Callable[[], Task],
    *,
    checks: Sequence[AnyCheck] = RECIPE,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    thresholds: Thresholds | None = None,
    expect: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Callable[..., None]:
    """A parametrised test function: assign it to a name that starts with `test_`.

    A FAIL fails its case with the finding, the numbers and the hint; a SKIP skips it with the reason; a WARN passes with a
    `RecipeWarning`; a check that crashed fails its case with the traceback. The task is validated and its programs are compiled
    once for all cases of a process.

    Args:
        task: the training set-up, or a function without arguments that makes it when the first case runs.
        checks: the checks to choose from, in order; `[*jr.RECIPE, my_check]` adds one of your own.
        only: names of the checks (or stages) to run; by default all that are on by default.
        skip: names of the checks (or stages) to leave out.
        thresholds: `{check: {threshold: value}}`, under "*" for every check that has it.
        expect: `{check: reason}` for checks that are known to fail or warn here; their cases pass.
        seed: everything random follows from it.

    Raises:
        ValueError: if a name of a check or threshold does not exist, or two checks have one name.
    """
    import pytest

    table = as_table(checks)
    chosen = select_checks(table, only=only, skip=skip)
    expectations, values = expect or {}, threshold_overrides(thresholds or {}, table)
    require_known(expectations, "expect", table)

    @functools.cache
    def ready() -> Setup | InvalidTaskError:
        made = task if isinstance(task, Task) else task()
        try:
            validate(made)
        except InvalidTaskError as error:
            return error
        return make_setup(made, seed=seed)

    @pytest.mark.parametrize("check", chosen, ids=[check.name for check in chosen])
    def test_recipe(check: Check) -> None:
        setup = ready()
        if isinstance(setup, InvalidTaskError):
            pytest.fail(str(setup), pytrace=False)
        result = run_one(setup, check, thresholds=values.get(check.name))
        _report(as_expected(result, expectations.get(check.name)))

    return test_recipe


def _report(result: Result) -> None:
    """End the test case as the result says."""
    import pytest

    if result.status is Status.SKIP:
        pytest.skip(result.headline)
    if result.failed:
        pytest.fail(failure_message(result), pytrace=False)
    if result.status is Status.WARN:
        warnings.warn(failure_message(result), RecipeWarning, stacklevel=2)


def failure_message(result: Result) -> str:
    """What a test that failed should say: finding, what was measured against what was expected, hint, and any traceback."""
    lines = [f"{result.status} {result.name}: {result.headline}"]
    lines += [f"  {measure.name}: {measure.value:.4g} (expected {measure.wanted})" for measure in _compared(result)]
    if result.hint:
        lines.append(f"What to do: {result.hint}")
    if result.status is Status.CRASHED:
        lines += [str(row[0]) for table in result.evidence if isinstance(table, Table) for row in table.rows]
    return "\n".join(lines)


def _compared(result: Result) -> list[Measure]:
    return [measure for measure in result.measures if measure.bounded]
