"""Each kind of evidence as a figure of the page."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from jaxrecipe.report.charts import curve_chart, histogram_chart
from jaxrecipe.report.evidence import Curve, Evidence, Histogram, Images, Matrix, Scalar, Table
from jaxrecipe.report.heatmap import heatmap
from jaxrecipe.report.markup import Markup, element, join
from jaxrecipe.report.numbers import floats, number, plural
from jaxrecipe.report.png import data_uri

_MOST_IMAGES = 256
_MOST_ROWS = 2000
_ROWS_WORTH_SEARCHING = 8
_SMALL, _LARGE = 96, 224
"""Sides in pixels: small pictures are enlarged to about the first; the second is the most for those that are not."""
_BROKEN = (255.0, 0.0, 200.0)


def figure(evidence: Evidence) -> Markup:
    """One piece of evidence with its title."""
    match evidence:
        case Curve():
            kind, body = "curve", curve_chart(evidence)
        case Histogram():
            kind, body = "histogram", histogram_chart(evidence)
        case Matrix():
            kind, body = "matrix", heatmap(evidence)
        case Images():
            kind, body = "images", image_grid(evidence)
        case Table():
            kind, body = "table", table(evidence)
    return element("figure", element("figcaption", evidence.title), body, class_=kind)


def image_grid(images: Images) -> Markup:
    """Pictures with their captions, small ones enlarged without blurring."""
    stack = np.asarray(images.images)
    if stack.ndim not in (3, 4) or not stack.size:
        return element("p", f"No pictures: shape {stack.shape}.", class_="empty")
    if stack.ndim == 4 and stack.shape[-1] not in (1, 3, 4):
        return element("p", f"Pictures of {stack.shape[-1]} channels cannot be shown: 1, 3 or 4 can.", class_="empty")
    height, width = stack.shape[1:3]
    zoom = max(1, round(_SMALL / max(height, width)))
    shown_width = min(width * zoom, _LARGE) if zoom == 1 else width * zoom
    items = []
    for i, picture in enumerate(stack[:_MOST_IMAGES]):
        caption = str(images.captions[i]) if i < len(images.captions) else ""
        source = data_uri(shown(picture, images.low, images.high))
        drawn = element(
            "img", src=source, alt=caption or f"picture {i}", width=shown_width, loading="lazy", class_="sharp"
        )
        items.append(element("li", drawn, element("span", caption or f"{i}", title=caption or None)))
    left = len(stack) - len(items)
    ends = f"black {number(float(images.low))}, white {number(float(images.high))}"
    scale = f"{plural(len(stack), 'picture')} of {height} × {width}, {ends}"
    note = element("p", scale + (f"; {left:,} more not drawn" if left else "") + ".", class_="note")
    return join([element("ul", *items, class_="pictures"), note])


def shown(picture: np.ndarray, low: float, high: float) -> UInt8[np.ndarray, "height width channels"]:
    """A picture as bytes: values from `low` to `high` become 0 to 255, clipped beyond; NaN is magenta."""
    values = floats(picture)
    values = values[..., None] if values.ndim == 2 else values
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        scaled: Float[np.ndarray, "height width channels"] = np.clip((values - low) / (high - low) * 255.0, 0.0, 255.0)
    broken = np.isnan(scaled).any(axis=-1)
    if broken.any():
        scaled = np.repeat(scaled, 3, axis=-1) if scaled.shape[-1] == 1 else scaled
        scaled[broken, :3] = _BROKEN
        scaled = np.nan_to_num(scaled, nan=255.0)
    return np.rint(scaled).astype(np.uint8)


def table(evidence: Table) -> Markup:
    """A table that the script makes sortable and searchable; a single column of words is shown as text."""
    rows = [tuple(row) for row in evidence.rows]
    if len(evidence.columns) == 1 and all(isinstance(row[0], str) for row in rows if row) and rows:
        return element("pre", "\n".join(str(row[0]) for row in rows if row), tabindex=0)
    if not evidence.columns:
        return element("p", "No columns.", class_="empty")
    numeric = [
        bool(rows) and all(_is_number(row[i]) for row in rows if i < len(row)) for i in range(len(evidence.columns))
    ]
    head = element("tr", *(_heading(name, number_) for name, number_ in zip(evidence.columns, numeric, strict=True)))
    body = [element("tr", *(_cell(value) for value in row)) for row in rows[:_MOST_ROWS]]
    whole = element("table", element("thead", head), element("tbody", *body))
    search = Markup("")
    if len(rows) > _ROWS_WORTH_SEARCHING:
        search = element(
            "input", type="search", placeholder="Search rows", aria_label=f"Search the rows of {evidence.title}"
        )
    left = len(rows) - len(body)
    words = (
        "No rows."
        if not rows
        else f"The first {len(body):,} of {len(rows):,} rows; the JSON report has all."
        if left
        else ""
    )
    note = element("p", words, class_="note") if words else Markup("")
    return join(
        [search, element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=evidence.title), note]
    )


def _heading(name: str, numeric: bool) -> Markup:
    button = element("button", name, type="button")
    return element("th", button, scope="col", aria_sort="none", class_="number" if numeric else None)


def _cell(value: Scalar) -> Markup:
    if not _is_number(value):
        return element("td", number(value))
    exact = value.item() if isinstance(value, np.generic) else value
    return element("td", number(value), class_="number", data_value=exact, title=str(exact))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def pairs(items: Sequence[tuple[str, Markup | str]], class_: str) -> Markup:
    """Names and values as a description list."""
    parts = [join([element("dt", name), element("dd", value)]) for name, value in items]
    return element("dl", *(element("div", part) for part in parts), class_=class_)
