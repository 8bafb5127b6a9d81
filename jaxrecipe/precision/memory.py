"""How much memory a training step takes, and the largest batch that fits: from compiling only, nothing is run.

What this cannot know:
- what libraries take at run time and the compiler never sees. On the CPU that is much for convolutions, whose operands
  are unrolled and packed: measured were 34 to 100 MiB for one of 256 images, and a ConvNet that took twice what was
  predicted; a few per cent for matrix products (experiments/results/memory.md). On a GPU the compiler chooses the
  algorithm and counts its workspace.
- what the allocator keeps in reserve, rounds up or cannot use for being in pieces.
- what else lives on the device: training data kept there, prefetched batches, an evaluation program, steps under way,
  other processes.
- host memory.
Leave a margin for these.

It is true of the device that it was compiled for: on the CPU bfloat16 takes more than float32, since XLA widens it
there. And it is true of the batch size that it was compiled for: memory is the largest of several straight lines, what
the parameters need and what the activations need, so a line through small batches promises too much of large ones.
`largest_batch` compiles where its answer is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxrecipe import trees

PyTree = Any
Step = Callable[[PyTree, PyTree], Any]
"""`step(state, batch)`, not jitted; the state may be donated."""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes of one compiled step on one device.

    Attributes:
        batch: examples.
        arguments, outputs: state and batch that go in, and what comes out.
        aliased: of the outputs, those that take the place of donated arguments.
        temporaries: everything in between: activations, gradients, workspaces known to the compiler.
    """

    batch: int
    arguments: int
    outputs: int
    aliased: int
    temporaries: int

    @property
    def total(self) -> int:
        """Bytes that the step needs at once. XLA's own peak is not used: it leaves temporaries out on some devices."""
        return self.temporaries + self.arguments + self.outputs - self.aliased


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    """Bytes of a step as a straight line over the batch.

    Attributes:
        fixed: bytes that do not depend on the batch: parameters, optimizer state, gradients.
        per_example: bytes that each example adds.
        deviation: largest relative difference between the line and a probe. Near zero when the line can be trusted.
        probes: what was compiled.
    """

    fixed: float
    per_example: float
    deviation: float
    probes: tuple[StepMemory, ...]

    def bytes_at(self, batch: int) -> int:
        """Predicted bytes at a batch size."""
        return round(self.fixed + self.per_example * batch)

    def batch_within(self, limit: int) -> int:
        """The largest batch that the line puts within so many bytes; 0 when none."""
        if self.per_example <= 0:
            raise ValueError(
                f"memory does not grow with the batch ({self.per_example:g} bytes an example): no largest batch"
            )
        return max(0, int((limit - self.fixed) // self.per_example))


def resized(batch: PyTree, size: int) -> PyTree:
    """Shapes and dtypes of a batch with another number of examples.

    Raises:
        ValueError: the arrays of the batch disagree in their first axis.
    """
    trees.leading_size(batch)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), batch)


def _shapes(tree: PyTree) -> PyTree:
    return jax.eval_shape(lambda: tree) if not _abstract(tree) else tree


def _abstract(tree: PyTree) -> bool:
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(tree))


def step_memory(step: Step, state: PyTree, batch: PyTree, *, donate: bool = True) -> StepMemory:
    """Compile a step for these shapes and read off its memory. Nothing is allocated or run.

    Args:
        step: `step(state, batch)`, not jitted.
        state: arrays, or their shapes and dtypes (`jax.eval_shape`).
        batch: the same; every array with a leading batch axis.
        donate: whether the state's memory is handed over to the new state, as `fit` does.

    Raises:
        RuntimeError: the backend does not tell the memory of its programs.
    """
    program = jax.jit(step, donate_argnums=0 if donate else ())
    return program_memory(program.lower(_shapes(state), _shapes(batch)).compile(), trees.leading_size(batch))


def program_memory(compiled: jax.stages.Compiled, batch: int) -> StepMemory:
    """The memory of a program that is compiled already (`jax.jit(step).lower(...).compile()`), for so many examples.

    Raises:
        RuntimeError: the backend does not tell the memory of its programs.
    """
    found = compiled.memory_analysis()
    if found is None:
        raise RuntimeError(f"the {jax.default_backend()} backend does not report the memory of compiled programs")
    return StepMemory(
        batch=batch,
        arguments=int(found.argument_size_in_bytes),
        outputs=int(found.output_size_in_bytes),
        aliased=int(found.alias_size_in_bytes),
        temporaries=int(found.temp_size_in_bytes),
    )


