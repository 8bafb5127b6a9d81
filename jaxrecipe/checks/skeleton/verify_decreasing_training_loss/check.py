"""Verify decreasing training loss: a bit more capacity gives a bit less training loss."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.verify_decreasing_training_loss.linear_baseline import linear_rival
from jaxrecipe.probes.changed_values import redrawn_zeros
from jaxrecipe.probes.dependencies import flat_outputs, on_host
from jaxrecipe.probes.layers import Joint, joints
from jaxrecipe.probes.rounding import model_rounding
from jaxrecipe.report.result import Curve, Evidence, Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup, with_model

_result = partial(unsorted_result, name="verify_decreasing_training_loss", stage="skeleton")


def verify_decreasing_training_loss(
    setup: Setup,
    *,
    key: PRNGKeyArray,
    examples: int = 256,
    steps: int = 150,
    behind: float = 0.25,
    seconds: float = 8.0,
) -> Result:
    """A larger model fits the same examples better, and any model better than a linear one.

    What it does: where the task gives `capacities`, trains each of these models for the same steps on the same few hundred examples, smallest
    first. Otherwise your own model, with your own training step, against a linear model that sees 32 directions of the inputs. Before that it asks whether
    the model is more than linear at all: whether f(a) + f(b) = f(a + b) + f(0), and if so, how many layers in a row were needed for that. It also
    reads off the traced program what stands between the layers.

    Why it matters: a network without activations is a slow linear model whatever its size; a softmax or sigmoid in mid-network lets hardly any
    signal through. Both train, and end far above what the capacity promises.

    What to do: put an activation (relu, gelu) between the layers; keep softmax and sigmoid for the loss and for gates. If more capacity does not
    help, look at initialisation, normalisation and the learning rate.

    Args:
        setup: the set-up.
        key: seeds the steps.
        examples: at most so many training examples.
        steps: training steps of each model: a third of them when the user's model is far ahead by then, three times as many when it is behind.
        behind: a model is behind when the lead of the other is more than this share of what was gained since knowing nothing, since after few steps
            less than that says nothing. Behind a linear model is a WARN, or a FAIL where a softmax or sigmoid stands straight before a layer, which alone is
            a WARN: gates and attention, whose values are multiplied with other values, do not count.
        seconds: after this much time a training is stopped.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "verify decreasing training loss".
    """
    pool = np.sort(np.random.default_rng([setup.seed, 3]).permutation(setup.train.size)[:examples])
    if setup.task.capacities:
        return _ladder(setup, key, pool, steps, behind, seconds)
    shape = _shape(setup, key)
    between = _between(setup)
    measured: dict[str, Any] = {"layers in a row without non-linearity": shape.depth if shape.affine else 0.0}
    expected: dict[str, Any] = {"layers in a row without non-linearity": "at most 1"}
    tables = _tables(between)
    if shape.affine:
        status, finding, hint = _of_affine(shape)
        return _result(status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=tables)
    pointless = [joint for joint in between if joint.pointless]
    if pointless:
        first, second = pointless[0].first, pointless[0].second
        middle = f"{first.inputs if first else 0} to {second.inputs} to {second.outputs}"
        finding = f"Two layers follow each other with nothing between them ({middle}); one matrix could do the same."
        return _result(
            status=Status.FAIL,
            finding=finding,
            hint=NOTHING_BETWEEN,
            measured=measured,
            expected=expected,
            evidence=tables,
        )
    race = _race(setup, key, pool, steps, behind, seconds)
    if race is None:
        finding = "The model is more than linear; there is no linear model that it could fairly be compared with."
        return _result(status=Status.PASS, finding=finding, measured=measured, expected=expected, evidence=tables)
    measured |= {
        "training loss": race.ours[-1],
        "training loss of a linear model": race.rival[-1],
        "steps": race.steps[-1],
    }
    expected["training loss"] = f"{race.rival[-1] + behind * race.gap:.4g} or less"
    status, finding, hint = _of_race(race, between, behind)
    series = {"model": np.array(race.ours), "linear model": np.array(race.rival)}
    curve = Curve(title=f"Loss on {len(pool)} training examples", x=np.array(race.steps), series=series, y_label="loss")
    return _result(
        status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=(curve, *tables)
    )


@dataclass(frozen=True)
class Shape:
    """Whether the model is affine in its inputs; how many matrices stand in a row there; whether a narrow layer explains them."""

    affine: bool
    depth: float = 0.0
    narrow: bool = False


@dataclass
class Race:
    """Training losses of two models at the same steps."""

    steps: list[int]
    ours: list[float]
    rival: list[float]
    finished: bool = False

    @property
    def gap(self) -> float:
        """What the better one gained."""
        return max(self.rival[0] - min(self.rival[-1], self.ours[-1]), 0.0)

    def is_behind(self, share: float) -> bool:
        """Whether ours is clearly worse."""
        return not self.ours[-1] <= self.rival[-1] + share * self.gap


NO_ACTIVATION = "There is no non-linearity between the layers: {depth:.0f} matrices in a row do what one could. Put an activation (relu, gelu) after each hidden layer, and check that it is applied to the value that goes on."
NARROW = "If a linear bottleneck is meant (a factorised layer, principal components), all is well; otherwise an activation is missing between the layers."
NOTHING_BETWEEN = "The activation between these layers is missing (no non-linearity): a wide layer between two narrower ones has no use without one. Put relu or gelu there."
SQUASHED = "A {what} stands in mid-network, straight before the next layer: it squashes its values and lets hardly any gradient through. Use relu or gelu between layers; a {what} belongs into the loss or into gates."
BEHIND = "Look for saturating activations (softmax, sigmoid) or a bottleneck in mid-network, missing residual or normalisation layers, an initialisation that is too small or too large, and a learning rate that does not suit this model."
NOT_GROWING = "More capacity should fit the same examples better: the larger models probably need another initialisation, normalisation or learning rate, or have a bottleneck that does not grow."


def _shape(setup: Setup, key: PRNGKeyArray) -> Shape:
    """Test additivity on pairs of the batch's examples, then how the function grows with its matrices."""
    inputs, _ = on_host(setup.batch)
    params = redrawn_zeros(setup.params, key)
    floating = [trees.is_floating(leaf) for leaf in jax.tree.leaves(inputs)]
    if not any(floating) or len(floating) != sum(floating):
        return Shape(affine=False)
    other = jax.tree.map(lambda leaf: np.roll(leaf, 1, axis=0)[::-1], inputs)
    nothing = jax.tree.map(np.zeros_like, inputs)

    def at(params: Any, inputs: Any) -> np.ndarray:
        return flat_outputs(setup.forward(params, setup.model_state, inputs, train=False, key=key)[0])

    base = at(params, nothing)
    first, second = at(params, inputs) - base, at(params, other) - base
    both = at(params, jax.tree.map(np.add, inputs, other)) - base
    size = np.linalg.norm(first) + np.linalg.norm(second)
    tolerance = max(1e-3, 8 * model_rounding(setup)) * size + 1e-5 * np.linalg.norm(base)
    if (
        not np.isfinite(size)
        or size <= 1e-4 * np.linalg.norm(base)
        or np.linalg.norm(first + second - both) > tolerance
    ):
        return Shape(affine=False)
    doubled = jax.tree.map(lambda leaf: 2 * leaf if trees.is_floating(leaf) and leaf.ndim > 1 else leaf, params)
    grown = np.linalg.norm(at(doubled, inputs) - at(doubled, nothing)) / np.linalg.norm(first)
    features = sum(int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(inputs))
    strengths = np.linalg.svd(first, compute_uv=False)
    rank = int((strengths > 1e-4 * strengths[0]).sum())
    return Shape(affine=True, depth=float(np.log2(grown)), narrow=rank < min(*first.shape, features) - 1)


