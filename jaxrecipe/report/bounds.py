"""A measure in words: its value, and how far inside or outside of its bounds it lies."""

from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.numbers import clean, number


def with_unit(measure: Measure) -> str:
    """The value and its unit, with its standard error where there is one: "2.31 ± 0.02 nats"."""
    error = "" if measure.error is None else f" ± {number(measure.error)}"
    return f"{number(measure.value)}{error} {clean(measure.unit)}".rstrip()


def distance(measure: Measure) -> str:
    """How far inside or outside: "outside by 1.2, 60 standard errors"; empty without bounds or for what is no number."""
    margin = measure.margin
    if margin is None or margin != margin:
        return ""
    if margin == 0:
        return "at the bound"
    side = "inside" if margin > 0 else "outside"
    errors = measure.margin_in_errors
    in_errors = "" if errors is None else f", {number(abs(errors))} standard errors"
    return f"{side} by {number(abs(margin))}{in_errors}"
