"""Hypotheses that an equality proves: about the loss, the step and the initialization."""

import jax
import numpy as np

from jaxrecipe import trees
from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Evidence
from jaxrecipe.checks.skeleton.overfit_one_batch.few_examples import all_alike
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run
from jaxrecipe.diagnosis.causes.table import Cause, cause
from jaxrecipe.precision.loss_scale import LossScale
from jaxrecipe.probes.far_start import compares_with_every_target
from jaxrecipe.probes.output_domain import logits_as_probabilities, squashed_twice
from jaxrecipe.setup import Setup
from jaxrecipe.targets import certain_outputs

CUT_OFF = 0.1
"""More than this share of exact zeros among outputs that are never negative is no coincidence."""
LEAST_FLOOR = 0.1
"""A loss that squashes twice cannot get below 0.45 of the uninformed loss (two classes); less with other heads."""
NEAR_CLASS_NUMBER = 0.25
"""Outputs so near to the number of the class name it when rounded, with room to spare."""
LEAST_GAP = 0.01
"""A loss that squashes twice still tells right outputs from a constant, by a quarter of the uninformed loss or more."""
WRONG = 0.5
"""Predictions of less than this share of the best accuracy are mostly wrong; so is a loss that closed less."""


def loss_squashes(setup: Setup, run: Run) -> bool:
    """Whether the loss itself applies a softmax or sigmoid twice, whatever the model gives it."""
    if run.minimum < LEAST_FLOOR * run.uninformed or run.gap < LEAST_GAP * run.uninformed:
        return False  # a loss that is near its minimum, or the same for every output
    return "loss" in squashed_twice(setup, run.outputs, run.targets).values()


def outputs_against_all_targets(evidence: Evidence) -> Cause | None:
    """Other targets for each output change no loss."""
    if not compares_with_every_target(evidence.setup):
        return None
    return cause("loss/broadcast", here="Other targets for each output change no loss.")


def probabilities_as_logits(evidence: Evidence) -> Cause | None:
    """Outputs of a head are probabilities, and the loss squashes them again."""
    twice = squashed_twice(evidence.setup, evidence.run.outputs, evidence.run.targets)
    paths = [path for path, where in twice.items() if where == "model"]
    if not paths:
        return None
    which = f" of {', '.join(paths)}" if any(paths) else ""
    return cause("loss/softmax-twice", here=f"The outputs{which} are probabilities, and the loss squashes them again.")


def logits_for_probabilities(evidence: Evidence) -> Cause | None:
    """The loss wants probabilities at a head, and the model gives something else."""
    paths = logits_as_probabilities(evidence.setup, evidence.run.outputs, evidence.run.targets)
    if not paths:
        return None
    which = f" of {', '.join(paths)}" if any(paths) else ""
    return cause("loss/logits-as-probabilities", here=f"Outputs{which} lie outside of [0, 1].")


def class_number_as_quantity(evidence: Evidence) -> Cause | None:
    """Every output of a head is the number of the class."""
    for head in evidence.heads:
        labels = head.behavior.labels(head.target, head.targets)
        if head.behavior.form != "exclusive" or labels is None or np.ptp(labels) == 0:
            continue
        outputs = np.asarray(head.outputs, np.float64)
        fits = outputs.shape[:-1] == labels.shape
        if fits and np.abs(outputs - labels[..., None]).max() < NEAR_CLASS_NUMBER:
            return cause("loss/squared-error-for-classes", here="Every output is the number of the class.")
    return None


def every_step_skipped(evidence: Evidence) -> Cause | None:
    """The loss scale found gradients that are not finite at every step."""
    scale = getattr(evidence.run.state, "loss_scale", None)
    if not isinstance(scale, LossScale) or evidence.moved != 0 or int(scale.skipped) < evidence.run.steps[-1]:
        return None
    here = f"All {evidence.run.steps[-1]} steps were skipped, at a loss scale of {float(scale.scale):.3g}."
    return cause("precision/gradients-overflow", here=here)


def nothing_moves(evidence: Evidence) -> Cause | None:
    """There is a gradient, and no parameter moves."""
    if evidence.moved != 0 or evidence.gradient_norm_at_start == 0:
        return None
    norm = evidence.gradient_norm_at_start
    if evidence.declared_update.size > 0:
        here = f"No parameter moves, though the declared optimizer would: the gradient has a norm of {norm:.3g}."
        return cause("step/updates-thrown-away", here=here)
    return cause("optimizer/unintended-freeze", here=f"The optimizer makes nothing of a gradient of norm {norm:.3g}.")


