"""The recipe itself, with checks made up for the purpose: selection, thresholds, expectations, crashes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrecipe import recipe
from jaxrecipe.checks.table import Check, Need
from jaxrecipe.diagnosis.finding import failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.parts import Model
from jaxrecipe.report.evidence import Table
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result, Status
from jaxrecipe.setup import Setup, TimeLimitError, make_setup
from jaxrecipe.targets import Values
from jaxrecipe.task import Task
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


def made_up(name: str, stage: str, function: Callable[..., Result]) -> Check:
    function.__name__ = name
    return Check(run=function, stage=stage)


def measures(**values: float) -> tuple[Measure, ...]:
    return tuple(Measure(name=name, value=float(value)) for name, value in values.items())


@pytest.fixture
def four() -> tuple[Check, ...]:
    def fine(setup: Setup, *, key: Any, tolerance: float = 0.1, steps: int = 5) -> Result:
        return Result(summary="Fine.", measures=measures(tolerance=tolerance, steps=steps))

    def strange(setup: Setup, *, key: Any, tolerance: float = 0.2) -> Result:
        found = warning("data/weak-signal", "Strange.")
        return Result(summary="Seen.", findings=(found,), measures=measures(tolerance=tolerance))

    def broken(setup: Setup, *, key: Any) -> Result:
        return Result(summary="Seen.", findings=(failure("loss/softmax-twice", "Broken."),))

    def crashes(setup: Setup, *, key: Any) -> Result:
        raise ZeroDivisionError("of the check\nand more")

    return tuple(
        made_up(name, stage, function)
        for name, stage, function in (
            ("fine", "data", fine),
            ("strange", "data", strange),
            ("broken", "skeleton", broken),
            ("crashes", "skeleton", crashes),
        )
    )


def names(report: Report) -> list[str]:
    return [result.name for result in report.results]


def test_runs_every_check_in_order_and_reports(four: Any) -> None:
    report = recipe.check(linear_task(), checks=four, seed=3)
    assert names(report) == ["fine", "strange", "broken", "crashes"]
    assert [result.status for result in report.results] == [Status.PASS, Status.WARN, Status.FAIL, Status.CRASHED]
    assert (report.task, report.seed, report.ok) == ("linear", 3, False)
    assert {"jax", "numpy", "devices"} <= set(report.versions)
    assert report.seconds >= sum(result.seconds for result in report.results) > 0


def test_a_crash_is_isolated_and_says_that_it_proves_nothing(four: Any) -> None:
    crashed = recipe.check(linear_task(), checks=four, only=["crashes"]).results[0]
    assert crashed.status is Status.CRASHED
    assert "ZeroDivisionError: of the check" in crashed.headline
    assert "nothing about your set-up" in crashed.headline
    assert "raise ZeroDivisionError" in str(crashed.evidence[0].rows)
    assert crashed.stage == "skeleton"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"only": ["strange", "fine"]}, ["fine", "strange"]),
        ({"only": ["skeleton"]}, ["broken", "crashes"]),
        ({"skip": ["skeleton", "strange"]}, ["fine"]),
        ({"only": ["data"], "skip": ["fine"]}, ["strange"]),
        ({"only": []}, []),
    ],
)
def test_only_and_skip_take_checks_and_stages(four: Any, options: dict[str, Any], expected: list[str]) -> None:
    assert names(recipe.check(linear_task(), checks=four, **options)) == expected


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
def test_unknown_names_are_refused_before_anything_runs(four: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no_such") as caught:
        recipe.check(linear_task(), checks=four, **options)
    assert "fine" in str(caught.value) or "*" in str(caught.value)


def test_thresholds_reach_the_check_and_stand_in_the_result(four: Any) -> None:
    thresholds = {"*": {"tolerance": 0.5}, "fine": {"steps": 9}, "strange": {"tolerance": 0.7}}
    fine, strange = recipe.check(linear_task(), checks=four, only=["data"], thresholds=thresholds).results
    assert fine.measured == dict(fine.thresholds) == {"tolerance": 0.5, "steps": 9}
    assert strange.measured == dict(strange.thresholds) == {"tolerance": 0.7}


def test_defaults_stand_in_the_result_too(four: Any) -> None:
    assert dict(recipe.check(linear_task(), checks=four, only=["fine"]).results[0].thresholds) == {
        "tolerance": 0.1,
        "steps": 5,
    }


def test_expectations(four: Any) -> None:
    expect = {"broken": "known", "strange": "known too", "crashes": "no excuse", "fine": "outdated"}
    fine, strange, broken, crashes = recipe.check(linear_task(), checks=four, expect=expect).results
    assert broken.status is Status.EXPECTED
    assert "known" in broken.headline
    assert broken.codes == ("loss/softmax-twice",)
    assert strange.status is Status.EXPECTED
    assert crashes.status is Status.CRASHED
    assert fine.status is Status.PASS
    assert "remove the expectation" in fine.headline


def test_an_expected_failure_leaves_the_report_ok(four: Any) -> None:
    assert recipe.check(linear_task(), checks=four, only=["broken"], expect={"broken": "known"}).ok
    assert not recipe.check(linear_task(), checks=four, only=["broken"]).ok


def test_whoever_watches_is_seen_of_each_check(four: Any) -> None:
    seen: list[tuple[str, Status | None]] = []
    recipe.check(linear_task(), checks=four, watch=lambda name, result: seen.append((name, result and result.status)))
    assert seen[:2] == [("fine", None), ("fine", Status.PASS)]
    assert [name for name, status in seen if status is None] == ["fine", "strange", "broken", "crashes"]
    assert [status for _, status in seen[1::2]] == [Status.PASS, Status.WARN, Status.FAIL, Status.CRASHED]


def test_a_task_that_cannot_work_is_refused_before_any_check(four: Any) -> None:
    begun: list[str] = []
    task = linear_task(loss=lambda outputs, targets: ((outputs - targets) ** 2).mean())
    with pytest.raises(InvalidTaskError):
        recipe.check(task, checks=four, watch=lambda name, result: begun.append(name))
    assert not begun


def test_warnings_of_the_validation_stand_in_the_notes(four: Any) -> None:
    task = linear_task(inputs="table")
    assert recipe.check(task, checks=four).notes == ()
    bytes_in = (np.arange(60, dtype=np.uint8).reshape(20, 3), task.train[1])
    model = Model(task.model.init, lambda p, s, x, **_: (x.astype(jnp.float32) @ p["w"], s))
    notes = recipe.check(task.replace(train=bytes_in, model=model), checks=four).notes
    assert len(notes) == 1
    assert notes[0].startswith("Task warning: task.prepare: got bytes that reach the model unscaled")


def mine(setup: Setup, *, key: Any, least: float = 0.5) -> Result:
    """A check of a user's own."""
    number = Measure(name="number", value=0.4, low=least, thresholds={"low": "least"}, code="mine/too-small")
    found = (failure("mine/too-small", "Too small.", measures=(number,)),) if number.verdict else ()
    return Result(summary="Large enough.", findings=found, measures=(number,))


