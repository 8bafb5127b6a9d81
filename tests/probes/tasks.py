"""Set-ups around given data, for probes that look at data only."""

from typing import Any

import numpy as np
import optax

from jaxrecipe.parts import Model
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.task import Task


def setup_of(x: Any = None, y: Any = None, *, items: Any = None, **facts: Any) -> Setup:
    """A set-up whose model is of no matter; `items` are a data set that is read one by one."""
    model = Model(init=lambda key, x: ({}, {}), apply=lambda params, state, x, *, train, key: (x, state))
    data = items if items is not None else (x, y)
    size = len(items) if items is not None else len(next(iter(leaves(x))))
    task = Task(
        model=model,
        loss=lambda outputs, y: outputs,
        optimizer=optax.sgd(0.1),
        train=data,
        batch_size=facts.pop("batch_size", min(8, size)),
        **facts,
    )
    return make_setup(task)


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays of a dictionary, or the one that is given."""
    return list(tree.values()) if isinstance(tree, dict) else [tree]
