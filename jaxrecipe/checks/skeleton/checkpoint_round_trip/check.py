"""Checkpoint round trip: a state that was saved and restored goes on as if nothing had happened."""

import errno
import tempfile
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.checkpoint_round_trip.leaves import (
    CONSEQUENCES,
    Leaf,
    compare_leaves,
    differing_leaves,
    in_own_memory,
)
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.parts import Loop
from jaxrecipe.report.result import Result, Table, skipped
from jaxrecipe.setup import Setup

TEMPLATE_KEY = 1_000_003
"""Folded into the key for the fresh state that is restored into, so that it starts elsewhere."""
NOT_THE_CODE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A full or read-only disk says nothing about save and restore."""
MOST_ROWS = 40
"""Leaves that the table shows."""
MOST_LETTERS = 200
"""Of an error or a structure in a message."""


class Raised(NamedTuple):
    """What save or restore raised."""

    where: str
    error: str


class Continued(NamedTuple):
    """Training that goes on from what was saved and from what came back.

    Attributes:
        repeats: whether two runs from the same state end alike.
        apart: leaves that differ between the ends, where they do.
        error: what a step from the restored state raised; empty if nothing.
    """

    repeats: bool
    apart: int
    error: str = ""


def checkpoint_round_trip(setup: Setup, *, key: PRNGKeyArray, steps: int = 3) -> Result:
    """What is restored is what was saved, bit for bit, and training goes on from it in the same way.

    What it does: takes a few training steps, saves the state with the loop's own `save` into a temporary directory, and
    restores it with the loop's own `restore` into a fresh state that started from another key. Every leaf must come
    back with the same dtype, shape and bits. Then the same steps are taken from the state that was saved and from the
    one that came back, and must end in the same state. A task without a loop of its own is checked with the library's
    checkpoints.

    Why it matters: a run that resumes without its momentum, its batch statistics, its step counter or its random key is
    another run. Nothing raises: the loss makes a small jump, the learning rate warms up again, or dropout repeats
    itself.

    What to do: save the whole state, not only the parameters, and let restore take every leaf from the file.

    Args:
        setup: the set-up.
        key: seeds the steps.
        steps: training steps before saving, and again after it. Three move every counter and every moment.

    Source: the state that a resumable run needs; the PyTorch documentation, "Saving a general checkpoint for inference
        and/or resuming training".
    """
    if setup.loop.save is None or setup.loop.restore is None:
        return skipped("The loop has no save or no restore, so nothing can be saved and restored.")
    state = _advanced(setup, setup.fresh_state(), key, 0, steps)
    template = setup.loop.init(jax.random.fold_in(key, TEMPLATE_KEY))
    restored = _round_trip(setup.loop, state, template)
    if isinstance(restored, Raised):
        return _only(failure("evaluation/checkpoint-fails", f"{restored.where} raised {restored.error}"))
    if not trees.same_form(restored, state):
        here = f"Saved: {_structure(state)}. Restored: {_structure(restored)}."
        text = "The restored state has another structure than the one that was saved."
        code = "evaluation/restore-changes-type"
        return _only(failure(code, text, causes=(cause(code, here),)))
    leaves = compare_leaves(setup, state, restored, template)
    return _result(leaves, _continued(setup, key, state, restored, leaves, steps), steps)


def _only(finding: Finding) -> Result:
    return Result(summary=finding.message, findings=(finding,))


def _result(leaves: list[Leaf], continued: Continued, steps: int) -> Result:
    """Findings and numbers, from the leaves that came back and from how training goes on."""
    lost = [leaf for leaf in leaves if leaf.difference]
    differ = Measure(name="leaves that differ", value=len(lost), low=0, high=0, unit="leaves")
    apart = Measure(name="leaves that differ after more steps", value=continued.apart, low=0, high=0, unit="leaves")
    findings = []
    if lost:
        findings.append(_lost(lost, len(leaves), continued, differ))
    elif continued.apart:
        text = f"Every leaf comes back as it was saved, but {continued.apart} leaves differ after {steps} more steps."
        findings.append(failure("evaluation/state-outside", text, measures=(apart,)))
    end = f"and {steps} more steps from it end in the same state."
    if not continued.repeats:
        end = "but two runs of the step differ anyway (see fix_random_seed)."
    ordered = sorted(leaves, key=lambda one: not one.difference)[:MOST_ROWS]
    rows = [(leaf.path, leaf.part, leaf.difference or "none") for leaf in ordered]
    return Result(
        summary=f"All {len(leaves)} leaves of the state come back bit for bit, {end}",
        findings=tuple(findings),
        measures=(Measure(name="leaves", value=len(leaves), unit="leaves"), differ, apart),
        evidence=(Table(title="The state, saved and restored", columns=("leaf", "part", "difference"), rows=rows),),
    )


def _lost(lost: list[Leaf], total: int, continued: Continued, measure: Measure) -> Finding:
    """Leaves that do not come back as they were saved."""
    parts = list(dict.fromkeys(leaf.part for leaf in lost))
    text = (
        f"{len(lost)} of {total} leaves do not come back as they were saved: {', '.join(parts)} "
        f"({lost[0].path}: {lost[0].difference})."
    )
    if continued.error:
        text += f" No step can be taken from it: {continued.error}"
    here = "; ".join(f"{part}: {CONSEQUENCES[part]}" for part in parts) + "."
    code = "evaluation/checkpoint-incomplete"
    if all(leaf.other_type for leaf in lost):
        code = "evaluation/restore-changes-type"
    elif all(leaf.untouched for leaf in lost):
        here += " After restore they are those of the template."
    harmless = continued.repeats and not continued.apart and all(leaf.same_value for leaf in lost)
    finding = warning if harmless else failure
    return finding(code, text, measures=(measure,), causes=(cause(code, here),))


def _advanced(setup: Setup, state: Any, key: PRNGKeyArray, start: int, steps: int) -> Any:
    """The state some steps later."""
    for step in range(start, start + steps):
        state, _ = setup.step(state, *setup.training_batch(step), jax.random.fold_in(key, step))
    return state


def _continued(setup: Setup, key: PRNGKeyArray, state: Any, restored: Any, leaves: list[Leaf], steps: int) -> Continued:
    """Take the same steps from the state, again, and from what came back."""
    try:
        ends = [_advanced(setup, trees.copy(start), key, steps, steps) for start in (state, state, restored)]
    except Exception as error:
        if not any(leaf.difference for leaf in leaves):
            raise
        return Continued(repeats=False, apart=0, error=_first_line(error))
    repeats = differing_leaves(ends[0], ends[1]) == 0
    return Continued(repeats, differing_leaves(ends[0], ends[2]) if repeats else 0)


def _round_trip(loop: Loop, state: Any, template: Any) -> Any:
    """The state that comes back, or what was raised on the way."""
    if loop.save is None or loop.restore is None:
        raise ValueError("the loop has no save or no restore")
    with tempfile.TemporaryDirectory(prefix="jaxrecipe-") as directory:
        where = "save"
        try:
            loop.save(trees.copy(state), directory)
            where = "restore"
            return jax.tree.map(in_own_memory, loop.restore(directory, trees.copy(template)))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in NOT_THE_CODE:
                raise
            return Raised(where, _first_line(error))


def _first_line(error: Exception) -> str:
    """The type of an error and its first line."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:MOST_LETTERS]}"


def _structure(tree: Any) -> str:
    return str(jax.tree.structure(tree))[:MOST_LETTERS]
