"""Whether another start would train better: the experiment that a word about initial values must have behind it.

Both trainings take steps on the same batches with the library's loop and the task's optimizer, from several
initializations, and the other must be ahead each time. What a start costs is paid once, so there ours gets three times
the steps; inputs that are not scaled cost something at each step, so there both take as many.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.probes.constant_predictor import constant_at_init
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import heads
from jaxrecipe.task import Model, Task

STEPS = 240
"""Steps of our training: by then a bias that is off by ordinary numbers is learned."""
HEAD_START = 3
"""Another start takes this many times fewer steps."""
INITIALIZATIONS = 3
"""Both are trained from so many."""
ERRORS = 3.0
"""Standard errors, over the initializations, that the other start must be ahead by."""
SCORED = 4
"""Training batches on which both are scored."""
LARGE_LEAD = 0.1
"""A lead of this share of the constant predictor's loss decides a training."""
SMALL_LEAD, TIMES = 0.02, 5.0
"""A smaller lead does too, down to this share, where our loss is still so many times the other's."""
WRONG_SCALE = 3.0
"""Matrices this many times larger or smaller than their fan-in asks for are another initialization."""
FEWEST = 16
"""Numbers of a matrix from which its deviation means anything."""


@dataclass(frozen=True)
class OtherStart:
    """A start to compare with.

    Attributes:
        name: what is other, in words that begin a sentence.
        task: what is trained.
        outputs: how its outputs read in the units of the set-up's own loss.
        steps: how many ours takes against it.
    """

    name: str
    task: Task
    outputs: Callable[[Any], Any] = field(default=lambda outputs: outputs)
    steps: int = STEPS


@dataclass(frozen=True)
class Comparison:
    """Training losses from each initialization.

    Attributes:
        name: which start it was compared with, in words.
        ours, other: loss of each initialization; not finite where a training diverged.
        steps, other_steps: after how many steps.
        scale: what differences of losses are measured by.
    """

    name: str
    steps: int
    other_steps: int
    ours: Float[np.ndarray, "initializations"]
    other: Float[np.ndarray, "initializations"]
    scale: float

    @property
    def better(self) -> bool:
        """Whether the other start is ahead each time, beyond the spread, and by something that matters."""
        if len(self.ours) < INITIALIZATIONS or not all(map(self._ahead, self.ours, self.other)):
            return False
        lead = (self.ours - self.other)[np.isfinite(self.ours)]
        return len(lead) < INITIALIZATIONS or bool(lead.mean() > ERRORS * lead.std(ddof=1) / np.sqrt(len(lead)))

    def _ahead(self, ours: float, other: float) -> bool:
        return is_ahead(ours, other, self.scale)

    @property
    def sentence(self) -> str:
        """Both losses with their steps."""
        ours, other = (float(np.mean(losses)) for losses in (self.ours, self.other))
        return (
            f"{self.name} the training loss is {other:.4g} after {self.other_steps} steps, as it is {ours:.4g} after "
            f"{self.steps}"
        )


def is_ahead(ours: float, other: float, scale: float) -> bool:
    """Whether a loss is lower than ours by something that matters; one of ours that is not finite has lost."""
    if not np.isfinite(other):
        return False
    lead = ours - other if np.isfinite(ours) else np.inf
    return bool(lead > LARGE_LEAD * scale or (lead > SMALL_LEAD * scale and lead > (TIMES - 1.0) * max(other, 0.0)))


def better_start(setup: Setup, suspects: tuple[Cause, ...]) -> Comparison | None:
    """The first start that is better, those tried first that would repair the likeliest causes; the last that was tried
    where none is, and None where none could be, as without an optimizer. Asked once for all checks.
    """
    if not setup.task.has_optimizer:
        return None
    repairs = [ARMS[one.code] for one in suspects if one.code in ARMS]
    found = None
    for arm in dict.fromkeys((*repairs, from_the_constant)):
        found = setup.memo((better_start, arm), lambda arm=arm: _compared(setup, arm(setup))) or found
        if found is not None and found.better:
            return found
    return found


