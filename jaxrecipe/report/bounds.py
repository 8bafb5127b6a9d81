"""A measure in words: its value, and how far inside or outside of its bounds it lies."""

import math

from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.numbers import clean, number

MANY_ERRORS = 100.0
"""Standard errors beyond which a number of them is no longer worth reading."""


def with_unit(measure: Measure) -> str:
    """The value and its unit, with its standard error where there is one: "2.31 ± 0.02 nats"."""
    error = "" if measure.error is None else f" ± {number(measure.error)}"
    return f"{number(measure.value)}{error} {clean(measure.unit)}".rstrip()


def distance(measure: Measure) -> str:
    """How far inside or outside: "outside by 1.2, 60 standard errors"; empty without bounds, and for NaN."""
    margin = measure.margin
    if margin is None or margin != margin:
        return ""
    if margin == 0:
        return "at the bound"
    side = "inside" if margin > 0 else "outside"
    return f"{side} by {number(abs(margin))}{_in_errors(measure)}"


def _in_errors(measure: Measure) -> str:
    """The distance in standard errors; beyond a hundred it says nothing more than that."""
    errors = measure.margin_in_errors
    if errors is None or not math.isfinite(errors):
        return ""
    return ", over 100 standard errors" if abs(errors) > MANY_ERRORS else f", {abs(errors):.1f} standard errors"
