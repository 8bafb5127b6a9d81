"""Use backprop to chart dependencies, along time: what output t sees, and whether its target is among it."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.chart_time_dependencies.time_axis import target_distance, time_axis
from jaxrecipe.checks.skeleton.chart_time_dependencies.time_chart import TimeChart, time_chart
from jaxrecipe.diagnosis.causes.table import causes
from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.loss_alignment import token_target
from jaxrecipe.report.result import Matrix, Result, skipped
from jaxrecipe.setup import Setup

DISTANCE = "distance from output t to its target among the inputs"


def chart_time_dependencies(
    setup: Setup, *, key: PRNGKeyArray, positions: int = 8, match: float = 0.99, irregular: float = 0.01
) -> Result:
    """An output that predicts the next step has not seen it, and nothing behind it.

    What it does: changes the inputs at one position after the other and notes which outputs change: a chart of what
    output t sees. Then it finds out which target the loss holds against output t (by changing targets and watching the
    gradient) and which input position that target equals, if any. A model that is declared causal must not see beyond
    t; and no model may see the very input that is its target.

    Why it matters: a causal mask that is missing or off by one, or targets that are not shifted, give a loss that falls
    wonderfully and a model that has learned to copy. Targets that are shifted twice give a model that is asked for the
    step after the next.

    What to do: mask scores above the diagonal (`jnp.tril(jnp.ones((T, T)))`) before the softmax; shift once: inputs
    `tokens[:, :-1]`, targets `tokens[:, 1:]`. Declare `causal=True` for an autoregressive model.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode.
        positions: how many positions are changed, spread over time, the first ones and the last one among them.
        match: the share of the targets of a batch that equal an input at a fixed distance, from which on they count as
            that input.
        irregular: the share of the pairs of positions that are unlike others at the same distance, from which on a view
            of the future comes from positions that were mixed rather than from a mask.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    axis = time_axis(setup, match)
    if isinstance(axis, str):
        return skipped(axis)
    chart = time_chart(setup, axis, key, positions)
    if not chart.seen.any():
        return skipped("No output depends on any position of the inputs; see chart_input_dependencies.")
    target = target_distance(setup, axis, chart.ahead, chart.distances, match)
    ahead, leaking, distance = measures = _measures(setup, chart, target)
    findings: list[Finding] = []
    if chart.ahead > 0 and _must_not_see(setup, chart, target):
        findings.append(_leak(setup, chart, target, (ahead, leaking), irregular=irregular))
    elif _skips(setup, chart, target):
        text = (
            f"The target of output t is the input at {_place(target)}, but output t sees nothing after "
            f"{_place(chart.ahead)}."
        )
        findings.append(failure("loss/target-shifted-twice", text, measures=(distance,)))
    if _copies(setup, chart, target):
        findings.append(_copy(setup, chart, target, distance))
    return Result(
        summary=_summary(chart, target),
        findings=tuple(findings),
        measures=measures if target is not None else measures[:2],
        evidence=(_matrix(chart),),
    )


def _measures(setup: Setup, chart: TimeChart, target: int | None) -> tuple[Measure, Measure, Measure]:
    """How far outputs see ahead, how many see the future, and where their targets stand."""
    last = 0.0 if _must_not_see(setup, chart, target) else None
    tokens = token_target(setup.task.target) is not None
    return (
        Measure(name="positions that output t sees ahead", value=chart.ahead, high=last, unit="positions"),
        Measure(name="outputs that see the future", value=chart.leaking, high=last, unit="outputs"),
        Measure(
            name=DISTANCE,
            value=float("nan") if target is None else target,
            low=chart.ahead + 1.0 if _copies(setup, chart, target) else None,
            high=chart.ahead + 1.0 if tokens and target is not None and chart.ahead <= 0 else None,
            severity=_copy_severity(setup, chart) if _copies(setup, chart, target) else Severity.FAIL,
            unit="positions",
        ),
    )


def _copy_severity(setup: Setup, chart: TimeChart) -> Severity:
    """Outputs that see no input but their own may belong to an autoencoder."""
    return Severity.FAIL if setup.task.causal or min(chart.distances) < chart.ahead else Severity.WARN


def _visible(chart: TimeChart, target: int | None) -> bool:
    """Whether output t sees the input that is its target."""
    return target is not None and target in chart.distances and target <= chart.ahead


def _must_not_see(setup: Setup, chart: TimeChart, target: int | None) -> bool:
    """Whether output t must not see what comes after t: it is declared, or its target is there."""
    return setup.task.causal or (target is not None and target > 0 and _visible(chart, target))


def _copies(setup: Setup, chart: TimeChart, target: int | None) -> bool:
    """Whether output t is asked for an input that it sees and may see."""
    asked = target is not None and target <= 0 and _visible(chart, target)
    return asked and (setup.task.causal or chart.ahead <= 0)


def _skips(setup: Setup, chart: TimeChart, target: int | None) -> bool:
    """Whether output t is asked for a token behind the next one."""
    return token_target(setup.task.target) is not None and target is not None and target > chart.ahead + 1


def _leak(
    setup: Setup, chart: TimeChart, target: int | None, measures: tuple[Measure, ...], *, irregular: float
) -> Finding:
    """Outputs see the future: the shape of what they see says why."""
    length = len(chart.strength)
    asked = (
        "although the task is declared causal" if setup.task.causal else f"and their target is the input {target} ahead"
    )
    text = f"{chart.leaking} of {length} outputs depend on later inputs, up to {chart.ahead} positions ahead, {asked}."
    shape = Measure(name="share of pairs unlike others at their distance", value=chart.irregularity)
    likeliest = ["model/causal-mask-missing", "model/positions-mixed"]
    if chart.irregularity > irregular:
        likeliest = ["model/positions-mixed", "model/causal-mask-missing"]
    elif chart.ahead == 1 < length - 2:
        likeliest = ["model/causal-mask-off-by-one", "model/causal-mask-missing"]
    return failure(likeliest[0], text, measures=(*measures, shape), causes=causes(*likeliest))


def _copy(setup: Setup, chart: TimeChart, target: int | None, measure: Measure) -> Finding:
    """The target is given: certain where time has a direction, otherwise it may be an autoencoder."""
    text = f"The target of output t is the input at {_place(target)}, which output t sees."
    found = ["loss/target-not-shifted", "loss/target-shifted-backwards"]
    if target is not None and target < 0:
        found.reverse()
    severity = _copy_severity(setup, chart)
    return Finding(code=found[0], severity=severity, message=text, measures=(measure,), causes=causes(*found))


def _summary(chart: TimeChart, target: int | None) -> str:
    if chart.ahead > 0:
        return f"Outputs see later inputs, up to {chart.ahead} ahead, and nothing says that they must not."
    known = f", and its target is the input at {_place(target)}" if target is not None else ""
    return f"Output t sees inputs up to {_place(chart.ahead)}{known}."


def _place(distance: int | None) -> str:
    return "t" if not distance else f"t{distance:+d}"


def _matrix(chart: TimeChart, most: int = 32) -> Matrix:
    rows = np.unique(np.linspace(0, len(chart.strength) - 1, min(most, len(chart.strength))).astype(int))
    return Matrix(
        title="Which inputs each output depends on along time",
        values=np.where(chart.seen, chart.strength, 0.0)[rows],
        row_label="output at position",
        column_label="input at position",
        row_names=[str(t) for t in rows],
        column_names=[str(s) for s in chart.positions],
        log=True,
    )
