"""Runs the checks in the order of the recipe and collects what they find."""

import difflib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrecipe.checks.table import RECIPE, Check, as_check
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.parts import MissingPartError
from jaxrecipe.probes.kinds import kinds_note
from jaxrecipe.report.report import Report
from jaxrecipe.report.result import Result, Scalar, Status, Table, skipped
from jaxrecipe.setup import Setup, TimeLimitError, make_setup
from jaxrecipe.task import Task
from jaxrecipe.validate import validate

Thresholds = Mapping[str, Mapping[str, Scalar]]
AnyCheck = Check | Callable[..., Result]
"""A row of the table, or a function `check(setup, *, key, ...thresholds) -> Result`."""

TIME_LIMIT = 600.0
"""Seconds of wall time that a check may take; a safety net, on which no result depends."""


def check(
    task: Task,
    *,
    checks: Sequence[AnyCheck] = RECIPE,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    thresholds: Thresholds | None = None,
    expect: Mapping[str, str] | None = None,
    seed: int = 0,
    time_limit: float = TIME_LIMIT,
    watch: Callable[[str, Result | None], None] | None = None,
) -> Report:
    """Run the recipe on a training set-up.

    Args:
        task: the set-up; it is validated first and never changed.
        checks: the checks to choose from, in order; `[*jr.RECIPE, my_check]` adds one of your own, a function
            `my_check(setup, *, key, ...thresholds) -> Result` or a row `jr.Check(run=my_check, stage="own", ...)`.
        only: names of the checks (or stages) to run; by default all that are on by default.
        skip: names of the checks (or stages) to leave out.
        thresholds: `{check: {threshold: value}}`; under "*" for every check that has a threshold of that name.
        expect: `{check: reason}` for checks that are known to fail or warn here: they end as EXPECTED with the reason.
        seed: everything random follows from it; the same seed gives the same report.
        time_limit: seconds of wall time after which a check is ended (TIMEOUT) and the next one begins.
        watch: told `(name, None)` when a check begins and `(name, result)` when it ends, to show progress.

    Returns:
        The report; what is unusual about the task but does not keep it from running stands in its notes.

    Raises:
        InvalidTaskError: if the task cannot work at all; lists everything that is wrong with it.
        ValueError: if a name of a check or threshold does not exist (lists those that do), two checks have one name, a
            threshold has a value of another kind than its default, or the time limit is not above 0.
    """
    if not time_limit > 0:
        raise ValueError(f"time_limit is {time_limit}; wanted seconds above 0, or math.inf for no limit")
    table = as_table(checks)
    chosen = select_checks(table, only=only, skip=skip)
    overrides = threshold_overrides(thresholds or {}, table)
    require_known(expect or {}, "expect", table)
    started, results, tell = time.perf_counter(), [], watch or (lambda *_: None)
    with counting_compiles() as compiles:
        unusual = validate(task)
        setup = make_setup(task, seed=seed)
        note = kinds_note(setup)
        for one in chosen:
            tell(one.name, None)
            result = run_one(setup, one, thresholds=overrides.get(one.name), time_limit=time_limit)
            results.append(replace(result, expected=(expect or {}).get(one.name, "")))
            tell(one.name, results[-1])
    return Report(
        task=task.name,
        results=tuple(results),
        seed=seed,
        seconds=time.perf_counter() - started,
        programs=compiles.programs,
        versions=versions(),
        notes=(
            *(f"Task warning: {problem}" for problem in unusual),
            *filter(None, [note]),
            *(task.loop.facts.notes if task.loop and task.loop.facts else ()),
        ),
    )


def run_one(
    setup: Setup,
    check: AnyCheck,
    *,
    thresholds: Mapping[str, Scalar] | None = None,
    time_limit: float = TIME_LIMIT,
) -> Result:
    """One check, timed, its name and thresholds written down.

    If it raises, the result is CRASHED and never "your model is wrong"; beyond the limit, it is TIMEOUT.
    """
    row, values = as_check(check), dict(thresholds or {})
    started = time.perf_counter()
    with counting_compiles() as compiles:
        try:
            with setup.limited(time_limit):
                missing = row.missing(setup)
                result = skipped(missing) if missing else _result_of(row, row.run(setup, key=setup.key, **values))
        except TimeLimitError:
            result = _timed_out(time_limit)
        except MissingPartError as error:
            result = skipped(str(error))
        except Exception as error:
            result = _crashed(error)
    return replace(
        result,
        name=row.name,
        stage=row.stage,
        thresholds={**row.thresholds, **values},
        seconds=time.perf_counter() - started,
        programs=compiles.programs,
    )


def _result_of(row: Check, returned: Any) -> Result:
    """What a check returned, if that is a result; a check of the user's own may have returned anything."""
    if not isinstance(returned, Result):
        kind = type(returned).__name__
        raise TypeError(
            f"{row.name} returned a {kind}; wanted jr.Result(summary=..., findings=(...)) or jr.skipped(...)."
        )
    return returned


