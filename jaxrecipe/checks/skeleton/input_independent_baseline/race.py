"""Two trainings from one start, on real inputs and on inputs that tell nothing, compared on held-out examples.

Inputs that tell nothing are blank, or, where a model or loss cannot take those (a norm of nothing, a mask that is all
zero), those of other examples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.input_independent_baseline.penalty import Relief, relieved
from jaxrecipe.probes.constant_predictor import constant_at_init, losses_at_constant
from jaxrecipe.probes.layers import opens_with_raised_biases
from jaxrecipe.probes.unread_targets import no_baseline, targets_unread
from jaxrecipe.setup import Setup

Blind = Callable[[Any], Any]
"""Makes inputs of a batch that tell nothing."""

FIRST_LOOK = 20
"""Steps before the first comparison."""
SAME_OUTPUT = 1e-6
"""Outputs that differ by less than this share of their size are the same: about the rounding of float32."""
NOTHING_COUNTS = 1e-6
"""Blank inputs that cost less than this share of what real ones cost before training have no weight in the loss."""


@dataclass(frozen=True)
class Aftermath:
    """What training on the real inputs did to the model, seen on the first training batch.

    Attributes:
        inputs_differ: whether the inputs of different examples differ.
        outputs_differ: the same of the outputs, before and after.
        gradient: norm of the first gradient.
        opens: whether the untrained model tells examples apart once all biases are raised.
        moved: how far the parameters are from their start, relative to their size then.
        losses: mean loss in training mode, before and after.
    """

    inputs_differ: bool
    outputs_differ: tuple[bool, bool]
    gradient: float
    opens: bool
    moved: float
    losses: tuple[float, float]


@dataclass
class Race:
    """Mean held-out losses at each comparison, and what the training losses and the parameters say at the end.

    Attributes:
        batch_size: examples a step.
        blinded: what was done to the inputs that tell nothing: "blank" or "shuffled".
        steps: after which the two were compared.
        real, blank: held-out losses after so many steps of training on real and on blank inputs.
        constant: held-out loss of the constant predictor.
        lead: of the real inputs at the end, in standard errors.
        best_lead, best_step: the largest lead, and when.
        training_lead: the same lead at the end on training examples.
        won: whether the lead is sure and large enough.
        aftermath: what training on the real inputs did, where it did not win.
        relief: what less of a penalty of outputs changes, where it did not win and there is such a penalty.
    """

    batch_size: int
    blinded: str = "blank"
    steps: list[int] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    blank: list[float] = field(default_factory=list)
    constant: float = float("inf")
    lead: float = 0.0
    best_lead: float = -float("inf")
    best_step: int = 0
    training_lead: float = 0.0
    won: bool = False
    aftermath: Aftermath | None = None
    relief: Relief | None = None

    @property
    def best_blind(self) -> float:
        """The better of training on blank inputs and the constant predictor: a blank run may have bad luck."""
        return float(np.nanmin([self.blank[-1], self.constant]))

    @property
    def relative_lead(self) -> float:
        """How far the real inputs are ahead, as a share of the best blind loss."""
        return (self.best_blind - self.real[-1]) / max(abs(self.best_blind), 1e-30)


def run_race(
    setup: Setup, key: PRNGKeyArray, *, steps: int, standard_errors: float, margin: float, held_out: int
) -> Race:
    """Train both, compare at growing intervals, stop when the real inputs are clearly ahead."""
    limits = {"steps": steps, "standard_errors": standard_errors, "margin": margin, "held_out": held_out}
    if _counts_blank_inputs(setup, key):
        race = _run(setup, key, "blank", _blank, **limits)
        if np.isfinite(race.blank[-1]) or not np.isfinite(race.real[-1]):
            return race
    return _run(setup, key, "shuffled", partial(_shuffled, setup), **limits)


def _run(
    setup: Setup,
    key: PRNGKeyArray,
    blinded: str,
    blind: Blind,
    *,
    steps: int,
    standard_errors: float,
    margin: float,
    held_out: int,
) -> Race:
    """The race against one kind of inputs that tell nothing."""
    states = {kind: setup.fresh_state() for kind in ("real", "blank")}
    batches, training = _held_out_batches(setup, held_out), [setup.batch]
    blank = [(blind(inputs), targets) for inputs, targets in batches]
    constant = _constant_losses(setup, batches)
    race, due = Race(setup.batch_size, blinded, constant=float(constant.mean())), FIRST_LOOK
    for step in range(1, steps + 1):
        inputs, targets = _training_batch(setup, step - 1)
        step_key = jax.random.fold_in(key, step)
        states["real"], _ = setup.step(states["real"], inputs, targets, step_key)
        states["blank"], _ = setup.step(states["blank"], blind(inputs), targets, step_key)
        if step < min(due, steps):
            continue
        due = max(step + 10, int(1.4 * step))
        losses = _losses(setup, states["real"], batches, key), _losses(setup, states["blank"], blank, key)
        _compare(race, step, *losses, constant)
        race.won = race.lead >= standard_errors and race.relative_lead > margin
        if race.won or (blinded == "blank" and not np.isfinite(race.blank[-1])):
            return race
    after = _losses(setup, states["real"], training, key)
    unseeing = _losses(setup, states["blank"], [(blind(inputs), targets) for inputs, targets in training], key)
    race.training_lead = _lead(after, unseeing)
    race.aftermath = _aftermath(setup, states["real"], key)
    if np.isfinite(race.real[-1]) and setup.batch_size > 1:
        race.relief = relieved(setup, batches, key, race.steps[-1])
    return race


def _compare(
    race: Race,
    step: int,
    real: Float[np.ndarray, "held_out"],
    blank: Float[np.ndarray, "held_out"],
    constant: Float[np.ndarray, "held_out"],
) -> None:
    """Write one comparison down."""
    race.steps.append(step)
    race.real.append(float(real.mean()))
    race.blank.append(float(blank.mean()))
    race.lead = min(_lead(real, blank), _lead(real, constant))
    if race.lead > race.best_lead:
        race.best_lead, race.best_step = race.lead, step


def _training_batch(setup: Setup, step: int) -> tuple[Any, Any]:
    """The step's batch; without test data the last tenth of the training data is held back."""
    if setup.test is not None:
        return setup.training_batch(step)
    kept = setup.train.size - _held_back(setup)
    chosen = np.random.default_rng([setup.seed, step]).integers(kept, size=setup.batch_size)
    return setup.prepared("train", chosen)


