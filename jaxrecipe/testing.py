"""The recipe as test cases for pytest: `test_recipe = jr.recipe_tests(task)` makes every check a case of its own."""

import functools
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.recipe import (
    TIME_LIMIT,
    AnyCheck,
    Thresholds,
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
    time_limit: float = TIME_LIMIT,
) -> Callable[..., None]:
    """A parametrised test function: assign it to a name that starts with `test_`.

    A FAIL fails its case with all findings, the numbers and what to do; a SKIP skips it with the reason; a WARN passes
    with a `RecipeWarning`; a check that crashed fails its case with the traceback, one that ran out of time with its
    limit. The task is validated and its programs are compiled once for all cases of a process.

    Args:
        task: the training set-up, or a function without arguments that makes it when the first case runs.
        checks: the checks to choose from, in order; `[*jr.RECIPE, my_check]` adds one of your own.
        only: names of the checks (or stages) to run; by default all that are on by default.
        skip: names of the checks (or stages) to leave out.
        thresholds: `{check: {threshold: value}}`, under "*" for every check that has it.
        expect: `{check: reason}` for checks that are known to fail or warn here; their cases pass.
        seed: everything random follows from it.
        time_limit: seconds of wall time after which a check is ended; its case fails, since nothing was found out.

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
        result = run_one(setup, check, thresholds=values.get(check.name), time_limit=time_limit)
        _end_case(replace(result, expected=expectations.get(check.name, "")))

    return test_recipe


def _end_case(result: Result) -> None:
    """End the test case as the result says."""
    import pytest

    if result.status is Status.SKIP:
        pytest.skip(result.headline)
    if result.failed or result.status is Status.TIMEOUT:
        pytest.fail(failure_message(result), pytrace=False)
    if result.status is Status.WARN:
        warnings.warn(failure_message(result), RecipeWarning, stacklevel=2)


def failure_message(result: Result) -> str:
    """What a test that failed should say: all findings, what was measured against what was expected, and what to do."""
    lines = [f"{result.status} {result.name}: {result.headline}"]
    lines += [f"  {finding.severity} {finding.code}: {finding.message}" for finding in result.findings[1:]]
    bounded = [measure for measure in result.measures if measure.bounded]
    lines += [f"  {measure.name}: {measure.value:.4g} (expected {measure.wanted})" for measure in bounded]
    if result.hint:
        lines += [f"What to do: {result.hint}", f"More: jaxrecipe explain {result.codes[0]}"]
    if result.status is Status.CRASHED:
        lines += [str(row[0]) for table in result.evidence if isinstance(table, Table) for row in table.rows]
    return "\n".join(lines)
