"""What is drawn is where it should be: positions are read back from the SVG and turned into values again."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrecipe.report.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Scale, linear_ticks, log_ticks, y_scale
from jaxrecipe.report.charts import curve_chart, histogram_chart
from jaxrecipe.report.heatmap import colored, heatmap
from jaxrecipe.report.result import Curve, Histogram, Matrix


def polylines(svg: str) -> list[np.ndarray]:
    found = re.findall(r'<poly(?:line|gon) points="([^"]+)"', svg)
    return [np.array([[float(v) for v in pair.split(",")] for pair in points.split()]) for points in found]


def hover(svg: str) -> dict[str, list]:
    match = re.search(r'<script type="application/json">(.*?)</script>', svg)
    assert match is not None
    return json.loads(match.group(1))


@pytest.mark.parametrize("log_y", [False, True])
def test_lines_pass_through_their_points(log_y: bool) -> None:
    x, y = np.array([0.0, 1, 2, 4]), np.array([1.0, 10, 100, 5])
    [points] = polylines(curve_chart(Curve(title="t", x=x, series={"a": y}, log_y=log_y)))
    # Along a straight scale pixels are an affine function of the value: fit one and look at what is left.
    for pixels, values in ((points[:, 0], x), (points[:, 1], np.log10(y) if log_y else y)):
        fitted = np.polyval(np.polyfit(values, pixels, 1), values)
        np.testing.assert_allclose(pixels, fitted, atol=0.11)
    assert (points[:, 0] >= LEFT).all()
    assert (points[:, 0] <= WIDTH - RIGHT).all()
    assert points[1, 1] < points[0, 1]  # up is more
    assert (points[:, 1] >= TOP).all()
    assert (points[:, 1] <= HEIGHT - BOTTOM).all()


def test_a_line_breaks_at_holes_which_are_shaded() -> None:
    y = np.array([1.0, 2, np.nan, 4, 5, np.inf, 7])
    svg = curve_chart(Curve(title="t", x=np.arange(7), series={"a": y}))
    assert [len(line) for line in polylines(svg)] == [2, 2]
    assert svg.count("<circle") == 1  # the lone last point
    assert svg.count('class="bad"') == 2
    assert "2 values not finite" in svg


def test_readings_are_the_values() -> None:
    data = hover(
        curve_chart(Curve(title="t", x=np.array([5.0, 6]), series={"a": np.array([0.5, np.nan])}, x_label="epoch"))
    )
    assert data["head"] == ["epoch 5", "epoch 6"]
    assert data["lines"] == [{"name": "a", "text": ["0.5", "NaN"]}]
    assert data["y"][0][1] is None


def test_a_spike_survives_thinning() -> None:
    y = np.zeros(50_000)
    y[31_234] = 9.0
    svg = curve_chart(Curve(title="t", x=np.arange(50_000), series={"a": y}))
    assert "9" in hover(svg)["lines"][0]["text"]
    assert len(svg) < 100_000


def test_levels_are_drawn_at_their_value_even_beyond_the_curve() -> None:
    svg = curve_chart(Curve(title="t", x=np.arange(3), series={"a": np.zeros(3)}, levels={"goal": 4.0}))
    [points] = polylines(svg)
    match = re.search(r'class="level"><line [^>]*y1="([\d.]+)"', svg)
    assert match is not None
    assert TOP <= float(match.group(1)) < points[0, 1]
    assert "goal 4" in svg


def test_series_of_different_length_are_cut_to_the_shortest() -> None:
    svg = curve_chart(Curve(title="t", x=np.arange(9), series={"a": np.arange(5.0), "b": np.arange(7.0)}))
    assert [len(line) for line in polylines(svg)] == [5, 5]


def test_bars_stand_on_the_ground_and_are_as_high_as_their_counts() -> None:
    svg = histogram_chart(Histogram(title="t", edges=np.array([0.0, 1, 3, 4]), counts={"a": np.array([4, 2, 0])}))
    [points] = polylines(svg)
    ground, tops = points[0, 1], points[1:-1:2, 1]
    heights = ground - tops
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[2] == pytest.approx(0, abs=0.1)
    widths = np.diff(points[1:-1, 0])[::2]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.3)


def test_one_count_can_be_seen_on_a_logarithmic_histogram() -> None:
    svg = histogram_chart(
        Histogram(title="t", edges=np.arange(4.0), counts={"a": np.array([0, 1, 10_000])}, log_y=True)
    )
    [points] = polylines(svg)
    assert points[1, 1] == points[0, 1]
    assert points[3, 1] < points[0, 1] - 4


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e6))
@settings(deadline=None, max_examples=25)
def test_linear_ticks_are_within_and_evenly_spaced(low: float, span: float) -> None:
    high = low + span
    ticks = linear_ticks(low, high)
    slack = span * 1e-6 + abs(low) * 1e-9
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert 1 <= len(ticks) <= 7


def test_ticks_are_round() -> None:
    assert linear_ticks(0.0, 1.0) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(-3.0, 22.0) == [0, 5, 10, 15, 20]
    assert log_ticks(0.5, 20.0) == [0.5, 1, 2, 5, 10, 20]
    assert log_ticks(1e-8, 1e4)[:2] == [1e-8, 1e-6]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [-1.7e308, 1.7e308], [5e-324, 1e-320], [1e300, 1.1e300], [np.nan], [7.0], [-1.0, np.inf]]
)
def test_any_range_has_a_scale_and_ticks(values: list[float], log: bool) -> None:
    scale = y_scale(np.array(values), log=log)
    assert np.isfinite([scale.low, scale.high]).all()
    assert scale.low < scale.high
    assert np.isfinite([scale.one(tick) for tick in scale.ticks()]).all()


def test_no_pixel_for_what_has_no_place() -> None:
    scale = Scale(low=1.0, high=10.0, start=0.0, end=1.0, log=True)
    np.testing.assert_allclose(scale(np.array([1.0, 10.0])), [0, 1])
    assert np.isnan(scale(np.array([0.0, -1.0, np.nan, np.inf]))).all()


def test_colors_rise_with_the_value() -> None:
    pixels = colored(np.linspace(0, 1, 20)[None], log=False)[0].astype(float)
    brightness = pixels[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) > 0).all()


def test_zero_is_the_middle_of_two_sides() -> None:
    pixels = colored(np.array([[-1.0, 0.0, 4.0]]), log=False)[0]
    assert len(set(pixels[1, :3].tolist())) == 1
    assert pixels[2, 0] > pixels[2, 2]
    assert pixels[0, 2] > pixels[0, 0]


def test_what_is_not_finite_has_a_color_of_its_own() -> None:
    pixels = colored(np.array([[0.0, 1.0, np.nan, np.inf, -np.inf]]), log=False)[0]
    assert [tuple(p) for p in pixels[2:].tolist()] == [(255, 0, 200, 255)] * 3
    assert (255, 0, 200, 255) not in [tuple(p) for p in pixels[:2].tolist()]


def test_a_logarithm_that_does_not_exist_is_transparent() -> None:
    pixels = colored(np.array([[0.0, 1e-3, 1.0, -1.0]]), log=True)[0]
    assert pixels[:, 3].tolist() == [0, 255, 255, 255]
    assert pixels[2].tolist() == pixels[3].tolist()


def test_cells_can_be_read_with_their_names() -> None:
    matrix = Matrix(
        title="t",
        values=np.array([[1.0, np.nan], [0.25, 2e5]]),
        row_names=["r0", "r1"],
        row_label="out",
        column_label="in",
    )
    data = hover(heatmap(matrix))
    assert data["values"] == [[1.0, "NaN"], [0.25, 2e5]]
    assert data["rows"] == ["r0", "r1"]
    assert data["columns"] == ["0", "1"]
    assert data["label"] == ["out", "in"]


def test_a_leak_survives_the_shrinking() -> None:
    values = np.zeros((1000, 1000))
    values[123, 877] = -0.5
    data = hover(heatmap(Matrix(title="t", values=values)))
    found = [(i, j) for i, row in enumerate(data["values"]) for j, v in enumerate(row) if v == -0.5]
    [(i, j)] = found
    assert data["rows"][i] == "120–127"
    assert data["columns"][j] == "872–879"
