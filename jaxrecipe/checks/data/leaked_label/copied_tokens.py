"""Sequences whose targets are the tokens of the inputs, at the same place or at the one before."""

from collections.abc import Iterator

import numpy as np

from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.probes.samples import Sample
from jaxrecipe.setup import Setup
from jaxrecipe.targets import Tokens, heads

SHORTEST = 4
"""Shorter rows are no sequences."""
COPIED = 0.99
"""Share of the targets that must be the tokens of the inputs, for them to be taken from there."""
NEXT = 0.9
"""Share of the targets that may be the next tokens as well: above it all places hold the same."""


def token_findings(setup: Setup, train: Sample) -> Iterator[Finding]:
    """Every head of tokens against every input of the same shape; FAIL where the model is declared causal."""
    for head in heads(setup.task.target, None, train.targets):
        if not isinstance(head.target, Tokens) or not hasattr(head.targets, "shape"):
            continue
        targets = np.asarray(head.targets)
        counted = np.ones(targets.shape, bool) if head.target.pad is None else targets != head.target.pad
        for path, leaf in train.inputs.items():
            if leaf.shape == targets.shape and leaf.ndim == 2 and leaf.shape[1] >= SHORTEST and leaf.dtype.kind in "iu":
                where = f"{head.path}: " if head.path else ""
                yield from _copied(where, path, leaf, targets, counted, causal=setup.task.causal)


def _copied(
    where: str, path: str, tokens: np.ndarray, targets: np.ndarray, counted: np.ndarray, *, causal: bool
) -> Iterator[Finding]:
    """One input against the targets of one head."""
    same = _share(tokens == targets, counted)
    before = _share(tokens[:, :-1] == targets[:, 1:], counted[:, 1:])
    after = _share(tokens[:, 1:] == targets[:, :-1], counted[:, :-1])
    if max(same, before) < COPIED or after > NEXT:
        return
    severity = Severity.FAIL if causal else Severity.WARN
    measure = Measure(
        name=f"{where}share of the targets that are tokens of the inputs already seen",
        value=max(same, before),
        high=COPIED,
        severity=severity,
    )
    place = "at the same place" if same >= before else "one place before"
    text = f"{where}{max(same, before):.1%} of the targets are the tokens of {path} {place}, {after:.1%} the next ones."
    code = "loss/target-not-shifted" if same >= before else "loss/target-shifted-backwards"
    yield Finding(code=code, severity=severity, message=text, measures=(measure,))


def _share(hits: np.ndarray, counted: np.ndarray) -> float:
    return float(hits[counted].mean()) if counted.any() else 0.0
