"""Proof that the controls are healthy: each is trained in each seed and must reach its mark.

    python -m experiments.faults.prove

Takes about ten minutes on two cores and prints a line for each; all must say "well".
"""

import argparse
import sys
from typing import Any

import jax
import numpy as np

import jaxrecipe as jr
from jaxrecipe import make_setup
from jaxrecipe.catalogue import CONTROLS, SEEDS, Control

LAST = 20
"""Steps whose reported losses count where a step is all that there is."""


def reached(control: Control, seed: int) -> float:
    """What the control scores after training with the task's own steps: on its test data or, without any, on the
    training data; of a step alone the loss that its last steps report.
    """
    task = control.make(seed)
    setup = make_setup(task, seed=seed)
    state, losses = setup.fresh_state(), []
    for step in range(control.steps):
        state, metrics = setup.step(state, *setup.training_batch(step), jax.random.fold_in(setup.key, step))
        losses.append(metrics.get("loss"))
    if not task.has_model:
        return float(np.mean(losses[-LAST:]))
    params, model_state = setup.loop.variables(state)
    found: Any = jr.evaluate(task, params, model_state, task.train if task.test is None else None)
    return float(found[control.metric].value)


def main() -> None:
    """Train, print a line for each, and end with 1 if any misses its mark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of controls")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    options = parser.parse_args()
    missed = 0
    for control in CONTROLS:
        if options.only and control.name not in options.only:
            continue
        values = [reached(control, seed) for seed in options.seeds]
        healthy = all(map(control.reached, values))
        missed += not healthy
        values_text = ", ".join(f"{value:.4g}" for value in values)
        print(
            f"{'well' if healthy else 'MISSED'}  {control.name}: {control.metric} {values_text} (mark "
            f"{control.bound:g})",
            flush=True,
        )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
