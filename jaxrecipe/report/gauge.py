"""Where a measure lies among its bounds, as a small drawing: a band that is right, the warning zone, and a mark."""

import math

from jaxrecipe.diagnosis.measure import Measure
from jaxrecipe.report.markup import Markup, element

WIDTH, HEIGHT, EDGE = 120.0, 14.0, 4.0
_AROUND = 0.15
"""Share of the span left free on both sides, so that a mark at its end can be seen."""


def gauge(measure: Measure) -> Markup:
    """The drawing; empty where there is no bound, or the value is no number."""
    bounds = [b for b in (measure.low, measure.high, measure.fail_low, measure.fail_high) if b is not None]
    points = [*bounds, measure.value]
    if not bounds or not all(math.isfinite(point) and abs(point) < 1e300 for point in points):
        return Markup("")
    start, end = min(points), max(points)
    room = (end - start) * _AROUND or max(abs(start), 1.0)
    start, end = start - room, end + room

    def at(value: float | None, otherwise: float) -> float:
        """Pixels of a value; of an open end, the end of the drawing."""
        return otherwise if value is None else EDGE + (value - start) / (end - start) * (WIDTH - 2 * EDGE)

    low = measure.fail_low if measure.low is None else measure.low
    high = measure.fail_high if measure.high is None else measure.high
    parts = [_zone("out", EDGE, WIDTH - EDGE)]
    if measure.fail_low is not None or measure.fail_high is not None:
        parts.append(_zone("near", at(measure.fail_low, EDGE), at(measure.fail_high, WIDTH - EDGE)))
    parts.append(_zone("right", at(low, EDGE), at(high, WIDTH - EDGE)))
    mark = f"mark {'inside' if measure.verdict is None else measure.verdict.lower()}"
    parts.append(element("circle", cx=_pixels(at(measure.value, EDGE)), cy=HEIGHT / 2, r=4, class_=mark))
    words = "within its bounds" if measure.verdict is None else "out of its bounds"
    return element("svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=words, class_="gauge")


def _zone(kind: str, start: float, end: float) -> Markup:
    """A stretch of the track, at least a line wide: a single value that is right has no width of its own."""
    width = max(end - start, 2.0)
    return element("rect", x=_pixels(start), y=HEIGHT / 2 - 3, width=_pixels(width), height=6, rx=2, class_=kind)


def _pixels(value: float) -> str:
    return f"{value:.1f}"
