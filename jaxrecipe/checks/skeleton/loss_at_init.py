"""Verify loss at init: the untrained model scores what a model that knows nothing scores."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.probes.constant_predictor import (
    ConstantFit,
    best_constant,
    given_logits,
    losses_at_constant,
    wants_probabilities,
)
from jaxrecipe.report.result import Histogram, Result, Status, unsorted_result
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Classes, Tokens, Values

_result = partial(unsorted_result, name="loss_at_init", stage="skeleton")


def loss_at_init(
    setup: Setup, *, key: PRNGKeyArray, low: float = 0.8, high_warn: float = 2.0, high_fail: float = 4.0
) -> Result:
    """The loss before training is what ignorance costs, neither more nor less.

    What it does: computes the loss of the untrained model in training mode over several batches and compares it, from
    both sides, with your own loss at the best *constant* output on your own targets: log(n) for balanced classes, the
    variance for the squared error, the right number for any other loss. For classes the loss at equal logits counts as
    ignorance too. It also asks whether a constant output alone can drive the loss to nothing, which a sound loss forbids.

    Why it matters: a loss far above means that the first thing training does is to unlearn a bad initialisation; a loss
    below means that the model knows the answer before it has seen one: a leak, or a loss that does not measure.

    What to do: far above: look at the scale of the inputs, the initialisation of the last layer, the scale of regression
    targets, and whether the loss wants logits or probabilities. Below: look for the label among the inputs, masks that
    drop every example, weights of zero. A pretrained model starts below: say so with expect.

    Args:
        setup: the set-up.
        key: unused; the model's randomness comes from the set-up.
        low: FAIL under this fraction of the best constant's loss (and beyond three standard errors), from other initialisations too: a
            model of three parameters may be right by luck once. Not asked of a loss that compares examples, where even random
            features tell two examples apart.
        high_warn: WARN above this multiple of what ignorance scores.
        high_fail: FAIL above this multiple of it.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "verify loss @ init".
    """
    del key
    outputs, targets, losses = setup.at_init
    losses = np.asarray(losses, np.float64)
    if not np.isfinite(losses).all():
        return _not_finite(losses)
    fit = best_constant(setup, outputs, targets)
    if given_logits(setup, outputs, targets):
        return _wants_probabilities(outputs)
    if fit.unbounded or not np.isfinite(fit.loss):
        return _no_floor(setup, fit, losses)
    floor = (
        fit
        if _one_vector(outputs)
        else min(fit, best_constant(setup, outputs, targets, shared=False), key=lambda f: f.loss)
    )
    ignorance = _ignorance(setup, fit, outputs, targets)
    scale = max(abs(ignorance), float(np.abs(fit.losses - fit.loss).mean()), 1e-12)
    excess = 1.0 + (losses.mean() - ignorance) / scale
    slack = 3.0 * _standard_error(losses, floor.losses)
    measured = {"loss": float(losses.mean()), "best constant output": fit.loss, "times ignorance": excess}
    expected = {
        "loss": f"{floor.loss * low:.4g} to {ignorance + (high_warn - 1) * scale:.4g}",
        "times ignorance": f"up to {high_warn:g}",
    }
    entropy = _entropy(setup, targets)
    status, finding, hint = (
        Status.PASS,
        f"The untrained loss is {losses.mean():.4g}; knowing nothing scores {ignorance:.4g}.",
        "",
    )
    if entropy is not None and fit.loss < 0.05 * min(entropy, losses.mean()):
        status, hint = Status.FAIL, CONSTANT_WINS
        finding = f"An output that ignores the input scores {fit.loss:.3g}, though the labels carry {entropy:.3g} nats."
    elif (
        not setup.task.mixes_examples
        and losses.mean() < (limit := floor.loss - (1 - low) * scale - slack)
        and _other_starts(setup) < limit
    ):
        status, hint = Status.FAIL, TOO_LOW
        finding = f"The untrained loss {losses.mean():.4g} is below {floor.loss:.4g}, the best that knowing nothing can score."
    elif excess > high_warn:
        status, hint = (Status.FAIL if excess > high_fail else Status.WARN), TOO_HIGH
        finding = f"The untrained loss {losses.mean():.4g} is {excess:.3g} times what knowing nothing scores ({ignorance:.4g})."
    elif entropy is not None and not 0.5 * entropy <= fit.loss <= 2.0 * max(entropy, np.log(_classes(setup))):
        status, hint = Status.WARN, NOT_CROSS_ENTROPY
        finding = f"Ignorance costs {fit.loss:.3g} in this loss, but the declared classes carry {entropy:.3g} nats."
    return _result(
        status=status,
        finding=finding,
        hint=hint,
        measured=measured,
        expected=expected,
        evidence=(_histogram(losses, fit),),
    )


TOO_HIGH = (
    "Check that the inputs are scaled (near zero mean, unit variance), that the last layer starts small, that regression targets are "
    "standardised or the final bias holds their mean, and that the loss gets logits if it wants logits."
)
TOO_LOW = (
    "An untrained model cannot know the answer: look for the label among the inputs, a mask or weight that drops every example, or a "
    "loss divided twice. If the model is pretrained, declare it with expect."
)
CONSTANT_WINS = (
    "The loss does not weigh the classes against each other: it probably wants probabilities and is given logits (or the other way "
    "round), or it ignores the targets. Use a loss that takes logits, such as optax.softmax_cross_entropy_with_integer_labels."
)
NOT_CROSS_ENTROPY = (
    "For classes one expects a cross entropy in nats. If this is the squared error, use a cross entropy; if it is summed or averaged "
    "over something else, take one mean over examples; if it is a focal or weighted loss, all is well."
)


def _not_finite(losses: np.ndarray) -> Result:
    bad = int((~np.isfinite(losses)).sum())
    return _result(
        status=Status.FAIL,
        finding=f"The untrained loss is not finite on {bad} of {len(losses)} examples.",
        hint="Look for the log of a negative number or of zero (a loss that wants probabilities but is given logits), a label out of "
        "range, NaN in the data, or an overflow in half precision.",
        measured={"examples that are not finite": bad},
        expected={"examples that are not finite": 0},
    )


def _wants_probabilities(outputs: jax.Array) -> Result:
    outside = float(((outputs < 0) | (outputs > 1)).mean())
    return _result(
        status=Status.FAIL,
        finding=f"The loss is made for probabilities, but {100 * outside:.0f} % of the model's outputs are outside of [0, 1].",
        hint="The loss wants probabilities and is given logits: use the loss that takes logits (optax.softmax_cross_entropy_with_integer_labels, "
        "optax.sigmoid_binary_cross_entropy), which is also the one that does not overflow.",
        measured={"outputs outside of [0, 1]": outside},
        expected={"outputs outside of [0, 1]": 0.0},
    )


def _no_floor(setup: Setup, fit: ConstantFit, losses: np.ndarray) -> Result:
    if not fit.unbounded:
        return _result(
            status=Status.SKIP,
            finding="The loss is not finite at any constant output, so there is nothing to compare with.",
        )
    values = isinstance(setup.task.target, Values)
    return _result(
        status=Status.FAIL,
        finding="A constant output can drive this loss down without end: it rewards being wrong.",
        hint="The sign is probably flipped (minimise the negative log-likelihood, not the log-likelihood), or the loss wants "
        "probabilities and is given unbounded outputs."
        + (" A cross entropy has no floor either for values outside [0, 1]: use the squared error." if values else ""),
        measured={"loss": float(losses.mean()), "best constant output": fit.loss},
        expected={"best constant output": "bounded below"},
    )


def _other_starts(setup: Setup, draws: int = 5) -> float:
    """The highest loss of the first batch over other initialisations: a leak shows in all, a lucky draw of a model of few parameters does not."""
    inputs, targets = setup.batch
    found = []
    for draw in range(draws):
        key = jax.random.fold_in(setup.key, draw)
        params, model_state = setup.loop.variables(setup.loop.init(key))
        found.append(setup.mean_loss(params, model_state, inputs, targets, train=True, key=key))
    return max(found)


def _one_vector(outputs: object) -> bool:
    """Whether the outputs are one array of one vector an example, where a constant has no positions to tell apart."""
    return isinstance(outputs, jnp.ndarray) and outputs.ndim <= 2


def _ignorance(setup: Setup, fit: ConstantFit, outputs: object, targets: object) -> float:
    """What an untrained model may score: the best constant or, for classes, equal logits."""
    if not isinstance(setup.task.target, (Classes, Tokens)):
        return fit.loss
    same = 1.0 / _classes(setup) if wants_probabilities(setup, outputs, targets) else 0.0
    equal = losses_at_constant(setup, jax.tree.map(lambda _: jnp.float32(same), outputs), outputs, targets).mean()
    return max(fit.loss, float(equal)) if np.isfinite(equal) else fit.loss


def _classes(setup: Setup) -> int:
    target = setup.task.target
    return target.n if isinstance(target, Classes) else getattr(target, "vocabulary", 2)


def _entropy(setup: Setup, targets: object) -> float | None:
    """Entropy in nats of the labels seen, for one declared set of classes; None otherwise."""
    target = setup.task.target
    labels = np.asarray(targets) if isinstance(target, Classes) and not isinstance(targets, dict) else None
    if labels is None or not np.issubdtype(labels.dtype, np.integer):
        return None
    shares = np.bincount(labels.ravel()[labels.ravel() >= 0]) / max(labels.size, 1)
    entropy = float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())
    return entropy if entropy > 0.05 else None


def _standard_error(a: np.ndarray, b: np.ndarray) -> float:
    difference = a - b if a.shape == b.shape else a
    return float(difference.std() / np.sqrt(max(len(difference), 1)))


def _histogram(losses: np.ndarray, fit: ConstantFit) -> Histogram:
    edges = np.histogram_bin_edges(np.concatenate([losses, fit.losses]), bins=30)
    counts = {
        "untrained model": np.histogram(losses, edges)[0],
        "best constant output": np.histogram(fit.losses, edges)[0],
    }
    return Histogram(title="Loss of each example before training", edges=edges, counts=counts, x_label="loss")
