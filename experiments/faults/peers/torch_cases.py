"""The benchmark's set-ups and faults as PyTorch parts: a model, a loss, an optimizer, and the first training batch of
the same task.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.faults.peers.torch_models import (
    ConvNet,
    Dense,
    Recurrent,
    ResNet,
    Segmenter,
    Transformer,
    TwoInputs,
)
from jaxrecipe import make_setup
from jaxrecipe.catalogue import CONTROLS, FAULTS, VOCABULARY, Fault

F = nn.functional
Loss = Callable[[Any, Any], Tensor]
Optimizer = Callable[[Any], torch.optim.Optimizer]


@dataclass(frozen=True)
class Parts:
    """What a PyTorch tool is given, besides the batch.

    Attributes:
        model: makes a fresh model for inputs of so many values an example.
        loss: of outputs and targets, a scalar.
        optimizer: of a model's parameters.
        classes: how many, for losses that are a cross entropy over the last axis; None otherwise.
        causal: whether output t may depend only on inputs up to t.
        frozen: names of parameters that are meant to stay.
    """

    model: Callable[[int], nn.Module]
    loss: Loss
    optimizer: Optimizer
    classes: int | None = None
    causal: bool = False
    frozen: tuple[str, ...] = ()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Over the last axis, the mean of everything."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1).long())


def yes_no(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy of logits."""
    return F.binary_cross_entropy_with_logits(logits, labels)


