"""Each peer on one case, used as its own documentation says, its answers in the benchmark's form."""

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch

from experiments.faults.peers.torch_cases import Parts, case_batch, case_parts, make_optimizer

Answer = tuple[str, str, str, float]
"""Name, status, headline and seconds of a check."""
PATIENCE = 20.0
"""Seconds after which a peer's overfitting is ended; by itself it would take 65,536 steps, which a failing run always
takes. It counts as failed if the loss has stalled by then; if the loss is still falling, the peer might yet have
passed, and that is a warning."""


class UndecidedError(Exception):
    """The time is up and the loss is still falling."""


def run(peer: str, name: str, seed: int) -> list[Answer]:
    """What a peer says of a case."""
    parts = case_parts(name)
    if parts is None:
        raise ValueError(f"{name} is not expressed in PyTorch")
    inputs, targets = case_batch(name, seed)
    torch.manual_seed(seed)
    return {"torchtest2": torchtest2, "neural_net_checklist": checklist, "syndset": syndset}[peer](
        parts, inputs, targets
    )


def values_of(inputs: Any) -> int:
    """Numbers that one example has."""
    return 0 if isinstance(inputs, dict) else int(inputs[0].numel())


def torchtest2(parts: Parts, inputs: Any, targets: Any) -> list[Answer]:
    """`check_model` with the set-up's own loss and optimizer."""
    import torchtest2

    model = parts.model(values_of(inputs))
    report = torchtest2.check_model(model, inputs, targets, loss_fn=parts.loss, optimizer=make_optimizer(parts, model))
    return [(r.name, str(r.status), r.message, r.seconds) for r in report]


def syndset(parts: Parts, inputs: Any, targets: Any) -> list[Answer]:
    """`audit` with the set-up's own loss; it has its own optimizer."""
    import syndset

    began = time.perf_counter()
    report = syndset.audit(parts.model(values_of(inputs)), inputs, sample_target=targets, loss_fn=parts.loss)
    seconds = time.perf_counter() - began
    checks = report.to_dict()["checks"]
    return [
        (
            check["name"],
            check["tag"],
            " ".join([check["summary"], *map(str, check["details"])]),
            seconds / len(checks),
        )
        for check in checks
    ]


def checklist(parts: Parts, inputs: Any, targets: Any) -> list[Answer]:
    """The assertions of `assert_all_…`, one by one, each with the set-up's own loss and optimizer where it takes one.

    Those about a cross entropy over classes are left out for other targets, those about causality for other models.
    """
    from neural_net_checklist import torch_diagnostics as lib

    batch, loss = (
        (inputs, targets),
        cast(Any, parts.loss),
    )  # their annotation asks for a module, their code for a function
    make = functools.partial(parts.model, values_of(inputs))
    model = make()

    def in_time(model: Any, batch: Any, **given: Any) -> Iterator[Any]:
        """Their training with the set-up's optimizer, ended when it takes too long."""
        began, losses = time.perf_counter(), []
        for step in lib.train_batch(model, batch, optimizer=make_optimizer(parts, model), **given):
            yield step
            losses.append(step[0])
            if time.perf_counter() - began > PATIENCE:
                late = len(losses) * 3 // 4
                if min(losses[late:]) < 0.9 * min(losses[:late]):
                    raise UndecidedError(f"ended after {len(losses)} steps, the loss still falling at {losses[-1]:.3g}")
                return

    chart = batch
    if parts.causal:  # as its documentation asks: one-hot inputs through the embedding, for derivatives
        chart = (torch.nn.functional.one_hot(inputs, parts.classes or 0).float(), targets)
        make_chart = lib.replace_input_embedding_layer(make, "embedding")
    else:
        make_chart = make
    tests: list[tuple[str, Callable[[], Any]]] = []
    if parts.classes:
        at_init = lib.assert_balanced_classification_cross_entropy_loss_at_init
        calibrated = lib.assert_balanced_classification_cross_entropy_init_calibrated
        tests += [
            ("loss_at_init", lambda: at_init(make_chart(), chart, num_classes=parts.classes or 0, loss_fn=loss)),
            ("init_calibrated", lambda: calibrated(make_chart(), chart, num_classes=parts.classes or 0)),
        ]
    tests += [
        ("forward_batch_independence", lambda: lib.assert_forward_batch_independence(make_chart, chart)),
        ("non_zero_gradients", lambda: lib.assert_non_zero_gradients(make_chart(), chart)),
        ("backward_batch_independence", lambda: lib.assert_backward_batch_independence(make_chart, chart)),
    ]
    if parts.causal:
        tests += [
            ("forward_causal", lambda: lib.assert_forward_causal_property(make_chart, chart)),
            ("backward_causal", lambda: lib.assert_backward_causal_property(make_chart, chart)),
        ]
    baseline, overfit = lib.assert_input_independent_baseline_worse, lib.assert_overfit_to_batch
    threshold = 1e-1 if parts.causal else 1e-4
    tests += [
        ("input_independent_baseline", lambda: baseline(make, batch, loss_fn=loss)),
        ("overfit_to_batch", lambda: overfit(model, batch, loss_fn=loss, threshold=threshold, train_batch_fn=in_time)),
    ]
    return [_asserted(name, test) for name, test in tests]


def _asserted(name: str, test: Callable[[], Any]) -> Answer:
    """An assertion that fails is a FAIL, any other error a CRASHED."""
    began = time.perf_counter()
    status, headline = "PASS", ""
    try:
        test()
    except AssertionError as error:
        status, headline = "FAIL", str(error)[:400]
    except UndecidedError as error:
        status, headline = "WARN", str(error)
    except Exception as error:
        status, headline = "CRASHED", f"{type(error).__name__}: {str(error)[:400]}"
    return name, status, headline, time.perf_counter() - began
