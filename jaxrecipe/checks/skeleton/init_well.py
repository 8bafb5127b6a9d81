"""Init well: the final bias already says what the data say."""

from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.probes.constant_predictor import best_constant, losses_at_constant, mean_output
from jaxrecipe.report.result import Result, Status, Table, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Binary, Classes, Tokens

_result = partial(unsorted_result, name="init_well", stage="skeleton")
MOST_ROWS = 200


def init_well(
    setup: Setup, *, key: PRNGKeyArray, warn: float = 1.0, warn_labels: float = 0.35, fail: float = 10.0
) -> Result:
    """The untrained model already predicts the average of the targets.

    What it does: takes the constant part of the untrained model's outputs (their mean over examples) and compares its loss
    with that of the best constant output. The difference is what training must first spend on learning a bias, as a share
    of the best constant's own loss. The bias that would save it is in the evidence.

    Why it matters: targets with a mean of 50, or one positive in a thousand, make the first hundreds of steps learn nothing but
    that average: a loss curve like a hockey stick, and gradients of the wrong size while it lasts.

    What to do: add the shift in the evidence to the final layer's bias at initialisation (log frequencies for classes, the mean for
    values), give the final layer a bias if it has none, or standardise the targets.

    Args:
        setup: the set-up.
        key: unused; the model's randomness comes from the set-up.
        warn: WARN when learning the bias is worth more than this many times the best constant's loss.
        warn_labels: the same for a plain cross entropy of classes or of yes or no, whose prior the bias should hold: an answer that is right one time in ten
            costs 0.93 at a final bias of zero, one in five 0.39. Mean outputs that differ by half a unit between initialisations cost 0.02 to 0.1,
            wide layers behind a normalisation up to 0.3. Tokens
            start at equal logits everywhere, and count as values.
        fail: FAIL when it is worth more than this many times.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "init well".
    """
    del key
    outputs, targets, _ = setup.at_init
    fit = best_constant(setup, outputs, targets)
    if fit.unbounded or not np.isfinite(fit.loss):
        return _result(status=Status.SKIP, finding="This loss has no best constant output; see loss_at_init.")
    now = mean_output(outputs)
    losses = losses_at_constant(setup, now, outputs, targets)
    scale = max(abs(fit.loss), float(np.abs(fit.losses - fit.loss).mean()), 1e-12)
    cost = (float(losses.mean()) - fit.loss) / scale
    shift = jax.tree.map(lambda best, mean: best - mean, fit.output, now)
    entropy = _entropy(setup, targets)
    if entropy is not None and abs(fit.loss - entropy) < 0.05 * entropy:
        warn = min(warn, warn_labels)
    measured = {
        "loss at the model's mean output": float(losses.mean()),
        "best constant output": fit.loss,
        "cost of the bias": cost,
    }
    expected = {"cost of the bias": f"up to {warn:g}"}
    evidence = (_bias_table(setup, now, fit.output),)
    if np.isfinite(cost) and cost <= warn:
        finding = f"The model starts near the average of the targets: learning the bias is worth {100 * cost:.2g} % of the loss."
        return _result(status=Status.PASS, finding=finding, measured=measured, expected=expected, evidence=evidence)
    return _result(
        status=Status.FAIL if not cost <= fail else Status.WARN,
        finding=f"The untrained model is off the average of the targets: learning a bias alone is worth {cost:.3g} times the best "
        "constant's loss.",
        hint=_hint(setup, shift),
        measured=measured,
        expected=expected,
        evidence=evidence,
    )


def _entropy(setup: Setup, targets: Any) -> float | None:
    """Entropy in nats of the classes, or of the answers yes and no, that occur; None for other targets."""
    labels = targets if isinstance(setup.task.target, (Classes, Binary)) else None
    if labels is None or not hasattr(labels, "shape"):
        return None
    shares = np.unique(np.asarray(labels), return_counts=True)[1] / max(np.size(labels), 1)
    return float(-(shares * np.log(shares)).sum())


def _hint(setup: Setup, shift: Any) -> str:
    """Names the bias to set and, when it is short, its values."""
    leaves = jax.tree.leaves(shift)
    width = leaves[0].shape[-1] if len(leaves) == 1 else None
    biases = [
        path
        for path, leaf in trees.named_leaves(setup.params).items()
        if width is not None and np.shape(leaf) == (width,)
    ]
    where = (
        f"the final bias ({biases[-1]})"
        if biases
        else "the final layer's bias (there seems to be none of that size: add one)"
    )
    values = ""
    if width is not None and width <= 10:
        numbers = ", ".join(f"{value:.3g}" for value in np.asarray(leaves[0], np.float64).reshape(-1, width)[0])
        values = f" by [{numbers}]"
    else:
        values = " by the shift in the evidence"
    return f"At initialisation shift {where}{values}, or standardise the targets."


def _bias_table(setup: Setup, now: Any, best: Any) -> Table:
    """One row an output: what the model predicts on average, the best constant, and the shift between them."""
    rows = []
    centred = isinstance(setup.task.target, (Classes, Tokens))
    for path, mean in trees.named_leaves(now).items():
        a = np.asarray(mean, np.float64).reshape(-1, np.shape(mean)[-1])[0]
        b = np.asarray(trees.named_leaves(best)[path], np.float64).reshape(-1, np.shape(mean)[-1])[0]
        if centred and len(a) > 1:  # a softmax does not see a common shift
            a, b = a - a.mean(), b - b.mean()
        rows += [
            (f"{path}[{i}]" if path else f"{i}", float(x), float(y), float(y - x))
            for i, (x, y) in enumerate(zip(a, b, strict=True))
        ]
    return Table(
        title="Final bias", columns=("output", "mean now", "best constant", "shift to add"), rows=rows[:MOST_ROWS]
    )
