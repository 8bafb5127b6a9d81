"""A task made ready for checking: what the checks share, compiled once.

A Setup never changes the task. States given to a user's own step are copies, since that step may donate them.
"""

import contextlib
import math
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxrecipe import trees
from jaxrecipe.data.batches import batch_indices
from jaxrecipe.data.sources import Source, as_source
from jaxrecipe.objective import mean_cost, mean_cost_on_host, objective_of
from jaxrecipe.parts import Costs, Loop, Model
from jaxrecipe.precision.policy import apply_policy
from jaxrecipe.task import Task
from jaxrecipe.training.library_loop import library_loop
from jaxrecipe.training.step import prepare_batch

T = TypeVar("T")
Split = Literal["train", "test"]


AT_INIT_BATCHES = 8
"""Batches over which the untrained model is measured: enough that one odd batch does not decide."""
AT_INIT_EXAMPLES = 64
"""Examples that it is measured on at least, in as many small batches as that takes."""


class AtInit(NamedTuple):
    """The untrained model in training mode; every leaf has one leading axis of examples."""

    outputs: Any
    targets: Any
    losses: Float[Array, "examples"]


class TimeLimitError(RuntimeError):
    """A check has used up its wall-time limit; a safety net, on which no result may depend."""


@dataclass
class Limit:
    """Until when (`time.monotonic`) work may go on."""

    until: float = math.inf

    def keep(self) -> None:
        """Do nothing before the limit.

        Raises:
            TimeLimitError: after it.
        """
        if time.monotonic() > self.until:
            raise TimeLimitError("the wall-time limit of this check is used up")


