"""The spread of an evaluation, told apart on numbers drawn from known distributions."""

import numpy as np
import pytest

from jaxrecipe.probes.sampled_scores import Kind, Sampled, kind_of

NONE = np.zeros(0)
SPREAD = np.array([-1.5, -0.9, -0.3, -0.1, 0.1, 0.3, 0.9, 1.5])
"""Draws of a spread of about one, in no order that matters."""


def asked(mean: float, spread: float = 0.05, trained: float | None = None, wide: float = 0.05) -> Sampled:
    draws = NONE if trained is None else trained + wide * SPREAD[::-1]
    return Sampled(said=mean + spread * SPREAD, exact=2.0, trained=draws, augmented=NONE)


@pytest.mark.parametrize(
    ("sampled", "others", "kind"),
    [
        (asked(2.01), (1.95, 2.05), "unbiased"),
        (asked(2.01), (1.2, 2.8), "biased"),
        (asked(2.5), (2.5, 2.5), "biased"),
        (asked(2.5, trained=2.49), (2.5, 2.5), "left on"),
        (asked(2.01, trained=2.5), (2.0, 2.0), "unbiased"),
        (asked(2.2, spread=0.02, trained=2.5, wide=0.1), (1.8, 2.4), "biased"),
        (asked(2.2, spread=0.02, trained=2.5, wide=0.1), (2.2, 2.2), "averaged"),
        (asked(2.05, spread=0.02, trained=2.5, wide=0.1), (2.05, 2.05), "averaged"),
    ],
)
def test_what_a_spread_is_like(sampled: Sampled, others: tuple[float, ...], kind: Kind) -> None:
    assert kind_of(sampled, 1e-3, others) == kind


def test_augmentation_left_on() -> None:
    said = asked(2.5)._replace(augmented=2.51 + 0.05 * SPREAD[::-1])
    assert kind_of(said, 1e-3) == "left on"
