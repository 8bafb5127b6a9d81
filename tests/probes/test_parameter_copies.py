"""Copies of the parameters in a state are found, moments and zeros are not taken for them."""

from typing import Any

import jax
import numpy as np

from jaxrecipe.probes.first_steps import vector
from jaxrecipe.probes.parameter_copies import parameter_copies, parameters_at
from jaxrecipe.setup import make_setup
from tests.zoo.broken import with_init
from tests.zoo.healthy import digits_task
from tests.zoo.loops import loop_with


def test_averages_are_found_and_moments_are_not() -> None:
    setup = make_setup(loop_with(digits_task()))
    places = parameter_copies(setup)
    assert sorted(place.path for place in places) == ["average", "params"]
    state: Any = setup.fresh_state()
    changed = {**state, "average": jax.tree.map(lambda leaf: leaf + 1, state["average"])}
    average = next(place for place in places if place.path == "average")
    np.testing.assert_array_equal(vector(parameters_at(setup, changed, average)), vector(changed["average"]))


def test_the_librarys_state_holds_the_parameters_only() -> None:
    assert [place.path for place in parameter_copies(make_setup(digits_task()))] == ["params"]


def test_parameters_that_are_zero_tell_nothing() -> None:
    zero = with_init(digits_task(), lambda params: jax.tree.map(lambda leaf: 0 * leaf, params))
    assert parameter_copies(make_setup(zero)) == []
