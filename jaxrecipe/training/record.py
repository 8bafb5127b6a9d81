"""What a training run has measured so far, and when it must be given up."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array

from jaxrecipe.training.evaluation import Evaluation
from jaxrecipe.training.metrics_log import Write
from jaxrecipe.training.state import TrainState
from jaxrecipe.training.step import last_bad_path


@dataclass
class Record:
    """What a run has measured so far. Reads metrics one call behind, so that the device always has the next one to do."""

    step: int
    scaling: str
    give_up_after: int
    write: Write | None
    started: float = field(default_factory=time.perf_counter)
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    evaluations: dict[int, Evaluation] = field(default_factory=dict)
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
        """Wait for the metrics that are still expected, keep them, pass them on, and raise if training is lost."""
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
    """Raise when training cannot recover: not finite with nothing to skip it, or nothing but skipped steps."""
    if scaling == "none":
        watched = {name: rows[name] for name in ("loss", "grad_norm", "param_norm")}
        bad = ~np.isfinite(np.stack(list(watched.values()))).all(axis=0)
        if bad.any():
            at = int(np.argmax(bad))
            told = ", ".join(f"{name} {values[at]:.4g}" for name, values in watched.items())
            raise FloatingPointError(
                f"training broke down at step {rows['step'][at]}: {told}. Lower the learning rate, clip the gradients, or "
                "look for a log, division or square root of zero; with float16 compute use a loss scale."
            )
    elif (in_a_row := int(rows["skipped_in_a_row"].max())) >= give_up_after:
        raise FloatingPointError(
            f"{in_a_row} steps in a row were skipped up to step {rows['step'][-1]}, at loss scale "
            f"{rows['loss_scale'][-1]:.4g}: {last_bad_path(state)} is not finite. Keep that layer in float32 by a policy "
            "override, lower the learning rate, or look for a NaN that float32 has too."
        )
