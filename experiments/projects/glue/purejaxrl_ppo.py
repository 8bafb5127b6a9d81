"""PureJaxRL's PPO: the whole training is one function with a scan; the body of its outermost scan is the step."""

from typing import Any
from unittest import mock

import jax
from ppo import make_train  # pyright: ignore[reportMissingImports] # the project's

import jaxrecipe as jr

CONFIG = {"LR": 2.5e-4, "NUM_ENVS": 4, "NUM_STEPS": 32, "TOTAL_TIMESTEPS": 2**14, "UPDATE_EPOCHS": 2}
MORE = {"NUM_MINIBATCHES": 4, "GAMMA": 0.99, "GAE_LAMBDA": 0.95, "CLIP_EPS": 0.2, "ENT_COEF": 0.01, "VF_COEF": 0.5}
LAST = {"MAX_GRAD_NORM": 0.5, "ACTIVATION": "tanh", "ENV_NAME": "CartPole-v1", "ANNEAL_LR": True, "DEBUG": False}


class ScanFoundError(Exception):
    """Carries the body of a scan and what it begins with."""


def task() -> jr.Task:
    """Cart and pole, 4 of them for 32 steps an update."""

    def scan(body: Any, start: Any, *_: Any, **__: Any) -> Any:
        raise ScanFoundError(body, start)

    with mock.patch.object(jax.lax, "scan", scan):
        try:
            make_train({**CONFIG, **MORE, **LAST})(jax.random.key(0))
            raise ValueError("no scan")
        except ScanFoundError as found:
            body, start = found.args
    return jr.Task.from_step(jax.jit(lambda state: body(state, None)), start, None)
