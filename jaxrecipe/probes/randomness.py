"""Whether a model is random at evaluation, and whether by design or because what belongs to training was left on."""

import enum
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrecipe.probes.first_steps import on_host
from jaxrecipe.probes.random_flow import Uses, uses_of_randomness
from jaxrecipe.setup import Setup

DESIGNS = {
    "scales": "noise is scaled by what the model computes, as when a latent is sampled",
    "feeds": "what is drawn is fed to a layer, as to a generator",
    "chooses": "what is drawn decides among what the model computes, as when a token is sampled",
    "tells": "what is drawn stands among the outputs, so that the loss is told of it",
}
"""Uses of a draw that dropout and noise for regularization do not have, in words."""
AVERAGED = "evaluation draws {:.3g} times as many numbers as training, as an average of several draws does"
NOTHING = 1e-12
"""Norm that outputs count as having at least."""


class Origin(enum.StrEnum):
    """Why a model is random at evaluation."""

    NONE = "none"
    LEFT_ON = "left on"
    DESIGN = "by design"
    UNKNOWN = "unknown"


class Randomness(NamedTuple):
    """The randomness of the model in evaluation mode.

    Attributes:
        origin: where it comes from.
        by_key: how far outputs with two keys are apart, relative to their size; with one key they are equal.
        how: what points to a design, in words; empty where nothing does.
    """

    origin: Origin
    by_key: float
    how: str

    @property
    def accepted(self) -> bool:
        """Whether numbers of two evaluations are to be compared in distribution: nothing proves a mistake."""
        return self.origin in (Origin.DESIGN, Origin.UNKNOWN)


def evaluation_randomness(setup: Setup) -> Randomness:
    """What the model draws in evaluation mode and what it does with it; measured and traced once."""
    return setup.memo((evaluation_randomness,), lambda: _evaluation_randomness(setup))


def _evaluation_randomness(setup: Setup) -> Randomness:
    uses, reaches = _uses(setup, train=False)
    if not reaches:
        return Randomness(Origin.NONE, 0.0, "")
    inputs, variables = setup.batch[0], setup.variables
    keys = [jax.random.fold_in(setup.key, draw) for draw in range(2)]
    first, second = (setup.forward(*variables, inputs, train=False, key=key)[0] for key in keys)
    by_key = relative_distance(first, second)
    in_training, _ = _uses(setup, train=True)
    signs = [words for use, words in DESIGNS.items() if use in uses.found]
    if in_training.numbers and uses.numbers > in_training.numbers:
        return Randomness(Origin.DESIGN, by_key, AVERAGED.format(uses.numbers / in_training.numbers))
    how = "; ".join(signs)
    if "masks" in uses.found:
        return Randomness(Origin.UNKNOWN if "tells" in uses.found else Origin.LEFT_ON, by_key, how)
    return Randomness(Origin.DESIGN if signs else Origin.UNKNOWN, by_key, how)


def draws_by_design(setup: Setup, *, train: bool) -> bool:
    """Whether the model draws in this mode for more than regularization."""
    uses, reaches = setup.memo((draws_by_design, train), lambda: _uses(setup, train=train))
    return reaches and bool(uses.found & set(DESIGNS))


def _uses(setup: Setup, *, train: bool) -> tuple[Uses, bool]:
    """What the model does with what it draws in a mode, and whether anything of it reaches the outputs."""
    variables, key = setup.variables, setup.key  # computed outside of the trace, as the set-up keeps them

    def outputs(params: Any, state: Any, inputs: Any, key: Any) -> Any:
        return setup.forward(params, state, inputs, train=train, key=key)[0]

    given = (*variables, setup.batch[0])
    jaxpr = jax.make_jaxpr(outputs)(*given, key).jaxpr
    data = [True] * len(jax.tree.leaves(given))
    uses, results = uses_of_randomness(jaxpr, data + [False] * (len(jaxpr.invars) - len(data)))
    return uses, any(flow.random for flow in results)


def relative_distance(a: Any, b: Any) -> float:
    """Norm of the difference of two trees of outputs as a share of the first one's norm; NaN equals NaN."""
    x, y = (np.concatenate([on_host(leaf).ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    both = np.isnan(x) & np.isnan(y)
    difference = np.linalg.norm(np.where(both, 0.0, x - y))
    return float(difference / max(np.linalg.norm(np.nan_to_num(x)), NOTHING))
