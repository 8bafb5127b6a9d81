"""The tables of the benchmark, as Markdown and as JSON."""

from typing import Any

from experiments.faults.score import Scores


def markdown(scores: Scores) -> str:
    return scores.summary()


def to_data(scores: Scores) -> dict[str, Any]:
    return {}
