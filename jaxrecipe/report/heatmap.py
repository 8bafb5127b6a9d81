"""A matrix as a heat map: the cells as one PNG, so that the file stays small, with labels and a scale as SVG."""

import numpy as np
from jaxtyping import Float, UInt8

from jaxrecipe.report.evidence import Matrix
from jaxrecipe.report.markup import Markup, data_block, element, join
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
from jaxrecipe.report.png import data_uri

_RISING = ((19, 18, 43), (43, 58, 140), (31, 127, 156), (79, 192, 141), (246, 230, 90))
"""Dark to bright, for values of one sign: brightness alone tells the order, in gray print too."""
_TWO_SIDED = ((33, 102, 172), (146, 197, 222), (242, 242, 242), (244, 165, 130), (178, 24, 43))
"""Blue, white at zero, red, for values of both signs."""
_BROKEN = (255, 0, 200, 255)
"""Not finite: a color that is in neither map."""
_MOST_CELLS = 128
"""A side; with more, a single cell that matters would be too small to notice."""
_SIDE = 420.0
_TALLEST_CELL, _WIDEST_CELL = 34.0, 46.0
_ROOM_FOR_NUMBERS = (38.0, 18.0)
_ROOM_FOR_NAMES = 11.0
_LETTER = 6.6
"""Width of a character of a label, in pixels, roughly."""


def heatmap(matrix: Matrix) -> Markup:
    """The grid with row and column names, a color scale, and numbers in the cells where they fit."""
    values = floats(matrix.values)
    if values.ndim != 2 or not values.size:
        return element("p", f"Empty: shape {np.shape(matrix.values)}.", class_="empty")
    few = strongest(values, _MOST_CELLS, _MOST_CELLS)
    steps = block_width(values.shape[0], _MOST_CELLS), block_width(values.shape[1], _MOST_CELLS)
    rows = _names(matrix.row_names, few.shape[0], steps[0])
    columns = _names(matrix.column_names, few.shape[1], steps[1])
    width, height = _cell_size(*few.shape)
    named = any(matrix.row_names) and height >= _ROOM_FOR_NAMES
    left = 30.0 + (_LETTER * max(len(name) for name in rows) if named else 26)
    return join([_svg(matrix, few, rows, columns, (width, height), left), *_notes(values, steps)])


def colored(values: Float[np.ndarray, "rows columns"], *, log: bool) -> UInt8[np.ndarray, "rows columns 4"]:
    """Each cell's color: rising for one sign, two-sided for both; transparent where a logarithm has no value."""
    found = finite_range(values) or (0.0, 0.0)
    signed = found[0] < 0 < found[1] and not log
    if log:
        scaled = unit_scaled(logged(np.abs(values)))
    elif signed:
        scaled = unit_scaled(np.append(values, [max(-found[0], found[1]), -max(-found[0], found[1])]))[:-2].reshape(
            values.shape
        )
    else:
        scaled = unit_scaled(values)
    known = np.isfinite(scaled)
    place = np.where(known, scaled, 0.0)
    anchors = np.array(_TWO_SIDED if signed else _RISING, np.float64)
    at = np.linspace(0, 1, len(anchors))
    colors = np.stack(
        [np.interp(place, at, anchors[:, channel]) for channel in range(3)] + [np.where(known, 255.0, 0.0)], axis=-1
    )
    colors[~np.isfinite(values)] = _BROKEN
    return np.rint(colors).astype(np.uint8)


def _svg(
    matrix: Matrix,
    values: Float[np.ndarray, "rows columns"],
    rows: list[str],
    columns: list[str],
    cell: tuple[float, float],
    left: float,
) -> Markup:
    pixels = colored(values, log=matrix.log)
    across, down = cell[0] * values.shape[1], cell[1] * values.shape[0]
    top = 8.0
    grid = element(
        "image",
        href=data_uri(pixels),
        x=left,
        y=top,
        width=f"{across:.2f}",
        height=f"{down:.2f}",
        preserveAspectRatio="none",
    )
    frame = element("rect", class_="frame", x=left, y=top, width=f"{across:.2f}", height=f"{down:.2f}")
    shapes = [grid, frame, _row_names(rows, cell[1], left, top), _column_names(columns, cell[0], left, top + down)]
    shapes += [_axis_names(matrix, left, top, across, down), _numbers(values, pixels, cell, left, top)]
    shapes.append(_color_scale(values, matrix.log, left + across + 16, top, max(down, 90.0)))
    total = left + across + 92, max(top + down, top + 100) + 44
    found = finite_range(values)
    words = f"{matrix.title}: {values.shape[0]} × {values.shape[1]}" + (
        f", from {number(found[0])} to {number(found[1])}" if found else ""
    )
    drawn = element(
        "svg",
        *shapes,
        viewBox=f"0 0 {total[0]:.0f} {total[1]:.0f}",
        width=f"{total[0]:.0f}",
        role="img",
        aria_label=words,
        tabindex=0,
        class_="heat",
    )
    geometry = {"left": left, "top": top, "width": cell[0], "height": cell[1], "rows": rows, "columns": columns}
    hover = data_block(
        {**geometry, "label": [matrix.row_label or "row", matrix.column_label or "column"], "values": _readings(values)}
    )
    return element("div", drawn, hover, class_="plot", data_plot="cells")


def _readings(values: Float[np.ndarray, "rows columns"]) -> list[list[float | str]]:
    """Four significant digits a cell; words for what JSON has no number for."""
    return [[float(f"{v:.4g}") if np.isfinite(v) else number(float(v)) for v in row] for row in values]


