"""Set-ups that hold only a loss: what probes ask of it needs no model that learns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optax
import pytest

from jaxrecipe.parts import Model
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import TargetTree
from jaxrecipe.task import Task


@pytest.fixture
def setup_with() -> Callable[..., Setup]:
    """`setup_with(loss, target)`: a set-up whose model is of no account."""

    def make(loss: Callable[[Any, Any], Any], target: TargetTree) -> Setup:
        model = Model(lambda key, x: ({}, {}), lambda params, state, x, *, train, key: (x, state))
        data = (np.zeros((4, 1), np.float32), np.zeros(4, np.float32))
        return make_setup(Task(model=model, loss=loss, optimizer=optax.sgd(0.1), train=data, target=target))

    return make
