"""`recipe_tests` under a real pytest, in a directory of its own."""

from collections.abc import Callable

import pytest

from jaxrecipe.diagnosis.finding import failure
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.task import Task
from jaxrecipe.testing import failure_message, recipe_tests

pytest_plugins = ["pytester"]
# The warnings of this run are errors; those of the run inside are what pytest makes of them by itself.
PLAIN = ("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "default")
Run = Callable[..., pytest.RunResult]

COMMON = """
import jax, numpy as np, optax
from jaxrecipe.checks.table import Check
from jaxrecipe.diagnosis.finding import failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.targets import Values
from jaxrecipe.parts import Model
from jaxrecipe.task import Task
from jaxrecipe.testing import recipe_tests

made = []

def task(loss=lambda outputs, targets: (outputs - targets) ** 2):
    made.append(1)
    inputs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    return Task(
        model=Model(
            lambda key, x: ({"w": jax.random.normal(key, (3,)) * 0.1}, {}),
            lambda params, state, x, *, train, key: (x @ params["w"], state),
        ),
        loss=loss, optimizer=optax.sgd(0.1), train=(inputs, inputs.sum(1)), target=Values(), batch_size=8,
    )

def good(setup, *, key):
    return Result(summary="good.")

def bad(setup, *, key, limit: float = 1.0):
    loss = Measure(name="loss", value=9.5, high=2.3)
    return Result(summary="", findings=(failure("loss/softmax-twice", f"bad found {limit}.", measures=(loss,)),))

def strange(setup, *, key, limit: float = 1.0):
    return Result(summary="", findings=(warning("loss/flat", f"strange found {limit}."),))

def not_here(setup, *, key):
    return skipped("Not here.")

def crash(setup, *, key):
    raise ZeroDivisionError("of the check")

CHECKS = tuple(Check(run=run, stage="data") for run in (good, bad, strange, not_here, crash))
"""


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    def run_source(source: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(test_mine=f"{COMMON}\n{source}\n")
        return pytester.runpytest_inprocess(*PLAIN, *arguments)

    return run_source


def test_every_check_is_a_case_of_its_own(run: Run) -> None:
    outcome = run("test_recipe = recipe_tests(checks=CHECKS, task=task)", "-v", "-rs")
    outcome.assert_outcomes(passed=2, failed=2, skipped=1, warnings=1)
    outcome.stdout.fnmatch_lines(
        [
            "*::test_recipe[[]good[]] PASSED*",
            "*::test_recipe[[]bad[]] FAILED*",
            "*::test_recipe[[]strange[]] PASSED*",
            "*::test_recipe[[]not_here[]] SKIPPED*",
            "*::test_recipe[[]crash[]] FAILED*",
        ]
    )


def test_the_failure_message_has_finding_numbers_and_hint(run: Run) -> None:
    outcome = run("test_recipe = recipe_tests(checks=CHECKS, task=task, only=['bad'])")
    outcome.stdout.fnmatch_lines(
        [
            "*FAIL bad: bad found 1.0.*",
            "*loss: 9.5 (expected 2.3 or less)*",
            "*What to do: A softmax or sigmoid is applied twice.*",
        ]
    )
    assert "def test_recipe" not in outcome.stdout.str(), "no source of the library in the output"


def test_a_crash_shows_its_traceback(run: Run) -> None:
    outcome = run("test_recipe = recipe_tests(checks=CHECKS, task=task, only=['crash'])")
    outcome.stdout.fnmatch_lines(
        ["*CRASHED crash:*ZeroDivisionError*nothing about your set-up*", "*In your code:*", "*Traceback*"]
    )


def test_a_warning_is_shown_with_its_hint(run: Run) -> None:
    outcome = run("test_recipe = recipe_tests(checks=CHECKS, task=task, only=['strange'])")
    outcome.stdout.fnmatch_lines(
        ["*RecipeWarning: WARN strange: strange found 1.0.*", "*What to do: The loss has no gradient*"]
    )
    strict = run(
        "test_recipe = recipe_tests(checks=CHECKS, task=task, only=['strange'])",
        "-W",
        "error::jaxrecipe.testing.RecipeWarning",
    )
    strict.assert_outcomes(failed=1)


def test_options_are_passed_on(run: Run) -> None:
    outcome = run(
        "test_recipe = recipe_tests(checks=CHECKS, task=task, skip=['crash', 'strange'], "
        "thresholds={'bad': {'limit': 7.0}}, expect={'bad': 'known'})",
        "-v",
    )
    outcome.assert_outcomes(passed=2, skipped=1)
    outcome = run(
        "test_recipe = recipe_tests(checks=CHECKS, task=task, only=['bad'], thresholds={'*': {'limit': 7.0}})"
    )
    outcome.stdout.fnmatch_lines(["*bad found 7.0*"])


def test_the_task_is_made_once_and_only_when_a_case_runs(run: Run) -> None:
    source = "test_recipe = recipe_tests(checks=CHECKS, task=task)\nassert not made\n"
    source += "def test_last():\n    assert len(made) == 1"
    outcome = run(source, "-k", "good or strange or last")
    outcome.assert_outcomes(passed=3, deselected=3, warnings=1)


def test_an_invalid_task_fails_with_the_validation_message(run: Run) -> None:
    outcome = run(
        "test_recipe = recipe_tests(checks=CHECKS, task=task(loss=lambda o, t: ((o - t) ** 2).mean()), only=['good'])"
    )
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*loss*"])
    assert "Traceback" not in outcome.stdout.str()


def test_an_unknown_name_is_an_error_of_collection(run: Run) -> None:
    outcome = run("test_recipe = recipe_tests(checks=CHECKS, task=task, only=['no_such'])")
    outcome.assert_outcomes(errors=1)
    outcome.stdout.fnmatch_lines(["*no check is called no_such*"])


def test_a_check_of_the_user_is_a_case_beside_ours(run: Run) -> None:
    source = "def mine(setup, *, key, limit: float = 2.0):\n    return bad(setup, key=key, limit=limit)\n"
    outcome = run(f"{source}test_recipe = recipe_tests(task, checks=[*CHECKS, mine], only=['own', 'good'])", "-v")
    outcome.assert_outcomes(passed=1, failed=1)
    outcome.stdout.fnmatch_lines(["*::test_recipe[[]mine[]] FAILED*", "*FAIL mine: bad found 2.0.*"])
    options = "expect={'mine': 'known'}, thresholds={'mine': {'limit': 5.0}}"
    run(f"{source}test_recipe = recipe_tests(task, checks=[mine], {options})").assert_outcomes(passed=1)


def test_a_check_that_ran_out_of_time_fails_its_case(run: Run) -> None:
    source = "def endless(setup, *, key):\n    while True:\n        setup.mean_loss(setup.params, {}, *setup.batch)\n"
    outcome = run(f"{source}test_recipe = recipe_tests(task, checks=[endless], time_limit=0.2)")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*TIMEOUT endless: The check was ended after 0.2 s*"])


@pytest.mark.parametrize(
    "option", [{"expect": {"no_such": "x"}}, {"thresholds": {"no_such": {"a": 1}}}, {"skip": ["no_such"]}]
)
def test_unknown_names_are_refused(option: dict) -> None:
    def never() -> Task:
        raise AssertionError("the task must not be made for that")

    with pytest.raises(ValueError, match="no_such"):
        recipe_tests(never, **option)


def test_message_without_numbers_or_hint() -> None:
    result = Result(name="a", summary="", findings=(failure("mine/code", "Found."),))
    assert failure_message(result) == "FAIL a: Found."
    assert "Not here." in failure_message(skipped("Not here."))
