"""Whether more test examples have a copy in the training data than training examples have among themselves."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from jaxrecipe.diagnosis.measure import Measure, Severity

SMALLEST_EXCESS = 0.001
"""An excess below this share of the test examples changes no score and is left alone."""


@dataclass(frozen=True)
class Excess:
    """Copies of test examples in the training data, beyond those within it.

    Attributes:
        count: how many test examples have one.
        size: of how many.
        expected: the share that a random split would show.
        excess: the share beyond that, with the bounds that its probability leaves.
        probability: of so many copies after a random split.
    """

    count: int
    size: int
    expected: float
    excess: Measure
    probability: Measure

    @property
    def share(self) -> float:
        """Of the test examples."""
        return self.count / max(self.size, 1)

    @property
    def verdict(self) -> Severity | None:
        """What the excess means."""
        return self.excess.verdict

    @property
    def code(self) -> str:
        """The finding that it amounts to."""
        return self.excess.code

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The numbers that decide."""
        return self.excess, self.probability


def excess_of_copies(
    name: str,
    copied: Bool[np.ndarray, "n"],
    within: float,
    train_size: int,
    *,
    limit: tuple[str, float],
    chance: float,
    code: str,
) -> Excess:
    """Compare the test examples that have a copy with the rate within the training data.

    Args:
        name: of the copies ("exact").
        copied: whether each test example has one.
        within: the share of training examples with a copy among themselves.
        train_size: how many training examples that share is of.
        limit: name and value of the threshold of the excess that is a FAIL.
        chance: the probability after a random split below which it is a FAIL; a WARN below its square root.
        code: the finding that an excess amounts to.
    """
    from scipy.stats import binom

    count, size = int(copied.sum()), len(copied)
    expected = min(1.0, (within * train_size + 1.0) / (train_size + 2.0))
    probability = float(binom.sf(count - 1, size, expected)) if count else 1.0
    threshold, most = limit
    notable, certain = count > 0 and probability <= np.sqrt(chance), count > 0 and probability < chance
    excess = Measure(
        name=f"share of {name} copies beyond those within the training data",
        value=count / size - expected if count else 0.0,
        high=min(SMALLEST_EXCESS, most) if notable else None,
        fail_high=most if certain else None,
        severity=Severity.WARN,
        thresholds={"fail_high": threshold},
        code=code,
    )
    beyond = excess.verdict is not None
    of_chance = Measure(
        name=f"chance of so many {name} copies after a random split",
        value=probability,
        low=float(np.sqrt(chance)) if beyond else None,
        fail_low=chance if beyond else None,
        severity=Severity.WARN,
    )
    return Excess(count=count, size=size, expected=expected, excess=excess, probability=of_chance)
