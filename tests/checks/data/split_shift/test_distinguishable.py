"""The probability of telling two samples apart, against what is known of normal distributions."""

import numpy as np
import pytest
from scipy.stats import norm

from jaxrecipe.checks.data.split_shift.distinguishable import probability_of_telling_apart
from jaxrecipe.probes.samples import Sample


def samples(shift: float) -> tuple[Sample, Sample]:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 3)).astype(np.float32)
    rows[500:, 0] += np.float32(shift)
    return Sample(np.arange(500), {"x": rows[:500]}, None, {"x": "table"}), Sample(
        np.arange(300), {"x": rows[500:]}, None, {"x": "table"}
    )


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_it_is_that_of_shifted_normal_distributions(shift: float) -> None:
    found, error = probability_of_telling_apart(*samples(shift))
    assert found == pytest.approx(norm.cdf(shift / np.sqrt(2)), abs=4 * error)


def test_equal_samples_cannot_be_told_apart() -> None:
    found, error = probability_of_telling_apart(*samples(0.0))
    assert found < 0.5 + 3 * error
    assert error == pytest.approx(0.021, abs=0.002)


def test_constant_inputs_say_nothing() -> None:
    one = Sample(np.arange(30), {"x": np.ones((30, 2), np.float32)}, None, {"x": "table"})
    assert probability_of_telling_apart(one, one) == (0.5, 1.0)