def predict_memory(
    step: Step, state: PyTree, batch: PyTree, *, sizes: Sequence[int] = (16, 32, 64), donate: bool = True
) -> MemoryModel:
    """Bytes of a step as a function of the batch, from compiling it at a few batch sizes.

    Args:
        step: as in `step_memory`.
        state: as in `step_memory`.
        batch: as in `step_memory`; its own size does not matter.
        donate: as in `step_memory`.
        sizes: at least two; with more, `deviation` says how straight the line is. Only sizes near the one that you are
            after tell of it: at small ones the parameters may need more than the activations, and hide how these grow.

    Raises:
        ValueError: fewer than two different sizes, or one below 1.
    """
    wanted = sorted(set(sizes))
    if len(wanted) < 2 or wanted[0] < 1:
        raise ValueError(f"sizes are {list(sizes)}; wanted at least two different batch sizes of 1 or more")
    return _line([step_memory(step, state, resized(batch, size), donate=donate) for size in wanted])


def _line(probes: Sequence[StepMemory]) -> MemoryModel:
    """Through the two largest probes, which are nearest to what is asked for; the others measure the deviation."""
    low, high = sorted(probes, key=lambda probe: probe.batch)[-2:]
    per_example = (high.total - low.total) / (high.batch - low.batch)
    fixed = high.total - per_example * high.batch
    off = [abs(fixed + per_example * probe.batch - probe.total) / probe.total for probe in probes]
    return MemoryModel(fixed=fixed, per_example=per_example, deviation=float(np.max(off)), probes=tuple(probes))


@dataclass(frozen=True, kw_only=True)
class LargestBatch:
    """The largest batch found to fit.

    Attributes:
        size: examples; 0 when not even `multiple_of` fits.
        memory: of the step compiled at that size, or at `multiple_of` when nothing fits.
        model: the line that the search ended with.
    """

    size: int
    memory: StepMemory
    model: MemoryModel


def largest_batch(
    step: Step,
    state: PyTree,
    batch: PyTree,
    limit: int,
    *,
    multiple_of: int = 8,
    sizes: Sequence[int] = (16, 32, 64),
    donate: bool = True,
    tries: int = 10,
) -> LargestBatch:
    """The largest batch whose step the compiler puts within `limit` bytes, confirmed by compiling at that size.

    Args:
        step: as in `predict_memory`.
        state: as in `predict_memory`.
        batch: as in `predict_memory`.
        limit: bytes, such as nine tenths of `device_limit()`.
        multiple_of: the answer is a multiple of this.
        sizes: as in `predict_memory`; where the search begins.
        donate: as in `predict_memory`.
        tries: how many times at most to compile on the way, besides `sizes`.

    Raises:
        ValueError: the memory does not grow with the batch, or a size is wrong.
    """
    known = {probe.batch: probe for probe in predict_memory(step, state, batch, sizes=sizes, donate=donate).probes}
    for _ in range(tries):
        size = _next_guess(known, limit, multiple_of)
        if size is None:
            break
        known[size] = step_memory(step, state, resized(batch, size), donate=donate)
    model = _line(_nearest(known, max(_fitting(known, limit, 1), default=min(known))))
    if max(known) in _fitting(known, limit, 1) and model.per_example <= 0:
        raise ValueError(f"memory does not grow with the batch, up to {max(known)} examples: no largest batch")
    fitting = _fitting(known, limit, multiple_of)
    best = max(fitting, default=min(known))
    return LargestBatch(size=best if fitting else 0, memory=known[best], model=model)


def _fitting(known: dict[int, StepMemory], limit: int, multiple_of: int) -> list[int]:
    return [batch for batch, probe in known.items() if probe.total <= limit and batch % multiple_of == 0]


def _next_guess(known: dict[int, StepMemory], limit: int, multiple_of: int) -> int | None:
    """Where to compile next; None when the answer is known.

    Memory is the largest of several lines (at small batches what the parameters need, at large ones the activations),
    so it bends upwards: a line from small batches promises too much, one between a size that fits and one that does not
    too little.
    """
    sizes = sorted(known)
    fits = _fitting(known, limit, 1)
    too_large = [batch for batch in sizes if batch not in fits]
    least = max(_fitting(known, limit, multiple_of), default=0) + multiple_of
    most = (min(too_large) - 1) // multiple_of * multiple_of if too_large else None
    if most is not None and most < least:
        return None
    if fits and too_large:
        line = _line([known[max(fits)], known[min(too_large)]])
    else:
        line = _line([known[batch] for batch in (sizes[-2:] if fits else sizes[:2])])
    if line.per_example > 0:
        size = line.batch_within(limit) // multiple_of * multiple_of
    else:
        size = 4 * sizes[-1] // multiple_of * multiple_of if fits else least
    return max(least, size if most is None else min(size, most))


def _nearest(known: dict[int, StepMemory], size: int) -> list[StepMemory]:
    """The two or three probes next to a batch size."""
    return [known[batch] for batch in sorted(known, key=lambda batch: abs(batch - size))[:3]]


def device_limit(device: Any = None) -> int | None:
    """Bytes that XLA may allocate on a device (the first by default), or None where it does not say, as on the CPU."""
    stats = (device or jax.devices()[0]).memory_stats()
    return None if stats is None else stats.get("bytes_limit")