@dataclass(frozen=True)
class Setup:
    """One task with its data at hand and its programs compiled once; made by `make_setup`.

    Attributes:
        task: the training set-up, untouched.
        seed: everything random in the checks follows from it.
        train, test: the data as random-access sources; `test` may be None.
        loop: the user's own training loop or, when there is none, the library's in the same form.
    """

    task: Task
    seed: int
    train: Source
    test: Source | None
    loop: Loop
    _forward: Any = field(repr=False)
    _losses: Any = field(repr=False)
    _costs: Any = field(repr=False)
    _gradients: Any = field(repr=False)
    _step: Any = field(repr=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _limit: "Limit" = field(default_factory=Limit, repr=False)

    def memo(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed once for all checks of this set-up and kept as long as it.

        Args:
            key: names the value; start it with the function that computes it, so that no two values share a key.
            compute: called when the key is new. What it gives must not be changed by whoever gets it.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    @contextlib.contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """Inside the block, work through this set-up raises TimeLimitError once so many seconds of wall time have
        passed.
        """
        self._limit.until = time.monotonic() + seconds
        try:
            yield
        finally:
            self._limit.until = math.inf

    @property
    def key(self) -> PRNGKeyArray:
        """The base key."""
        return jax.random.key(self.seed)

    @property
    def batch_size(self) -> int:
        """Examples a batch: the task's, or the whole training set when that is smaller."""
        return min(self.task.batch_size, self.train.size)

    def prepared(self, split: Split, indices: np.ndarray) -> tuple[Any, Any]:
        """Examples of a split after `task.prepare`, on the device, without augmentation.

        Raises:
            ValueError: if the split is "test" and the task has no test data.
        """
        source = self.train if split == "train" else self.test
        if source is None:
            raise ValueError(
                'split "test" was asked for, but the task has no test data; give Task(test=(inputs, targets))'
            )
        return self.prepare(*source.gather(np.asarray(indices)))

    def prepare(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Raw examples after `task.prepare`, on the device, without augmentation."""
        return prepare_batch(self.task, *jax.device_put((inputs, targets)))

    @cached_property
    def batch(self) -> tuple[Any, Any]:
        """The first training batch, prepared, not augmented: `(inputs, targets)` on the device."""
        indices, _ = batch_indices(self.seed, 0, self.train.size, self.batch_size)
        return self.prepared("train", indices)

    def training_batch(self, step: int) -> tuple[Any, Any]:
        """The batch of a global training step, prepared and augmented: what the loop's step is given."""
        indices, _ = batch_indices(self.seed, step, self.train.size, self.batch_size)
        inputs, targets = self.prepared("train", indices)
        if self.task.augment is None:
            return inputs, targets
        return self.task.augment(jax.random.fold_in(self.key, step), inputs, targets)

    @cached_property
    def _initial(self) -> Any:
        return self.loop.init(self.key)

    def fresh_state(self) -> Any:
        """A copy of the loop's initial state, safe to donate."""
        return trees.copy(self._initial)

    @cached_property
    def variables(self) -> tuple[Any, Any]:
        """Initial `(params, model_state)`, the same that `fresh_state` holds."""
        return trees.copy(self.loop.variables(self._initial))

    @property
    def params(self) -> Any:
        """Initial parameters."""
        return self.variables[0]

    @property
    def model_state(self) -> Any:
        """Initial model state."""
        return self.variables[1]

    @cached_property
    def at_init(self) -> "AtInit":
        """Outputs, targets and losses of the untrained model in training mode, over the first few batches.

        One batch only when the loss mixes the examples of a batch. A last partial batch is left out.
        """
        available = self.train.size // self.batch_size
        wanted = max(AT_INIT_BATCHES, -(-AT_INIT_EXAMPLES // self.batch_size))
        count = 1 if self.task.mixes_examples else min(wanted, available)
        parts = []
        for step in range(count):
            indices, _ = batch_indices(self.seed, step, self.train.size, self.batch_size)
            inputs, targets = self.prepared("train", indices)
            key = jax.random.fold_in(self.key, step)
            outputs, _ = self.forward(self.params, self.model_state, inputs, train=True, key=key)
            parts.append((outputs, targets, self.losses(outputs, targets)))
        # By numpy, where joining would be a program for each shape.
        host = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *parts)
        return AtInit(*jax.device_put(host))

    def forward(
        self, params: Any, model_state: Any, inputs: Any, *, train: bool = False, key: PRNGKeyArray | None = None
    ) -> tuple[Any, Any]:
        """`(outputs, model_state)` of the model under the task's precision policy; compiled once a shape and mode."""
        self._limit.keep()
        return self._forward(params, model_state, inputs, key, train=train)

    def forward_flops(self) -> float:
        """Operations of a forward pass of the first batch, as XLA counts them before it compiles; 0 where it does not
        say.
        """
        lowered = self._forward.lower(*self.variables, self.batch[0], None, train=False)
        return float((lowered.cost_analysis() or {}).get("flops", 0.0))

    def losses(self, outputs: Any, targets: Any) -> Float[Array, "batch"]:
        """The task's loss of each example, float32."""
        self._limit.keep()
        return self._losses(outputs, targets)

    def mean_loss(
        self,
        params: Any,
        model_state: Any,
        inputs: Any,
        targets: Any,
        *,
        train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> float:
        """What a batch costs: its mean loss, weighted and with its extra terms where an objective says so."""
        return mean_cost_on_host(self.costs(params, model_state, inputs, targets, train=train, key=key))

    def costs(
        self,
        params: Any,
        model_state: Any,
        inputs: Any,
        targets: Any,
        *,
        train: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> Costs:
        """What each example of a batch costs, by the task's objective or by its model and loss.

        An objective is always given a key, the base key where none is given.
        """
        if self.task.objective is None:
            outputs, model_state = self.forward(params, model_state, inputs, train=train, key=key)
            return Costs(losses=self.losses(outputs, targets), outputs=outputs, model_state=model_state)
        self._limit.keep()
        key = self.key if key is None else key
        return self._costs(params, model_state, inputs, targets, train=train, key=key)

    def gradients(
        self, params: Any, model_state: Any, inputs: Any, targets: Any, *, key: PRNGKeyArray, train: bool = True
    ) -> tuple[Float[Array, ""], Any]:
        """What a batch costs and its gradient with respect to the parameters."""
        self._limit.keep()
        return self._gradients(params, model_state, inputs, targets, key, train=train)

    def step(self, state: Any, inputs: Any, targets: Any, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
        """One step of the loop on a prepared batch. The given state may be donated: pass a copy to keep it."""
        self._limit.keep()
        state, metrics = self._step(state, inputs, targets, key)
        return state, dict(metrics)


def make_setup(task: Task, *, seed: int = 0) -> Setup:
    """Make a task ready for checking. Compiles and computes nothing yet; programs are compiled when first used."""
    train = as_source(task.train)
    apply, objective = apply_policy(task.model.apply, task.precision), objective_of(task)

    @partial(jax.jit, static_argnames="train")
    def forward(params: Any, model_state: Any, inputs: Any, key: Any, *, train: bool) -> tuple[Any, Any]:
        return apply(params, model_state, inputs, train=train, key=key)

    @jax.jit
    def losses(outputs: Any, targets: Any) -> Float[Array, "batch"]:
        return task.loss(outputs, targets).astype(jnp.float32)

    @partial(jax.jit, static_argnames="train")
    def gradients(params: Any, model_state: Any, inputs: Any, targets: Any, key: Any, *, train: bool) -> Any:
        def mean_loss(params: Any) -> Float[Array, ""]:
            return mean_cost(objective(params, model_state, inputs, targets, train=train, key=key))

        return jax.value_and_grad(mean_loss)(params)

    first, _ = batch_indices(seed, 0, train.size, min(task.batch_size, train.size))
    loop = task.loop or library_loop(task, train, first, forward)
    return Setup(
        task=task,
        seed=seed,
        train=train,
        test=None if task.test is None else as_source(task.test),
        loop=loop,
        _forward=forward,
        _losses=losses,
        _costs=jax.jit(objective, static_argnames="train"),
        _gradients=gradients,
        _step=loop.step,
    )


def with_model(setup: Setup, model: Model) -> Setup:
    """The same set-up around another model, trained by the library's loop."""
    return make_setup(setup.task.replace(model=model, loop=None), seed=setup.seed)
