"""The ordered table of checks, and what a row of it is."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxrecipe.checks.data.class_balance import class_balance
from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.checks.data.duplicates import duplicates
from jaxrecipe.checks.data.finite_inputs import finite_inputs
from jaxrecipe.checks.data.label_noise import label_noise
from jaxrecipe.checks.data.labels import labels
from jaxrecipe.checks.data.leaked_label import leaked_label
from jaxrecipe.checks.data.outliers import outliers
from jaxrecipe.checks.data.split_leakage import split_leakage
from jaxrecipe.checks.data.split_shift import split_shift
from jaxrecipe.checks.precision.half_precision_updates import half_precision_updates
from jaxrecipe.checks.precision.loss_scale import loss_scale
from jaxrecipe.checks.precision.precision_parity import precision_parity
from jaxrecipe.checks.skeleton.chart_dependencies import chart_dependencies
from jaxrecipe.checks.skeleton.chart_input_dependencies import chart_input_dependencies
from jaxrecipe.checks.skeleton.chart_time_dependencies import chart_time_dependencies
from jaxrecipe.checks.skeleton.checkpoint_round_trip import checkpoint_round_trip
from jaxrecipe.checks.skeleton.exact_eval import exact_eval
from jaxrecipe.checks.skeleton.example_gradients import example_gradients
from jaxrecipe.checks.skeleton.fix_random_seed import fix_random_seed
from jaxrecipe.checks.skeleton.generalize_a_special_case import generalize_a_special_case
from jaxrecipe.checks.skeleton.human_baseline import human_baseline
from jaxrecipe.checks.skeleton.init_well import init_well
from jaxrecipe.checks.skeleton.input_independent_baseline import input_independent_baseline
from jaxrecipe.checks.skeleton.loss_at_init import loss_at_init
from jaxrecipe.checks.skeleton.mode_consistency import mode_consistency
from jaxrecipe.checks.skeleton.overfit_one_batch import overfit_one_batch
from jaxrecipe.checks.skeleton.reference_step import reference_step
from jaxrecipe.checks.skeleton.simplify import simplify
from jaxrecipe.checks.skeleton.updates import updates
from jaxrecipe.checks.skeleton.verify_decreasing_training_loss import verify_decreasing_training_loss
from jaxrecipe.checks.skeleton.visualize_just_before_the_net import visualize_just_before_the_net
from jaxrecipe.checks.skeleton.visualize_prediction_dynamics import visualize_prediction_dynamics
from jaxrecipe.checks.step.carries_state import carries_state
from jaxrecipe.checks.step.compiled_step import compiled_step
from jaxrecipe.checks.step.draws_anew import draws_anew
from jaxrecipe.checks.step.learns_from_inputs import learns_from_inputs
from jaxrecipe.checks.step.learns_one_batch import learns_one_batch
from jaxrecipe.checks.step.stays_finite import stays_finite
from jaxrecipe.report.result import Result, Scalar
from jaxrecipe.setup import Setup
from jaxrecipe.targets import heads

Cost = Literal["data", "forward", "steps", "training"]
"""What a check does at most: reads data; runs the model; takes a few steps; trains."""


@dataclass(frozen=True)
class Need:
    """Something that a check cannot do without.

    Attributes:
        met: whether a set-up has it.
        otherwise: why the check is skipped where it is not met, and what to declare to have it run.
    """

    met: Callable[[Setup], bool]
    otherwise: str


EVALUATION = Need(
    lambda setup: setup.loop.evaluate is not None,
    "The loop has no evaluation. Give Loop(evaluate=...): evaluate(state, inputs, targets, batch_size) returns the "
    "numbers that you read, by name, over everything that it is given.",
)
SAVE_AND_RESTORE = Need(
    lambda setup: setup.loop.save is not None and setup.loop.restore is not None,
    "The loop has no save or no restore. Give Loop(save=..., restore=...): save(state, directory) writes the whole "
    "state, restore(directory, template) returns it.",
)
INDEPENDENT_EXAMPLES = Need(
    lambda setup: not setup.task.mixes_examples,
    "The loss compares the examples of a batch (mixes_examples=True), so its mean depends on its size on purpose. "
    "Give a task without it, and metrics of single examples, to have the rest of the evaluation checked.",
)
DECLARED_TARGET = Need(
    lambda setup: any(head.behavior.form != "undeclared" for head in heads(setup.task.target)),
    "No target is declared. Say what is predicted, as target=jr.Classes(10).",
)
MODEL = Need(
    lambda setup: setup.task.has_model,
    "There is no model. Give Task(model=jr.linen(module)), jr.nnx, jr.equinox or jr.Model(init, apply).",
)
LOSS = Need(
    lambda setup: setup.task.has_loss,
    "There is no loss of outputs and targets, by which other outputs could be judged. Give Task(loss=...): "
    "loss(outputs, targets) returns one number an example.",
)
OPTIMIZER = Need(
    lambda setup: setup.task.has_optimizer,
    "There is no optimizer. Give Task(optimizer=...), the optax transformation that your step uses.",
)
COSTS = Need(
    lambda setup: setup.task.has_costs,
    "It is not known what a batch costs. Give Task(model=..., loss=...), or Task(model=..., objective=...).",
)
OUTPUTS = Need(
    lambda setup: setup.task.has_apply or not setup.task.has_model,
    "The model gives no outputs. Give jr.Model(init, apply): apply(params, state, inputs, *, train, key) returns "
    "(outputs, state).",
)
LEARNER = (MODEL, OUTPUTS, LOSS)
"""What a check needs that runs the model itself and asks what given outputs would cost."""
TEST_DATA = Need(lambda setup: setup.test is not None, "There are no test data. Give Task(test=(inputs, targets)).")
DATA = Need(
    lambda setup: setup.loop.facts is None or not setup.loop.facts.no_data,
    "The step is given no batch, so that there are no data to look at.",
)
OWN_STEP = Need(
    lambda setup: setup.task.loop is not None,
    "The step is the library's own. Give Task(loop=...) or jr.Task.from_step(...) to have yours looked at.",
)


def _unless(needs: tuple[Need, ...], stronger: str) -> Need:
    """What a check of the step alone stands back for: one that can do more with what is given."""
    return Need(
        lambda setup: not all(need.met(setup) for need in needs), f"{stronger} does this, with more than the step."
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """A row of the table: a check, and what is known of it without running it.

    Attributes:
        run: `run(setup, *, key, ...thresholds) -> Result`. Its docstring is its page; its keyword arguments with
            defaults are its thresholds.
        stage: the recipe's stage.
        step: the recipe's step that it does, in the words of the article; empty for checks of our own.
        needs: without which it is skipped.
        cost: what it does at most.
        stability: whether its findings and codes may still change between versions.
        default: whether it runs unless it is asked for by name.
    """

    run: Callable[..., Result]
    stage: str
    step: str = ""
    needs: tuple[Need, ...] = ()
    cost: Cost = "forward"
    stability: Literal["stable", "preview"] = "stable"
    default: bool = True

    @property
    def name(self) -> str:
        """What it is called everywhere: the name of its function."""
        return self.run.__name__

    @property
    def thresholds(self) -> dict[str, Scalar]:
        """Its thresholds by name, with their defaults."""
        parameters = inspect.signature(self.run).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}

    def missing(self, setup: Setup) -> str:
        """Why it cannot run on a set-up; empty when it can."""
        return " ".join(need.otherwise for need in self.needs if not need.met(setup))


def _data(run: Callable[..., Result]) -> Check:
    return Check(run=run, stage="data", step="become one with the data", cost="data", needs=(DATA,))


def _step(run: Callable[..., Result], *needs: Need, cost: Cost = "steps") -> Check:
    return Check(run=run, stage="step", needs=needs, cost=cost)


RECIPE: tuple[Check, ...] = (
    _data(finite_inputs),
    _data(labels),
    _data(class_balance),
    _data(duplicates),
    _data(split_leakage),
    _data(split_shift),
    _data(leaked_label),
    _data(data_order),
    _data(label_noise),
    _data(outliers),
    Check(run=fix_random_seed, stage="skeleton", step="fix random seed", cost="steps"),
    Check(run=simplify, stage="skeleton", step="simplify", needs=LEARNER),
    Check(
        run=exact_eval,
        stage="skeleton",
        step="add significant digits to your eval",
        needs=(*LEARNER, EVALUATION, INDEPENDENT_EXAMPLES),
    ),
    Check(run=loss_at_init, stage="skeleton", step="verify loss @ init", needs=LEARNER),
    Check(run=init_well, stage="skeleton", step="init well", needs=LEARNER),
    Check(run=example_gradients, stage="skeleton", needs=LEARNER),
    Check(run=human_baseline, stage="skeleton", step="human baseline", cost="data"),
    Check(
        run=input_independent_baseline,
        stage="skeleton",
        step="input-independent baseline",
        cost="training",
        needs=LEARNER,
    ),
    Check(run=overfit_one_batch, stage="skeleton", step="overfit one batch", cost="training", needs=(COSTS,)),
    Check(
        run=verify_decreasing_training_loss,
        stage="skeleton",
        step="verify decreasing training loss",
        cost="training",
        needs=LEARNER,
    ),
    Check(
        run=visualize_just_before_the_net,
        stage="skeleton",
        step="visualize just before the net",
        cost="data",
        needs=(DATA,),
    ),
    Check(
        run=visualize_prediction_dynamics,
        stage="skeleton",
        step="visualize prediction dynamics",
        cost="steps",
        needs=LEARNER,
    ),
    Check(run=chart_dependencies, stage="skeleton", step="use backprop to chart dependencies", needs=(COSTS,)),
    Check(run=chart_time_dependencies, stage="skeleton", step="use backprop to chart dependencies", needs=LEARNER),
    Check(run=chart_input_dependencies, stage="skeleton", step="use backprop to chart dependencies", needs=LEARNER),
    Check(run=generalize_a_special_case, stage="skeleton", step="generalize a special case", needs=LEARNER),
    Check(run=updates, stage="skeleton", cost="steps", needs=(COSTS,)),
    Check(run=mode_consistency, stage="skeleton", needs=LEARNER),
    Check(run=reference_step, stage="skeleton", cost="steps", needs=(COSTS, OPTIMIZER)),
    _step(stays_finite, _unless(LEARNER, "loss_at_init")),
    _step(carries_state, OWN_STEP, _unless((COSTS, OPTIMIZER), "reference_step")),
    _step(draws_anew, _unless((COSTS,), "fix_random_seed")),
    _step(learns_one_batch, _unless(LEARNER, "overfit_one_batch"), cost="training"),
    _step(learns_from_inputs, _unless(LEARNER, "input_independent_baseline"), cost="training"),
    _step(compiled_step, OWN_STEP),
    Check(run=checkpoint_round_trip, stage="skeleton", cost="steps", needs=(SAVE_AND_RESTORE,)),
    Check(run=precision_parity, stage="precision", needs=(COSTS,)),
    Check(run=loss_scale, stage="precision", cost="steps", needs=(COSTS,)),
    Check(run=half_precision_updates, stage="precision", cost="steps", needs=(COSTS,)),
)
"""Every check, in the order in which the recipe takes the steps."""


def as_check(given: Check | Callable[..., Result]) -> Check:
    """A row of the table; a bare function gets its row, or one of its own in the stage "own"."""
    if isinstance(given, Check):
        return given
    return next((row for row in RECIPE if row.run is given), Check(run=given, stage="own"))
