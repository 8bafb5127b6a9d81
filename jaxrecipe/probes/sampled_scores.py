"""An evaluation that gives other numbers when it is asked again or in another order, compared in distribution."""

from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxrecipe import trees
from jaxrecipe.probes.exact_scores import Evaluate, PyTree, common_name, scores
from jaxrecipe.probes.first_steps import random_in_training
from jaxrecipe.setup import Setup, Split

DRAWS = 8
"""Times that everything is asked for."""
DEVIATIONS = 3.0
"""Standard errors within which two means are the same."""
SYSTEMATIC = 5.0
"""Deviations of one answer beyond which chance does not explain it."""
AS_WIDE = 2.5
"""Factor within which two spreads, each of a few draws, are the same."""
AVERAGED = 0.6
"""A spread below this share of that of single draws is one of several of them."""

Kind = Literal["left on", "unbiased", "averaged", "biased"]


class Sampled(NamedTuple):
    """What an evaluation says of the same examples, again and again, each time in another order.

    Attributes:
        said: its answers.
        exact: the mean over the examples.
        trained, augmented: the same mean of draws of training mode, and of augmentation; empty where there is none.
    """

    said: Float[np.ndarray, "draws"]
    exact: float
    trained: Float[np.ndarray, "draws"]
    augmented: Float[np.ndarray, "draws"]

    @property
    def in_words(self) -> str:
        """Mean and spread of the answers."""
        return f"{self.said.mean():.4g} ± {self.said.std(ddof=1):.2g} in {len(self.said)} orders"


def sampled_scores(
    setup: Setup, evaluate: Evaluate, state: PyTree, split: Split, examples: Int[np.ndarray, "examples"], name: str
) -> Sampled:
    """Ask an evaluation for one number of the same examples several times, and what could explain its spread."""
    variables, known, rng = trees.copy(setup.loop.variables(state)), common_name(name), np.random.default_rng(0)
    keys = [jax.random.fold_in(setup.key, 500 + draw) for draw in range(DRAWS)]

    def means(**how: bool) -> np.ndarray:
        return np.array([scores(setup, variables, split, examples, key=key, **how)[known].mean() for key in keys])

    orders = [rng.permutation(examples) for _ in range(DRAWS)]
    said = [evaluate(state, split, order, setup.batch_size).get(name, np.nan) for order in orders]
    return Sampled(
        said=np.array(said),
        exact=float(scores(setup, variables, split, examples)[known].mean()),
        trained=means(train=True) if random_in_training(setup, setup.key) else np.zeros(0),
        augmented=means(augment=True) if setup.task.augment is not None else np.zeros(0),
    )


def kind_of(sampled: Sampled, slack: float, others: tuple[float, ...] = ()) -> Kind:
    """What the spread of an evaluation is like.

    It is that of what was left on where the answers are those of training mode, or of augmentation. It is unbiased
    where they lie about the exact mean, as those of a random part of the examples do, and averaged where they vary much
    less than draws of training mode.

    Args:
        sampled: the answers.
        slack: how far the mean of exact answers may be off.
        others: answers for orders that were not drawn by chance, the best examples first or last: an evaluation that
            always leaves out the end is not a random one.
    """
    spread = float(sampled.said.std(ddof=1))
    away = abs(float(sampled.said.mean()) - sampled.exact)
    for draws in (sampled.trained, sampled.augmented):
        if len(draws) and draws.std() > 0 and _alike(sampled.said, draws, slack) < away:
            return "left on"
    middle = float(sampled.said.mean())
    by_chance = all(abs(other - middle) <= SYSTEMATIC * spread + slack for other in others)
    if by_chance and away <= DEVIATIONS * spread / np.sqrt(len(sampled.said)) + slack:
        return "unbiased"
    if len(sampled.trained) and by_chance and 0 < spread < AVERAGED * sampled.trained.std(ddof=1):
        return "averaged"
    return "biased"


def _alike(said: np.ndarray, draws: np.ndarray, slack: float) -> float:
    """How far the means are apart where two samples look like draws of one distribution; else infinite."""
    wide, other = float(said.std(ddof=1)), float(draws.std(ddof=1))
    apart = abs(float(said.mean() - draws.mean()))
    error = np.sqrt((wide**2 + other**2) / len(said))
    same = apart <= DEVIATIONS * error + slack and other / AS_WIDE < wide < other * AS_WIDE
    return apart if same else np.inf
