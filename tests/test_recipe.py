"""The recipe itself, with checks made up for the purpose: selection, thresholds, expectations, crashes."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe import recipe
from jaxrecipe.report.result import Report, Result, Status
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import Values
from jaxrecipe.task import Model, Task
from jaxrecipe.validate import InvalidTaskError


def linear_task(**changes: Any) -> Task:
    """Three weights on twenty examples."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20, 3)).astype(np.float32)

    def init(key: jax.Array, _: Any) -> tuple[Any, Any]:
        return {"w": jax.random.normal(key, (3,)) * 0.1}, {}

    def apply(params: Any, state: Any, x: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return x @ params["w"], state

    task = Task(
        name="linear",
        model=Model(init, apply),
        loss=lambda outputs, targets: (outputs - targets) ** 2,
        optimizer=optax.sgd(0.1),
        train=(inputs, inputs @ np.float32([1.0, -2.0, 0.5])),
        target=Values(),
        batch_size=8,
    )
    return task.replace(**changes)


def made_up(name: str, stage: str, function: Callable[..., Result]) -> Callable[..., Result]:
    function.__name__, function.__module__ = name, f"jaxrecipe.checks.{stage}.{name}"
    return function


def result_of(name: str, status: Status, **fields: Any) -> Result:
    return Result(**{"name": name, "stage": "data", "status": status, "finding": f"{name} was run.", **fields})


@pytest.fixture
def recipe_of_four(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Callable[..., Result], ...]]:
    def fine(setup: Setup, *, key: Any, tolerance: float = 0.1, steps: int = 5) -> Result:
        return result_of("fine", Status.PASS, measured={"tolerance": tolerance, "steps": steps})

    def odd(setup: Setup, *, key: Any, tolerance: float = 0.2) -> Result:
        return result_of("odd", Status.WARN, hint="Look.", measured={"tolerance": tolerance})

    def broken(setup: Setup, *, key: Any) -> Result:
        return result_of("broken", Status.FAIL, hint="Mend it.")

    def crashes(setup: Setup, *, key: Any) -> Result:
        raise ZeroDivisionError("of the check\nand more")

    checks = tuple(
        made_up(name, stage, function)
        for name, stage, function in (
            ("fine", "data", fine),
            ("odd", "data", odd),
            ("broken", "skeleton", broken),
            ("crashes", "skeleton", crashes),
        )
    )
    monkeypatch.setattr(recipe, "RECIPE", checks)
    return checks


def names(report: Report) -> list[str]:
    return [result.name for result in report.results]


def test_runs_every_check_in_order_and_reports(recipe_of_four: Any) -> None:
    report = recipe.check(linear_task(), seed=3)
    assert names(report) == ["fine", "odd", "broken", "crashes"]
    assert [result.status for result in report.results] == [Status.PASS, Status.WARN, Status.FAIL, Status.CRASHED]
    assert (report.task, report.seed, report.ok) == ("linear", 3, False)
    assert {"jax", "numpy", "devices"} <= set(report.versions)
    assert report.seconds >= sum(result.seconds for result in report.results) > 0


