"""Several statistical tests at once: how strict each must be for all to be as sure as one (Bonferroni)."""

from scipy.stats import norm


def chance_of_each(chance: float, tests: int) -> float:
    """The probability of a false alarm that each of `tests` tests may have for all to have at most `chance`."""
    return chance / max(tests, 1)


def errors_of_each(standard_errors: float, tests: int) -> float:
    """The standard errors that each of `tests` one-sided tests must show for all to be as sure as one test."""
    return float(norm.isf(norm.sf(standard_errors) / max(tests, 1)))