def _compared(setup: Setup, start: OtherStart | None) -> Comparison | None:
    return None if start is None else compare_starts(setup, start)


def compare_starts(setup: Setup, start: OtherStart) -> Comparison:
    """Train from both starts, one initialization after the other; stops at the first that is not better."""
    rival, scale = make_setup(start.task.replace(loop=None), seed=setup.seed), constant_at_init(setup).scale
    ours, other, short = [], [], STEPS // HEAD_START
    for number in range(INITIALIZATIONS):
        other.append(_trained(setup, rival, number, short, start.outputs))
        ours.append(_ours(setup, number, start.steps))
        if not is_ahead(ours[-1], other[-1], scale):
            break
    return Comparison(start.name, start.steps, short, np.asarray(ours), np.asarray(other), scale)


def _ours(setup: Setup, number: int, steps: int) -> float:
    """Our own training loss from one initialization, once for all comparisons."""

    def own() -> Setup:
        return setup if setup.task.loop is None else make_setup(setup.task.replace(loop=None), seed=setup.seed)

    trained = lambda: _trained(setup, setup.memo((_ours,), own), number, steps, lambda outputs: outputs)  # noqa: E731
    return setup.memo((_ours, number, steps), trained)


def _trained(setup: Setup, trained: Setup, number: int, steps: int, read: Callable[[Any], Any]) -> float:
    """Loss after some steps, each initialization on batches of its own: mean of a few batches in training mode, in the
    set-up's own loss.
    """
    key, found = jax.random.fold_in(setup.key, 1000 + number), []
    state = trees.copy(trained.loop.init(key))
    for step in range(steps):
        state, _ = trained.step(state, *setup.training_batch(number * STEPS + step), jax.random.fold_in(key, step))
    variables = trained.loop.variables(state)
    for step in range(SCORED):
        inputs, targets = setup.training_batch(step)
        outputs, _ = trained.forward(*variables, inputs, train=True, key=jax.random.fold_in(setup.key, step))
        found.append(np.asarray(setup.losses(read(outputs), targets), np.float64).mean())
    return float(np.mean(found))


def from_the_constant(setup: Setup) -> OtherStart | None:
    """The same model less what it says at its start, plus the constant predictor's output: it starts exactly there, and
    every gradient keeps its size; None where there is no such output.
    """
    inner, fit = setup.task.model, constant_at_init(setup)
    if not fit.exists:
        return None

    def init(key: PRNGKeyArray, inputs: Any) -> tuple[Any, Any]:
        params, state = inner.init(key, inputs)
        return params, {"model": state, "start": params}

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        start = jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), state["start"], params)
        before, _ = inner.apply(start, state["model"], inputs, train=train, key=key)
        outputs, after = inner.apply(params, state["model"], inputs, train=train, key=key)
        moved = jax.tree.map(_moved, outputs, before, fit.output)
        return moved, {"model": after, "start": state["start"]}

    return OtherStart("Started from the best constant output", _with(setup, init, apply))


def _moved(now: Array, start: Array, constant: Array) -> Array:
    """An output less what it was at the start, and the constant instead."""
    return now - jax.lax.stop_gradient(start) + constant.astype(now.dtype) if trees.is_floating(now) else now


def with_usual_weights(setup: Setup) -> OtherStart | None:
    """The same model with each matrix scaled to what its fan-in asks for; None where all of them are about that."""
    inner = setup.task.model
    factors = [_factor(leaf) for leaf in jax.tree.leaves(setup.params)]
    if all(factor == 1.0 for factor in factors):
        return None

    def init(key: PRNGKeyArray, inputs: Any) -> tuple[Any, Any]:
        params, state = inner.init(key, inputs)
        pairs = zip(jax.tree.leaves(params), factors, strict=True)
        scaled = [leaf if by == 1.0 else leaf * jnp.asarray(by, leaf.dtype) for leaf, by in pairs]
        return jax.tree.unflatten(jax.tree.structure(params), scaled), state

    return OtherStart("With weights drawn for their fan-in", _with(setup, init, inner.apply))


