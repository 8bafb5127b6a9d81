"""One number that a check measured, and the bounds that it must keep."""

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Bound = Literal["low", "high", "fail_low", "fail_high"]


class Severity(enum.StrEnum):
    """How bad a finding is. FAIL: almost certainly a bug, with a witness. WARN: worth a look."""

    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number and its bounds; whether it keeps them, and by how much, follows.

    Attributes:
        name: what was measured, in the field's words ("loss at init", "fraction of the gap closed").
        value: how much.
        low, high: the range that is right, both ends included; None where there is no such end.
        fail_low, fail_high: a wider range, where leaving `low` to `high` alone is only a WARN; beyond it is a FAIL.
        severity: what leaving `low` to `high` means.
        unit: of the value and its bounds ("nats", "steps", "examples"), empty for a plain number.
        error: standard error of the value, where it is an estimate.
        code: the finding that leaving the bounds amounts to, by its code; empty where the check decides by more than
            this number.
        thresholds: which of the bounds is a threshold of the check, by the threshold's name: `{"high": "high_warn"}`.
            Such a bound can be moved without running the check again.
    """

    name: str
    value: float | int
    low: float | int | None = None
    high: float | int | None = None
    fail_low: float | int | None = None
    fail_high: float | int | None = None
    severity: Severity = Severity.FAIL
    unit: str = ""
    error: float | int | None = None
    code: str = ""
    thresholds: Mapping[Bound, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Numbers of any kind (numpy's, JAX's, integers) are kept as floats; one without a bound is no threshold."""
        object.__setattr__(self, "value", float(self.value))
        for name in ("low", "high", "fail_low", "fail_high", "error"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if given is None else float(given))
        in_force = {bound: name for bound, name in self.thresholds.items() if getattr(self, bound) is not None}
        object.__setattr__(self, "thresholds", in_force)

    @property
    def bounded(self) -> bool:
        """Whether there is any bound; a measure without one only informs."""
        return any(bound is not None for bound in (self.low, self.high, self.fail_low, self.fail_high))

    @property
    def verdict(self) -> Severity | None:
        """What leaving the bounds means here, None while they are kept. A value that is NaN keeps no bound."""
        if not _within(self.value, self.fail_low, self.fail_high):
            return Severity.FAIL
        return None if _within(self.value, self.low, self.high) else self.severity

    @property
    def margin(self) -> float | None:
        """How far inside of the nearest bound the value lies, in its unit; negative outside; None without bounds."""
        lows = [bound for bound in (self.low, self.fail_low) if bound is not None]
        highs = [bound for bound in (self.high, self.fail_high) if bound is not None]
        distances = [self.value - max(lows)] if lows else []
        distances += [min(highs) - self.value] if highs else []
        return min(distances, default=None)

    @property
    def margin_in_errors(self) -> float | None:
        """The margin in standard errors; None where there is no bound or no error."""
        return None if self.margin is None or not self.error else self.margin / self.error

    @property
    def wanted(self) -> str:
        """The bounds in words: "2 or less", "0.8 to 2", "0"; empty without bounds."""
        low = self.low if self.low is not None else self.fail_low
        high = self.high if self.high is not None else self.fail_high
        match low, high:
            case None, None:
                return ""
            case None, _:
                return f"{high:.4g} or less"
            case _, None:
                return f"{low:.4g} or more"
        return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"

    def with_thresholds(self, values: Mapping[str, float | int]) -> "Measure":
        """The same measure under other thresholds, by the names that `thresholds` gives them; no bound is added."""
        there = {bound: name for bound, name in self.thresholds.items() if getattr(self, bound) is not None}
        moved = {bound: float(values[name]) for bound, name in there.items() if name in values}
        return replace(self, **moved) if moved else self


def _within(value: float | int, low: float | int | None, high: float | int | None) -> bool:
    """Whether a value keeps a pair of bounds."""
    if low is None and high is None:
        return True
    return not math.isnan(value) and (low is None or value >= low) and (high is None or value <= high)