def test_a_crash_is_isolated_and_says_that_it_proves_nothing(recipe_of_four: Any) -> None:
    crashed = recipe.check(linear_task(), only=["crashes"]).results[0]
    assert crashed.status is Status.CRASHED
    assert "ZeroDivisionError: of the check" in crashed.headline
    assert "nothing about your set-up" in crashed.hint
    assert "raise ZeroDivisionError" in str(crashed.evidence[0].rows)
    assert crashed.stage == "skeleton"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"only": ["odd", "fine"]}, ["fine", "odd"]),
        ({"only": ["skeleton"]}, ["broken", "crashes"]),
        ({"skip": ["skeleton", "odd"]}, ["fine"]),
        ({"only": ["data"], "skip": ["fine"]}, ["odd"]),
        ({"only": []}, []),
    ],
)
def test_only_and_skip_take_checks_and_stages(
    recipe_of_four: Any, options: dict[str, Any], expected: list[str]
) -> None:
    assert names(recipe.check(linear_task(), **options)) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"only": ["fine", "no_such"]},
        {"skip": ["no_such"]},
        {"thresholds": {"no_such": {"steps": 1}}},
        {"thresholds": {"fine": {"no_such": 1}}},
        {"thresholds": {"*": {"no_such": 1}}},
        {"expect": {"no_such": "reason"}},
    ],
)
def test_unknown_names_are_refused_before_anything_runs(recipe_of_four: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no_such") as caught:
        recipe.check(linear_task(), **options)
    assert "fine" in str(caught.value) or "*" in str(caught.value)


def test_thresholds_reach_the_check_and_stand_in_the_result(recipe_of_four: Any) -> None:
    thresholds = {"*": {"tolerance": 0.5}, "fine": {"steps": 9}, "odd": {"tolerance": 0.7}}
    fine, odd = recipe.check(linear_task(), only=["data"], thresholds=thresholds).results
    assert dict(fine.measured) == dict(fine.thresholds) == {"tolerance": 0.5, "steps": 9}
    assert dict(odd.measured) == dict(odd.thresholds) == {"tolerance": 0.7}


def test_defaults_stand_in_the_result_too(recipe_of_four: Any) -> None:
    assert dict(recipe.check(linear_task(), only=["fine"]).results[0].thresholds) == {"tolerance": 0.1, "steps": 5}


def test_expectations(recipe_of_four: Any) -> None:
    expect = {"broken": "known", "odd": "known too", "crashes": "no excuse", "fine": "outdated"}
    fine, odd, broken, crashes = recipe.check(linear_task(), expect=expect).results
    assert broken.status is Status.EXPECTED
    assert "known" in broken.headline
    assert broken.hint == "Mend it."
    assert odd.status is Status.EXPECTED
    assert crashes.status is Status.CRASHED
    assert fine.status is Status.PASS
    assert "remove the expectation" in fine.hint


def test_an_expected_failure_leaves_the_report_ok(recipe_of_four: Any) -> None:
    assert recipe.check(linear_task(), only=["broken"], expect={"broken": "known"}).ok
    assert not recipe.check(linear_task(), only=["broken"]).ok


def test_whoever_watches_is_told_of_each_check(recipe_of_four: Any) -> None:
    told: list[tuple[str, Status | None]] = []
    recipe.check(linear_task(), watch=lambda name, result: told.append((name, result and result.status)))
    assert told[:2] == [("fine", None), ("fine", Status.PASS)]
    assert [name for name, status in told if status is None] == ["fine", "odd", "broken", "crashes"]
    assert [status for _, status in told[1::2]] == [Status.PASS, Status.WARN, Status.FAIL, Status.CRASHED]


def test_a_task_that_cannot_work_is_refused_before_any_check(recipe_of_four: Any) -> None:
    begun: list[str] = []
    task = linear_task(loss=lambda outputs, targets: ((outputs - targets) ** 2).mean())
    with pytest.raises(InvalidTaskError):
        recipe.check(task, watch=lambda name, result: begun.append(name))
    assert not begun


def test_what_is_odd_before_any_check_stands_in_the_notes(recipe_of_four: Any) -> None:
    task = linear_task()
    assert recipe.check(task).notes == ()
    bytes_in = (np.arange(60, dtype=np.uint8).reshape(20, 3), task.train[1])
    model = Model(task.model.init, lambda p, s, x, **_: (x.astype(jnp.float32) @ p["w"], s))
    notes = recipe.check(task.replace(train=bytes_in, model=model)).notes
    assert len(notes) == 1
    assert notes[0].startswith("Odd in the task: task.prepare: got bytes that reach the model unscaled")


def test_programs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles_two(setup: Setup, *, key: Any) -> Result:
        for factor in (2.0, 3.0):
            jax.jit(lambda x, factor=factor: jnp.sin(x) * factor)(np.ones(7, np.float32))
        return result_of("compiles_two", Status.PASS)

    monkeypatch.setattr(recipe, "RECIPE", (made_up("compiles_two", "data", compiles_two),))
    report = recipe.check(linear_task())
    assert report.results[0].programs == 2
    assert report.programs >= 2


def test_the_same_seed_gives_the_same_keys() -> None:
    def drawn(seed: int) -> list[float]:
        def draws(setup: Setup, *, key: Any) -> Result:
            return result_of("draws", Status.PASS, measured={"x": float(jax.random.normal(key, ()))})

        check = made_up("draws", "data", draws)
        setup = make_setup(linear_task(), seed=seed)
        return [float(recipe.run_one(setup, check).measured["x"]) for _ in range(2)]

    assert len(set(drawn(1))) == 1
    assert drawn(1) != drawn(2)


def test_every_real_check_names_its_stage_thresholds_and_page() -> None:
    for check in recipe.RECIPE:
        assert recipe.stage_of(check) in ("data", "skeleton", "overfit", "regularize", "tune", "squeeze", "precision")
        assert all(isinstance(default, float | int | str | bool) for default in recipe.thresholds_of(check).values())
        for heading in ("What it does:", "Why it matters:", "What to do:"):
            assert heading in (check.__doc__ or ""), f"{check.__name__} lacks {heading}"
