"""Half precision is seen in the policy and in the outputs."""

import jax.numpy as jnp
import pytest

from jaxrecipe.compiles import counting_compiles
from jaxrecipe.parts import Model
from jaxrecipe.probes.output_precision import computes_in_half
from jaxrecipe.setup import make_setup
from jaxrecipe.task import Task
from tests.zoo.healthy import digits_task


def with_outputs_in(dtype: str) -> Task:
    task = digits_task()

    def apply(params: object, state: object, inputs: object, *, train: bool, key: object) -> tuple[object, object]:
        outputs, state = task.model.apply(params, state, inputs, train=train, key=key)
        return outputs.astype(jnp.dtype(dtype)), state

    return task.replace(model=Model(task.model.init, apply))


@pytest.mark.parametrize(
    ("task", "half"),
    [
        (digits_task(), False),
        (digits_task(policy="bfloat16"), True),
        (with_outputs_in("float32"), False),
        (with_outputs_in("float16"), True),
    ],
)
def test_half(task: Task, half: bool) -> None:
    setup = make_setup(task)
    setup.mean_loss(*setup.variables, *setup.batch)
    with counting_compiles() as compiles:
        assert computes_in_half(setup) is half
    assert compiles.programs == 0
    assert isinstance(float(setup.mean_loss(*setup.variables, *setup.batch)), float), "nothing traced is kept"
