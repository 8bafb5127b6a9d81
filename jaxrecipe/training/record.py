"""What a training run has measured so far, and when it must be given up."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array

from jaxrecipe.training.evaluation import Evaluation
from jaxrecipe.training.metrics_log import Write
from jaxrecipe.training.state import TrainState
from jaxrecipe.training.step import bad_path


@dataclass
class Record:
    """What a run has measured so far. Reads metrics one call behind, so that the device always has the next one to
    do.
    """

    step: int
    scaling: str
    give_up_after: int
    write: Write | None
    started: float = field(default_factory=time.perf_counter)
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
    warned: bool = False
    _expected: Mapping[str, Array] | None = None
    _latest: TrainState | None = None

    def expect(self, metrics: Mapping[str, Array], state: TrainState) -> tuple[int, int]:
        """Read the metrics of the call before, and remember those of this one, which is still under way.

        Gives the number of the steps before and after this call.
        """
        self._latest = state  # the state before has been donated
        self.catch_up()
        self._expected = metrics
        return self.step, self.step + metrics["loss"].shape[0]

    def catch_up(self) -> None:
        """Wait for the metrics that are still expected, keep them, pass them on, and raise if training is lost.

        Warns once a run when the loss scale is at its floor and steps are skipped all the same.
        """
        if self._expected is None or self._latest is None:
            return
        # Took 6 microseconds for seven scalars where jax.device_get took 64 (CPU, jax 0.10). Copies, so that a long
        # history does not hold on to the device's buffers.
        rows = {name: np.array(values) for name, values in self._expected.items()}
        self._expected = None
        length = len(rows["loss"])
        rows["seconds"] = np.full(length, time.perf_counter() - self.started)
        rows = {"step": np.arange(self.step + 1, self.step + 1 + length), **rows}
        for name, values in rows.items():
            self.columns.setdefault(name, []).append(values)
        self.step += length
        if self.write:
            for row in range(length):
                numbers = {name: float(values[row]) for name, values in rows.items() if name != "step"}
                self.write(int(rows["step"][row]), numbers)
        raise_if_lost(rows, self._latest, self.scaling, self.give_up_after)
        if not self.warned and (told := warning_at_floor(rows, self._latest)):
            self.warned = True
            warnings.warn(told, RuntimeWarning, stacklevel=4)

    def evaluated(self, evaluation: Evaluation) -> None:
        """Keep and pass on an evaluation of the state after the latest call."""
        self.catch_up()
        self.evaluations[self.step] = evaluation
        if self.write:
            self.write(self.step, {f"test/{name}": estimate.value for name, estimate in evaluation.values.items()})

    def history(self) -> dict[str, np.ndarray]:
        """Every metric as one array over the steps."""
        return {name: np.concatenate(parts) for name, parts in self.columns.items()}


def raise_if_lost(rows: Mapping[str, np.ndarray], state: TrainState, scaling: str, give_up_after: int) -> None:
    """Raise when training cannot recover: not finite with nothing to skip it, or nothing but skipped steps.

    Args:
        rows: the metrics of one call, `[steps of the call]` each, and "step".
        state: after that call, for the names of the parameters.
        scaling: kind of the loss scale.
        give_up_after: how many steps may be skipped in a row.
    """
    watched = {name: rows[name] for name in ("loss", "grad_norm", "param_norm")}
    if scaling != "none":
        del watched["loss"], watched["grad_norm"]  # what the loss scale takes care of
    bad = ~np.isfinite(np.stack(list(watched.values()))).all(axis=0)
    if bad.any():
        at = int(np.argmax(bad))
        told = ", ".join(f"{name} {values[at]:.4g}" for name, values in watched.items())
        raise FloatingPointError(f"training broke down at step {rows['step'][at]}: {told}. {_BROKE[scaling != 'none']}")
    if scaling == "none":
        return
    in_a_row = rows["skipped_in_a_row"]
    if (in_a_row >= give_up_after).any():
        at = int(np.argmax(in_a_row >= give_up_after))
        raise FloatingPointError(
            f"{_skipped(rows, state, at)} Keep that layer in float32 by a policy override, lower the learning rate, "
            "or look for a NaN "
            "that float32 has too."
        )


_BROKE = {
    False: "Lower the learning rate, clip the gradients, or look for a log, division or square root of zero; with "
    "float16 compute use a "
    "loss scale.",
    True: "The gradients were finite, so the optimizer made this of them: keep parameters and optimizer state in "
    "float32, where its "
    "epsilon does not vanish, or lower the learning rate.",
}


def warning_at_floor(rows: Mapping[str, np.ndarray], state: TrainState) -> str | None:
    """What to warn of when a step was skipped with a dynamic scale at its floor already, where nothing is left to give
    way.
    """
    if state.loss_scale.kind != "dynamic":
        return None
    floor = float(state.loss_scale.min_scale)
    # The first skip in a row brings the scale to its floor at most; a second one there says that it did not help.
    stuck = (rows["skipped_in_a_row"] >= 2) & (rows["loss_scale"] <= floor)
    if not stuck.any():
        return None
    at = int(np.argmax(stuck))
    return (
        f"{_skipped(rows, state, at)} The scale is at its floor: lower the floor "
        "(jr.dynamic_loss_scale(min_scale=...)), keep that layer in "
        "float32, or look for a NaN that float32 has too."
    )


def _skipped(rows: Mapping[str, np.ndarray], state: TrainState, at: int) -> str:
    path = bad_path(state, int(rows["last_bad"][at]))
    return (
        f"{int(rows['skipped_in_a_row'][at])} steps in a row were skipped up to step {rows['step'][at]}, at loss scale "
        f"{rows['loss_scale'][at]:.4g}: {path} is not finite."
    )