def _factor(leaf: Any) -> float:
    """What brings a matrix that was drawn at random to the variance of one over its fan-in, the mean of both ends; one
    where it is about that already, or no such matrix.
    """
    deviation = float(np.asarray(leaf, np.float64).std()) if trees.is_floating(leaf) and leaf.ndim > 1 else 0.0
    if deviation == 0.0 or leaf.size < FEWEST or not np.isfinite(deviation):
        return 1.0
    factor = float(np.sqrt(2.0 / (leaf.shape[-1] + np.prod(leaf.shape[:-1]))) / deviation)
    return 1.0 if 1 / WRONG_SCALE < factor < WRONG_SCALE else factor


def with_standard_inputs(setup: Setup) -> OtherStart | None:
    """The same model on inputs of mean 0 and deviation 1; None where none of them are floating."""
    inner, (inputs, _) = setup.task.model, setup.batch
    if not any(trees.is_floating(leaf) for leaf in jax.tree.leaves(inputs)):
        return None

    def facts(leaf: Any) -> tuple[float, float]:
        values = np.asarray(leaf, np.float64)
        return (float(values.mean()), max(float(values.std()), 1e-12)) if trees.is_floating(leaf) else (0.0, 1.0)

    known = [facts(leaf) for leaf in jax.tree.leaves(inputs)]

    def standard(inputs: Any) -> Any:
        leaves, structure = jax.tree.flatten(inputs)
        pairs = zip(leaves, known, strict=True)
        scaled = [
            ((leaf - mean) / std).astype(leaf.dtype) if trees.is_floating(leaf) else leaf for leaf, (mean, std) in pairs
        ]
        return jax.tree.unflatten(structure, scaled)

    def apply(params: Any, state: Any, inputs: Any, *, train: bool, key: Any) -> tuple[Any, Any]:
        return inner.apply(params, state, standard(inputs), train=train, key=key)

    return OtherStart("With standardized inputs", _with(setup, inner.init, apply), steps=STEPS // HEAD_START)


def _scaled(leaf: Any, mean: float, std: float) -> Any:
    """A floating input less its mean over its deviation."""
    if not trees.is_floating(leaf):
        return leaf
    return (leaf - jnp.asarray(mean, leaf.dtype)) / jnp.asarray(std, leaf.dtype)


def with_standard_targets(setup: Setup) -> OtherStart | None:
    """The same model on targets of mean 0 and deviation 1; None unless values are declared, alone."""
    loss, declared = setup.task.loss, heads(setup.task.target, None, setup.at_init.targets)
    if len(declared) != 1 or declared[0].behavior.form != "real" or not trees.is_array(declared[0].targets):
        return None
    values = np.asarray(declared[0].targets, np.float64)
    mean, std = np.float32(values.mean()), np.float32(values.std())
    if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
        return None
    standard = lambda tree: jax.tree.map(lambda leaf: ((leaf - mean) / std).astype(leaf.dtype), tree)  # noqa: E731
    back = lambda tree: jax.tree.map(lambda leaf: (leaf * std + mean).astype(leaf.dtype), tree)  # noqa: E731
    task = setup.task.replace(loss=lambda outputs, targets: loss(outputs, standard(targets)))
    return OtherStart("With standardized targets", task, back)


ARMS: dict[str, Callable[[Setup], OtherStart | None]] = {
    "model/initialization-too-large": with_usual_weights,
    "data/inputs-not-scaled": with_standard_inputs,
    "data/targets-not-scaled": with_standard_targets,
}
"""The start that repairs a cause; the best constant output repairs any."""


def _with(setup: Setup, init: Callable[..., Any], apply: Callable[..., Any]) -> Task:
    """The task around another model, the library's loop training it."""
    return setup.task.replace(model=Model(init, apply, setup.task.model.name), loop=None)
