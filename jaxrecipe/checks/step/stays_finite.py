"""The step stays finite, on every batch that there is; otherwise the example that breaks it is named."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.causes.table import cause, causes
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.step_pass import Broken, Given, Pass, is_finite, one_pass, reported_loss
from jaxrecipe.report.result import Curve, Result
from jaxrecipe.setup import Setup

CALM = 10.0
"""Times the first loss up to which a run has not blown up: then a single example may still be to blame."""
MOST_ALONE = 16
"""Examples that are tried one by one where several break a step."""
AT_THE_START = 3
"""Steps up to which a run that breaks has hardly learned anything: the numbers, not the training, are to blame."""


def stays_finite(setup: Setup, *, key: PRNGKeyArray) -> Result:
    """Loss and state stay finite over one pass through the batches.

    What it does: takes one pass over the training data with the loop's own step. If the loss or the new state holds NaN
    or infinity, the first such step is repeated on copies: with the fresh parameters, and with the batch made of copies
    of a part of its examples, halved until one example is left that alone breaks it.

    Why it matters: one NaN makes every parameter NaN, and it usually comes from few examples: an empty mask, a
    logarithm of zero, a division by a length of zero.

    What to do: look at the example that is named. `jax.config.update("jax_debug_nans", True)` shows the operation.

    Args:
        setup: the set-up.
        key: seeds the steps.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "verify loss @ init".
    """
    run = one_pass(setup, key)
    shown = np.asarray(run.losses)
    evidence = ()
    if np.isfinite(shown).any():
        finite = np.where(np.isfinite(shown), shown, np.nanmax(np.where(np.isfinite(shown), shown, np.nan)))
        evidence = (
            Curve(title="Loss over one pass", x=np.arange(len(shown)), series={"loss": finite}, y_label="loss"),
        )
    count = Measure(name="steps that stay finite", value=run.steps - (run.broken is not None), unit="steps")
    return Result(
        summary=f"Loss and state stay finite over {run.steps} steps.",
        findings=() if run.broken is None else (_broken(setup, run, run.broken),),
        measures=(count,),
        evidence=evidence,
    )


def _broken(setup: Setup, run: Pass, broken: Broken) -> Finding:
    """What breaks, where, and since when."""
    what = "loss" if broken.loss else "new state"
    also = "" if broken.loss else ", although the loss is finite"
    text = f"Step {broken.index} of a pass over the data makes the {what} NaN or infinite{also}"
    if not is_finite(broken.given.batch):
        return failure("data/not-finite", f"{text}; its batch holds NaN or infinity.")
    fresh = Given(setup.fresh_state(), broken.given.batch, broken.given.key)
    at_start = broken.index < AT_THE_START or _breaks(setup, fresh)
    highest = float(np.nanmax(_finite(run.losses), initial=-np.inf))
    calm = highest <= CALM * max(abs(run.losses[0]), 1.0)
    example = _culprit(setup, broken.given) if at_start or calm else ""
    code = "loss/not-finite" if broken.loss else "step/gradient-not-finite"
    if example:
        return failure(code, f"{text}; {example}", causes=causes(code, "precision/divides-by-zero"))
    if at_start:
        return failure(code, f"{text}, before anything is learned.", causes=causes(code, "optimizer/diverged"))
    if _recovers(setup, broken):
        return warning(code, f"{text}; the parameters stay finite, as where a loss scale skips a step.")
    here = f"The loss begins at {run.losses[0]:.4g} and reaches {highest:.4g} before."
    likely = (cause("optimizer/diverged", here), *causes("optimizer/learning-rate-too-high", code))
    return failure("optimizer/diverged", f"{text}; the same batch is finite at the start.", causes=likely)


def _finite(losses: Sequence[float]) -> list[float]:
    return [loss if math.isfinite(loss) else math.nan for loss in losses]


def _breaks(setup: Setup, given: Given) -> bool:
    """Whether a step makes the loss or the new state NaN or infinite."""
    state, metrics = setup.step(trees.copy(given.state), *given.batch, given.key)
    return ("loss" in metrics and not math.isfinite(reported_loss(metrics))) or not is_finite(state)


def _recovers(setup: Setup, broken: Broken) -> bool:
    """Whether the parameters stay finite all the same."""
    state, _ = setup.step(trees.copy(broken.given.state), *broken.given.batch, broken.given.key)
    return broken.loss and is_finite(setup.loop.variables(state)[0])


def _culprit(setup: Setup, given: Given) -> str:
    """The example that alone breaks the step, in words; empty where there is none, or examples are not known."""
    facts = setup.loop.facts
    if facts is not None and facts.whole_batches:
        return ""
    size = trees.leading_size(given.batch)
    suspects = np.arange(size)
    if not _breaks(setup, given):
        return ""
    while len(suspects) > 1:
        halves = np.array_split(suspects, 2)
        breaking = [half for half in halves if _breaks(setup, _made_of(given, half, size))]
        if not breaking:
            return ""  # only together
        suspects = breaking[0]
    others = np.setdiff1d(np.arange(size), suspects)
    if not _breaks(setup, _made_of(given, suspects, size)):
        return ""
    if len(others) and not _breaks(setup, _made_of(given, others, size)):
        row = int(suspects[0])
        return f"it is example {row} of its batch ({_described(given.batch, row)}): without it all is well."
    tried = min(size, MOST_ALONE)
    rows = [row for row in range(tried) if _breaks(setup, _made_of(given, np.array([row]), size))]
    if len(rows) == tried:
        return ""  # every example does
    return f"{len(rows)} of the first {tried} examples of its batch do so alone, as number {suspects[0]}."


def _made_of(given: Given, rows: np.ndarray, size: int) -> Given:
    """The same step on a batch of copies of some examples."""
    return Given(given.state, jax.tree.map(lambda leaf: leaf[np.resize(rows, size)], given.batch), given.key)


def _described(batch: Any, row: int) -> str:
    """Range of an example's numbers, array by array."""
    shown = []
    for path, leaf in trees.named_leaves(batch).items():
        numbers = np.asarray(leaf[row])
        shown.append(f"{path}: {numbers.min():.4g} to {numbers.max():.4g}" if numbers.size else f"{path}: empty")
    return ", ".join(shown[:4])
