"""Functional training: states, steps, exact evaluation, verified checkpoints, and logs of metrics."""

from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.intervals import mean_interval, wilson
from jaxrecipe.training.loop import fit
from jaxrecipe.training.metrics_log import both, jsonl_writer, tensorboard_writer
from jaxrecipe.training.state import TrainState, init_state
from jaxrecipe.training.step import make_train_step
from jaxrecipe.training.steps import new_state, train_steps

__all__ = [
    "TrainState",
    "both",
    "evaluate",
    "fit",
    "init_state",
    "jsonl_writer",
    "make_train_step",
    "mean_interval",
    "new_state",
    "tensorboard_writer",
    "train_steps",
    "wilson",
]
