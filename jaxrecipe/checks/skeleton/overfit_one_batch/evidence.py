"""What a run that did not memorize its examples shows: each number is measured once, when it is asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import mean_loss, outputs_of
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run
from jaxrecipe.checks.skeleton.overfit_one_batch.trials import Trials
from jaxrecipe.probes.layers import joints, opens_with_raised_biases
from jaxrecipe.probes.output_domain import is_flat
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Head, heads
from jaxrecipe.targets.heads import is_array

FIRST_STEPS = 10
SCALED_BY = (64.0, 512.0)
"""Factors on the parameters by which outputs are driven to their bounds."""
SAME_BOUND = 0.01
"""A bound is one when both factors give it within this share of the width of the outputs."""
SAME_OUTPUT = 1e-6
"""Outputs that differ by less than this share of their size are the same: about the rounding of float32."""
NOISE_DRAWS = 8


class Bounds(NamedTuple):
    """What the outputs cannot leave; infinite where they can."""

    low: float
    high: float


class DeclaredUpdate(NamedTuple):
    """What the declared optimizer makes of the gradient at the start.

    Attributes:
        size: norm of its update.
        tenfold: norm of its update for ten times the gradient, over `size`.
        cosine: between the update and the way down the gradient.
    """

    size: float
    tenfold: float
    cosine: float


@dataclass(frozen=True, eq=False)
class Evidence:
    """A failing run and what can be measured about it."""

    setup: Setup
    run: Run
    key: PRNGKeyArray
    patience: int = 200

    @cached_property
    def outputs(self) -> list[np.ndarray]:
        """Outputs at the end, leaf by leaf in float64."""
        return _float64(self.run.outputs)

    @cached_property
    def heads(self) -> list[Head]:
        """The declared heads that are one array, with their outputs at the end and their targets."""
        found = heads(self.setup.task.target, self.run.outputs, self.run.targets)
        return [head for head in found if is_array(head.outputs) and is_array(head.targets)]

    @cached_property
    def outputs_at_start(self) -> list[np.ndarray]:
        """Outputs of the untrained model in evaluation mode, leaf by leaf in float64."""
        return _float64(self._outputs_with(self.setup.params))

    @cached_property
    def same_outputs(self) -> bool:
        """Whether all examples have one output at the end."""
        return _alike(self.outputs)

    @cached_property
    def same_outputs_at_start(self) -> bool:
        """Whether all examples have one output before training."""
        return _alike(self.outputs_at_start)

    @cached_property
    def moved(self) -> float:
        """Mean relative size of the first steps' changes."""
        return float(np.mean(self.run.moved[:FIRST_STEPS])) if self.run.moved else 0.0

    @cached_property
    def gradient_at_start(self) -> Any:
        """Gradient of the mean loss of the untrained model, as a tree."""
        return self._gradient(self.setup.variables)

    @cached_property
    def gradient_norm_at_start(self) -> float:
        """Its norm."""
        return float(np.linalg.norm(_flat(self.gradient_at_start)))

    @cached_property
    def opens_with_raised_biases(self) -> bool:
        """Whether the untrained model tells examples apart once all biases are raised."""
        return opens_with_raised_biases(self.setup)

    @cached_property
    def gradient_at_end(self) -> np.ndarray:
        """Gradient of the mean loss where the run ended, all numbers in a row."""
        return _flat(self._gradient(self.setup.loop.variables(self.run.state)))

    @cached_property
    def first_change_along_gradient(self) -> float:
        """Cosine between the first change of the parameters and the gradient: positive is uphill, 0 is no change."""
        state = self.setup.fresh_state()
        before = _flat(self.setup.loop.variables(state)[0])
        for step in range(FIRST_STEPS):
            batch = self.run.batches[step % len(self.run.batches)]
            state, _ = self.setup.step(state, *batch, jax.random.fold_in(self.key, step))
            change = _flat(self.setup.loop.variables(state)[0]) - before
            if np.any(change):
                return _cosine(change, _flat(self.gradient_at_start))
        return 0.0

    @cached_property
    def declared_update(self) -> DeclaredUpdate:
        """What the declared optimizer, from its initial state, makes of the gradient at the start."""
        optimizer, params = self.setup.task.optimizer, self.setup.params

        @jax.jit
        def update(gradient: Any, factor: Any) -> Any:
            scaled = jax.tree.map(lambda leaf, p: (leaf * factor).astype(p.dtype), gradient, params)
            with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and counters itself
                return optimizer.update(scaled, optimizer.init(params), params)[0]

        once, tenfold = (_flat(update(self.gradient_at_start, np.float32(factor))) for factor in (1.0, 10.0))
        size = float(np.linalg.norm(once))
        ratio = float(np.linalg.norm(tenfold)) / max(size, 1e-30)
        return DeclaredUpdate(size, ratio, _cosine(once, -_flat(self.gradient_at_start)))

    @cached_property
    def loss_is_flat(self) -> bool:
        """Whether the loss has no gradient with respect to the outputs at the end."""
        return is_flat(self.setup, self.run.outputs, self.run.targets)

    @cached_property
    def losses(self) -> np.ndarray:
        """Loss of each example at the end."""
        return np.asarray(self.setup.losses(self.run.outputs, self.run.targets), np.float64)

    @cached_property
    def size_kept(self) -> float:
        """The size of the parameters now over that at the start."""
        now = _flat(self.setup.loop.variables(self.run.state)[0])
        return float(np.linalg.norm(now) / max(np.linalg.norm(_flat(self.setup.params)), 1e-12))

    @cached_property
    def outward_pull(self) -> float:
        """Cosine between the parameters at the end and the way down the gradient there."""
        return _cosine(_flat(self.setup.loop.variables(self.run.state)[0]), -self.gradient_at_end)

    @cached_property
    def output_spread(self) -> float:
        """How much the untrained model's outputs differ between examples, as a share of their size."""
        return _spread(self.outputs_at_start)

    @cached_property
    def input_spread(self) -> float:
        """How much the inputs differ between examples, as a share of their size."""
        return _spread(_float64([leaf for leaf in jax.tree.leaves(self.run.inputs) if trees.is_floating(leaf)]))

    @cached_property
    def noise(self) -> float:
        """How much outputs in training mode differ from draw to draw, over how much they differ between examples."""
        variables, drawn = self.setup.loop.variables(self.run.state), []
        for draw in range(NOISE_DRAWS):
            key = jax.random.fold_in(self.key, draw)
            leaves = _float64(outputs_of(self.setup, variables, self.run.batches, train=True, key=key))
            drawn.append(np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1))
        stacked = np.stack(drawn)
        return float(stacked.std(axis=0).mean() / max(stacked.mean(axis=0).std(axis=0).mean(), 1e-12))

    @cached_property
    def bounds(self) -> Bounds | None:
        """Bounds that the outputs keep when all initial parameters are far larger, and of the other sign, if any."""
        ranges = []
        for factor in SCALED_BY:
            both = [self._outputs_with(self._scaled(sign * factor)) for sign in (1.0, -1.0)]
            values = np.concatenate([leaf.ravel() for outputs in both for leaf in _float64(outputs)])
            if not np.isfinite(values).all() or np.ptp(values) == 0:
                return None
            ranges.append((values.min(), values.max()))
        tolerance = SAME_BOUND * (ranges[0][1] - ranges[0][0])
        low, high = (abs(ranges[1][end] - ranges[0][end]) < tolerance for end in (0, 1))
        found = Bounds(float(ranges[1][0]) if low else -np.inf, float(ranges[1][1]) if high else np.inf)
        return found if low or high else None

    @cached_property
    def trials(self) -> Trials:
        """The experiments: other optimizers, starts, rates and kernels."""
        return Trials(self.setup, self.run, self.key, self.patience)

    @cached_property
    def between_layers(self) -> list[str]:
        """Sigmoids and softmaxes that stand straight before a layer."""
        return sorted({joint.between for joint in joints(self.setup)} - {"linear"})

    def loss_at(self, outputs: Any) -> float:
        """Mean loss at some outputs."""
        return mean_loss(self.setup, outputs, self.run.targets)

    def _gradient(self, variables: tuple[Any, Any]) -> Any:
        return self.setup.gradients(*variables, self.run.inputs, self.run.targets, key=self.key)[1]

    def _outputs_with(self, params: Any) -> Any:
        variables = (params, self.setup.model_state)
        return outputs_of(self.setup, variables, self.run.batches, train=False, key=self.key)

    def _scaled(self, factor: float) -> Any:
        """The initial parameters times a factor."""
        return jax.tree.map(
            lambda leaf: jnp.asarray(np.asarray(leaf) * factor, leaf.dtype) if trees.is_floating(leaf) else leaf,
            self.setup.params,
        )


def _float64(tree: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]


def _alike(leaves: list[np.ndarray]) -> bool:
    """Whether an output hardly differs between examples."""
    return all(
        np.ptp(leaf, axis=0).max(initial=0.0) < SAME_OUTPUT * (1 + np.abs(leaf).max(initial=0.0)) for leaf in leaves
    )


def _flat(tree: Any) -> Float[np.ndarray, "numbers"]:
    """All floating numbers of a tree in a row."""
    floating = [leaf for leaf in jax.tree.leaves(tree) if trees.is_floating(leaf)]
    return np.concatenate([np.zeros(0), *(leaf.ravel() for leaf in _float64(floating))])


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))


def _spread(leaves: list[np.ndarray]) -> float:
    """The largest of the leaves' deviations between examples, as shares of their size; 1 without leaves."""
    found = [float(leaf.std(axis=0).mean() / max(np.sqrt(np.square(leaf).mean()), 1e-30)) for leaf in leaves]
    return max(found, default=1.0)
