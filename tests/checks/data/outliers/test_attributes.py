"""Every attribute of an example, against a loop."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrecipe.checks.data.outliers.attributes import attributes
from jaxrecipe.data.sources import as_source
from jaxrecipe.inputs import guess_kind
from jaxrecipe.targets import Classes, Tokens, Unspecified, Values
from tests.zoo.healthy import regression_task

RNG = np.random.default_rng(2)
LENGTHS = RNG.integers(15, 50, 500)
TEXT = np.where(np.arange(64) < LENGTHS[:, None], RNG.integers(1, 1000, (500, 64)), 0).astype(np.int32)
TABLE = regression_task()


def attribute(x: Any, y: Any, target: Any, name: str) -> np.ndarray:
    source = as_source((x, y))
    kinds = {"inputs": guess_kind(x.shape[1:], x.dtype)}
    return attributes(source, target, np.arange(source.size), kinds)[name]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_attributes_of_images_are_those_of_a_loop(dtype: Any) -> None:
    x = RNG.integers(0, 256, (5, 16, 16, 3)).astype(dtype)
    y = np.zeros(5, np.int32)
    for name, one in {
        "brightness": lambda p: p.mean(),
        "contrast": lambda p: p.std(),
        "edges": lambda p: (np.abs(p[1:] - p[:-1]).mean() + np.abs(p[:, 1:] - p[:, :-1]).mean()) / 2,
        "color": lambda p: np.mean([max(v) - min(v) for row in p for v in row]),
        "red over blue": lambda p: np.mean([v[0] - v[2] for row in p for v in row]),
    }.items():
        found = attribute(x, y, Classes(2), f"inputs: {name}")
        assert found == pytest.approx([one(p) for p in x.astype(np.float64)], rel=1e-4), name


def test_attributes_of_text_are_those_of_a_loop() -> None:
    y = np.zeros(500, np.int32)
    small = TEXT % 9
    for row, length, different, commonest in zip(
        small,
        attribute(small, y, Classes(2), "inputs: length"),
        attribute(small, y, Classes(2), "inputs: different tokens"),
        attribute(small, y, Classes(2), "inputs: commonest token"),
        strict=True,
    ):
        words = [int(word) for word in row if word != 0]
        assert length == len(words)
        assert different == pytest.approx(len(set(words)) / len(words))
        assert commonest == pytest.approx(max(words.count(word) for word in set(words)) / len(words))


def test_attributes_of_tables_targets_and_half_precision() -> None:
    x, y = TABLE.train
    assert attribute(x, y, Values(), "inputs: norm") == pytest.approx(np.linalg.norm(x.astype(np.float64), axis=1))
    deviation = np.abs((x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)) / x.std(axis=0, dtype=np.float64))
    assert attribute(x, y, Values(), "inputs: largest deviation") == pytest.approx(deviation.max(axis=1), rel=1e-5)
    assert attribute(x, y, Values(), "target: value") == pytest.approx(y[:, 0])
    holes = np.where(np.arange(8) < np.arange(500)[:, None] % 3, np.nan, x)
    assert attribute(holes, y, Values(), "inputs: missing") == pytest.approx(np.arange(500) % 3 / 8)
    assert attribute(TEXT, TEXT, Tokens(1000, pad=0), "target: length") == pytest.approx(LENGTHS)
    assert attribute(x.astype(jnp.bfloat16), y, Unspecified(), "inputs: norm").dtype == np.float64


def test_attributes_of_masks_and_of_several_values() -> None:
    masks = (RNG.random((20, 6, 6)) < 0.3).astype(np.int32)
    found = attribute(masks, masks, Classes(2), "target: size of the label")
    assert found == pytest.approx([mask.mean() for mask in masks])
    values = RNG.normal(size=(20, 3))
    assert attribute(values, values, Values(), "target: value 2") == pytest.approx(values[:, 2])
    many = RNG.normal(size=(20, 9))
    assert attribute(many, many, Values(), "target: norm") == pytest.approx(np.linalg.norm(many, axis=1))


def test_the_roughness_of_a_series_is_the_mean_step() -> None:
    series = RNG.normal(size=(20, 30, 2))
    found = attribute(series, np.zeros(20), Unspecified(), "inputs: roughness")
    assert found == pytest.approx([np.abs(np.diff(one, axis=0)).mean() for one in series])
