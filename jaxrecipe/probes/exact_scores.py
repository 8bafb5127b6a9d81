"""Scores of each example by an independent way, and the evaluation that is under test in one form."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.setup import Setup, Split
from jaxrecipe.training.evaluation import evaluate

PyTree = Any
Scores = dict[str, Float[np.ndarray, "examples"]]
"""Loss and metrics of each example, float64."""
Evaluate = Callable[[PyTree, Split, Int[np.ndarray, "examples"], int], dict[str, float]]
"""`evaluate(state, split, indices, batch_size) -> {name: number}`, of these examples in this order."""


def evaluation_under_test(setup: Setup) -> tuple[Evaluate, bool]:
    """The user's own evaluation, or the library's where there is none; and whether it is the user's."""
    own = setup.loop.evaluate
    prepared: dict[tuple[Split, int], tuple[np.ndarray, Any]] = {}

    def rows(split: Split, indices: np.ndarray) -> Any:
        """Prepared examples; each is prepared once, however often it is asked for."""
        wanted = np.unique(indices)
        known, batch = prepared.get((split, len(wanted)), (np.zeros(0), None))
        if batch is None or not np.array_equal(known, wanted):
            batch = jax.tree.map(np.asarray, setup.prepared(split, wanted))
            prepared[split, len(wanted)] = wanted, batch
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[np.searchsorted(wanted, indices)]), batch)

    def theirs(state: PyTree, split: Split, indices: np.ndarray, batch_size: int) -> dict[str, float]:
        inputs, targets = rows(split, indices)
        values = own(trees.copy(state), inputs, targets, batch_size) if own else {}
        return {str(name): float(value) for name, value in values.items() if np.size(value) == 1}

    def ours(state: PyTree, split: Split, indices: np.ndarray, batch_size: int) -> dict[str, float]:
        source = setup.train if split == "train" or setup.test is None else setup.test
        params, model_state = setup.loop.variables(trees.copy(state))
        found = evaluate(setup.task, params, model_state, source.gather(indices), batch_size=batch_size)
        return {name: float(estimate.value) for name, estimate in found.values.items()}

    return (theirs, True) if own else (ours, False)


def scores(
    setup: Setup,
    variables: tuple[PyTree, PyTree],
    split: Split,
    indices: Int[np.ndarray, "examples"],
    *,
    train: bool = False,
    key: PRNGKeyArray | None = None,
    augment: bool = False,
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
        outputs, _ = setup.forward(*variables, inputs, train=train, key=batch_key if train else None)
        for name, values in {
            "loss": setup.losses(outputs, targets),
            **_measure(outputs, targets, metrics=metrics),
        }.items():
            found[name].append(np.asarray(values, np.float64))
    return {name: np.concatenate(parts)[:count] for name, parts in found.items()}


def as_if_augmented(
    setup: Setup, evaluate: Evaluate, state: PyTree, split: Split, key: PRNGKeyArray, slack: float
) -> str:
    """What an evaluation says that augments what it is given, "" if it does not.

    It is asked about the examples whose loss augmentation raises most, so that a model that has hardly learnt yet shows it too.

    Args:
        setup: the set-up.
        evaluate: the evaluation.
        state: what to evaluate.
        split: of which data.
        key: seeds the draws.
        slack: how far an exact loss may be off, relative to mean and spread.
    """
    if setup.task.augment is None:
        return ""
    source = setup.train if split == "train" or setup.test is None else setup.test
    variables = trees.copy(setup.loop.variables(state))
    many = np.random.default_rng([setup.seed, 47]).permutation(source.size)[: 4 * setup.batch_size]
    plain = scores(setup, variables, split, many)["loss"]
    keys = [jax.random.fold_in(key, 300 + draw) for draw in range(6)]
    raised = [scores(setup, variables, split, many, key=one, augment=True)["loss"] - plain for one in keys[:3]]
    worst = np.resize(many[np.argsort(-np.mean(raised, axis=0))][: max(len(many) // 4, 1)], setup.batch_size)
    exact = scores(setup, variables, split, worst)["loss"]
    draws = [scores(setup, variables, split, worst, key=one, augment=True)["loss"].mean() for one in keys[3:]]
    said = next(
        (
            value
            for name, value in evaluate(state, split, worst, setup.batch_size).items()
            if common_name(name) == "loss"
        ),
        None,
    )
    middle, width, right = float(np.mean(draws)), float(np.std(draws)), float(exact.mean())
    allowed = slack * (abs(right) + float(exact.std()))
    if said is None or middle - right < 3 * allowed or abs(said - middle) > 0.5 * abs(middle - right) + 2 * width:
        return ""
    if said - right < 0.25 * (middle - right):
        return ""
    return f"evaluate gives loss {said:.4g} for examples that score {right:.4g} as they are and {middle:.4g} augmented."


# At module level with the metrics as a static argument, so that every call finds the compiled program.
@partial(jax.jit, static_argnames="metrics")
def _measure(outputs: PyTree, targets: PyTree, *, metrics: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    return {name: metric(outputs, targets) for name, metric in metrics}


def lightly_trained(setup: Setup, key: PRNGKeyArray, steps: int = 10) -> PyTree:
    """The loop's state after a few steps, where nothing is degenerate; the fresh one if these steps are not finite."""
    state = setup.fresh_state()
    for step in range(steps):
        state, _ = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
    floating = [leaf for leaf in jax.tree.leaves(setup.loop.variables(state)) if trees.is_floating(leaf)]
    finite = all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in floating)
    return state if finite else setup.fresh_state()


def common_name(name: str) -> str:
    """A name as the task would say it: without "test/" and the like, and "accuracy" for "acc"."""
    plain = re.sub(r"^(test|eval|evaluation|val|valid|validation|mean|avg)[/_ .-]+", "", name.strip().lower())
    return {"acc": "accuracy", "top1": "accuracy", "mean_loss": "loss"}.get(plain, plain)


def in_half(setup: Setup) -> bool:
    """Whether the model computes in half precision, by the policy or by itself."""
    if setup.task.precision.casts:
        return True
    outputs, _ = setup.forward(*setup.variables, setup.batch[0], train=False, key=None)
    return any(trees.is_floating(leaf) and jnp.finfo(leaf.dtype).bits < 32 for leaf in jax.tree.leaves(outputs))
