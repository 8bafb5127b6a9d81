"""The step uses the batch that it is given, and the inputs help it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.step_pass import Given, Leaves, equal, reported_loss, reports_loss, result_of
from jaxrecipe.report.result import Result, Table
from jaxrecipe.setup import Setup

Exchanged = Literal["inputs", "targets", "both"]
HELD_OUT, SHARE = 8, 3
"""Batches that are kept back to compare losses on, at most; a third of all where there are fewer."""
FEWEST_BATCHES = 9
"""Batches below which too few can be kept back."""
DRAWS = 2
"""Keys with which each batch is measured."""
LEAST = 0.02
"""Share of the loss by which real pairs must be ahead: less is no help."""


def learns_from_inputs(
    setup: Setup, *, key: PRNGKeyArray, steps: int = 60, patience: int = 4, standard_errors: float = 3.0
) -> Result:
    """The step depends on its batch, and training on real pairs ends lower than on inputs of other examples.

    What it does: gives the step another batch, the inputs of another one, and the targets of another one, with the same
    state and key: parameters and loss must differ. Then it trains twice with the same keys, once on real pairs and once
    on inputs that belong to other examples, and compares the loss of the step on batches that neither saw.

    Why it matters: a step that closes over its first batch, a model that ignores its inputs and labels that are
    shuffled against them all train without an error, to the loss of a constant.

    What to do: use the arguments of the step; look at a batch right before it, inputs and targets side by side.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: length of a run.
        patience: times the steps that are given where the inputs do not help yet.
        standard_errors: lead that real pairs must have, over the batches that are kept back.

    Source: Karpathy, A Recipe for Training Neural Networks (2019), "input-independent baseline".
    """
    uses = _uses(setup, key)
    findings, measures, summary = [*_ignored(setup, uses)], [], _summary(uses)
    why_not = _no_race(setup, key) if uses.inputs and uses.targets else ""
    if not findings and uses.inputs and uses.targets and not why_not:
        lead = _race(setup, key, steps, patience, standard_errors)
        low = Measure(
            name="lead of real pairs over inputs of other examples",
            value=lead,
            low=standard_errors,
            severity=Severity.WARN,
            unit="standard errors",
            thresholds={"low": "standard_errors"},
        )
        measures.append(low)
        if low.verdict is not None:
            text = f"Training on real pairs is {lead:.1f} standard errors ahead of inputs of other examples."
            findings.append(warning("data/inputs-do-not-help", text, measures=(low,)))
    elif not findings and why_not:
        summary += f" Whether inputs help is undetermined: {why_not}"
    rows = [("batch", f"{uses.both}"), ("inputs", f"{uses.inputs}"), ("targets", f"{uses.targets}")]
    return Result(
        summary=summary,
        findings=tuple(findings),
        measures=tuple(measures),
        evidence=(Table(title="What the step depends on", columns=("exchanged", "the step differs"), rows=rows),),
    )


@dataclass(frozen=True)
class _Uses:
    """What a step depends on; None where there is nothing to exchange."""

    both: bool | None
    inputs: bool | None
    targets: bool | None


def _summary(uses: _Uses) -> str:
    if uses.both is None:
        return "All batches are the same, so that what the step uses of them is undetermined."
    used = [name for name, used in (("inputs", uses.inputs), ("targets", uses.targets)) if used]
    return f"The step depends on the {' and '.join(used) or 'batch'} that it is given."


def _uses(setup: Setup, key: PRNGKeyArray) -> _Uses:
    """Exchange the batch, its inputs and its targets for those of the next different one."""
    mine = setup.training_batch(0)
    count = -(-setup.train.size // setup.batch_size)
    given = Given(setup.fresh_state(), mine, key)
    plain = result_of(setup, given)
    found: list[bool | None] = []
    for sides in ((True, True), (True, False), (False, True)):
        other = _other_batch(setup, mine, sides, count)
        found.append(None if other is None else _differs(setup, given, plain, other))
    return _Uses(*found)


def _other_batch(setup: Setup, mine: Any, sides: tuple[bool, bool], count: int) -> tuple[Any, Any] | None:
    """The first batch whose inputs or targets differ, with the others left as they are; None where there is none."""
    for step in range(1, min(count, 8)):
        theirs = setup.training_batch(step)
        made = tuple(new if chosen else old for new, old, chosen in zip(theirs, mine, sides, strict=True))
        if not _same_tree(made, mine):
            return made[0], made[1]
    return None


def _same_tree(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _differs(setup: Setup, given: Given, plain: Leaves, batch: tuple[Any, Any]) -> bool:
    return not equal(plain, result_of(setup, replace(given, batch=batch)))


def _ignored(setup: Setup, uses: _Uses) -> Iterator[Finding]:
    """A batch, or inputs, that make no difference to the bit."""
    if uses.both is False:
        text = "The step gives the same parameters and metrics, bit for bit, whatever batch it is given."
        yield failure("step/same-batch", text)
    elif uses.inputs is False and uses.targets:
        text = (
            "The step gives the same parameters and metrics, bit for bit, when its batch has the inputs of another one."
        )
        sizes = [sum(np.size(leaf) for leaf in jax.tree.leaves(side)) for side in setup.batch]
        if sizes[0] > sizes[1]:  # otherwise the guess which part is the input may be wrong
            yield failure("model/input-ignored", text)
        else:
            yield warning("model/input-ignored", text)


def _no_race(setup: Setup, key: PRNGKeyArray) -> str:
    """Why training on inputs of other examples is no fair comparison here; empty where it is one."""
    facts = setup.loop.facts
    if facts is not None and facts.whole_batches:
        return "a batch counts as one example, because its arrays have no common axis."
    if not reports_loss(setup, key):
        return "the step reports no loss."
    if setup.train.size // setup.batch_size < FEWEST_BATCHES:
        return f"there are fewer than {FEWEST_BATCHES} batches."
    return ""


def _race(setup: Setup, key: PRNGKeyArray, steps: int, patience: int, standard_errors: float) -> float:
    """Lead of the run on real pairs on the batches kept back, in standard errors of the paired difference."""
    size, rng = setup.batch_size, np.random.default_rng([setup.seed, 41])
    order = rng.permutation(setup.train.size)
    kept = min(HELD_OUT, setup.train.size // size // SHARE) * size
    held, rest = order[:kept], order[kept:]
    batches = [setup.prepared("train", held[start : start + size]) for start in range(0, kept, size)]
    states, lead = {False: setup.fresh_state(), True: setup.fresh_state()}, -np.inf
    for index in range(patience * steps):
        rows = rng.integers(len(rest), size=size)
        inputs, targets = setup.prepared("train", rest[rows])
        others, _ = setup.prepared("train", rest[rng.integers(len(rest), size=size)])
        step_key = jax.random.fold_in(key, index)
        for shuffled, seen in ((False, inputs), (True, others)):
            states[shuffled] = setup.step(trees.copy(states[shuffled]), seen, targets, step_key)[0]
        if (index + 1) % steps == 0:
            real, wrong = (_losses(setup, states[shuffled], batches, key) for shuffled in (False, True))
            lead = _lead(real, wrong)
            if lead >= standard_errors:
                break
    return lead


def _losses(setup: Setup, state: Any, batches: list[tuple[Any, Any]], key: PRNGKeyArray) -> Float[np.ndarray, "kept"]:
    """The loss that the step reports on each batch, from copies of one state; a few draws of each."""
    keys = [jax.random.fold_in(key, draw) for draw in range(DRAWS)]
    losses = [[reported_loss(setup.step(trees.copy(state), *batch, one)[1]) for one in keys] for batch in batches]
    return np.asarray(losses).mean(axis=1)


def _lead(real: np.ndarray, wrong: np.ndarray) -> float:
    difference = wrong - real
    if not np.isfinite(difference).all():
        return -np.inf if not np.isfinite(real).all() else np.inf
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    lead = float(difference.mean() / max(error, 1e-12))
    return lead if difference.mean() > LEAST * abs(real.mean()) else min(lead, 0.0)
