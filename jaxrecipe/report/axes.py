"""The frame of a chart as SVG: scales, round ticks, grid lines, labels."""

import math
import sys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from jaxrecipe.report.markup import Markup, element, join
from jaxrecipe.report.numbers import finite_range, number, shorten

WIDTH, HEIGHT = 520, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 42
_LARGEST = 1e300
_DECADES_WITH_FEW_TICKS = 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A straight or logarithmic map from values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Pixels; NaN for what has none (NaN, infinities, and zero or less on a logarithmic scale)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            inner = np.log10(np.where(values > 0, values, np.nan)) if self.log else np.clip(values, -_LARGEST, _LARGEST)
            inner = np.where(np.isfinite(values), inner, np.nan)
        low, high = (math.log10(self.low), math.log10(self.high)) if self.log else (self.low, self.high)
        return self.start + (inner / 2 - low / 2) / (high / 2 - low / 2) * (self.end - self.start)

    def one(self, value: float) -> float:
        """The pixel of one value."""
        return float(self(np.array([value], np.float64))[0])

    def ticks(self) -> list[float]:
        """Round values within the range, about five."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)


def x_scale(values: Float[np.ndarray, "points"]) -> Scale:
    """A scale over the width of a chart."""
    low, high = _widened(finite_range(values) or (0.0, 1.0), share=0.0)
    return Scale(low=low, high=high, start=float(LEFT), end=float(WIDTH - RIGHT))


def y_scale(values: Float[np.ndarray, "points"], *, log: bool = False, share: float = 0.06) -> Scale:
    """A scale over the height of a chart, with a share of the range kept free above and below."""
    if log:
        low, high = finite_range(values[values > 0]) or (0.1, 1.0)
        room = max((high / low if low > high / _LARGEST else _LARGEST) ** share, 1.1)
        low, high = max(low / room, 5e-324), min(high * room, sys.float_info.max)
    else:
        low, high = _widened(finite_range(values) or (0.0, 1.0), share=share)
    return Scale(low=low, high=high, start=float(HEIGHT - BOTTOM), end=float(TOP), log=log)


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values."""
    rough = (high / about) - (low / about)
    if not 0 < rough < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 5) if m * power >= rough), 10 * power)
    if not 0 < step < math.inf or abs(low / step) > 2**50:  # the range is finer than floats are
        return [low, high]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        round(i * step, 12 - math.floor(math.log10(step))) if step > 1e-200 else i * step
        for i in range(first, last + 1)
    ]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two positive values; with 2 and 5 between them when they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    multiples = (1, 2, 5) if last - first <= _DECADES_WITH_FEW_TICKS + 1 else (1,)
    every = max(1, (last - first) // 6)
    powers = range(first, last + 1, every)
    return [m * 10.0**p for p in powers if -323 <= p <= 307 for m in multiples if low <= m * 10.0**p <= high] or [
        low,
        high,
    ]


def frame(x: Scale, y: Scale, *, x_label: str, y_label: str) -> Markup:
    """Grid lines, tick labels and axis labels."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in y.ticks():
        at = round(y.one(value), 1)
        parts.append(element("line", class_="grid", x1=LEFT, x2=right, y1=at, y2=at))
        parts.append(element("text", number(value), class_="tick", x=LEFT - 8, y=at + 4, text_anchor="end"))
    for value in x.ticks():
        at = round(x.one(value), 1)
        parts.append(element("line", class_="grid mark", x1=at, x2=at, y1=bottom, y2=bottom + 4))
        parts.append(element("text", number(value), class_="tick", x=at, y=bottom + 17, text_anchor="middle"))
    parts.append(element("line", class_="axis", x1=LEFT, x2=right, y1=bottom, y2=bottom))
    middle = (LEFT + right) / 2
    parts.append(element("text", shorten(x_label, 70), class_="label", x=middle, y=HEIGHT - 6, text_anchor="middle"))
    turned = f"translate(13 {(TOP + bottom) / 2}) rotate(-90)"
    parts.append(element("text", shorten(y_label, 32), class_="label", transform=turned, text_anchor="middle"))
    return join(parts)


def _widened(found: tuple[float, float], *, share: float) -> tuple[float, float]:
    """A range that is never empty and never beyond what can be drawn."""
    low, high = (min(max(value, -_LARGEST), _LARGEST) for value in found)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = abs(low) / 2 or 0.5
        return low - room, high + room
    room = (high / 2 - low / 2) * 2 * share
    return low - room, high + room