def as_table(checks: Sequence[AnyCheck]) -> tuple[Check, ...]:
    """Rows for all checks given.

    Raises:
        ValueError: if two have one name.
    """
    table = tuple(map(as_check, checks))
    names = [row.name for row in table]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"checks: {', '.join(twice)} stands there more than once; each check needs a name of its own")
    return table


def select_checks(
    table: Sequence[Check] = RECIPE, *, only: Collection[str] | None = None, skip: Collection[str] = ()
) -> list[Check]:
    """The checks that `only` and `skip` leave, in order; both take names of checks and of stages.

    Raises:
        ValueError: if a name is neither a check nor a stage.
    """
    require_known([*(only or ()), *skip], "only and skip", table, stages=True)
    wanted = [row for row in table if (row.default if only is None else {row.name, row.stage} & set(only))]
    return [row for row in wanted if not {row.name, row.stage} & set(skip)]


def versions() -> dict[str, str]:
    """Versions of what a result depends on, and the devices it was measured on; what is not loaded is left out."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy", "jaxrecipe")
    found = {name: getattr(sys.modules.get(name), "__version__", "") for name in names}
    packages = {name: str(version) for name, version in found.items() if version}
    return {**packages, "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}"}


def require_known(names: Collection[str], where: str, table: Sequence[Check] = RECIPE, *, stages: bool = False) -> None:
    """Every name must be a check (or a stage).

    Raises:
        ValueError: if one is not; says which it may have been, and lists those that there are.
    """
    valid = [row.name for row in table] + (sorted({row.stage for row in table}) if stages else [])
    unknown = [f"{name}{suggestion(name, valid)}" for name in names if name not in valid]
    if unknown:
        raise ValueError(f"{where}: no check is called {', '.join(unknown)}; the names are {', '.join(valid)}")


def suggestion(name: str, known: Collection[str]) -> str:
    """Words that ask whether the nearest known name was meant, to stand behind a name; empty where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def threshold_overrides(thresholds: Thresholds, table: Sequence[Check] = RECIPE) -> dict[str, dict[str, Scalar]]:
    """Keyword arguments for each check, those under "*" first."""
    require_known([name for name in thresholds if name != "*"], "thresholds", table)
    suite = thresholds.get("*", {})
    everywhere = {name for row in table for name in row.thresholds}
    problems = [f'"*" has {name}, which no check has' for name in suite if name not in everywhere]
    overrides = {}
    for row in table:
        own, valid = thresholds.get(row.name, {}), row.thresholds
        problems += [
            f"{row.name} has no threshold {name}{suggestion(name, valid)}; it has {', '.join(valid) or 'none'}"
            for name in own
            if name not in valid
        ]
        overrides[row.name] = {**{k: v for k, v in suite.items() if k in valid}, **own}
        problems += [
            f"{row.name}.{name} is {value!r}; wanted {_KINDS[type(valid[name])]}, as its default {valid[name]!r}"
            for name, value in overrides[row.name].items()
            if name in valid and not _is_like(value, valid[name])
        ]
    if problems:
        raise ValueError("thresholds: " + "; ".join(problems))
    return overrides


_KINDS = {bool: "True or False", int: "a number", float: "a number", str: "a text"}


def _is_like(value: Any, default: Scalar) -> bool:
    """Whether a value can stand for a threshold: of the kind of the default, and not NaN, which nothing exceeds."""
    if isinstance(default, bool | str):
        return type(value) is type(default)
    number = isinstance(value, int | float | np.integer | np.floating) and type(value) is not bool
    return number and not math.isnan(value)


def _timed_out(limit: float) -> Result:
    return Result(
        summary=f"The check was ended after {limit:g} s, its limit of wall time. This says nothing about your set-up: "
        "give it more time (time_limit), a smaller model, or leave it out with skip.",
        ended=Status.TIMEOUT,
    )


def _crashed(error: Exception) -> Result:
    """A check that raised has proved nothing about the set-up."""
    message = str(error).splitlines()[0] if str(error) else "no message"
    return Result(
        summary=f"The check stopped with {type(error).__name__}: {message} This says nothing about your set-up. If the "
        "traceback begins in your code, it may need another declaration in the task; otherwise please report it. The "
        "other checks are not affected; leave this one out with skip.",
        evidence=(Table(title="Traceback", columns=("line",), rows=[(line,) for line in traceback_lines(error)]),),
        ended=Status.CRASHED,
    )


OURS = str(Path(__file__).parent) + os.sep
LIBRARIES = os.sep + "site-packages" + os.sep
MOST_OWN_FRAMES = 3
"""Of the user's own frames the innermost so many stand first; the whole traceback below them has all."""


def traceback_lines(error: BaseException) -> list[str]:
    """The traceback in lines: first where it last passed through the user's own code, then the whole of it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(OURS) and LIBRARIES not in frame.filename]
    lines = []
    if own:
        lines += ["In your code:", *"".join(traceback.format_list(own[-MOST_OWN_FRAMES:])).splitlines(), "All of it:"]
    return lines + [line for part in traceback.format_exception(error) for line in part.rstrip().splitlines()]
