"""Whether the loss that a step reports is certainly what its updates of the parameters are meant to lower."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import PRNGKeyArray

from jaxrecipe.probes.state_layout import layout_of
from jaxrecipe.probes.step_pass import host_leaves, one_pass, same
from jaxrecipe.setup import Setup

WHOLE_LOSS = re.compile(
    r"((total|train|training|batch|mean|avg)_?)?(loss|nll|error|mse|mae|cost|cross_?entropy|xent|ce|bce)", re.IGNORECASE
)
"""Names of metrics that are the whole of what is lowered, and not a part of it as "policy_loss" is."""
UNNAMED = re.compile(r"value|\d+")
"""How a number that a step returns without a name is called."""


@dataclass(frozen=True)
class LossNamed:
    """What is known of the reported loss.

    Attributes:
        reported: whether there is one.
        doubt: why it may not be what the updates are to lower; empty where it is.
    """

    reported: bool
    doubt: str = ""


def loss_named(setup: Setup, key: PRNGKeyArray) -> LossNamed:
    """Look at the names of the metrics, their values, and the parts of the state.

    A metric that is called loss is one. Several that are called so, as in adversarial training, are lowered by
    different parameters. A number without a name is taken for a loss where it is never negative; it may be a score
    otherwise. Where two networks learn, only one of them is scaled.
    """
    metrics = host_leaves(setup.step(setup.fresh_state(), *setup.batch, key)[1])
    if "loss" not in metrics:
        return LossNamed(reported=False)
    names = [name for name, value in metrics.items() if name != "loss" and same(value, metrics["loss"])]
    several = [name for name in metrics if name != "loss" and "loss" in name.lower()]
    doubt = ""
    if names and len(several) > 1:
        doubt = f"There are several losses ({', '.join(several)}), and each may be lowered by other parameters."
    elif names and all(UNNAMED.fullmatch(name) for name in names):
        negative = np.nanmin(one_pass(setup, key).losses, initial=np.inf) < 0
        doubt = "The step reports a number without a name that may be negative, and may be a score." * bool(negative)
    elif names and not any(WHOLE_LOSS.fullmatch(name.rpartition("/")[2]) for name in names):
        doubt = f"The step reports {names[0]}, which may be a score, or a part of what is lowered."
    return LossNamed(True, doubt or _other_networks(setup, key))


def _other_networks(setup: Setup, key: PRNGKeyArray) -> str:
    """Parts of the state beside the parameters that learn too: they began with numbers of their own and move."""
    run, state = one_pass(setup, key), setup.fresh_state()
    layout = layout_of(state, setup.loop.variables(state)[0], run.first)
    if not layout.found:
        return "The parameters are not found in the state, so that others may learn beside them."
    weights = [run.first[path] for path in layout.params]
    others = [
        path
        for path in sorted(run.moved - set(layout.params))
        if run.first[path].ndim > 1 and run.first[path].dtype.kind not in "iub" and run.first[path].any()
    ]
    own = [path for path in others if not any(same(run.first[path], weight) for weight in weights)]
    return f"{own[0]} learns beside the parameters, as a second network does." if own else ""
