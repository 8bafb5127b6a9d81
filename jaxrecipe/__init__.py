"""What is silently wrong with your training set-up: the recipe for training neural networks, as checks on your own
parts.
"""

from jaxrecipe.adapters import equinox, linen, nnx
from jaxrecipe.checks.table import RECIPE, Check
from jaxrecipe.data.sources import examples
from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.causes.table import cause
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.parts import Costs, Loop, MissingPartError, Model, per_example
from jaxrecipe.precision.loss_scale import dynamic_loss_scale, no_loss_scale, static_loss_scale
from jaxrecipe.precision.policy import Policy
from jaxrecipe.recipe import check
from jaxrecipe.report.report import RecipeFailedError, Report
from jaxrecipe.report.result import Result, Status, skipped
from jaxrecipe.setup import Setup, make_setup
from jaxrecipe.targets import Binary, Classes, MultiLabel, Tokens, Unspecified, Values
from jaxrecipe.task import Task
from jaxrecipe.testing import recipe_tests
from jaxrecipe.training.evaluation import evaluate
from jaxrecipe.training.intervals import wilson
from jaxrecipe.training.loop import fit
from jaxrecipe.training.state import TrainState
from jaxrecipe.training.step import make_train_step
from jaxrecipe.validate import InvalidTaskError, validate

__version__ = "0.1.0"

InvalidTask = InvalidTaskError
"""What `InvalidTaskError` was called before; the same class, so that older programs still catch it."""

__all__ = [
    "RECIPE",
    "Binary",
    "Cause",
    "Check",
    "Classes",
    "Costs",
    "Finding",
    "InvalidTask",
    "InvalidTaskError",
    "Loop",
    "Measure",
    "MissingPartError",
    "Model",
    "MultiLabel",
    "Policy",
    "RecipeFailedError",
    "Report",
    "Result",
    "Setup",
    "Severity",
    "Status",
    "Task",
    "Tokens",
    "TrainState",
    "Unspecified",
    "Values",
    "cause",
    "check",
    "dynamic_loss_scale",
    "equinox",
    "evaluate",
    "examples",
    "failure",
    "fit",
    "linen",
    "make_setup",
    "make_train_step",
    "nnx",
    "no_loss_scale",
    "per_example",
    "recipe_tests",
    "skipped",
    "static_loss_scale",
    "validate",
    "warning",
    "wilson",
]
