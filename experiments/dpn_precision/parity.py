"""How far the Flax and the PyTorch DPN are apart, from the same weights on the same images.

Both train for a few steps (SGD, momentum 0.9, weight decay 5e-4, learning rate 0.1) in float64 and in float32; compared
are the first step's outputs, loss and gradients, and the parameters and BatchNorm statistics at the end. In float32 the
two round differently on the way, so each is held against the float64 run, too: neither should be much further from it
than the other.

Command:   python -m experiments.dpn_precision.parity        (writes experiments/results/dpn_parity.json)
Needs:     torch; about 2 minutes on 2 CPU cores.
Expected:  float64 agrees to 1e-10 or better; in float32 both frameworks are equally far from float64.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from experiments.dpn_precision.convert import from_torch
from experiments.dpn_precision.torch_dpn import TorchDPN
from jaxrecipe.models import DPN, DPN26, DPNConfig

RESULT = Path(__file__).parent.parent / "results" / "dpn_parity.json"
Run = dict[str, Any]
"""Outputs, loss and gradients of the first step, parameters and statistics after the last, each a tree of float64
arrays."""


def state_of(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Copies: the module's own tensors change as it trains."""
    return {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}


def starting_point(config: DPNConfig, batch: int, size: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """A state dict in float32 whose scales and shifts are not one and zero, random images and labels."""
    torch.manual_seed(0)
    module = TorchDPN(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1 and not name.startswith("linear"):
                parameter.add_(0.2 * torch.randn_like(parameter))
    draw = np.random.default_rng(0)
    images = draw.normal(size=(batch, size, size, config.channels)).astype(np.float32)
    return state_of(module), images, draw.integers(0, config.classes, batch)


def torch_run(
    config: DPNConfig, state: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray, dtype: str, steps: int
) -> Run:
    """The PyTorch side."""
    module = TorchDPN(config).to(getattr(torch, dtype))
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(dtype))
    first: Run = {}
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = module(inputs)
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels))
        loss.backward()
        if not first:
            grads = {name: p.grad.numpy().copy() for name, p in module.named_parameters() if p.grad is not None}
            first = {"outputs": outputs.detach().numpy().copy(), "loss": loss.detach().numpy()}
            first["gradients"] = from_torch(grads)["params"]
        optimizer.step()
    return _wide(first, from_torch(state_of(module)))


def jax_run(
    config: DPNConfig,
    state: dict[str, np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    dtype: str,
    steps: int,
    **options: Any,
) -> Run:
    """The JAX side; `options` go to `DPN`."""
    model = DPN(config, dtype=dtype, param_dtype=dtype, **options)
    optimizer = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9))

    def loss_of(params: Any, batch_stats: Any) -> Any:
        variables = {"params": params, "batch_stats": batch_stats}
        outputs, moved = model.apply(variables, images.astype(dtype), train=True, mutable="batch_stats")
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()
        return loss, (outputs, moved["batch_stats"])

    @jax.jit
    def step(variables: Any, opt_state: Any) -> Any:
        value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (outputs, stats)), grads = value_and_grad(variables["params"], variables["batch_stats"])
        updates, opt_state = optimizer.update(grads, opt_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        first = {"outputs": outputs, "loss": loss, "gradients": grads}
        return first, {"params": params, "batch_stats": stats}, opt_state

    with jax.enable_x64(dtype == "float64"), jax.numpy_dtype_promotion("standard"):
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), from_torch(state))
        opt_state, first = optimizer.init(variables["params"]), {}
        for _ in range(steps):
            found, variables, opt_state = step(variables, opt_state)
            first = first or found
        return _wide(first, variables)


def _wide(first: Run, variables: Any) -> Run:
    run = {**first, "parameters": variables["params"], "statistics": variables["batch_stats"]}
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), run)


def errors(found: Run, wanted: Run) -> dict[str, float]:
    """The largest relative error (by norm) of any array, for each entry of a run.

    Arrays whose values are all a million times below the largest of their entry are nothing but rounding and do not
    count.
    """
    return {name: _worst(found[name], wanted[name]) for name in wanted}


def _worst(found: Any, wanted: Any) -> float:
    leaves = list(zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True))
    floor = 1e-6 * max(np.abs(w).max() for _, w in leaves)
    return max(float(np.linalg.norm(f - w) / np.linalg.norm(w)) for f, w in leaves if np.abs(w).max() > floor)


def compare(config: DPNConfig, *, batch: int, size: int, steps: int, **options: Any) -> dict[str, dict[str, float]]:
    """Errors of the two frameworks against each other in both dtypes, and of each one's float32 against float64."""
    start = starting_point(config, batch, size)
    dtypes = ("float64", "float32")
    theirs = {dtype: torch_run(config, *start, dtype, steps) for dtype in dtypes}
    ours = {dtype: jax_run(config, *start, dtype, steps, **options) for dtype in dtypes}
    return {
        "float64: JAX against PyTorch": errors(ours["float64"], theirs["float64"]),
        "float32: JAX against PyTorch": errors(ours["float32"], theirs["float32"]),
        "JAX: float32 against float64": errors(ours["float32"], theirs["float64"]),
        "PyTorch: float32 against float64": errors(theirs["float32"], theirs["float64"]),
    }


def main() -> None:
    """Compare DPN-26 after one step, print and save."""
    found = compare(DPN26, batch=32, size=32, steps=1)
    for name, row in found.items():
        print(f"{name:36}", "  ".join(f"{key} {value:.1e}" for key, value in row.items()))
    about = {
        "config": "DPN-26",
        "batch": 32,
        "images": "random, 32×32",
        "jax": jax.__version__,
        "torch": torch.__version__,
    }
    RESULT.write_text(json.dumps({**about, "largest relative error of any array": found}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
