"""Every training example has a finite loss and gradient, and some output that would change its loss."""

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.checks.skeleton.example_gradients.scan import Rows, Scan, batches, culprits, scan
from jaxrecipe.checks.skeleton.example_gradients.shifted_labels import repairing_shift
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.first_steps import vector
from jaxrecipe.probes.output_precision import computes_in_half
from jaxrecipe.report.result import Result, skipped
from jaxrecipe.setup import Setup

MOST_BATCHES = 8
"""Batches in which single examples are looked for."""
MOST_NAMES = 5
"""Examples that a message names."""


def example_gradients(setup: Setup, *, key: PRNGKeyArray, examples: int = 4096) -> Result:
    """Every training example has a finite loss and gradient, and teaches something.

    What it does: goes through the training data once with the untrained model, batch by batch as a step does. The loss
    of each example must be finite, and so must be the gradient; where that of a batch is not, the examples that spoil
    it are found by halves. An example whose loss has no gradient at the outputs, neither at the model's nor at random
    ones, teaches nothing; where they are those of one label, the labels are shifted by one to see whether that brings
    them back.

    Why it matters: three pictures of a thousand that make the gradient NaN (the root of zero, a logarithm of zero, a
    division by a norm of zero) end a training that began well, and a finite loss does not show them. `one_hot` of a
    label that is out of range is a row of zeros, so that this class is never learned, without a word.

    What to do: look at the examples that are named. Guard the argument of a root, logarithm or division, and not its
    result: `jnp.sqrt(jnp.maximum(x, 1e-12))`, since `jnp.where(x > 0, jnp.sqrt(x), 0)` has the gradient NaN at 0.

    Args:
        setup: the set-up.
        key: seeds dropout.
        examples: how many are looked at, spread evenly over the training data.
    """
    found = scan(setup, key, examples)
    if len(found.bad_losses) == len(found.rows):
        return skipped("No example has a finite loss, which loss_at_init judges.")
    findings = [*_labels_or_silent(setup, key, found), *_spoiled(setup, key, found, examples)]
    summary = f"Loss and gradient of {len(found.rows)} examples are finite, and each of them teaches something."
    return Result(summary=summary, findings=tuple(findings), measures=_measures(found))


def _measures(found: Scan) -> tuple[Measure, ...]:
    return (
        Measure(name="examples whose loss is not finite", value=len(found.bad_losses), high=0, unit="examples"),
        Measure(name="examples that teach nothing", value=len(found.silent), unit="examples"),
        Measure(name="batches whose gradient is not finite", value=len(found.bad_batches), high=0, unit="batches"),
    )


def _labels_or_silent(setup: Setup, key: PRNGKeyArray, found: Scan) -> list[Finding]:
    """Losses that are not finite, and examples that teach nothing; labels that are off by one explain both."""
    out = np.union1d(found.silent, found.bad_losses)
    if not len(out) or len(out) == len(found.rows):
        return []
    share = f"{len(out)} of {len(found.rows)} examples"
    shift = None if setup.task.mixes_examples else repairing_shift(setup, key, out, found.rows)
    if shift is not None:
        what = "an output changes" if len(found.silent) else "is finite"
        text = f"{share} have one label and a loss that no output changes: {_listed(out)}."
        if len(found.bad_losses):
            text = f"{share} have one label and a loss that is not finite: {_listed(out)}."
        here = f"With {shift:+d} added to all labels the loss of every example {what}."
        code, other = ("data/labels-from-one", "data/labels-out-of-range")[:: -1 if shift > 0 else 1]
        return [failure(code, text, causes=(cause(code, here), *causes(other)))]
    if len(found.bad_losses):
        text = f"The loss of {len(found.bad_losses)} of {len(found.rows)} examples is not finite: "
        return [failure("loss/not-finite", f"{text}{_listed(found.bad_losses)}.")]
    text = f"{share} teach nothing, since no output changes their loss: {_listed(out)}."
    return [warning("loss/teaches-nothing", text)]


def _spoiled(setup: Setup, key: PRNGKeyArray, found: Scan, examples: int) -> list[Finding]:
    """Batches whose losses are finite and whose gradient is not."""
    count, total = len(found.bad_batches), len(list(batches(setup, examples)))
    if not count:
        return []
    good = _good_example(found)
    rows = np.zeros(0, np.int64)
    if good is not None and not setup.task.mixes_examples:
        rows = np.unique(np.concatenate([culprits(setup, key, one, good) for one in found.bad_batches[:MOST_BATCHES]]))
    text = f"All losses are finite, and the gradient of {count} of {total} batches is not"
    if len(rows):
        least = "at least " if count > MOST_BATCHES else ""
        text += f": {least}{len(rows)} of {len(found.rows)} examples spoil it, {_listed(rows)}"
    overflow = computes_in_half(setup)  # may be what it is, which the checks of precision judge
    make = warning if overflow or _copes(setup, key, found.bad_batches[0]) else failure
    return [make("model/gradient-not-finite", f"{text}.")]


def _good_example(found: Scan) -> int | None:
    """An example of a batch whose gradient is finite."""
    spoiled = np.concatenate([*found.bad_batches, found.bad_losses])
    left = np.setdiff1d(found.rows, spoiled)
    return int(left[0]) if len(left) else None


def _copes(setup: Setup, key: PRNGKeyArray, rows: Rows) -> bool:
    """Whether the loop's own step keeps the parameters finite on such a batch, as optax.apply_if_finite does."""
    state, _ = setup.step(setup.fresh_state(), *setup.prepared("train", rows), key)
    return bool(np.isfinite(vector(setup.loop.variables(state)[0])).all())


def _listed(rows: Rows) -> str:
    more = len(rows) - MOST_NAMES
    return ", ".join(map(str, rows[:MOST_NAMES])) + (f" and {more} more" if more > 0 else "")
