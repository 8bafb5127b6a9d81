"""Scores of each example by an independent way, and the loop's evaluation asked for examples by their indices."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import Cause, causes
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.first_steps import random_in_training
from jaxrecipe.setup import Setup, Split

PyTree = Any
Scores = dict[str, Float[np.ndarray, "examples"]]
"""Loss and metrics of each example, float64."""
Evaluate = Callable[[PyTree, Split, Int[np.ndarray, "examples"], int], dict[str, float]]
"""`evaluate(state, split, indices, batch_size) -> {name: number}`, of these examples in this order."""


def evaluation_under_test(setup: Setup) -> Evaluate:
    """The loop's own evaluation, asked for examples by their indices; each example is prepared once.

    Raises:
        ValueError: the loop has no evaluation.
    """
    own = setup.loop.evaluate
    if own is None:
        raise ValueError("the loop has no evaluation; give Loop(evaluate=...)")

    def ask(state: PyTree, split: Split, indices: np.ndarray, batch_size: int) -> dict[str, float]:
        wanted = np.unique(indices)
        prepared = setup.memo((_prepared, split, wanted.tobytes()), lambda: _prepared(setup, split, wanted))
        rows = np.searchsorted(wanted, indices)
        inputs, targets = jax.device_put(jax.tree.map(lambda leaf: leaf[rows], prepared))
        values = own(trees.copy(state), inputs, targets, batch_size)
        return {str(name): float(value) for name, value in values.items() if np.size(value) == 1}

    return ask


def _prepared(setup: Setup, split: Split, indices: Int[np.ndarray, "examples"]) -> tuple[Any, Any]:
    """Prepared examples on the host, prepared in batches of the usual size, which compiles nothing new."""
    size = setup.batch_size
    padded = np.resize(indices, -(-len(indices) // size) * size)
    parts = [
        jax.tree.map(np.asarray, setup.prepared(split, padded[start : start + size]))
        for start in range(0, len(padded), size)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[: len(indices)], *parts)


def scores(
    setup: Setup,
    variables: tuple[PyTree, PyTree],
    split: Split,
    indices: Int[np.ndarray, "examples"],
    *,
    train: bool = False,
    key: PRNGKeyArray | None = None,
    augment: bool = False,
    draws: bool = False,
) -> Scores:
    """Loss and metrics of each example in this order, by the model itself, one batch of the usual size at a time.

    Args:
        setup: the set-up.
        variables: parameters and model state.
        split: of which data.
        indices: which examples.
        train: run the model in training mode.
        key: for the model in training mode, and for augmentation.
        augment: augment the examples first, as in training.
        draws: give the key to the model in evaluation mode too, for one that is random there.
    """
    size, count = setup.batch_size, len(indices)
    padded = np.resize(indices, -(-count // size) * size)
    metrics = tuple(setup.task.all_metrics.items())
    found: dict[str, list[np.ndarray]] = {"loss": [], **{name: [] for name, _ in metrics}}
    for start in range(0, len(padded), size):
        inputs, targets = setup.prepared(split, padded[start : start + size])
        batch_key = None if key is None else jax.random.fold_in(key, start)
        if augment and setup.task.augment is not None and batch_key is not None:
            inputs, targets = setup.task.augment(batch_key, inputs, targets)
        outputs, _ = setup.forward(*variables, inputs, train=train, key=batch_key if train or draws else None)
        for name, values in {
            "loss": setup.losses(outputs, targets),
            **_measure(outputs, targets, metrics=metrics),
        }.items():
            found[name].append(np.asarray(values, np.float64))
    return {name: np.concatenate(parts)[:count] for name, parts in found.items()}


def causes_of_randomness(setup: Setup, key: PRNGKeyArray) -> tuple[Cause, ...]:
    """What makes an evaluation random, the likeliest first: augmentation where nothing else in the set-up draws."""
    only_augmentation = setup.task.augment is not None and not random_in_training(setup, key)
    return causes("evaluation/augmented", "evaluation/random") if only_augmentation else causes("evaluation/random")


class Augmented(NamedTuple):
    """An evaluation that scores its examples as if they were augmented.

    Attributes:
        said: the loss that it gives.
        exact: the loss of the examples as they are.
        augmented: their loss when they are augmented, mean of a few draws.
    """

    said: float
    exact: float
    augmented: float

    @property
    def message(self) -> str:
        """What was seen."""
        return (
            f"evaluate gives loss {self.said:.4g} for examples that score {self.exact:.4g} as they are and "
            f"{self.augmented:.4g} augmented."
        )

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The three losses."""
        return (
            Measure(name="loss by evaluate", value=self.said),
            Measure(name="loss of the examples as they are", value=self.exact),
            Measure(name="loss of the examples augmented", value=self.augmented),
        )