def masked(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross entropy that leaves padding out."""
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1).long(), ignore_index=0)


def adam(rate: float = 2e-3, **more: Any) -> Optimizer:
    """Adam."""
    return lambda params: torch.optim.Adam(params, lr=rate, **more)


def sgd(rate: float) -> Optimizer:
    """SGD with momentum."""
    return lambda params: torch.optim.SGD(params, lr=rate, momentum=0.9)


def dense(**fields: Any) -> Callable[[int], nn.Module]:
    """Makes `Dense` models."""
    return lambda inputs: Dense(inputs, **fields)


picture_mlp = Parts(dense(), cross_entropy, adam(), classes=10)
convnet = Parts(lambda _: ConvNet(), cross_entropy, lambda p: torch.optim.AdamW(p, 5e-3, weight_decay=1e-4), classes=10)
resnet = Parts(lambda _: ResNet(), cross_entropy, sgd(0.1), classes=10)
transformer = Parts(lambda _: Transformer(VOCABULARY), cross_entropy, adam(5e-3), classes=VOCABULARY, causal=True)
regression = Parts(dense(outputs=2), F.mse_loss, adam())
multi_label = Parts(dense(outputs=5), yes_no, adam())
binary = Parts(dense(outputs=1, squeeze=True, final_bias=-2.197), yes_no, adam())
drop = {"features": (96, 96), "dropout": 0.25}

BASES: Mapping[str, Parts] = {
    "table_mlp": picture_mlp,
    "picture_mlp": picture_mlp,
    "convnet": convnet,
    "resnet": resnet,
    "layer_norm": replace(picture_mlp, model=dense(layer_norm=True)),
    "transformer": transformer,
    "padded_transformer": replace(transformer, loss=masked),
    "recurrent": Parts(lambda _: Recurrent(), cross_entropy, adam(5e-3), classes=10),
    "regression": regression,
    "huber": replace(regression, loss=F.huber_loss),
    "total_ink": Parts(dense(outputs=1, squeeze=True, final_bias=310.0), F.mse_loss, adam(1e-2)),
    "total_ink_from_zero": Parts(dense(outputs=1, squeeze=True), F.mse_loss, adam(1e-2)),
    "three_parameters": Parts(
        dense(features=(), outputs=1, squeeze=True), F.mse_loss, lambda p: torch.optim.SGD(p, lr=0.1)
    ),
    "multi_label": multi_label,
    "binary": binary,
    "zero_bias_binary": replace(binary, model=dense(outputs=1, squeeze=True)),
    "balanced_binary": replace(binary, model=dense(outputs=1, squeeze=True)),
    "segmentation": Parts(lambda _: Segmenter(), cross_entropy, adam(1e-2), classes=3),
    "autoencoder": Parts(lambda n: Dense(n, (64, 24, 64), n), F.mse_loss, adam(3e-3)),
    "dropout": replace(picture_mlp, model=dense(**drop)),
    "label_smoothing": replace(
        picture_mlp, loss=lambda logits, labels: F.cross_entropy(logits, labels.long(), label_smoothing=0.1)
    ),
    "two_inputs": Parts(lambda _: TwoInputs(), cross_entropy, adam(), classes=10),
    "weight_decay": replace(picture_mlp, optimizer=lambda p: torch.optim.AdamW(p, 2e-3, weight_decay=0.05)),
}
"""The healthy set-ups. Those of the controls that are not here cannot be expressed, for the reasons in `WHY_NOT`."""


def picked(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Negative log of the probability of the label, clipped."""
    return -probabilities.gather(1, labels.long()[:, None]).clamp(1e-7, 1.0).log().mean()


def yes_no_of_probabilities(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Binary cross entropy that wants probabilities."""
    p = probabilities.clamp(1e-7, 1.0 - 1e-7)
    return -(labels * p.log() + (1.0 - labels) * (1.0 - p).log()).mean()


def over_the_batch(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy whose softmax is taken over the batch."""
    return -logits.log_softmax(dim=0).gather(1, labels.long()[:, None]).mean()


def of_class_number(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared error between logits and the number of the class."""
    return (logits - labels[:, None].float()).square().mean()


def of_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """Squared error between a softmax and one-hot labels."""
    return (logits.softmax(-1) - F.one_hot(labels.long(), 10)).square().mean()


def of_sigmoid(outputs: Tensor, values: Tensor) -> Tensor:
    """Cross entropy of a sigmoid, for values."""
    return -(values * F.logsigmoid(outputs) + (1.0 - values) * F.logsigmoid(-outputs)).mean()


def clipped(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy whose values are clipped."""
    return F.cross_entropy(logits, labels.long(), reduction="none").clamp(0.0, 1.0).mean()


def low_biases(bias: Tensor) -> None:
    """All but eight units start dead."""
    nn.init.constant_(bias, -10.0)
    with torch.no_grad():
        bias[:8] = 0.0


def without(name: str) -> Optimizer:
    """Adam that is not given the parameters of one layer."""
    return lambda params: torch.optim.Adam([p for n, p in params if not n.startswith(name)], lr=2e-3)


softmax = lambda x: x.softmax(-1)  # noqa: E731
SAME: dict[str, Any] = {}
"""The fault is in the batch, which comes from the broken task itself."""
CHANGES: Mapping[str, dict[str, Any]] = {
    "features_shuffled": SAME,
    "targets_shuffled": SAME,
    "third_of_labels_random": SAME,
    "tenth_of_labels_random": SAME,
    "labels_divided": SAME,
    "inputs_not_scaled": SAME,
    "scaled_twice": SAME,
    "scaled_twice_then_standardized": SAME,
    "blank_inputs": SAME,
    "class_missing": SAME,
    "rare_class_without_prior": SAME,
    "conflicting_duplicates": SAME,
    "label_as_column": SAME,
    "label_stamped": SAME,
    "target_not_scaled": SAME,
    "softmax_in_model": {"model": dense(after=softmax)},
    "softmax_in_loss": {"loss": lambda logits, labels: cross_entropy(logits.softmax(-1), labels)},
    "sigmoid_twice": {"model": dense(outputs=5, after=torch.sigmoid)},
    "logits_as_probabilities": {"loss": picked},
    "logits_as_yes_no_probabilities": {"loss": yes_no_of_probabilities},
    "softmax_over_batch": {"loss": over_the_batch},
    "column_against_row": {"model": dense(features=(), outputs=1)},
    "squared_error_of_class_number": {"loss": of_class_number},
    "squared_error_of_logits": {"loss": of_softmax},
    "cross_entropy_of_values": {"loss": of_sigmoid},
    "sign_flipped": {"loss": lambda logits, labels: -cross_entropy(logits, labels)},
    "error_sign_flipped": {"loss": lambda outputs, values: -F.mse_loss(outputs, values)},
    "targets_are_inputs": SAME,
    "targets_shifted_back": SAME,
    "padding_counted": {"loss": cross_entropy},
    "loss_clipped": {"loss": clipped},
    "softmax_of_one_unit": {
        "model": dense(outputs=1),
        "loss": lambda outputs, labels: (outputs.softmax(-1)[:, 0] - labels).square().mean(),
    },
    "cross_entropy_of_one_unit": {
        "model": dense(outputs=1),
        "loss": lambda outputs, labels: F.cross_entropy(outputs, labels[:, None]),
    },
    "relu_on_logits": {"model": lambda _: ConvNet(after=torch.relu)},
    "softmax_in_the_middle": {"model": dense(features=(64, 64, 64), activation=softmax)},
    "deep_sigmoids": {"model": dense(features=(64,) * 6, activation=torch.sigmoid)},
    "no_activation": {"model": dense(activation=lambda x: x)},
    "zero_init": {"model": dense(kernel=nn.init.zeros_)},
    "constant_init": {"model": dense(kernel=lambda w: nn.init.constant_(w, 0.05))},
    "unit_normal_init": {"model": dense(kernel=nn.init.normal_)},
    "dead_relus": {"model": dense(bias=lambda b: nn.init.constant_(b, -10.0))},
    "mostly_dead_relus": {"model": dense(bias=low_biases)},
    "bias_ignores_prior": SAME,
    "no_final_bias": {"model": dense(outputs=2, final_bias=None)},
    "branch_cut_off": {"model": lambda _: ResNet(branch=Tensor.detach)},
    "reshape_for_transpose": {"model": lambda _: Recurrent(order=lambda x: x.transpose(0, 1).reshape(x.shape))},
    "heads_merged_by_reshape": {
        "model": lambda _: Transformer(VOCABULARY, merge=lambda x: x.reshape(len(x), x.shape[2], -1))
    },
    "batch_mean_leaks": {"model": lambda _: ConvNet(after=lambda x: x - x.mean(dim=0, keepdim=True))},
    "no_causal_mask": {"model": lambda _: Transformer(VOCABULARY, causal=False)},
    "input_ignored": {"model": lambda _: TwoInputs(ignore_second=True)},
    "image_ignored": {"model": dense(before=torch.zeros_like)},
    "strong_dropout": {"model": dense(features=(96, 96), dropout=0.95)},
    "learning_rate_huge": {"optimizer": adam(0.5)},
    "learning_rate_huge_sgd": {"optimizer": sgd(100.0)},
    "learning_rate_tiny": {"optimizer": adam(2e-7)},
    "learning_rate_tiny_sgd": {"optimizer": sgd(1e-4)},
    "layer_frozen": {"optimizer": without("layers.0.")},
    "weight_decay_swamps": {"optimizer": lambda p: torch.optim.AdamW(p, 2e-3, weight_decay=30.0)},
    "dropout_at_eval": {"model": dense(**drop, always_drop=True)},
    "statistics_moved_at_eval": {"model": lambda _: ConvNet(always_train=True)},
}
"""By fault: what is changed in the parts of its healthy set-up."""

WHY_NOT = (
    ("splits", "they look at one batch and never at the test data", (2, 7, 10, 13, 15)),
    ("targets or inputs that are refused", "the data fault stops PyTorch or is read before the batch", (4, 8)),
    (
        "the user's own training step",
        "they take a model, a loss and an optimizer, and run their own steps",
        (20, 45, 47, 53, 55),
    ),
    ("schedules and clipping", "they take an optimizer and call nothing beside it", (50, 51)),
    ("a batch of one", "they refuse or are given the batch by hand", (52,)),
    ("seeds", "they start nothing twice", (54,)),
    ("losses that give one number an example", "their losses are scalars, where this fault has another form", (21, 28)),
    ("declared facts", "a frozen layer is known to the optimizer only through what it is given", (46,)),
    ("the user's own evaluation", "they evaluate nothing of the user's", (56, 57, 58, 59, 60, 61, 62)),
    ("checkpoints", "they restore nothing", (63,)),
    ("precision and loss scaling", "they have no policy or loss scale", (49, 64)),
)
"""Why faults of these numbers (or some of their variants) were not expressed."""


def case_parts(name: str) -> Parts | None:
    """The PyTorch parts of a fault or a control; None when it cannot be expressed."""
    if name in BASES:
        return BASES[name]
    fault = fault_or_none(name)
    if fault is None or fault.plant.__name__ not in CHANGES or fault.on.__name__ not in BASES:
        return None
    return replace(BASES[fault.on.__name__], **CHANGES[fault.plant.__name__])


def fault_or_none(name: str) -> Fault | None:
    """The fault of that name; None when it is the name of a control."""
    return next((fault for fault in FAULTS if fault.name == name), None)


def case_batch(name: str, seed: int) -> tuple[Any, Any]:
    """Inputs and targets of the first training batch of a fault or a control, as tensors (inputs may be a mapping)."""
    fault = fault_or_none(name)
    make = fault.make if fault else next(control.make for control in CONTROLS if control.name == name)
    inputs, targets = make_setup(make(seed), seed=seed).batch
    if isinstance(inputs, dict):
        return {key: tensor(leaf) for key, leaf in inputs.items()}, tensor(targets)
    return tensor(inputs), tensor(targets)


def tensor(array: Any) -> Tensor:
    """A copy as a tensor; integers as PyTorch wants them."""
    host = np.array(array)
    return torch.from_numpy(host.astype(np.int64) if np.issubdtype(host.dtype, np.integer) else host)


def make_optimizer(parts: Parts, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of a model; one that leaves a layer out is given names too."""
    try:
        return parts.optimizer(list(model.parameters()))
    except TypeError:
        return parts.optimizer(list(model.named_parameters()))