def _of_affine(shape: Shape) -> tuple[Status, str, str]:
    if shape.depth < 1.5:
        return Status.PASS, "The model is linear in its inputs, in one layer: linear by design.", ""
    finding = f"The model is linear in its inputs, although {shape.depth:.0f} matrices stand in a row."
    if shape.narrow:
        return Status.WARN, finding, NARROW
    return Status.FAIL, finding, NO_ACTIVATION.format(depth=shape.depth)


def _between(setup: Setup) -> list[Joint]:
    """What stands between the layers; nothing where the model cannot be traced without a key."""
    try:
        return joints(setup)
    except Exception:  # a model that wants a key at evaluation: other checks say so
        return []


def _of_race(race: Race, between: list[Joint], behind: float) -> tuple[Status, str, str]:
    """Status, finding and hint of the race against the linear model."""
    told = f"After {race.steps[-1]} steps the training loss is {race.ours[-1]:.4g}, that of a linear model {race.rival[-1]:.4g}"
    lost = race.is_behind(behind) and race.finished
    squashed = [joint.between for joint in between if joint.between in ("sigmoid", "softmax")]
    if squashed:
        what = "softmax" if "softmax" in squashed else "sigmoid"
        status = Status.FAIL if lost else Status.WARN
        return status, f"{told}, and a {what} stands in mid-network.", SQUASHED.format(what=what)
    if lost:
        return Status.WARN, f"{told}: the larger model fits worse.", BEHIND
    return Status.PASS, f"{told}{'; there was no time to say more' if race.is_behind(behind) else ''}.", ""


