"""The JAX side of a cell: the library's own training step on resident images."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrecipe as jr
from experiments.dpn_precision import images as data
from experiments.dpn_precision.cells import MODELS, Cell
from experiments.dpn_precision.side import Side
from experiments.dpn_precision.start import for_flax
from jaxrecipe.data import CIFAR10_MEAN, CIFAR10_STD, Batch, normalise, random_crop, random_flip
from jaxrecipe.models import DPN, DPNConfig, Formulation, measure_formulations
from jaxrecipe.precision import device_limit, largest_batch
from jaxrecipe.training import new_state

POLICIES = {
    "float32": "strict_float32",
    "tensorfloat32": "tensorfloat32",
    "bfloat16": "bfloat16",
    "float16": "float16",
}
MATMUL = {"float32": "highest", "tensorfloat32": "tensorfloat32"}


def loss_scale(name: str) -> Any:
    """The library's loss scale of a cell."""
    if name == "none":
        return jr.no_loss_scale()
    return jr.dynamic_loss_scale() if name == "dynamic" else jr.static_loss_scale(int(name))


def formulations(config: DPNConfig, cell: Cell) -> tuple[Formulation, ...] | None:
    """On a GPU the quickest formulation for each stage, measured now; on a CPU None, which takes the library's
    choice.
    """
    if cell.device == "cpu":
        return None
    dtype = {"bfloat16": jnp.bfloat16, "float16": jnp.float16}.get(cell.precision, jnp.float32)
    size, chosen = 32, []
    for width, stride in zip(config.bottleneck, config.strides, strict=True):
        size //= stride
        seconds = measure_formulations((min(cell.batch, 256), size, size, width), groups=config.groups, dtype=dtype)
        chosen.append(next(iter(seconds)))
    return tuple(chosen)


def make_task(cell: Cell, images: np.ndarray, labels: np.ndarray, chosen: Any = None) -> jr.Task:
    """The training set-up of a cell."""

    def prepare(inputs: Any, targets: Any) -> Any:
        return normalise(inputs, CIFAR10_MEAN, CIFAR10_STD), targets

    def augment(key: Any, inputs: Any, targets: Any) -> Any:
        crop_key, flip_key = jax.random.split(key)
        return random_flip(flip_key, random_crop(crop_key, inputs)), targets

    model = jr.linen(DPN(MODELS[cell.model], formulation=chosen))

    compiled = jax.jit(model.init)  # compiled, the forward pass of the initialisation falls away

    def init(key: Any, inputs: Any) -> Any:
        params, state = compiled(key, inputs)
        return for_flax(params, cell.seed), state

    return jr.Task(
        model=jr.Model(init, model.apply),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.1, momentum=0.9)),
        train=(images, labels),
        target=jr.Classes(10),
        batch_size=cell.batch,
        prepare=prepare,
        augment=augment if data.augmented(cell.data) else None,
        metrics={"correct": lambda outputs, targets: (outputs.argmax(-1) == targets).astype(jnp.float32)},
        policy=POLICIES[cell.precision],
        loss_scale=loss_scale(cell.loss_scale),
    )


def prepare(cell: Cell) -> Side:
    """Compile the training step of a cell and put its data on the device."""
    if cell.precision in MATMUL:
        jax.config.update("jax_default_matmul_precision", MATMUL[cell.precision])
    images, labels = data.load(cell.data, cell.seed)
    chosen = formulations(MODELS[cell.model], cell)
    task = make_task(cell, images, labels, chosen)
    train_step = jr.make_train_step(task)

    def step(state: Any, images: Any, labels: Any, indices: Any, mask: Any) -> Any:
        state, metrics = train_step(state, Batch(images[indices], labels[indices], mask))
        return state, jnp.stack([metrics["loss"], metrics["correct"] * metrics["count"], metrics["count"]])

    state = new_state(task, seed=cell.seed)
    resident = jax.tree.map(jnp.asarray, (images, labels))
    start = time.perf_counter()
    first = data.indices(cell.seed, 0, len(labels), cell.batch)
    program = jax.jit(step, donate_argnums=0).lower(state, *resident, *first).compile()
    compile_seconds = time.perf_counter() - start
    kept: list[Any] = [state, []]

    def advance(number: int) -> None:
        kept[0], measured = program(kept[0], *resident, *data.indices(cell.seed, number, len(labels), cell.batch))
        kept[1].append(measured)

    def wait() -> None:
        jax.block_until_ready(kept)

    return Side(
        advance=advance,
        wait=wait,
        measured=lambda: np.asarray(kept[1]).reshape(-1, 3),
        skipped=lambda: int(kept[0].loss_scale.skipped),
        peak_bytes=lambda: (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        compile_seconds=compile_seconds,
        compiled_bytes=_bytes_of(program.memory_analysis()),
        device=jax.devices()[0].device_kind,
        notes={"grouped convolutions": list(chosen) if chosen else "the library's choice"},
    )


def _bytes_of(found: Any) -> int | None:
    """What a compiled program needs at once, if the backend says so."""
    if found is None:
        return None
    arguments, outputs = found.argument_size_in_bytes, found.output_size_in_bytes
    return found.temp_size_in_bytes + arguments + outputs - found.alias_size_in_bytes


def predict_largest(cell: Cell, limit: int) -> dict[str, Any]:
    """The largest batch that fits into `limit` bytes (0: what the device has), from compiling only."""
    limit = limit or device_limit() or 0
    images, labels = data.load(cell.data, cell.seed)
    task = make_task(cell, images, labels, formulations(MODELS[cell.model], cell))
    state = new_state(task, seed=cell.seed)
    batch = Batch(images[: cell.batch], labels[: cell.batch], jnp.ones(len(labels[: cell.batch]), bool))
    found = largest_batch(jr.make_train_step(task), state, batch, limit, sizes=(cell.batch // 2, cell.batch))
    return {"limit": limit, "batch": found.size, "bytes": found.memory.total, "bytes_an_image": found.model.per_example}
