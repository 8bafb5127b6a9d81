"""Every place of padding; and whether real positions see the padding token: its row of the embedding is changed, which
must not move their outputs.

Other tokens in the place of padding would not do: a model makes its mask of the tokens, and would take them for real.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.chart_input_dependencies.padding import (
    Padding,
    most_padded_batch,
    padded_inputs,
    padded_outputs,
    padded_targets,
)
from jaxrecipe.probes.changed_values import revealing_parameters
from jaxrecipe.probes.loss_alignment import only_array, padding_id, token_target
from jaxrecipe.probes.rounding import changed, model_rounding
from jaxrecipe.setup import Setup

EVERYWHERE = 0.9
"""From this share of the real positions on, padding is seen from everywhere, as by attention or a mean; below it only
from nearby, as by a convolution, which may be meant."""


@dataclass(frozen=True)
class Reach:
    """What is needed to see which outputs depend on a row of an embedding.

    Attributes:
        outputs: `outputs(params) -> [batch, ...]` in evaluation mode.
        params: parameters that hide nothing.
        rounding: of the model.
    """

    outputs: Callable[[Any], np.ndarray]
    params: Any
    rounding: float

    def moved(self, path: str, row: int) -> Bool[np.ndarray, "batch ..."]:
        """Which outputs move when a row of that parameter does; the logits of the row itself (tied weights) aside."""
        before = self.outputs(self.params)
        table = trees.named_leaves(self.params)[path]
        after = self.outputs(_with_other_row(self.params, path, row))
        differ = changed(before, after, self.rounding)
        if before.shape[-1] == table.shape[0] and before.ndim > 1:
            differ[..., row] = False
        return np.asarray(differ.any(axis=-1) if differ.ndim > 1 else differ)


def padding_places(setup: Setup, key: PRNGKeyArray) -> list[Padding]:
    """Every place where inputs or targets mark padding."""
    return [
        *padded_inputs(setup, key),
        *padded_tokens(setup, key),
        *padded_outputs(setup),
        *padded_targets(setup),
    ]


def padded_tokens(setup: Setup, key: PRNGKeyArray) -> Iterator[Padding]:
    """Whether outputs at real positions depend on the padding token of the inputs; nothing where there is none."""
    target = token_target(setup.task.target)
    declared = None if target is None else target.pad
    inputs, targets = most_padded_batch(setup, declared)
    tokens = only_array(inputs)
    if tokens is None or tokens.ndim != 2 or not np.issubdtype(tokens.dtype, np.integer):
        return
    pad = padding_id(tokens)
    if pad is None or (declared is not None and pad != declared):
        return
    reach = Reach(_outputs_of(setup, inputs, key), revealing_parameters(setup, key), model_rounding(setup))
    for path in _embeddings(reach, tokens, pad):
        moved, real = reach.moved(path, pad), tokens != pad
        at_places = moved.shape == real.shape
        seen = float(moved[real].mean() if at_places else moved.mean())
        same = declared is not None and _same_places(real, only_array(targets), declared)
        certain = at_places and same and seen >= EVERYWHERE
        yield Padding(
            where=f"inputs equal to {pad}",
            seen=seen,
            code="model/padding-seen",
            what="the outputs at real positions" if at_places else "the outputs",
            certain=certain,
        )
        return


def _same_places(real: np.ndarray, targets: np.ndarray | None, pad: int) -> bool:
    """Whether the targets mark the same padding as the inputs, up to the shift of a language model."""
    if targets is None or targets.shape != real.shape:
        return False
    return bool((np.abs((targets != pad).sum(axis=1) - real.sum(axis=1)) <= 1).all())


def _outputs_of(setup: Setup, inputs: Any, key: PRNGKeyArray) -> Callable[[Any], np.ndarray]:
    def outputs(params: Any) -> np.ndarray:
        given = setup.forward(params, setup.model_state, inputs, train=False, key=key)[0]
        alone = only_array(given)
        return np.zeros((trees.leading_size(inputs), 1)) if alone is None else alone

    return outputs


def _embeddings(reach: Reach, tokens: np.ndarray, pad: int) -> Iterator[str]:
    """Paths of the parameters whose rows belong to tokens: a row moves those examples that hold it."""
    holds = {int(token): (tokens == token).any(axis=1) for token in np.unique(tokens) if token != pad}
    rare = min((t for t in holds if not holds[t].all()), key=lambda t: (holds[t].sum(), t), default=None)
    if rare is None:
        return
    for path, leaf in trees.named_leaves(reach.params).items():
        if leaf.ndim != 2 or leaf.shape[0] <= tokens.max() or not trees.is_floating(leaf):
            continue
        moved = reach.moved(path, rare)
        if np.array_equal(moved.reshape(len(tokens), -1).any(axis=1), holds[rare]):
            yield path


def _with_other_row(params: Any, path: str, row: int) -> Any:
    """The parameters with one row of one of them drawn anew, of the spread of the whole."""
    wanted = trees.named_leaves(params)[path]
    rng = np.random.default_rng(row)
    values = np.asarray(wanted, np.float64)
    new = values.copy()
    new[row] += (float(values.std()) or 1.0) * rng.standard_normal(values.shape[1:])
    changed_leaf = jnp.asarray(new, wanted.dtype)
    return jax.tree.map(lambda leaf: changed_leaf if leaf is wanted else leaf, params)