def cut_off_outputs(evidence: Evidence) -> Cause | None:
    """Logits of a head that are never negative, many of them exactly zero."""
    for head in evidence.heads:
        values = np.asarray(head.outputs, np.float64)
        zeros = float((values == 0).mean()) if head.behavior.labeled and (values >= 0).all() else 0.0
        if zeros > CUT_OFF:
            here = f"No output is negative, and {zeros:.0%} of them are exactly zero."
            return cause("model/outputs-confined", here=here)
    return None


def single_output_softmax(evidence: Evidence) -> Cause | None:
    """There is one output an example, and neither it nor the loss depends on anything."""
    if evidence.gradient_norm_at_start > 0 or not all(leaf.shape[-1:] == (1,) for leaf in evidence.outputs):
        return None
    ones = all((leaf == 1).all() for leaf in evidence.outputs)
    if not ones and not evidence.loss_is_flat:
        return None
    here = "The only output is exactly 1 for every example." if ones else "The loss is the same whatever the output."
    return cause("loss/single-output-softmax", here=here)


def clipped_loss(evidence: Evidence) -> Cause | None:
    """All examples have one loss, above the minimum, and no gradient."""
    losses = evidence.losses
    above = evidence.run.gap > 0 and evidence.run.closed < WRONG
    if not (evidence.loss_is_flat and above and np.ptp(losses) == 0) or evidence.same_outputs:
        return None
    return cause("loss/clipped", here=f"Every example costs exactly {losses[0]:.4g}, whatever its output.")


def flat_loss(evidence: Evidence) -> Cause | None:
    """The loss has no gradient with respect to the outputs."""
    if evidence.gradient_norm_at_start > 0 or not evidence.loss_is_flat:
        return None
    return cause("loss/flat", here="Its gradient with respect to every output is zero.")


def same_inputs(evidence: Evidence) -> Cause | None:
    """The examples have the same inputs."""
    return cause("data/constant-inputs") if all_alike(evidence.run.inputs) else None


def no_gradient(evidence: Evidence) -> Cause | None:
    """The gradient is zero for every parameter, but not for the outputs."""
    return None if evidence.gradient_norm_at_start > 0 or evidence.loss_is_flat else cause("model/no-gradient")


def uphill(evidence: Evidence) -> Cause | None:
    """The first change has a positive product with the gradient."""
    if evidence.gradient_norm_at_start == 0 or evidence.first_change_along_gradient <= 0:
        return None
    cosine = evidence.first_change_along_gradient
    return cause("step/goes-uphill", here=f"The cosine between the first change and the gradient is {cosine:.2f}.")


def sign_flipped(evidence: Evidence) -> Cause | None:
    """The loss falls while the predictions are wrong, and right ones would cost more than the constant predictor."""
    run = evidence.run
    if not run.accuracy or run.right(WRONG) or run.closed < WRONG:
        return None
    right = certain_outputs(evidence.setup.task.target, run.outputs, run.targets)
    if right is None or not (at_right := evidence.loss_at(right)) > run.uninformed:
        return None
    here = f"Right outputs cost {at_right:.4g}, the constant predictor {run.uninformed:.4g}."
    return cause("loss/sign-flipped", here=here)


def zero_kernels(evidence: Evidence) -> Cause | None:
    """Every kernel starts at zero."""
    kernels = [leaf for leaf in jax.tree.leaves(evidence.setup.params) if trees.is_floating(leaf) and leaf.ndim > 1]
    if len(kernels) < 2 or any(np.any(np.asarray(leaf)) for leaf in kernels):
        return None
    return cause("model/zero-initialization")


def identical_units(evidence: Evidence) -> Cause | None:
    """All units of a layer start with the same weights, and not with zeros."""
    kernels = {
        path: np.asarray(leaf, np.float64)
        for path, leaf in trees.named_leaves(evidence.setup.params).items()
        if trees.is_floating(leaf) and leaf.ndim > 1 and leaf.shape[-1] > 1
    }
    alike = [path for path, leaf in kernels.items() if leaf.any() and not np.ptp(leaf, axis=-1).any()]
    return cause("model/identical-units", here=f"So in {', '.join(alike[:4])}.") if alike else None
