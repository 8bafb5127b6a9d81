"""Runs the checks in the order of the recipe and collects what they find."""

import inspect
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib.metadata import version

import jax

from jaxrecipe.checks import data, precision, skeleton
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.report.result import Report, Result, Scalar, Status, Table
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task
from jaxrecipe.validate import validate

Check = Callable[..., Result]
"""`check(setup, *, key, ...thresholds) -> Result`."""
Thresholds = Mapping[str, Mapping[str, Scalar]]

RECIPE: tuple[Check, ...] = (*data.CHECKS, *skeleton.CHECKS, *precision.CHECKS)
"""Every check, in the order in which the recipe takes the steps."""


def stage_of(check: Check) -> str:
    """The recipe's stage that a check belongs to: the folder it lives in."""
    return check.__module__.split(".")[-2]


def thresholds_of(check: Check) -> dict[str, Scalar]:
    """The thresholds of a check by name, with their defaults."""
    parameters = inspect.signature(check).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}


def check(
    task: Task,
    *,
    only: Collection[str] | None = None,
    skip: Collection[str] = (),
    thresholds: Thresholds | None = None,
    expect: Mapping[str, str] | None = None,
    seed: int = 0,
    watch: Callable[[str, Result | None], None] | None = None,
) -> Report:
    """Run the recipe on a training set-up.

    Args:
        task: the set-up; it is validated first and never changed.
        only: names of the checks (or stages) to run; all by default.
        skip: names of the checks (or stages) to leave out.
        thresholds: `{check: {threshold: value}}`; under "*" for every check that has a threshold of that name.
        expect: `{check: reason}` for checks that are known to fail or warn here: they end as EXPECTED with the reason.
        seed: everything random follows from it; the same seed gives the same report.
        watch: told `(name, None)` when a check begins and `(name, result)` when it ends, to show progress.

    Returns:
        The report; what is odd about the task but does not keep it from running stands in its notes.

    Raises:
        InvalidTask: if the task cannot work at all; lists everything that is wrong with it.
        ValueError: if a name of a check or threshold does not exist; lists those that do.
    """
    chosen = select_checks(only=only, skip=skip)
    overrides = threshold_overrides(thresholds or {})
    require_known(expect or {}, "expect")
    started, results, tell = time.perf_counter(), [], watch or (lambda *_: None)
    with counting_compiles() as compiles:
        odd = validate(task)
        setup = make_setup(task, seed=seed)
        for one in chosen:
            tell(one.__name__, None)
            result = run_one(setup, one, **overrides.get(one.__name__, {}))
            results.append(as_expected(result, (expect or {}).get(one.__name__)))
            tell(one.__name__, results[-1])
    return Report(
        task=task.name,
        results=tuple(results),
        seed=seed,
        seconds=time.perf_counter() - started,
        programs=compiles.programs,
        versions=versions(),
        notes=tuple(f"Odd in the task: {problem}" for problem in odd),
    )


def run_one(setup: Setup, check: Check, **thresholds: Scalar) -> Result:
    """One check, timed, its thresholds written down; if it raises, the result says CRASHED and never "your model is wrong"."""
    in_force = {**thresholds_of(check), **thresholds}
    started = time.perf_counter()
    with counting_compiles() as compiles:
        try:
            result = check(setup, key=setup.key, **thresholds)
        except Exception as error:
            result = _crashed(check, error)
    seconds = time.perf_counter() - started
    return replace(result, thresholds=in_force, seconds=seconds, programs=compiles.programs)


def select_checks(*, only: Collection[str] | None = None, skip: Collection[str] = ()) -> list[Check]:
    """The checks that `only` and `skip` leave, in recipe order; both take names of checks and of stages.

    Raises:
        ValueError: if a name is neither a check nor a stage.
    """
    require_known([*(only or ()), *skip], "only and skip", stages=True)
    wanted = [c for c in RECIPE if only is None or {c.__name__, stage_of(c)} & set(only)]
    return [c for c in wanted if not {c.__name__, stage_of(c)} & set(skip)]


def versions() -> dict[str, str]:
    """Versions of what a result depends on, and the devices it was measured on."""
    packages = {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy", "jaxrecipe")}
    return {**packages, "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}"}


def require_known(names: Collection[str], where: str, *, stages: bool = False) -> None:
    """Every name must be a check (or a stage)."""
    valid = [c.__name__ for c in RECIPE] + (sorted({stage_of(c) for c in RECIPE}) if stages else [])
    unknown = [name for name in names if name not in valid]
    if unknown:
        raise ValueError(f"{where}: no check is called {', '.join(unknown)}; the names are {', '.join(valid)}")


def threshold_overrides(thresholds: Thresholds) -> dict[str, dict[str, Scalar]]:
    """Keyword arguments for each check, those under "*" first."""
    require_known([name for name in thresholds if name != "*"], "thresholds")
    suite = thresholds.get("*", {})
    everywhere = {name for check in RECIPE for name in thresholds_of(check)}
    problems = [f'"*" has {name}, which no check has' for name in suite if name not in everywhere]
    overrides = {}
    for check in RECIPE:
        own, valid = thresholds.get(check.__name__, {}), thresholds_of(check)
        problems += [
            f"{check.__name__} has no threshold {name}; it has {', '.join(valid) or 'none'}"
            for name in own
            if name not in valid
        ]
        overrides[check.__name__] = {**{k: v for k, v in suite.items() if k in valid}, **own}
    if problems:
        raise ValueError("thresholds: " + "; ".join(problems))
    return overrides


def as_expected(result: Result, reason: str | None) -> Result:
    """A failure that the user announced is EXPECTED; a pass that should have failed says so."""
    if reason is None:
        return result
    if result.status in (Status.FAIL, Status.WARN):
        finding = f"{result.finding} Expected ({result.status}): {reason}"
        return replace(result, status=Status.EXPECTED, finding=finding)
    return replace(
        result, hint=f"{result.hint} It was expected to fail ({reason}) and did not: remove the expectation.".strip()
    )


def _crashed(check: Check, error: Exception) -> Result:
    """A check that raised has proved nothing about the set-up."""
    lines = traceback.format_exception(error)
    return Result(
        name=check.__name__,
        stage=stage_of(check),
        status=Status.CRASHED,
        finding=f"The check stopped with {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
        hint="This says nothing about your set-up. If the traceback ends in your code, it may need another declaration in the task; "
        "otherwise please report it. The other checks are not affected; leave this one out with skip.",
        evidence=(
            Table(
                title="Traceback", columns=("line",), rows=[(line.rstrip(),) for line in "".join(lines).splitlines()]
            ),
        ),
    )
