"""Evidence in a few lines of text: curves as sparklines, matrices as shaded blocks, the head of a table."""

import numpy as np
from jaxtyping import Float
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from jaxrecipe.report.evidence import Curve, Evidence, Histogram, Images, Matrix, Table
from jaxrecipe.report.numbers import (
    block_width,
    clean,
    finite_range,
    floats,
    logged,
    number,
    plural,
    shorten,
    strongest,
    unit_scaled,
)

_BARS = "▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
_NOT_FINITE = "×"
_MOST_SERIES = 6
_MOST_ROWS = 5
_MOST_CELLS = 16
_FIRST_LINES, _LAST_LINES = 8, 4


def sketch(evidence: Evidence, *, width: int) -> RenderableType:
    """One piece of evidence as something rich can print; of a long table the first rows, of a long text both ends."""
    return Group(
        Text(shorten(evidence.title, width), style="italic"),
        Padding(_body(evidence, width - 2), (0, 0, 0, 2)),
    )


def sparkline(values: Float[np.ndarray, "points"], width: int, *, low: float, high: float) -> str:
    """Values as a row of at most `width` bars from `low` to `high`; a `×` where some are not finite."""
    if not values.size:
        return "(no points)"
    stretches = np.array_split(values, min(width, values.size))
    means = np.array([part.mean() if np.isfinite(part).all() else np.nan for part in stretches])
    scaled = unit_scaled(np.concatenate([means, [low, high]]))[:-2]
    return "".join(_BARS[int(v * (len(_BARS) - 1) + 0.5)] if np.isfinite(v) else _NOT_FINITE for v in scaled)


def _body(evidence: Evidence, width: int) -> RenderableType:
    match evidence:
        case Curve():
            return _curve(evidence, width)
        case Histogram():
            return _histogram(evidence, width)
        case Matrix():
            return _matrix(evidence)
        case Images():
            shape = " × ".join(str(size) for size in np.shape(evidence.images)[1:])
            return Text(f"{plural(len(evidence.images), 'image')} of {shape}, drawn in the HTML report", style="dim")
        case Table():
            return _table(evidence, width)


def _curve(curve: Curve, width: int) -> RenderableType:
    """All series on one scale, which also spans the reference levels: what is below what can be seen."""
    grid = _grid()
    drawn = {name: floats(values).ravel() for name, values in list(curve.series.items())[:_MOST_SERIES]}
    levels = floats(list(curve.levels.values()))
    everything = np.concatenate([*drawn.values(), levels])
    low, high = finite_range(logged(everything) if curve.log_y else everything) or (0.0, 0.0)
    for name, y in drawn.items():
        spark = sparkline(logged(y) if curve.log_y else y, max(8, width // 2 - 12), low=low, high=high)
        grid.add_row(Text(shorten(name, width // 4)), Text(spark, style="cyan"), Text(_ends(y), style="dim"))
    for name, level in curve.levels.items():
        grid.add_row(Text(shorten(name, width // 4)), Text("┄" * 8, style="dim"), Text(number(level), style="dim"))
    return _with_rest(grid, len(curve.series))


def _ends(y: Float[np.ndarray, "points"]) -> str:
    if not y.size:
        return ""
    ends = number(float(y[0])) if y.size == 1 else f"{number(float(y[0]))} → {number(float(y[-1]))}"
    broken = int((~np.isfinite(y)).sum())
    return f"{ends}, {broken:,} not finite" if broken else ends


def _histogram(histogram: Histogram, width: int) -> RenderableType:
    edges = floats(histogram.edges).ravel()
    span = f"{number(float(edges[0]))} … {number(float(edges[-1]))}" if edges.size else ""
    grid = _grid()
    for name, values in list(histogram.counts.items())[:_MOST_SERIES]:
        counts = floats(values).ravel()
        heights = np.log1p(np.maximum(counts, 0)) if histogram.log_y else counts
        _, high = finite_range(heights) or (0.0, 0.0)
        spark = sparkline(heights, max(8, width // 2 - 12), low=0.0, high=high)
        grid.add_row(Text(shorten(name, width // 4)), Text(spark, style="cyan"), Text(span, style="dim"))
    return _with_rest(grid, len(histogram.counts))


def _matrix(matrix: Matrix) -> RenderableType:
    """Shades of magnitude, two characters a cell so that cells look square."""
    values = floats(matrix.values)
    if values.ndim != 2 or not values.size:
        return Text("(empty)", style="dim")
    few = strongest(values, _MOST_CELLS, _MOST_CELLS)
    magnitude = np.abs(few)
    if matrix.log:
        scaled = unit_scaled(logged(magnitude))
    else:  # zero stays blank
        _, high = finite_range(magnitude) or (0.0, 0.0)
        scaled = magnitude / high if high > 0 else np.zeros_like(magnitude)
    rows = ["".join(_shade(*cell) * 2 for cell in zip(*line, strict=True)) for line in zip(scaled, few, strict=True)]
    found = finite_range(values)
    legend = f"{values.shape[0]} × {values.shape[1]}" + (f", {number(found[0])} … {number(found[1])}" if found else "")
    shared = block_width(values.shape[0], _MOST_CELLS) * block_width(values.shape[1], _MOST_CELLS)
    legend += f"; each block shows the strongest of up to {shared} cells" if shared > 1 else ""
    return Group(*(Text(f"▏{row}▕") for row in rows), Text(legend, style="dim"))


def _shade(scaled: float, value: float) -> str:
    if not np.isfinite(value):
        return _NOT_FINITE
    return (
        _SHADES[0]
        if not np.isfinite(scaled)
        else _SHADES[int(np.ceil(min(max(scaled, 0.0), 1.0) * (len(_SHADES) - 1)))]
    )


def _table(table: Table, width: int) -> RenderableType:
    """A few rows; the number of the others is said, never hidden."""
    if len(table.columns) == 1:
        return _text([str(row[0]) for row in table.rows if row])
    grid = _grid()
    cell = max(6, width // max(1, len(table.columns)))
    grid.add_row(*(Text(shorten(name, cell), style="bright_black") for name in table.columns))
    for row in table.rows[:_MOST_ROWS]:
        grid.add_row(*(Text(shorten(number(value), cell), justify="left") for value in row))
    left = len(table.rows) - _MOST_ROWS
    return Group(grid, Text(f"… {plural(left, 'more row')}", style="dim")) if left > 0 else grid


def _text(lines: list[str]) -> RenderableType:
    """Lines as they are; of many both ends: a traceback begins in the user's own code and ends with what happened."""
    left = len(lines) - _FIRST_LINES - _LAST_LINES
    drawn = [Text(clean(line), overflow="fold") for line in lines]
    if left <= 0:
        return Group(*drawn)
    rest = Text(f"… {plural(left, 'more row')}", style="dim")
    return Group(*drawn[:_FIRST_LINES], rest, *drawn[-_LAST_LINES:])


def _grid() -> Grid:
    return Grid.grid(padding=(0, 2, 0, 0))


def _with_rest(grid: Grid, series: int) -> RenderableType:
    left = series - _MOST_SERIES
    parts: list[RenderableType] = [grid] if grid.row_count else [Text("(nothing recorded)", style="dim")]
    return Group(*parts, Text(f"… {left} more", style="dim")) if left > 0 else Group(*parts)