def test_a_check_of_the_user_is_run_as_ours_are(four: Any) -> None:
    checks = [*four, mine]
    report = recipe.check(linear_task(), checks=checks, only=["mine", "fine"])
    assert names(report) == ["fine", "mine"]
    assert (report.results[1].stage, report.results[1].codes) == ("own", ("mine/too-small",))
    assert not report.ok
    assert names(recipe.check(linear_task(), checks=checks, only=["own"])) == ["mine"]
    assert names(recipe.check(linear_task(), checks=checks, skip=["own", "data", "crashes"])) == ["broken"]
    [lenient] = recipe.check(linear_task(), checks=[mine], thresholds={"mine": {"least": 0.3}}).results
    assert (lenient.status, dict(lenient.thresholds)) == (Status.PASS, {"least": 0.3})
    [expected] = recipe.check(linear_task(), checks=[mine], expect={"mine": "known"}).results
    assert expected.status is Status.EXPECTED
    assert report.with_thresholds({"mine": {"least": 0.3}}).results[1].status is Status.PASS


def test_a_row_of_the_user_has_its_stage_and_needs() -> None:
    need = Need(lambda setup: setup.test is not None, "There are no test data.")
    row = Check(run=mine, stage="tune", needs=(need,), default=False)
    assert names(recipe.check(linear_task(), checks=[row])) == []
    [skipped] = recipe.check(linear_task(), checks=[row], only=["mine"]).results
    assert (skipped.status, skipped.stage, skipped.headline) == (Status.SKIP, "tune", "There are no test data.")


def test_two_checks_of_one_name_are_refused(four: Any) -> None:
    with pytest.raises(ValueError, match="fine stands there more than once"):
        recipe.check(linear_task(), checks=[*four, four[0]])


def test_the_table_of_checks_takes_a_check_of_the_user() -> None:
    report = recipe.check(linear_task(), checks=[*recipe.RECIPE, mine], only=["mine"])
    assert names(report) == ["mine"]
    with pytest.raises(ValueError, match=r"no check is called los_at_init \(did you mean loss_at_init\?\)"):
        recipe.check(linear_task(), only=["los_at_init"])


def test_a_check_that_takes_too_long_is_ended_and_the_next_one_begins(four: Any) -> None:
    def endless(setup: Setup, *, key: Any) -> Result:
        while True:
            setup.mean_loss(setup.params, setup.model_state, *setup.batch)

    ended, fine = recipe.check(
        linear_task(), checks=[made_up("endless", "data", endless), four[0]], time_limit=0.2
    ).results
    assert (ended.status, fine.status) == (Status.TIMEOUT, Status.PASS)
    assert "0.2 s" in ended.headline
    assert "nothing about your set-up" in ended.headline
    assert not ended.failed
    assert ended.findings == ()