def _held_back(setup: Setup) -> int:
    return max(setup.train.size // 10, setup.batch_size)


def _held_out_batches(setup: Setup, most: int) -> list[tuple[Any, Any]]:
    """Full held-out batches, so that no other program is needed."""
    split, source = ("test", setup.test) if setup.test is not None else ("train", setup.train)
    if setup.test is not None:
        pool = np.random.default_rng([setup.seed, 1]).permutation(source.size)
    else:
        pool = np.arange(source.size - _held_back(setup), source.size)
    size = setup.batch_size
    count = max(1, min(most, len(pool)) // size)
    return [setup.prepared(split, np.resize(pool, count * size)[i * size : (i + 1) * size]) for i in range(count)]


def _constant_losses(setup: Setup, batches: list[tuple[Any, Any]]) -> Float[np.ndarray, "held_out"]:
    """Held-out losses of the constant output that is best on training examples; infinite where there is none."""
    start, fit = setup.at_init, constant_at_init(setup)
    if not fit.exists or no_baseline(setup):
        return np.full(sum(trees.leading_size(inputs) for inputs, _ in batches), np.inf)
    template = jax.tree.map(lambda leaf: np.asarray(leaf)[: setup.batch_size], start.outputs)
    return np.concatenate([losses_at_constant(setup, fit.output, template, targets) for _, targets in batches])


def _blank(inputs: Any) -> Any:
    """Every input set to zero."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), inputs)


def _shuffled(setup: Setup, inputs: Any) -> Any:
    """The inputs of other examples: of one each, or, where all that is compared stands in the inputs, each array of
    another.
    """
    size = trees.leading_size(inputs)
    leaves, structure = jax.tree.flatten(inputs)
    apart = targets_unread(setup) or setup.task.mixes_examples
    shifts = [(1 + number if apart else 1) % size for number in range(len(leaves))]
    return jax.tree.unflatten(
        structure, [np.roll(np.asarray(leaf), by, axis=0) for leaf, by in zip(leaves, shifts, strict=True)]
    )


def _counts_blank_inputs(setup: Setup, key: PRNGKeyArray) -> bool:
    """Whether blank inputs have a loss that is finite and counts, before training."""
    inputs, targets = setup.batch
    blank, real = (
        np.abs(setup.mean_loss(*setup.variables, given, targets, train=True, key=key))
        for given in (_blank(inputs), inputs)
    )
    return bool(np.isfinite(blank) and blank > NOTHING_COUNTS * real) or not np.isfinite(real)


def _losses(
    setup: Setup, state: Any, batches: list[tuple[Any, Any]], key: PRNGKeyArray
) -> Float[np.ndarray, "examples"]:
    """Losses of every example; of training and evaluation mode the one that is lower on average.

    Early in training the running statistics of a BatchNorm lag behind, which is not this check's question.
    """
    params, model_state = setup.loop.variables(state)
    by_mode = []
    for train in (False, True):
        parts = []
        for inputs, targets in batches:
            outputs, _ = setup.forward(params, model_state, inputs, train=train, key=key)
            parts.append(np.asarray(setup.losses(outputs, targets), np.float64))
        by_mode.append(np.concatenate(parts))
    return min(by_mode, key=lambda losses: np.inf if np.isnan(losses.mean()) else losses.mean())


def _lead(real: Float[np.ndarray, "examples"], blank: Float[np.ndarray, "examples"]) -> float:
    """How far the real inputs are ahead, in standard errors of the paired difference."""
    if np.isposinf(blank).all():
        return float("inf")
    difference = blank - real
    error = difference.std() / np.sqrt(len(difference))
    return float(difference.mean() / max(error, 1e-12)) if np.isfinite(difference).all() else float("-inf")


def _aftermath(setup: Setup, state: Any, key: PRNGKeyArray) -> Aftermath:
    """Compare the model at the start and after training on the real inputs."""
    inputs, targets = setup.batch
    alone = setup.batch_size == 1  # nothing to differ from
    at_end = setup.loop.variables(state)
    outputs = [setup.forward(*at, inputs, train=True, key=key)[0] for at in (setup.variables, at_end)]
    gradient = setup.gradients(*setup.variables, inputs, targets, key=key)[1]
    start, end = _flat(setup.params), _flat(at_end[0])
    before, after = (float(np.asarray(setup.losses(one, targets), np.float64).mean()) for one in outputs)
    return Aftermath(
        inputs_differ=alone or _differ(inputs, 0.0),
        outputs_differ=(alone or _differ(outputs[0], SAME_OUTPUT), alone or _differ(outputs[1], SAME_OUTPUT)),
        gradient=float(np.linalg.norm(_flat(gradient))),
        opens=opens_with_raised_biases(setup),
        moved=float(np.linalg.norm(end - start) / max(np.linalg.norm(start), 1e-12)),
        losses=(before, after),
    )


def _differ(tree: Any, tolerance: float) -> bool:
    """Whether an array differs between examples by more than a share of its size."""
    leaves = [np.asarray(leaf).astype(np.float64) for leaf in jax.tree.leaves(tree)]
    return any(np.ptp(leaf, axis=0).max(initial=0.0) > tolerance * np.abs(leaf).max(initial=0.0) for leaf in leaves)


def _flat(tree: Any) -> Float[np.ndarray, "numbers"]:
    """All floating numbers of a tree in a row."""
    floating = [np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree) if trees.is_floating(leaf)]
    return np.concatenate([np.zeros(0), *floating])
