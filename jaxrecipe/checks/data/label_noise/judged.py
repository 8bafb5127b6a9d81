"""What the judges of labels and of values are given, and what they give back."""

from dataclasses import dataclass
from typing import NamedTuple

from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.probes.questions import Question
from jaxrecipe.report.evidence import Evidence

FEWEST = 50
"""Fewer examples than this say nothing of wrong labels."""
WIDTHS = (0.4, 0.8)
"""Widths of the predictor's bumps that are tried, in median distances between examples."""
LEAST_SKILL = 0.1
"""How far ahead of a constant predictor the simple one must be on the training examples, for the test examples to
be compared with them."""
LEARNABLE = 0.5
"""Skill within the test split from which on its targets follow from its inputs."""


@dataclass(frozen=True)
class Limits:
    """The thresholds in force; `standard_errors` is what each of several heads must show."""

    wrong: float
    skilled: float
    evenly: float
    standard_errors: float
    tails: float
    outlying: float


class Judged(NamedTuple):
    """What was found for one head."""

    findings: list[Finding]
    measures: list[Measure]
    evidence: list[Evidence]


def sentence(head: Question, text: str) -> str:
    """A finding in a sentence, after the head that it belongs to."""
    return f"{head.name}: {text}" if head.name else text


def titled(head: Question, name: str) -> str:
    """The name of a number, with the head that it belongs to."""
    return f"{head.name}: {name}" if head.name else name
