"""Use backprop to chart dependencies: the loss of example i must not see example j."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.dependencies import (
    awake,
    flat_outputs,
    join_floating,
    movement,
    norm_of_example,
    on_host,
    replaced,
    split_floating,
)
from jaxrecipe.report.result import Matrix, Result, Status, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="chart_dependencies", stage="skeleton")
SHOWN = 16
"""Examples of the batch that the chart in the evidence shows."""
CHANGED = 1e-4
"""A loss or output that moves by more than this, relative to its size, has changed; rounding stays far below."""


def chart_dependencies(setup: Setup, *, key: PRNGKeyArray, examples: int = 6, tolerance: float = 1e-6) -> Result:
    """The loss of an example depends on its own input and targets, and on no other's.

    What it does: for a few examples of a batch, charts which inputs and targets their losses depend on, in two ways that miss different
    things: the norm of the gradient of loss i with respect to every input, and poisoning (NaN is put into floating input j, other values into
    integer input j, and the losses that change are marked; what only NaN shows is tried with finite values too). It looks in training mode and,
    where examples mix there, in evaluation mode too, and then finds out whether the model or the loss mixes them, and how: numbers that are
    handed from one example to another, a softmax or mean over the batch, or broadcasting. Parameters that start at zero are drawn at random
    first, so that a zero in the last layer hides nothing.

    Why it matters: a reshape where a transpose was meant, a softmax or mean over the batch axis, or (N, 1) against (N,) mixes examples.
    The network still trains, because it learns to ignore its neighbours, and is quietly worse.

    What to do: look for a reshape or view that moves the batch axis, reductions without an axis or over axis 0, and broadcasting between outputs
    and targets. BatchNorm mixes examples in training only, which is recognised. If the loss is meant to compare examples
    (contrastive loss, mixup), declare `mixes_examples=True` in the task.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode; every example sees the same draw in all comparisons.
        examples: how many examples of the batch are charted, each against the whole batch.
        tolerance: gradients below this fraction of the largest one count as rounding.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "use backprop to chart dependencies".
    """
    size = trees.leading_size(setup.batch[0])
    if setup.task.mixes_examples:
        return _result(status=Status.SKIP, finding="The task declares that its loss mixes examples (mixes_examples).")
    if size < 2:
        return _result(status=Status.SKIP, finding="The batch holds one example, so there is nothing to mix.")
    count = min(examples, size)
    training = _chart(setup, key, count, tolerance, train=True)
    evaluation = _chart(setup, key, count, tolerance, train=False) if training.mixed else training
    measured = {
        "mixed pairs in training": training.pairs,
        "mixed pairs in evaluation": evaluation.pairs if training.mixed else 0,
        "losses blind to their input": int(training.blind.sum()),
    }
    expected = {"mixed pairs in evaluation": 0, "losses blind to their input": 0}
    status, finding, hint = _judge(setup, key, training, evaluation)
    evidence = [_matrix("training", training)] + ([_matrix("evaluation", evaluation)] if training.mixed else [])
    return _result(
        status=status,
        finding=finding,
        hint=hint,
        measured=measured,
        expected=expected,
        evidence=tuple(evidence),
    )


@dataclass(frozen=True)
class Chart:
    """Which losses depend on which example's inputs and targets.

    Attributes:
        inputs, targets: `[batch, batch]`, whether loss i depends on example j, sure: by gradient or by finite values.
        by_nan: `[batch, batch]`, pairs that only NaN connects (a zero times NaN is NaN).
        strength: `[examples, batch]`, gradient norms, 1 where only poison reaches.
        blind: `[examples]`, losses that neither see their own input nor are exactly zero (masked).
    """

    inputs: np.ndarray
    targets: np.ndarray
    by_nan: np.ndarray
    strength: np.ndarray
    blind: np.ndarray

    @property
    def pairs(self) -> int:
        """How many pairs of different examples are surely connected."""
        return int((self.inputs | self.targets).sum() - np.trace(self.inputs | self.targets))

    @property
    def mixed(self) -> bool:
        """Whether any example depends on another, sure or not."""
        return self.pairs > 0 or bool(self.by_nan.any())


def _judge(setup: Setup, key: PRNGKeyArray, training: Chart, evaluation: Chart) -> tuple[Status, str, str]:
    """Status, finding and hint from the two charts."""
    blind = int(training.blind.sum())
    if evaluation.pairs:
        finding = f"Examples of a batch mix: {evaluation.pairs} pairs of different examples are connected, in evaluation mode too."
        return Status.FAIL, finding, _cause(setup, key)
    if blind == len(training.blind):
        return Status.FAIL, f"The loss of none of {blind} examples depends on its own input at all.", BLIND
    if training.pairs and not jax.tree.leaves(setup.model_state):
        finding = "Examples mix in training mode, and the model keeps no batch statistics that would explain it."
        return Status.WARN, finding, MIXED
    if blind:
        return (
            Status.WARN,
            f"The loss of {blind} of {len(training.blind)} examples does not depend on its input.",
            BLIND,
        )
    if training.pairs:
        finding = "Examples mix in training mode only, as BatchNorm does; in evaluation mode each stands alone."
        return Status.PASS, finding, ""
    if evaluation.by_nan.any():
        return Status.WARN, "A NaN in one example reaches other examples' losses, though finite values do not.", BY_NAN
    return Status.PASS, "Each loss depends on its own example and on no other.", ""


MIXED = (
    "Look for a reshape where a transpose was meant, a softmax, mean or normalisation over axis 0 (the batch), or a statistic of the batch "
    "used in the model. If the loss is meant to compare examples, declare mixes_examples=True."
)
RESHAPE = (
    "The model hands numbers from one example to another: a single input number reaches the outputs of {reach} of {size} examples, of others "
    "than its own. Look for a reshape where a transpose was meant, or for a reshape that moves the batch axis (axis 0)."
)
STATISTIC = (
    "In the model a single input number reaches the outputs of all examples: look for a mean, normalisation or softmax over axis 0 (the batch), "
    "a reduction without an axis, or attention over the batch axis. If examples are meant to be compared, declare mixes_examples=True."
)
SOFTMAX_IN_MODEL = "The model's outputs sum to one over the batch: its softmax runs over axis 0. Take it over the last axis, axis=-1 (or return logits)."
SOFTMAX_IN_LOSS = (
    "The loss compares examples, not classes: it does not change when the same number is added to one class of every example, which is what a softmax "
    "over axis 0 does. Take the softmax over the last axis, axis=-1."
)
BROADCAST = (
    "In the loss outputs {outputs} and targets {targets} broadcast against each other, as (N, 1) against (N,) do, so that every output is compared with every target. "
    "Give both the same shape, and reduce over all axes but the first."
)
REDUCES = (
    "The loss mixes the examples, not the model: it reduces over axis 0 (the batch), or outputs and targets broadcast against each other, as (N, 1) against (N,) do. "
    "Reduce over all axes but the first. If it is meant to compare examples, declare mixes_examples=True."
)
BATCH_NORM = (
    "The model gives the same outputs in training and evaluation mode and keeps a state: batch statistics of the batch at hand are used at evaluation too. "
    "Pass train=False on to every BatchNorm (use_running_average=True)."
)
BLIND = "The input never reaches the loss: look for a stop_gradient, an input that is overwritten, a dead activation, or outputs that are constant."
BY_NAN = "Most likely a product with a one-hot or a mask over the batch, where zero times NaN is NaN; then one bad example spoils a whole batch. Select with jnp.where instead, or declare mixes_examples=True."


def _chart(setup: Setup, key: PRNGKeyArray, count: int, tolerance: float, *, train: bool) -> Chart:
    """The chart of a mode: gradients where the leaves are floating, poison everywhere."""
    batch = on_host(setup.batch)
    params, model_state = awake(setup.params, key), setup.model_state
    size = trees.leading_size(batch[0])

    def losses_of(variables: Any, inputs: Any, targets: Any) -> Float[Array, "batch"]:
        outputs, _ = setup.forward(variables[0], variables[1], inputs, train=train, key=key)
        return setup.losses(outputs, targets)

    def losses(inputs: Any, targets: Any) -> Float[Array, "batch"]:
        return losses_of((params, model_state), inputs, targets)

    clean = np.asarray(losses(*batch))
    gradients = _gradient_norms(losses_of, (params, model_state), batch, count)
    full, doubt, strength = [], np.zeros((size, size), bool), np.zeros((count, size))
    for part in range(2):
        above = np.nan_to_num(gradients[part], nan=np.inf) > tolerance * np.nanmax(gradients[part], initial=0.0)
        seen = np.zeros((size, size), bool)
        seen[:count] |= above
        for j in range(count):
            reached = _changed(clean, losses(*_with(batch, part, _poisoned(batch[part], j))))
            if (reached & ~seen[:, j])[
                np.arange(size) != j
            ].any():  # zero times NaN is NaN: do finite values reach it too?
                finite = _changed(clean, losses(*_with(batch, part, _moved(batch[part], j))))
                doubt[:, j] |= reached & ~finite & (np.arange(size) != j)
                reached &= finite | (np.arange(size) == j)
            seen[:, j] |= reached
        full.append(seen)
        if part == 0:
            strength = np.where(above, np.nan_to_num(gradients[0], nan=1.0, posinf=1.0), seen[:count].astype(float))
    blind = ~np.diag(full[0])[:count] & (clean[:count] != 0)
    return Chart(inputs=full[0], targets=full[1], by_nan=doubt, strength=strength, blind=blind)


def _gradient_norms(
    losses: Callable[..., Array], variables: Any, batch: Any, count: int
) -> list[Float[np.ndarray, "count batch"]]:
    """Norms of the gradients of the first losses with respect to every example's inputs and targets."""
    size = trees.leading_size(batch[0])

    @jax.jit
    def row(variables: Any, batch: Any, example: Array) -> tuple[Array, Array]:
        parts = [split_floating(part) for part in batch]

        def loss(leaves: list[list[Array]]) -> Array:
            return losses(variables, *(join_floating(one, rest) for one, (_, rest) in zip(leaves, parts, strict=True)))[
                example
            ]

        gradients = jax.grad(loss)([floating for floating, _ in parts])
        return norm_of_example(gradients[0], size), norm_of_example(gradients[1], size)

    rows = [row(variables, batch, np.int32(i)) for i in range(count)]
    return [np.stack([np.asarray(one[part], np.float64) for one in rows]) for part in range(2)]


