"""The Flax DPN against the PyTorch one: outputs, loss, every gradient, parameters and statistics after training
steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from experiments.dpn_precision.convert import flax_path, from_torch, to_torch, torch_name  # noqa: E402
from experiments.dpn_precision.parity import compare, errors, jax_run, starting_point, state_of, torch_run  # noqa: E402
from experiments.dpn_precision.torch_dpn import TorchDPN  # noqa: E402
from jaxrecipe.models import DPN, DPN26, DPN92, DPNConfig  # noqa: E402

SMALL = DPNConfig(blocks=(1, 2), bottleneck=(8, 16), residual=(12, 16), dense=(4, 6), strides=(1, 2), groups=4, stem=8)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["CHWN", "NHWC"])
def test_three_training_steps(layout):
    found = compare(SMALL, batch=16, size=8, steps=3, layout=layout)
    assert max(found["float64: JAX against PyTorch"].values()) < 1e-12
    # In float32 PyTorch's own rounding, which depends on its threads, can turn a ReLU over and change a gradient
    # by percents; so float64 is the oracle.
    assert max(found["JAX: float32 against float64"].values()) < 1e-4


@pytest.mark.slow
def test_dpn26_one_step_in_float64():
    start = starting_point(DPN26, 16, 16)
    found = errors(jax_run(DPN26, *start, "float64", 1), torch_run(DPN26, *start, "float64", 1))
    assert max(found.values()) < 1e-10


@pytest.mark.parametrize("config", [SMALL, DPN26, DPN92])
def test_same_parameters_and_names(config):
    shapes = jax.eval_shape(DPN(config).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    with torch.device("meta"):
        module = TorchDPN(config)
    theirs = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert {name: array.shape for name, array in to_torch(zeros).items()} == theirs


def test_there_and_back_is_exact():
    state = state_of(TorchDPN(SMALL))
    again = to_torch(from_torch({f"module.{name}": array for name, array in state.items()}))
    assert state.keys() == again.keys()
    assert all((state[name] == again[name]).all() for name in state)


def test_names_both_ways():
    path = ("stage2_block1", "shortcut_norm", "var")
    assert torch_name(path) == "layer2.0.shortcut.1.running_var"
    assert flax_path("layer2.0.shortcut.1.running_var") == ("batch_stats", *path)
    assert flax_path("conv1.weight") == ("params", "stem", "kernel")


def test_the_two_sides_of_the_benchmark_train_alike() -> None:
    """The same start, images and order: the first losses agree, so loss curves of the precisions can be laid over each
    other."""
    from experiments.dpn_precision import in_jax, in_torch
    from experiments.dpn_precision.cells import Cell

    losses = []
    for framework, prepare in (("jax", in_jax.prepare), ("torch", in_torch.prepare)):
        side = prepare(Cell(framework, "float32", 32, model="tiny", data="digits"))
        for number in range(3):
            side.advance(number)
        side.wait()
        losses.append(side.measured()[:, 0])
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)
    np.testing.assert_allclose(losses[0], losses[1], rtol=5e-3)
