"""Several statistical tests at once: how strict each must be for all together to be as sure as one alone (Bonferroni)."""

from scipy.stats import norm


def chance_of_each(chance: float, tests: int) -> float:
    """The probability of a false alarm that each of `tests` tests may have, so that all together have at most `chance`."""
    return chance / max(tests, 1)


def errors_of_each(standard_errors: float, tests: int) -> float:
    """How many standard errors each of `tests` one-sided tests must show, to be as sure together as one that shows `standard_errors`."""
    return float(norm.isf(norm.sf(standard_errors) / max(tests, 1)))