def _changed(clean: np.ndarray, losses: Array) -> Bool[np.ndarray, "batch"]:
    """Which losses are no longer what they were, beyond rounding."""
    return ~np.isclose(np.asarray(losses), clean, rtol=CHANGED, atol=1e-6, equal_nan=True)


def _with(batch: Any, part: int, tree: Any) -> tuple[Any, Any]:
    """The batch with other inputs (part 0) or targets (part 1)."""
    return (tree, batch[1]) if part == 0 else (batch[0], tree)


def _poisoned(tree: Any, example: int) -> Any:
    """The tree with one example made recognisable: NaN in floating leaves, another example's values in the others."""

    def poison(leaf: np.ndarray) -> np.ndarray:
        leaf = leaf.copy()
        if trees.is_floating(leaf):
            leaf[example] = np.nan
        else:
            different = (leaf != leaf[example]).reshape(len(leaf), -1).any(axis=1)
            leaf[example] = leaf[different.argmax()]
        return leaf

    return jax.tree.map(poison, tree)


def _moved(tree: Any, example: int) -> Any:
    """The tree with other, finite values in one example."""
    return jax.tree.map(lambda leaf: replaced(leaf, np.arange(len(leaf)) == example), tree)


def _cause(setup: Setup, key: PRNGKeyArray) -> str:
    """Where the examples mix, in the loss or in the model, and how, by trying."""
    inputs, targets = on_host(setup.batch)
    params, model_state = awake(setup.params, key), setup.model_state
    outputs = on_host(setup.forward(params, model_state, inputs, train=False, key=key)[0])
    size = trees.leading_size(inputs)
    clean = np.asarray(setup.losses(outputs, targets))
    by_part = [
        _changed(clean, setup.losses(*_with((outputs, targets), part, _moved((outputs, targets)[part], 0))))
        for part in range(2)
    ]
    if any(changed[1:].any() for changed in by_part):
        return _cause_in_loss(setup, outputs, targets, clean)
    trained = on_host(setup.forward(params, model_state, inputs, train=True, key=key)[0])
    if jax.tree.leaves(model_state) and movement(flat_outputs(outputs), flat_outputs(trained)).max() < CHANGED:
        return BATCH_NORM
    if all(
        leaf.ndim > 1 and (leaf >= 0).all() and np.allclose(leaf.sum(axis=0), 1, atol=1e-3)
        for leaf in jax.tree.leaves(outputs)
    ):
        return SOFTMAX_IN_MODEL
    reach = _reach(
        lambda changed: setup.forward(params, model_state, changed, train=False, key=key)[0], inputs, outputs
    )
    if 0 < reach <= size // 2:
        return RESHAPE.format(reach=reach, size=size)
    return STATISTIC if reach == size else MIXED


