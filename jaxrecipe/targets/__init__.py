"""What is predicted: the declared kinds of targets, and what follows from each, in one table mapped over heads."""

from jaxrecipe.targets.behavior import BEHAVIORS, Behavior, behavior, counted, entropy
from jaxrecipe.targets.declared import (
    Binary,
    Classes,
    MultiLabel,
    Target,
    TargetTree,
    Tokens,
    Unspecified,
    Values,
    is_target,
)
from jaxrecipe.targets.heads import (
    Head,
    accuracies,
    certain_outputs,
    class_counts,
    default_metrics,
    each_head,
    heads,
    label_entropies,
    uninformed_outputs,
)
from jaxrecipe.targets.metrics import Metric, absolute_error, correct_class, correct_sign, correct_token

__all__ = [
    "BEHAVIORS",
    "Behavior",
    "Binary",
    "Classes",
    "Head",
    "Metric",
    "MultiLabel",
    "Target",
    "TargetTree",
    "Tokens",
    "Unspecified",
    "Values",
    "absolute_error",
    "accuracies",
    "behavior",
    "certain_outputs",
    "class_counts",
    "correct_class",
    "correct_sign",
    "correct_token",
    "counted",
    "default_metrics",
    "each_head",
    "entropy",
    "heads",
    "is_target",
    "label_entropies",
    "uninformed_outputs",
]
