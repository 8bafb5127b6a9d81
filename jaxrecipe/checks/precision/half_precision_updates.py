"""Half-precision updates: does the optimizer survive parameters or optimizer state that are kept in half precision?"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.finding import failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes import half_precision as half
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup

MOST_ROWS = 40
"""Layers in the table of evidence, the worst first."""


def half_precision_updates(
    setup: Setup, *, key: PRNGKeyArray, steps: int = 4, huge: float = 10.0, lost: float = 0.5
) -> Result:
    """An optimizer whose parameters or state are in half precision makes the updates that it makes in float32.

    What it does: takes a few steps with your own training step and compares what each adds to the parameters with what
    the task's optimizer makes of the float32 gradients in float32: whether it is finite, how large it is, and how much
    of it is lost to rounding.

    Why it matters: Adam divides by the root of a mean of squares plus an epsilon. In float16 an epsilon of 1e-8 (or
    1e-16) is zero, and so are the squares of gradients below 2.4e-4: zero by zero is not a number. In bfloat16 an
    update below 0.4 % of the parameter changes
    nothing: 1 + 0.001 is 1.

    What to do: keep parameters and optimizer state in float32 and compute in half: `Task(policy="float16")`,
    `param_dtype=float32`. If they must be in half precision, give Adam an epsilon of 1e-4 or more for float16, and its
    moments float32.

    Args:
        setup: the set-up.
        key: seeds dropout and the steps.
        steps: how many to take.
        huge: FAIL when a layer's update is larger by this factor than in float32 (an epsilon that vanished gives
            factors of thousands).
        lost: WARN when more than this share of the updates of a layer in half precision changes nothing.

    Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.1 (master weights).
    """
    kept_in = _half_leaves(setup)
    if not kept_in:
        return skipped("Parameters and optimizer state are kept in float32.")
    seen = _compare_steps(setup, key, steps)
    if seen.not_in_float32:
        return skipped("The gradients are not finite in float32 either.")
    kept = (
        f"{len(kept_in)} arrays are kept in half precision "
        f"({', '.join(kept_in[:3])}{', ...' if len(kept_in) > 3 else ''})"
    )
    size, share = _largest_update(seen, huge), _largest_share_lost(seen, lost)
    findings = []
    if seen.broken:
        text = (
            f"After step {seen.taken} {seen.broken} is not finite, though the gradients are and the same "
            "optimizer in float32 is"
        )
        findings.append(failure("precision/epsilon-vanishes", f"{text}; {kept}."))
    if size.verdict is not None:
        worst = max(seen.layers, key=lambda layer: layer.ratio)
        text = f"The update of {worst.name} is {worst.ratio:.3g} times as large as the same optimizer makes in float32"
        findings.append(failure("precision/epsilon-vanishes", f"{text}; {kept}.", measures=(size,)))
    if share.verdict is not None:
        worst = max(seen.layers, key=lambda layer: layer.lost)
        text = f"{worst.lost:.0%} of the updates of {worst.name} are lost to rounding; {kept}."
        findings.append(warning("precision/updates-vanish", text, measures=(share,)))
    return Result(
        summary=f"The updates are those of float32 up to rounding; {kept}.",
        findings=tuple(findings),
        measures=(size, share, Measure(name="steps taken", value=seen.taken, unit="steps")),
        evidence=(_table(seen),) if seen.layers else (),
    )


def _largest_update(seen: "Steps", huge: float) -> Measure:
    return Measure(
        name="largest update over its size in float32",
        value=max((layer.ratio for layer in seen.layers), default=1.0),
        high=huge,
        thresholds={"high": "huge"},
        code="precision/epsilon-vanishes",
    )


def _largest_share_lost(seen: "Steps", lost: float) -> Measure:
    return Measure(
        name="largest share of a layer's updates that is lost",
        value=max((layer.lost for layer in seen.layers), default=0.0),
        high=lost,
        severity=Severity.WARN,
        thresholds={"high": "lost"},
        code="precision/updates-vanish",
    )


@dataclass(frozen=True)
class Layer:
    """One layer's updates: their norm over that in float32, and the share of them that changed nothing."""

    name: str
    dtype: str
    ratio: float
    lost: float


@dataclass(frozen=True)
class Steps:
    """What a few steps did. `broken` is the first parameter that was not finite any more, "" when all are."""

    taken: int
    layers: list[Layer]
    broken: str
    not_in_float32: bool = False


def _half_leaves(setup: Setup) -> list[str]:
    """Paths of the half-precision arrays of the loop's state that are neither its loss scale nor model state."""
    state = setup.fresh_state()
    _, model_state = setup.loop.variables(state)
    forward_only = set(map(id, jax.tree.leaves(model_state)))
    return [
        path
        for path, leaf in trees.named_leaves(state).items()
        if trees.is_floating(leaf) and leaf.dtype.name in half.HALF and leaf.ndim and id(leaf) not in forward_only
    ]


def _compare_steps(setup: Setup, key: PRNGKeyArray, steps: int) -> Steps:
    """Training steps on the first batch, each beside one of the same optimizer in float32 from the same parameters."""
    gradients = half.gradients(setup, key)
    state = setup.fresh_state()
    params = trees.copy(setup.params)
    optimizer_state = None
    sums: dict[str, np.ndarray] = {}
    layers: list[Layer] = []
    for step in range(steps):
        full = gradients.full(params, None)
        if not bool(trees.all_finite(full)):
            return Steps(step, layers, "", not_in_float32=step == 0)
        wanted, optimizer_state = half.optimizer_step(setup, params, full, optimizer_state)
        state, _ = setup.step(state, *setup.batch, jax.random.fold_in(key, step))
        after = trees.copy(setup.loop.variables(state)[0])
        bad = int(trees.first_nonfinite(after))
        if bad >= 0 and bool(trees.all_finite(wanted)):
            return Steps(step + 1, layers, trees.paths(after)[bad])
        _add_squares(sums, params, after, wanted)
        params = after
        layers = [_layer(name, setup.params, row) for name, row in sums.items()]
    return Steps(steps, layers, "")


def _add_squares(sums: dict[str, np.ndarray], before: Any, after: Any, wanted: Any) -> None:
    """Squares of the real and the wanted updates, updates that changed nothing, and all that should have, by layer."""
    old, new, wide = half.as_numpy(before), half.as_numpy(after), half.as_numpy(wanted)
    for name in old:
        moved, should = new[name] - old[name], wide[name] != 0
        row = np.asarray([np.sum(moved**2), np.sum(wide[name] ** 2), np.sum(should & (moved == 0)), should.sum()])
        # A step that was skipped as a whole says nothing about the optimizer.
        sums[name] = sums.get(name, np.zeros(4)) + (row if moved.any() or not any(_moved(old, new)) else 0 * row)


def _moved(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[bool]:
    return [bool((new[name] != old[name]).any()) for name in old]


def _layer(name: str, params: Any, row: np.ndarray) -> Layer:
    moved, wanted, lost, should = (float(number) for number in row)
    dtype = trees.named_leaves(params)[name].dtype.name
    ratio = np.sqrt(moved / wanted) if wanted else 1.0
    return Layer(name, dtype, float(ratio), lost / should if should and dtype in half.HALF else 0.0)


def _table(found: Steps) -> Table:
    rows = sorted(found.layers, key=lambda layer: -abs(np.log(max(layer.ratio, 1e-30))))[:MOST_ROWS]
    return Table(
        title="Updates in half precision against float32",
        columns=("layer", "kept in", "size over its size in float32", "share that changes nothing"),
        rows=[(layer.name, layer.dtype, layer.ratio, layer.lost) for layer in rows],
    )