def _cell_size(rows: int, columns: int) -> tuple[float, float]:
    """Square cells, unless the matrix is so long that they would be slivers."""
    width, height = min(_SIDE / columns, _WIDEST_CELL), min(_SIDE / rows, _TALLEST_CELL)
    if max(rows, columns) <= 4 * min(rows, columns):
        width = height = min(width, height)
        width = max(width, min(_ROOM_FOR_NUMBERS[0], _SIDE / columns))
    return width, height


def _names(given: object, count: int, step: int) -> list[str]:
    """A name for each row or column drawn: those given, or numbers."""
    names = [shorten(str(name), 24) for name in given] if isinstance(given, list | tuple) else []
    first = range(0, count * step, step)
    return [names[i] if i < len(names) else (str(i) if step == 1 else f"{i}–{i + step - 1}") for i in first]


def _spaced(size: float, count: int, room: float) -> range:
    """Which names to write so that they do not touch: every 1st, 2nd, 5th, 10th, 20th, ..."""
    least = room / size
    steps = (m * 10**p for p in range(9) for m in (1, 2, 5))
    return range(0, count, next(step for step in steps if step >= least))


def _row_names(names: list[str], height: float, left: float, top: float) -> Markup:
    chosen = _spaced(height, len(names), _ROOM_FOR_NAMES + 2 if len(names) < 40 else 44.0)
    return join(
        element(
            "text", names[i], class_="tick", x=left - 6, y=f"{top + (i + 0.5) * height + 3.6:.1f}", text_anchor="end"
        )
        for i in chosen
    )


def _column_names(names: list[str], width: float, left: float, bottom: float) -> Markup:
    """Column names under the grid, cut to their column when every one is written."""
    longest = max(len(name) for name in names) * _LETTER
    chosen = _spaced(width, len(names), min(longest, 46.0) + 6)
    fits = max(2, int(width * chosen.step / _LETTER))
    return join(
        element(
            "text",
            shorten(names[i], fits),
            class_="tick",
            x=f"{left + (i + 0.5) * width:.1f}",
            y=bottom + 15,
            text_anchor="middle",
        )
        for i in chosen
    )


def _axis_names(matrix: Matrix, left: float, top: float, across: float, down: float) -> Markup:
    turned = f"translate(12 {top + down / 2:.1f}) rotate(-90)"
    room = int(max(down, 80) / _LETTER)
    return join(
        [
            element("text", shorten(matrix.row_label, room), class_="label", transform=turned, text_anchor="middle"),
            element(
                "text",
                shorten(matrix.column_label, max(16, int(across / 5))),
                class_="label",
                x=f"{left + across / 2:.1f}",
                y=top + down + 34,
                text_anchor="middle",
            ),
        ]
    )


def _numbers(
    values: Float[np.ndarray, "rows columns"],
    pixels: UInt8[np.ndarray, "rows columns 4"],
    cell: tuple[float, float],
    left: float,
    top: float,
) -> Markup:
    if cell[0] < _ROOM_FOR_NUMBERS[0] or cell[1] < _ROOM_FOR_NUMBERS[1]:
        return Markup("")
    texts = []
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            red, green, blue, alpha = (int(part) for part in pixels[i, j])
            bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
            shade = "onscreen" if not alpha else "dark" if bright else "light"
            words = clean(_brief(float(value)))
            x, y = f"{left + (j + 0.5) * cell[0]:.1f}", f"{top + (i + 0.5) * cell[1] + 3.8:.1f}"
            texts.append(element("text", words, class_=f"cell {shade}", x=x, y=y, text_anchor="middle"))
    return join(texts)


def _brief(value: float) -> str:
    """A number in at most six characters or so."""
    if not np.isfinite(value) or (float(value).is_integer() and abs(value) < 1e5):
        return number(int(value) if np.isfinite(value) else value)
    return f"{value:.2f}" if 0.01 <= abs(value) < 1000 else f"{value:.0e}"


def _color_scale(
    values: Float[np.ndarray, "rows columns"], log: bool, left: float, top: float, height: float
) -> Markup:
    """A bar from the least to the greatest value, drawn with the colors of the cells themselves."""
    found = finite_range(np.where(logged(np.abs(values)) > -np.inf, np.abs(values), np.nan) if log else values)
    if found is None or found[0] == found[1]:
        return Markup("")
    low, high = found
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    ramp = np.logspace(np.log10(high), np.log10(low), 64) if log else np.linspace(high, low, 64)
    bar = element(
        "image",
        href=data_uri(colored(ramp[:, None], log=log)),
        x=f"{left:.1f}",
        y=top,
        width=12,
        height=f"{height:.1f}",
        preserveAspectRatio="none",
    )
    ends = ((high, 10.0), (low, height))
    words = [element("text", number(v), class_="tick", x=f"{left + 17:.1f}", y=f"{top + y:.1f}") for v, y in ends]
    return join([bar, *words])


def _notes(values: Float[np.ndarray, "rows columns"], steps: tuple[int, int]) -> list[Markup]:
    broken = int((~np.isfinite(values)).sum())
    notes = [f"{plural(broken, 'value')} not finite (magenta)."] if broken else []
    if max(steps) > 1:
        notes.append(
            f"{values.shape[0]:,} × {values.shape[1]:,} values; "
            f"each cell shows the strongest of {steps[0]} × {steps[1]}."
        )
    return [element("p", " ".join(notes), class_="note")] if notes else []
