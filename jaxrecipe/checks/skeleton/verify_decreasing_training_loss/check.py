"""Verify decreasing training loss: a bit more capacity gives a bit less training loss."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.linearity import Linearity, linearity
from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.trainings import (
    Pool,
    Race,
    race_against_linear,
    train,
    training_loss,
)
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.layers import Joint, joints
from jaxrecipe.report.result import Curve, Evidence, Result, Table, skipped
from jaxrecipe.setup import Setup, with_model

SEVERAL_LAYERS = 1.5
"""Matrices in a row from which a linear model is deep: between one and two."""
NOTHING_GAINED = 0.1
"""The largest capacity has learned nothing where it closed less than this share of what the best one gained."""


def verify_decreasing_training_loss(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    examples: int = 256,
    steps: int = 150,
    behind: float = 0.25,
) -> Result:
    """A larger model fits the same examples better, and any model better than a linear one.

    What it does: where the task gives `capacities`, trains each of these models for the same steps on the same few
    hundred examples, smallest first. Otherwise your model, with the loop's training step, against a linear model that
    sees 32 directions of the inputs. Before that it asks whether the model is more than linear at all: whether
    f(a) + f(b) = f(a + b) + f(0), and if so, how many layers in a row were needed for that. It also reads off the
    traced program what stands between the layers.

    Why it matters: a network without activations is a slow linear model whatever its size; a softmax or sigmoid in
    mid-network lets hardly any signal through. Both train, and end far above what the capacity promises.

    What to do: put an activation (relu, gelu) between the layers; keep softmax and sigmoid for the loss and for gates.
    If more capacity does not help, look at initialization, normalization and the learning rate. Where there is nothing
    to compare with, declare Task(capacities=[small, large]).

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: at most so many training examples.
        steps: training steps of each model: a third of them when the user's model is far ahead by then, three times as
            many when it is behind.
        behind: a model is behind when the lead of the other is more than this share of what was gained since the start,
            since after few steps less than that says nothing. Behind a linear model is a WARN, or a FAIL where a
            softmax or sigmoid stands straight before a layer, which alone is a WARN: gates and attention, whose values
            are multiplied with other values, do not count.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "verify decreasing training loss".
    """
    pool = np.sort(np.random.default_rng([setup.seed, 3]).permutation(setup.train.size)[:examples])
    if setup.task.capacities:
        return _ladder(setup, key, pool, steps, behind)
    found = linearity(setup, key)
    between = joints(setup)
    in_a_row = Measure(
        name="matrices in a row without an activation",
        value=found.depth,
        high=SEVERAL_LAYERS,
        code="model/no-activation",
    )
    tables = _tables(between)
    if found.affine:
        return _linear(found, in_a_row, tables)
    race = race_against_linear(setup, key, pool, steps, behind)
    structural = [*_missing_activation(between), *_squashed(between, race, behind)]
    if isinstance(race, str):
        reason = f"There is no linear model to compare yours with fairly: {race}. Give Task(capacities=[small, large])."
        if not structural:
            return skipped(reason)
        return Result(summary=reason, findings=tuple(structural), measures=(in_a_row,), evidence=tables)
    lag = _lag(race, behind)
    findings = structural or _behind(race, lag)
    series = {"model": np.array(race.ours), "linear model": np.array(race.rival)}
    curve = Curve(title=f"Loss on {len(pool)} training examples", x=np.array(race.steps), series=series, y_label="loss")
    return Result(
        summary=f"{_so_far(race)}.",
        findings=tuple(findings),
        measures=(
            in_a_row,
            lag,
            Measure(name="training loss", value=race.ours[-1]),
            Measure(name="training loss of a linear model", value=race.rival[-1]),
            Measure(name="steps", value=float(race.steps[-1]), unit="steps"),
        ),
        evidence=(curve, *tables),
    )


def _linear(found: Linearity, in_a_row: Measure, tables: tuple[Evidence, ...]) -> Result:
    """The result for a model that is linear in its inputs."""
    findings: tuple[Finding, ...] = ()
    if found.depth >= SEVERAL_LAYERS:
        message = f"The model is linear in its inputs, although {found.depth:.0f} matrices stand in a row."
        narrow = cause(
            "model/no-activation",
            here="If a linear bottleneck is meant (a factorized layer, principal components), all is well.",
        )
        findings = (
            warning("model/no-activation", message, measures=(in_a_row,), causes=(narrow,))
            if found.narrow
            else failure("model/no-activation", message, measures=(in_a_row,)),
        )
    summary = "The model is linear in its inputs, in one layer: linear by design."
    return Result(summary=summary, findings=findings, measures=(in_a_row,), evidence=tables)


def _missing_activation(between: list[Joint]) -> list[Finding]:
    """A failure where a wide layer between two narrower ones has nothing behind it."""
    sizes = [(joint.first, joint.second) for joint in between if joint.pointless]
    found = [f"{first.inputs} to {second.inputs} to {second.outputs}" for first, second in sizes if first is not None]
    if not found:
        return []
    message = (
        f"Two layers follow each other with nothing between them ({', '.join(found)}); one matrix could do the same."
    )
    return [failure("model/no-activation", message)]


def _squashed(between: list[Joint], race: Race | str, behind: float) -> list[Finding]:
    """A sigmoid or softmax straight before a layer: a failure where the model is behind a linear one as well."""
    kinds = sorted({joint.between for joint in between} & {"sigmoid", "softmax"}, reverse=True)
    if not kinds:
        return []
    here = f"A {' and a '.join(kinds)} stands straight before a layer."
    why = cause("model/saturating-activation", here=here)
    if isinstance(race, str):
        return [warning(why.code, here, causes=(why,))]
    lag = _lag(race, behind)
    make = warning if lag.verdict is None else failure
    message = f"{_so_far(race)}, and a {' and a '.join(kinds)} stands in mid-network."
    return [make(why.code, message, measures=(lag,), causes=(why,))]


def _behind(race: Race, lag: Measure) -> list[Finding]:
    """A warning where the model fits worse than a linear one."""
    if lag.verdict is None:
        return []
    ranked = causes(
        "model/no-better-than-linear",
        "optimizer/learning-rate-too-high",
        "optimizer/learning-rate-too-low",
        "model/saturating-activation",
        "model/outputs-confined",
    )
    message = f"{_so_far(race)}: the larger model fits worse."
    return [warning("model/no-better-than-linear", message, measures=(lag,), causes=ranked)]


def _lag(race: Race, behind: float) -> Measure:
    """How far the model is behind the linear one."""
    return Measure(
        name="behind a linear model, as a share of what was gained",
        value=race.lag,
        high=behind,
        severity=Severity.WARN,
        thresholds={"high": "behind"},
        code="model/no-better-than-linear",
    )


def _so_far(race: Race) -> str:
    return (
        f"After {race.steps[-1]} steps the training loss is {race.ours[-1]:.4g}, that of a linear model "
        f"{race.rival[-1]:.4g}"
    )


def _ladder(setup: Setup, key: PRNGKeyArray, pool: Pool, steps: int, behind: float) -> Result:
    """Train each of the task's capacities; each may be no worse than the best of the smaller ones."""
    losses, names, start = [], [], 0.0
    for number, model in enumerate(setup.task.capacities):
        one = with_model(setup, model)
        state = one.fresh_state()
        start = training_loss(one, key, state, pool) if number == 0 else start
        losses.append(training_loss(one, key, train(one, key, state, pool, 0, steps), pool))
        names.append(f"training loss of capacity {number}, {model.name}")
    gain = max(start - np.nanmin(losses), 0.0)
    highs = [None, *(float(np.nanmin(losses[:i]) + behind * gain) for i in range(1, len(losses)))]
    measures = tuple(
        Measure(name=name, value=loss, high=high, severity=Severity.WARN, code="model/capacity-does-not-help")
        for name, loss, high in zip(names, losses, highs, strict=True)
    )
    worse = tuple(measure for measure in measures if measure.verdict is not None)
    listed = ", ".join(f"{loss:.4g}" for loss in losses)
    findings: tuple[Finding, ...] = ()
    if worse:
        learned_nothing = measures[-1] in worse and not losses[-1] <= start - NOTHING_GAINED * gain
        make = failure if learned_nothing else warning
        message = f"More capacity does not help: training losses by growing capacity are {listed}."
        findings = (make("model/capacity-does-not-help", message, measures=worse),)
    curve = Curve(
        title="Training loss by capacity",
        x=np.arange(len(losses)),
        series={"training loss": np.array(losses)},
        x_label="capacity",
    )
    summary = f"Training losses by growing capacity: {listed}."
    return Result(summary=summary, findings=findings, measures=measures, evidence=(curve,))


def _tables(between: list[Joint]) -> tuple[Evidence, ...]:
    """What was seen between the layers, where there is something to say."""
    rows = [(str(list(one.first or ["?"])), one.between, str(list(one.second))) for one in between]
    columns = ("layer", "between", "next layer")
    title = "Layers that are given another layer's values without an activation"
    return (Table(title=title, columns=columns, rows=rows),) if rows else ()