def _cause_in_loss(setup: Setup, outputs: Any, targets: Any, clean: np.ndarray) -> str:
    """What in the loss makes examples mix."""
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (outputs, targets)]
    for ours, theirs in zip(*shapes, strict=False):
        if ours != theirs and (ours[:1] == theirs or ours == theirs[:1]) and max(ours[1:] + theirs[1:]) == 1:
            return BROADCAST.format(outputs=ours, targets=theirs)
    step = np.random.default_rng(0).normal(size=max(leaf.shape[-1] for leaf in jax.tree.leaves(outputs)))
    shifted = jax.tree.map(lambda leaf: (leaf + step[: leaf.shape[-1]]).astype(leaf.dtype), outputs)
    vectors = all(leaf.ndim > 1 and leaf.shape[-1] > 1 for leaf in jax.tree.leaves(outputs))
    return SOFTMAX_IN_LOSS if vectors and not _changed(clean, setup.losses(shifted, targets)).any() else REDUCES


def _reach(forward: Callable[[Any], Any], inputs: Any, outputs: Any, tries: int = 8) -> int:
    """The most examples whose outputs a single input number reaches, over a few numbers that differ from example to example."""
    leaves, structure = jax.tree.flatten(inputs)
    rng, before, most = np.random.default_rng(0), flat_outputs(outputs), 0
    for _ in range(tries):
        which = int(rng.integers(len(leaves)))
        leaf = leaves[which]
        varied = np.flatnonzero((leaf != leaf[:1]).reshape(len(leaf), -1).any(axis=0))
        where = np.zeros(leaf[0].size if leaf.ndim else 1, bool)
        where[rng.choice(varied) if len(varied) else 0] = True
        mask = np.zeros(leaf.shape, bool)
        mask[rng.integers(len(leaf))] = where.reshape(leaf.shape[1:])
        changed = [replaced(one, mask) if i == which else one for i, one in enumerate(leaves)]
        after = flat_outputs(forward(jax.tree.unflatten(structure, changed)))
        most = max(most, int((movement(before, after) > CHANGED).sum()))
    return most


def _matrix(mode: str, chart: Chart) -> Matrix:
    shown = chart.strength[:, :SHOWN]
    return Matrix(
        title=f"Whose input the loss of an example depends on, in {mode} mode",
        values=shown,
        row_label="loss of example",
        column_label="input of example",
        row_names=[str(i) for i in range(shown.shape[0])],
        column_names=[str(j) for j in range(shown.shape[1])],
        log=True,
    )
