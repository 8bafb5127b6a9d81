"""The library's loop is a Loop like any other, and does what `fit` and `evaluate` do."""

from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrecipe import trees
from jaxrecipe.compiles import counting_compiles
from jaxrecipe.setup import make_setup
from jaxrecipe.training.evaluation import evaluate
from tests.zoo.healthy import batch_norm_task, digits_task


def test_every_capability_is_there() -> None:
    loop = make_setup(digits_task()).loop
    assert None not in (loop.evaluate, loop.predict, loop.save, loop.restore)


def test_the_evaluation_is_the_librarys() -> None:
    task = digits_task()
    setup = make_setup(task)
    inputs, targets = setup.prepared("test", np.arange(50))
    raw = tuple(leaf[:50] for leaf in task.test)
    wanted = evaluate(task, *setup.variables, raw, batch_size=7)
    assert setup.loop.evaluate is not None
    found = setup.loop.evaluate(setup.fresh_state(), inputs, targets, 7)
    assert found == {name: pytest.approx(estimate.value, rel=1e-6) for name, estimate in wanted.values.items()}


def test_predictions_are_those_of_the_model_in_evaluation_mode() -> None:
    setup = make_setup(batch_norm_task())
    inputs, _ = setup.batch
    assert setup.loop.predict is not None
    outputs = setup.loop.predict(setup.fresh_state(), inputs)
    np.testing.assert_array_equal(outputs, setup.forward(*setup.variables, inputs)[0])


def test_a_state_comes_back_from_disk(tmp_path: Path) -> None:
    setup = make_setup(batch_norm_task())
    state, _ = setup.step(setup.fresh_state(), *setup.batch, setup.key)
    template = setup.loop.init(jax.random.key(5))
    assert setup.loop.save is not None
    assert setup.loop.restore is not None
    setup.loop.save(trees.copy(state), str(tmp_path))
    back = setup.loop.restore(str(tmp_path), template)
    for path, leaf in trees.named_leaves(trees.copy(state.params)).items():
        np.testing.assert_array_equal(trees.named_leaves(back.params)[path], leaf)
    with pytest.raises(FileNotFoundError):
        setup.loop.restore(str(tmp_path / "nothing"), template)


def test_a_fresh_state_is_one_program() -> None:
    setup = make_setup(batch_norm_task())
    setup.batch  # noqa: B018
    with counting_compiles() as compiles:
        setup.fresh_state()
    assert compiles.programs <= 3