def test_the_limit_of_one_check_does_not_reach_the_next() -> None:
    setup = make_setup(linear_task())
    with pytest.raises(TimeLimitError), setup.limited(0.0):
        setup.mean_loss(setup.params, setup.model_state, *setup.batch)
    assert setup.mean_loss(setup.params, setup.model_state, *setup.batch) > 0


def test_a_traceback_begins_in_the_users_own_file(tmp_path: Path) -> None:
    """The loss of a file of the user's raises deep within JAX and a check: the user's line stands first."""
    file = tmp_path / "my_losses.py"
    file.write_text("def loss(outputs, targets):\n    raise ZeroDivisionError('in my loss')\n")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), scope)

    def forward(setup: Setup, *, key: Any) -> Result:
        setup.losses(*setup.batch)
        return Result(summary="")

    setup = make_setup(linear_task(loss=scope["loss"]))
    crashed = recipe.run_one(setup, made_up("forward", "data", forward))
    assert crashed.status is Status.CRASHED
    [table] = crashed.evidence
    assert isinstance(table, Table)
    lines = [str(row[0]) for row in table.rows]
    own, _, whole = "\n".join(lines).partition("All of it:")
    assert lines[0] == "In your code:"
    assert f'File "{file}", line 2, in loss' in own
    assert "site-packages" not in own
    assert str(Path(recipe.__file__).parent) not in own
    assert "ZeroDivisionError: in my loss" in whole


def test_a_traceback_within_the_library_is_shown_as_it_is() -> None:
    with pytest.raises(ValueError, match="no_such") as caught:
        recipe.select_checks(only=["no_such"])
    ours = caught.value.with_traceback(caught.tb.tb_next)  # without the line above, which is a user's
    assert recipe.traceback_lines(ours)[0].startswith("Traceback")


def test_versions_are_those_of_what_is_loaded() -> None:
    found = recipe.versions()
    assert found["jax"] == jax.__version__
    assert found["numpy"] == np.__version__
    assert "devices" in found


def test_the_guess_of_what_the_inputs_are_stands_in_the_notes(four: Any) -> None:
    (note,) = recipe.check(linear_task(), checks=four).notes
    assert "table" in note
    assert "Task(inputs=...)" in note


def test_programs_are_counted() -> None:
    def compiles_two(setup: Setup, *, key: Any) -> Result:
        for factor in (2.0, 3.0):
            jax.jit(lambda x, factor=factor: jnp.sin(x) * factor)(np.ones(7, np.float32))
        return Result(summary="Compiled.")

    report = recipe.check(linear_task(), checks=[made_up("compiles_two", "data", compiles_two)])
    assert report.results[0].programs == 2
    assert report.programs >= 2


def test_the_same_seed_gives_the_same_keys() -> None:
    def drawn(seed: int) -> list[float]:
        def draws(setup: Setup, *, key: Any) -> Result:
            return Result(summary="Drawn.", measures=measures(x=float(jax.random.normal(key, ()))))

        check = made_up("draws", "data", draws)
        setup = make_setup(linear_task(), seed=seed)
        return [recipe.run_one(setup, check).measured["x"] for _ in range(2)]

    assert len(set(drawn(1))) == 1
    assert drawn(1) != drawn(2)


def test_every_real_check_names_its_stage_thresholds_and_page() -> None:
    for check in recipe.RECIPE:
        assert check.stage in ("data", "skeleton", "step", "precision")
        assert all(isinstance(default, float | int | str | bool) for default in check.thresholds.values())
        for heading in ("What it does:", "Why it matters:", "What to do:"):
            assert heading in (check.run.__doc__ or ""), f"{check.name} lacks {heading}"


@pytest.mark.parametrize("returned", [None, 3, failure("loss/softmax-twice", "Broken.")])
def test_a_check_that_returns_no_result_crashes_alone(four: Any, returned: Any) -> None:
    def mine(setup: Setup, *, key: Any) -> Any:
        return returned

    report = recipe.check(linear_task(), checks=[mine, *four])
    assert [result.status for result in report.results][:2] == [Status.CRASHED, Status.PASS]
    assert type(returned).__name__ in report.results[0].summary


@pytest.mark.parametrize("value", ["much", True, float("nan")])
def test_a_threshold_of_another_kind_is_refused_before_anything_runs(four: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"fine\.tolerance is .*; wanted a number"):
        recipe.check(linear_task(), checks=four, thresholds={"fine": {"tolerance": value}})


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_above_zero(four: Any, limit: float) -> None:
    with pytest.raises(ValueError, match="time_limit is"):
        recipe.check(linear_task(), checks=four, time_limit=limit)