CANDIDATE_BATCHES = 4
"""Batches of examples among which those are chosen that augmentation hurts most."""
DRAWS_TO_CHOOSE, DRAWS_TO_COMPARE = 3, 3
"""Draws of the augmentation that choose the examples, and others that score them."""
TELLING = 3.0
"""Augmentation must raise the loss by so many times what an exact one may be off, or nothing can be told."""
HALFWAY = 0.5
"""The loss given must be nearer to the augmented one than to half of the way from the exact one."""
DRAWS_APART = 2.0
"""... give or take so many standard deviations of the draws."""


def explained_by_augmentation(
    setup: Setup, evaluate: Evaluate, state: PyTree, split: Split, key: PRNGKeyArray, slack: float
) -> Augmented | None:
    """What an evaluation gives that augments its examples; None if it does not.

    It is asked about the examples whose loss augmentation raises most, so that a model that has hardly learned yet
    shows it.

    Args:
        setup: the set-up.
        evaluate: the evaluation.
        state: what to evaluate.
        split: of which data.
        key: seeds the draws.
        slack: how far an exact loss may be off, relative to mean and spread.
    """
    if setup.task.augment is None:
        return None
    source = setup.train if split == "train" or setup.test is None else setup.test
    variables = trees.copy(setup.loop.variables(state))

    def losses(examples: np.ndarray, draw: int | None = None) -> np.ndarray:
        if draw is None:
            return scores(setup, variables, split, examples)["loss"]
        draw_key = jax.random.fold_in(key, 300 + draw)
        return scores(setup, variables, split, examples, key=draw_key, augment=True)["loss"]

    many = np.random.default_rng([setup.seed, 47]).permutation(source.size)[: CANDIDATE_BATCHES * setup.batch_size]
    raised = np.mean([losses(many, draw) for draw in range(DRAWS_TO_CHOOSE)], axis=0) - losses(many)
    worst = many[np.argsort(-raised)][: max(len(many) // CANDIDATE_BATCHES, 1)]
    worst = np.resize(worst, setup.batch_size)
    exact = losses(worst)
    draws = [losses(worst, DRAWS_TO_CHOOSE + draw).mean() for draw in range(DRAWS_TO_COMPARE)]
    values = evaluate(state, split, worst, setup.batch_size)
    said = next((value for name, value in values.items() if common_name(name) == "loss"), None)
    middle, width, right = float(np.mean(draws)), float(np.std(draws)), float(exact.mean())
    allowed = slack * (abs(right) + float(exact.std()))
    rise = middle - right
    if said is None or rise < TELLING * allowed or abs(said - middle) > HALFWAY * rise + DRAWS_APART * width:
        return None
    return Augmented(said, right, middle) if said - right >= HALFWAY / 2 * rise else None


# At module level with the metrics as a static argument, so that every call finds the compiled program.
@partial(jax.jit, static_argnames="metrics")
def _measure(outputs: PyTree, targets: PyTree, *, metrics: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: metric(outputs, targets) for name, metric in metrics}


def common_name(name: str) -> str:
    """A name as the task would say it: without "test/" and the like, and "accuracy" for "acc"."""
    plain = re.sub(r"^(test|eval|evaluation|val|valid|validation|mean|avg)[/_ .-]+", "", name.strip().lower())
    return {"acc": "accuracy", "top1": "accuracy", "mean_loss": "loss"}.get(plain, plain)
