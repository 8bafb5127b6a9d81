"""Use backprop to chart dependencies: the loss of example i must not see example j."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Matrix, Result, Status
from jaxrecipe.setup import Setup

_result = partial(Result, name="chart_dependencies", stage="skeleton")


def chart_dependencies(setup: Setup, *, key: PRNGKeyArray, examples: int = 6, tolerance: float = 1e-6) -> Result:
    """The loss of an example depends on its own input and targets, and on no other's.

    What it does: for a few examples of a batch, charts which inputs and targets their losses depend on, in two ways that miss different
    things: the norm of the gradient of loss i with respect to input j, and poisoning (NaN is put into floating input j, other values into integer
    input j, and the losses that change are marked). It looks in training mode and, where examples mix there, in evaluation mode too.

    Why it matters: a reshape where a transpose was meant, a softmax or mean over the batch axis, or (N, 1) against (N,) mixes examples.
    The network still trains, because it learns to ignore its neighbours, and is quietly worse.

    What to do: look for a reshape or view that moves the batch axis, reductions without an axis or over axis 0, and broadcasting between outputs
    and targets. BatchNorm mixes examples in training only, which is recognised. If the loss is meant to compare examples
    (contrastive loss, mixup), declare `mixes_examples=True` in the task.

    Args:
        setup: the set-up.
        key: seeds dropout in training mode; every example sees the same draw in all comparisons.
        examples: how many examples of the batch are charted.
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
    own = np.diag(training.inputs)[:count]
    measured = {
        "mixed pairs in training": training.pairs,
        "mixed pairs in evaluation": evaluation.pairs if training.mixed else 0,
        "losses blind to their input": int((own == 0).sum()),
    }
    expected = {"mixed pairs in evaluation": 0, "losses blind to their input": 0}
    status, finding, hint = _judge(setup, training, evaluation, own)
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
    """Which losses (rows) depend on which example's inputs and targets (columns); 0 where they do not.

    Entries of `inputs` are gradient norms, or 1 where only poisoning shows the dependency. `[batch, examples]`.
    """

    inputs: np.ndarray
    targets: np.ndarray

    @property
    def pairs(self) -> int:
        """How many pairs of different examples are connected."""
        return int((_off_diagonal(self.inputs) | _off_diagonal(self.targets)).sum())

    @property
    def mixed(self) -> bool:
        """Whether any example depends on another."""
        return self.pairs > 0


def _judge(setup: Setup, training: Chart, evaluation: Chart, own: np.ndarray) -> tuple[Status, str, str]:
    """Status, finding and hint from the two charts."""
    keeps_statistics = bool(jax.tree.leaves(setup.model_state))
    if evaluation.mixed:
        through_targets = _off_diagonal(evaluation.targets).any() and not _off_diagonal(evaluation.inputs).any()
        finding = f"Examples of a batch mix: {evaluation.pairs} pairs of different examples are connected, in evaluation mode too."
        return Status.FAIL, finding, BROADCAST if through_targets else MIXED
    if (own == 0).any():
        return (
            Status.FAIL,
            f"The loss of {int((own == 0).sum())} examples does not depend on their own input at all.",
            BLIND,
        )
    if not training.mixed:
        return Status.PASS, "Each loss depends on its own example and on no other.", ""
    if keeps_statistics:
        return (
            Status.PASS,
            "Examples mix in training mode only, as BatchNorm does; in evaluation mode each stands alone.",
            "",
        )
    return (
        Status.WARN,
        "Examples mix in training mode, and the model keeps no batch statistics that would explain it.",
        MIXED,
    )


MIXED = (
    "Look for a reshape where a transpose was meant, a softmax, mean or normalisation over axis 0 (the batch), or a statistic of the batch "
    "used in the model. If the loss is meant to compare examples, declare mixes_examples=True."
)
BROADCAST = (
    "The losses see other examples' targets, not their inputs: outputs and targets broadcast against each other, such as (N, 1) against (N,), "
    "or the loss reduces over the batch axis. Give both the same shape, and reduce over all axes but the first."
)
BLIND = "The input never reaches the loss: look for a stop_gradient, an input that is overwritten, a dead activation, or outputs that are constant."


def _off_diagonal(chart: np.ndarray) -> np.ndarray:
    mask = chart != 0
    index = np.arange(mask.shape[1])
    mask[index, index] = False
    return mask


