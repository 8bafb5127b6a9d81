"""Mode consistency: what is meant for training only is off at evaluation, and what training collects is kept."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup

_result = partial(unsorted_result, name="mode_consistency", stage="skeleton")
Finding = tuple[Status, str, str]


def mode_consistency(setup: Setup, *, key: PRNGKeyArray, tolerance: float = 1e-4) -> Result:
    """Evaluation is deterministic and changes nothing; training keeps its running statistics.

    What it does: runs the model in evaluation mode with two keys (the outputs must be equal) and compares the model state before and
    after (it must be untouched), then takes a training step with your own training step and looks whether a model state that a
    forward pass in training moves (the running statistics of a BatchNorm) has moved in the state that the step returns. Where you give a
    `predict`, it must agree with the model in evaluation mode at the start, and must not use parameters or statistics of before a step after it; an
    average of the parameters of all steps is fine.

    It also looks for outputs that are zero at random places in training and are not at evaluation: dropout behind the last layer.

    Why it matters: dropout that stays on at evaluation, running statistics that are thrown away or moved by test data cost accuracy
    and never raise an error.

    What to do: pass `train=False` (`deterministic=True`, `use_running_average=True`) at evaluation; put the model state that the
    forward pass returns into the next state.

    Args:
        setup: the set-up.
        key: seeds dropout.
        tolerance: how far two evaluations may differ, relative to the size of the outputs.

    Source: Karpathy, the most common neural net mistakes (2018): forgetting to toggle train and eval mode.
    """
    inputs, targets = setup.batch
    params, model_state = setup.variables
    keys = [jax.random.fold_in(key, draw) for draw in range(2)]
    first, after = setup.forward(params, model_state, inputs, train=False, key=keys[0])
    second, _ = setup.forward(params, model_state, inputs, train=False, key=keys[1])
    noise = _distance(first, second)
    moved_by_eval = _changed_leaves(model_state, after)
    outputs, trained = setup.forward(params, model_state, inputs, train=True, key=keys[0])
    moved_by_training = _changed_leaves(model_state, trained)
    again, _ = setup.forward(params, model_state, inputs, train=True, key=keys[1])
    batch_statistics = _distance(outputs, again) <= tolerance < _distance(first, outputs)
    state, _ = setup.step(setup.fresh_state(), inputs, targets, keys[0])
    stepped_params, stepped = trees.copy(setup.loop.variables(state))
    kept = _changed_leaves(model_state, stepped)
    lost = sorted(set(moved_by_training) - set(kept))
    if (
        batch_statistics and not moved_by_training
    ):  # something depends on the mode, is not noise, and is collected nowhere
        lost = [
            path
            for path, leaf in trees.named_leaves(model_state).items()
            if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
        ]
    predicted, stale = _predict_distance(setup, state, stepped_params, stepped, inputs)
    measured = {
        "difference of two evaluations": noise,
        "leaves of model state moved by evaluation": len(moved_by_eval),
        "leaves of model state moved by training and not kept": len(lost),
    }
    expected: dict[str, Any] = {
        "difference of two evaluations": f"up to {tolerance:g}",
        **dict.fromkeys(list(measured)[1:], 0),
    }
    if predicted is not None:
        measured["difference of predict and model"] = predicted
        expected["difference of predict and model"] = "up to 0.001"
    rows = [(path, path in moved_by_training, path in kept, path in moved_by_eval) for path in trees.paths(model_state)]
    evidence = (
        Table(
            title="Model state",
            columns=("leaf", "moved by training", "kept by the step", "moved by evaluation"),
            rows=rows,
        ),
    )
    dropped = _dropped(first, outputs, again)
    measured["share of outputs dropped in training"] = dropped
    expected["share of outputs dropped in training"] = 0
    findings = _findings(noise > tolerance, moved_by_eval, lost, predicted, stale)
    if dropped > 0:
        findings.append(
            (
                Status.FAIL,
                f"In training {dropped:.0%} of the outputs are zero, at places that change by chance.",
                DROPPED,
            )
        )
    if findings:
        status, finding, hint = findings[0]
        return _result(
            status=status, finding=finding, hint=hint, measured=measured, expected=expected, evidence=evidence
        )
    finding = "Evaluation is deterministic and leaves the model state alone" + (
        f"; training keeps {len(moved_by_training)} running statistics." if moved_by_training else "."
    )
    return _result(status=Status.PASS, finding=finding, measured=measured, expected=expected, evidence=evidence)


NOISY = "Dropout or other noise is on at evaluation: pass train=False (deterministic=True, use_running_average=True) to every layer that has the switch."
MOVED = "Evaluation moves the running statistics, so test data leak into the model: use the stored statistics (use_running_average=True) and drop the returned state."
LOST = "The batch statistics are thrown away: put the model state that the training forward pass returns into the next state, or evaluation uses the initial mean and variance."
PREDICT = "predict does not use the model in evaluation mode with the state's own parameters and statistics: look for training mode left on, stale parameters or other preparation."


DROPPED = "Dropout stands behind the last layer, so that the loss is taken of outputs that were thrown away: move it in front of that layer."
STALE = "After a training step predict still gives what the model gave with {what} of before: read them from the state that predict is given, not from a copy made earlier."


def _findings(
    noisy: bool, moved_by_eval: list[str], lost: list[str], predicted: float | None, stale: str
) -> list[Finding]:
    """What is wrong, most certain first."""
    found: list[Finding] = []
    if noisy:
        found.append((Status.FAIL, "Two evaluations of the same batch with different keys differ.", NOISY))
    if moved_by_eval:
        found.append((Status.FAIL, f"Evaluation changes the model state ({', '.join(moved_by_eval[:3])}).", MOVED))
    if lost:
        found.append(
            (Status.FAIL, f"The training step does not keep the running statistics ({', '.join(lost[:3])}).", LOST)
        )
    if predicted is not None and predicted > 1e-3:
        found.append(
            (Status.FAIL, f"predict differs from the model in evaluation mode by {predicted:.2g} of its size.", PREDICT)
        )
    if stale:
        found.append((Status.FAIL, f"predict uses {stale} of before the training step.", STALE.format(what=stale)))
    return found


def _dropped(evaluated: Any, trained: Any, again: Any) -> float:
    """Share of the outputs that are exactly zero in training, elsewhere with another key, and nowhere at evaluation; 0 unless it is one in fifty."""
    shares = [0.0]
    for leaves in zip(*map(jax.tree.leaves, (evaluated, trained, again)), strict=True):
        at_eval, one, two = (np.asarray(leaf, np.float64) == 0 for leaf in leaves)
        share = float(one.mean())
        if not at_eval.any() and 0.02 < share < 0.98 and two.mean() > 0.02 and (one != two).any():
            shares.append(share)
    return max(shares)


def _distance(a: Any, b: Any) -> float:
    """Norm of the difference of two trees of outputs as a share of the first one's norm; NaN equals NaN."""
    x, y = (np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    both = np.isnan(x) & np.isnan(y)
    difference = np.linalg.norm(np.where(both, 0.0, x - y))
    return float(difference / max(np.linalg.norm(np.nan_to_num(x)), 1e-12))


def _changed_leaves(before: Any, after: Any) -> list[str]:
    """Paths of the floating leaves of a model state whose values are no longer the same."""
    left, right = trees.named_leaves(before), trees.named_leaves(after)
    return [
        path
        for path, leaf in left.items()
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating)
        and path in right
        and not np.array_equal(np.asarray(leaf), np.asarray(right[path]), equal_nan=True)
    ]


def _predict_distance(setup: Setup, state: Any, params: Any, model_state: Any, inputs: Any) -> tuple[float | None, str]:
    """How far the user's own predict is from the model in evaluation mode at the start, and what it uses that is out of date after a step.

    At the start, because afterwards it may rightly use other parameters, such as an average of those of all steps.
    """
    if setup.loop.predict is None:
        return None, ""

    def model(params: Any, model_state: Any) -> Any:
        return setup.forward(params, model_state, inputs, train=False, key=None)[0]

    distance = _distance(model(*setup.variables), setup.loop.predict(setup.fresh_state(), inputs))
    after = setup.loop.predict(trees.copy(state), inputs)
    if distance > 1e-3 or _distance(model(params, model_state), after) <= 1e-3:
        return distance, ""
    before = {
        "the parameters and the model state": setup.variables,
        "the parameters": (setup.params, model_state),
        "the model state": (params, setup.model_state),
    }
    return distance, next((what for what, used in before.items() if _distance(model(*used), after) < 1e-6), "")
