"""How sure an average over a finite set of examples is: an estimate with its confidence interval."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Estimate:
    """A mean over examples with the interval it leaves for the mean of the population they were drawn from.

    Attributes:
        value: the mean, exact for the given examples.
        low, high: the interval's ends; NaN where none can be given (a single example, a value that is not finite).
        n: how many examples.
        method: "wilson" for shares of yes and no, "t" for everything else.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def __str__(self) -> str:
        """The value and its interval, four significant digits."""
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval, which stays honest near 0 and 1 where the usual ± does not.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Raises:
        ValueError: if n < 1, successes is not in [0, n], or confidence is not in (0, 1).
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"got {successes} successes of {n}; wanted n >= 1 and 0 <= successes <= n")
    z = NormalDist().inv_cdf(_tail(confidence))
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == n else (centre + half) / scale
    return Estimate(share, low, high, n, "wilson")


def mean_interval(values: Float[np.ndarray, "n"], *, confidence: float = 0.95) -> Estimate:
    """Mean with Student's t interval, computed in float64 and rounded once, so the order of the values cannot matter.

    Chosen over a bootstrap because it needs no random numbers, costs nothing and agrees with it for the sizes of test
    sets; for a handful of examples from a very skewed distribution both are too narrow.

    Raises:
        ValueError: if there are no values or confidence is not in (0, 1).
    """
    n = len(values)
    if n == 0:
        raise ValueError("got no values; wanted at least one example")
    exact = np.asarray(values, np.float64)
    if not np.isfinite(exact).all():
        with np.errstate(invalid="ignore"):
            return Estimate(float(np.sum(exact)), math.nan, math.nan, n, "t")
    mean = math.fsum(exact) / n
    if n == 1:
        return Estimate(mean, math.nan, math.nan, n, "t")
    from scipy.special import stdtrit

    deviation = math.sqrt(math.fsum((exact - mean) ** 2) / (n - 1))
    half = float(stdtrit(n - 1, _tail(confidence))) * deviation / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n, "t")


def weighted_interval(
    values: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n"], *, confidence: float = 0.95
) -> Estimate:
    """Weighted mean with Student's t interval: that of a ratio of two means, to first order. Weight 0 counts nothing.

    Raises:
        ValueError: if there are no values or confidence is not in (0, 1).
    """
    n = len(values)
    if n == 0:
        raise ValueError("got no values; wanted at least one example")
    heavy = np.asarray(weights, np.float64)
    exact = np.where(heavy != 0, np.asarray(values, np.float64), 0.0)
    total = math.fsum(heavy) if np.isfinite(heavy).all() else math.nan
    if total == 0:
        return Estimate(0.0, math.nan, math.nan, n, "t")
    with np.errstate(invalid="ignore", over="ignore"):
        products = heavy * exact
    mean = math.fsum(products) / total if np.isfinite(products).all() else float(np.sum(products)) / total
    if n == 1 or not math.isfinite(mean):
        return Estimate(mean, math.nan, math.nan, n, "t")
    residuals = mean_interval(heavy * (exact - mean), confidence=confidence)
    half = (residuals.high - residuals.low) / 2 / (total / n)
    return Estimate(mean, mean - half, mean + half, n, "t")


def shifted(estimate: Estimate, by: float) -> Estimate:
    """An estimate of something that is larger by a number that is known."""
    return replace(estimate, value=estimate.value + by, low=estimate.low + by, high=estimate.high + by)


def share_or_mean(values: Float[np.ndarray, "n"], *, confidence: float = 0.95) -> Estimate:
    """Wilson's interval when every value is 0 or 1, Student's t otherwise."""
    if len(values) and np.isin(values, (0.0, 1.0)).all():
        return wilson(int(np.sum(values, dtype=np.float64)), len(values), confidence=confidence)
    return mean_interval(values, confidence=confidence)


def _tail(confidence: float) -> float:
    """The quantile of the upper end of a two-sided interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"got confidence {confidence}; wanted a number between 0 and 1, such as 0.95")
    return 0.5 + confidence / 2