def _race(setup: Setup, key: PRNGKeyArray, pool: np.ndarray, steps: int, behind: float, seconds: float) -> Race | None:
    """Train both on the same batches; on and on where ours is behind."""
    model = linear_rival(setup, setup.prepared("train", pool)[0])
    if model is None or setup.task.mixes_examples:
        return None
    rival = with_model(setup, model)
    began, race = time.perf_counter(), Race([], [], [])
    try:
        states = [rival.fresh_state(), setup.fresh_state()]
    except Exception:  # an optimizer that is made for the user's parameters alone, with masks or labels by path
        return None
    for until in (0, steps // 3, steps, 2 * steps, 3 * steps):
        for which, one in enumerate((rival, setup)):
            states[which] = _train(one, key, states[which], pool, race.steps[-1] if race.steps else 0, until)
        race.steps.append(until)
        race.rival.append(_loss(rival, key, states[0], pool))
        race.ours.append(_loss(setup, key, states[1], pool))
        ahead = not race.is_behind(behind)
        far_ahead = until > 0 and race.ours[-1] <= race.rival[-1] - behind * race.gap
        race.finished = until == 3 * steps or not np.isfinite(race.ours[-1])
        if (
            far_ahead
            or (until >= steps and ahead)
            or not np.isfinite(race.ours[-1])
            or time.perf_counter() - began > seconds
        ):
            break
    return race if np.isfinite(race.rival[-1]) else None


def _train(setup: Setup, key: PRNGKeyArray, state: Any, pool: np.ndarray, start: int, end: int) -> Any:
    """Steps `start` to `end` on batches of the pool."""
    for step in range(start, end):
        inputs, targets = setup.prepared("train", _batch(setup, pool, step))
        state, _ = setup.step(state, inputs, targets, jax.random.fold_in(key, step))
    return state


def _batch(setup: Setup, pool: np.ndarray, step: int) -> np.ndarray:
    """Which examples of the pool a step gets: the pool in turns, in an order of its own each time."""
    size = setup.batch_size
    turns = -(-size // len(pool)) + 1
    first = step * size // len(pool)
    orders = [np.random.default_rng([7, first + turn]).permutation(pool) for turn in range(turns)]
    return np.concatenate(orders)[step * size - first * len(pool) :][:size]


def _loss(setup: Setup, key: PRNGKeyArray, state: Any, pool: np.ndarray) -> float:
    """Mean loss over (nearly all of) the pool, of training and evaluation mode the lower."""
    params, model_state = trees.copy(setup.loop.variables(state))
    size = setup.batch_size
    chunks = [
        np.resize(pool, max(size, len(pool) // size * size))[i : i + size]
        for i in range(0, max(len(pool) - size + 1, 1), size)
    ]
    data = [setup.prepared("train", chunk) for chunk in chunks]
    by_mode = [
        np.mean([setup.mean_loss(params, model_state, *batch, train=train, key=key) for batch in data])
        for train in (True, False)
    ]
    return float(np.nanmin(by_mode)) if np.isfinite(by_mode).any() else float("nan")


def _ladder(setup: Setup, key: PRNGKeyArray, pool: np.ndarray, steps: int, behind: float, seconds: float) -> Result:
    """Train each of the task's capacities; each may be no worse than the best of the smaller ones."""
    began, losses, names = time.perf_counter(), [], []
    start = 0.0
    for number, model in enumerate(setup.task.capacities):
        one = with_model(setup, model)
        state = one.fresh_state()
        start = _loss(one, key, state, pool) if number == 0 else start
        losses.append(_loss(one, key, _train(one, key, state, pool, 0, steps), pool))
        names.append(f"{number}: {model.name}")
        if time.perf_counter() - began > 3 * seconds:
            break
    gap = max(start - min(losses), 0.0)
    worse = [i for i in range(1, len(losses)) if not losses[i] <= min(losses[:i]) + behind * gap]
    measured = dict(zip(names, losses, strict=True))
    expected = {name: f"{min(losses[:i]) + behind * gap:.4g} or less" for i, name in enumerate(names) if i}
    curve = Curve(
        title="Training loss by capacity",
        x=np.arange(len(losses)),
        series={"training loss": np.array(losses)},
        x_label="capacity",
    )
    told = ", ".join(f"{loss:.4g}" for loss in losses)
    result = partial(_result, measured=measured, expected=expected, evidence=(curve,))
    if not worse:
        return result(status=Status.PASS, finding=f"Training losses by growing capacity: {told}.")
    last = len(losses) - 1 in worse and losses[-1] > start - 0.1 * gap
    finding = f"More capacity does not help: training losses by growing capacity are {told}."
    return result(status=Status.FAIL if last else Status.WARN, finding=finding, hint=NOT_GROWING)


def _tables(between: list[Joint]) -> tuple[Evidence, ...]:
    """What was seen between the layers, where there is something to say."""
    rows = [(str(list(one.first or ["?"])), one.between, str(list(one.second))) for one in between]
    columns = ("layer", "between", "next layer")
    return (
        (Table(title="Layers that are given another layer's values without an activation", columns=columns, rows=rows),)
        if rows
        else ()
    )