def _chart(setup: Setup, key: PRNGKeyArray, count: int, tolerance: float, *, train: bool) -> Chart:
    """Both charts of a mode: gradients where the leaves are floating, poison everywhere."""
    inputs, targets = setup.batch
    params, model_state = setup.variables
    size = trees.leading_size(inputs)

    @jax.jit
    def losses(inputs: Any, targets: Any) -> Float[Array, "batch"]:
        outputs, _ = setup.forward(params, model_state, inputs, train=train, key=key)
        return setup.losses(outputs, targets)

    @jax.jit
    def column(example: Array) -> tuple[Array, Array]:
        """Gradient norms of one example's loss with respect to every example's inputs and targets; `[batch]` each."""
        floating, join = _split_floating((inputs, targets))
        gradients = jax.grad(lambda leaves: losses(*join(leaves))[example])(floating)
        return _norms(gradients[0], size), _norms(gradients[1], size)

    by_gradient = [column(jnp.asarray(i)) for i in range(count)]
    gradient_inputs, gradient_targets = (np.stack([np.asarray(row[part]) for row in by_gradient]) for part in range(2))
    clean = np.asarray(losses(inputs, targets))
    poisoned_inputs = np.stack([_changed(clean, losses(_poison(inputs, j), targets)) for j in range(count)], axis=1)
    poisoned_targets = np.stack([_changed(clean, losses(inputs, _poison(targets, j))) for j in range(count)], axis=1)
    return Chart(
        inputs=_combine(gradient_inputs[:, :count], poisoned_inputs[:count], tolerance),
        targets=_combine(gradient_targets[:, :count], poisoned_targets[:count], tolerance),
    )


def _combine(gradients: np.ndarray, poisoned: np.ndarray, tolerance: float) -> np.ndarray:
    """Gradient norms above rounding, and 1 where poison reaches but no gradient does."""
    largest = np.nanmax(gradients, initial=0.0)
    chart = np.where(np.nan_to_num(gradients, nan=np.inf) > tolerance * largest, gradients, 0.0)
    return np.where((chart == 0) & poisoned, 1.0, np.nan_to_num(chart, nan=1.0, posinf=1.0))


def _changed(clean: np.ndarray, losses: Array) -> np.ndarray:
    """Which losses are no longer what they were, beyond rounding; `[batch]` bool."""
    return ~np.isclose(np.asarray(losses), clean, rtol=1e-4, atol=1e-6, equal_nan=True)


def _poison(tree: Any, example: int) -> Any:
    """The tree with one example made recognisable: NaN in floating leaves, another example's values in the others."""

    def poison(leaf: Array) -> Array:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.at[example].set(jnp.nan)
        different = jnp.any((leaf != leaf[example]).reshape(leaf.shape[0], -1), axis=1)
        return leaf.at[example].set(leaf[jnp.argmax(different)])

    return jax.tree.map(poison, tree)


def _split_floating(tree: Any) -> tuple[tuple[list[Array], list[Array]], Any]:
    """The floating leaves of `(inputs, targets)` as two lists, and a function that puts them back among the others."""
    (inputs, targets), structure = tree, jax.tree.structure(tree)
    parts = tuple(
        [leaf for leaf in jax.tree.leaves(part) if jnp.issubdtype(leaf.dtype, jnp.floating)]
        for part in (inputs, targets)
    )

    def join(parts: tuple[list[Array], list[Array]]) -> Any:
        floating = iter([*parts[0], *parts[1]])
        return jax.tree.unflatten(
            structure,
            [next(floating) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf for leaf in jax.tree.leaves(tree)],
        )

    return (parts[0], parts[1]), join


def _norms(leaves: list[Array], size: int) -> Float[Array, "batch"]:
    """Norm over everything but the batch axis, all leaves together; never a signed sum, which would cancel."""
    if not leaves:
        return jnp.zeros(size, jnp.float32)
    return jnp.sqrt(sum(jnp.square(leaf.astype(jnp.float32)).reshape(size, -1).sum(axis=1) for leaf in leaves))


def _matrix(mode: str, chart: Chart) -> Matrix:
    names = [str(i) for i in range(chart.inputs.shape[1])]
    return Matrix(
        title=f"Whose input the loss of an example depends on, in {mode} mode",
        values=chart.inputs,
        row_label="loss of example",
        column_label="input of example",
        row_names=names,
        column_names=names,
        log=True,
    )
