"""Sequences whose targets are the inputs moved by another number of places in one split than in the other."""

from collections.abc import Iterator

import numpy as np

from jaxrecipe.diagnosis.finding import Finding, failure
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.samples import Sample
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads

SHORTEST = 4
"""Shorter rows are no sequences."""
MOVES = (1, 0, -1, 2, -2)
"""Places by which targets may be moved, the usual one first."""
AGREEING = 0.95
"""Share of the targets that must be the moved inputs in each split, for the move to be known."""


def shifted_token_findings(setup: Setup, train: Sample, test: Sample) -> Iterator[Finding]:
    """Every head against every input of the same shape."""
    declared = zip(*(heads(setup.task.target, None, one.targets) for one in (train, test)), strict=True)
    for ours, theirs in declared:
        for path, leaf in train.inputs.items():
            pairs = ((leaf, ours.targets), (test.inputs[path], theirs.targets))
            if not all(getattr(targets, "shape", ()) == inputs.shape for inputs, targets in pairs):
                continue
            if leaf.ndim != 2 or leaf.dtype.kind not in "iu" or leaf.shape[1] < SHORTEST:
                continue
            moves = [best_move(inputs, np.asarray(targets)) for inputs, targets in pairs]
            if all(share > AGREEING for _, share in moves) and moves[0][0] != moves[1][0]:
                where = f"{ours.path}: " if ours.path else ""
                text = (
                    f"{where}The training targets are {path} moved by {moves[0][0]} places, the test targets by "
                    f"{moves[1][0]}."
                )
                measure = Measure(
                    name=f"{where}places by which test targets are moved",
                    value=float(moves[1][0]),
                    low=float(moves[0][0]),
                    high=float(moves[0][0]),
                    unit="places",
                )
                yield failure("data/split-targets-differ", text, measures=(measure,))


def best_move(inputs: np.ndarray, targets: np.ndarray) -> tuple[int, float]:
    """By how many places targets are the inputs moved to the left, and how much of them agrees."""
    shares = {}
    for move in MOVES:
        left, right = inputs[:, max(move, 0) :], targets[:, max(-move, 0) :]
        width = inputs.shape[1] - abs(move)
        shares[move] = float((left[:, :width] == right[:, :width]).mean())
    best = max(shares, key=lambda move: shares[move])
    return best, shares[best]
