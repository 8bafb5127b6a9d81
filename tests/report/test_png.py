"""Pictures: read back by another program's decoder."""

import io

import numpy as np
import pytest

from jaxrecipe.report.figures import shown
from jaxrecipe.report.png import png

PIL = pytest.importorskip("PIL.Image")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 17)])
def test_another_decoder_reads_the_same_pixels(channels: int, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    decoded = np.asarray(PIL.open(io.BytesIO(png(pixels))))
    np.testing.assert_array_equal(decoded.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 3, 2), (3, 0, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one pixel and 1, 3 or 4 channels"):
        png(np.zeros(shape, np.uint8))


def test_values_are_scaled_from_black_to_white_and_clipped() -> None:
    picture = np.array([[-2.0, -1.0, 0.0, 1.0, 5.0]])
    assert shown(picture, -1.0, 1.0)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_bytes_are_shown_as_they_are() -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(shown(picture, 0.0, 255.0)[..., 0], picture)


def test_a_missing_pixel_is_magenta_and_the_others_stay() -> None:
    picture = np.array([[0.0, np.nan, 1.0]])
    assert shown(picture, 0.0, 1.0)[0].tolist() == [[0, 0, 0], [255, 0, 200], [255, 255, 255]]


def test_infinities_and_an_empty_range_can_be_shown() -> None:
    assert shown(np.array([[-np.inf, np.inf]]), 0.0, 1.0)[0, :, 0].tolist() == [0, 255]
    assert shown(np.array([[0.5, 2.0]]), 1.0, 1.0).shape == (1, 2, 1)
