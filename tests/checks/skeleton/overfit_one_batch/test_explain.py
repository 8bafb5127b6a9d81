"""Each hypothesis on both sides of its limits, on made-up evidence; and the order of what is found."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.overfit_one_batch import explain, in_model, in_optimizer, proven
from jaxrecipe.checks.skeleton.overfit_one_batch.evidence import Bounds, DeclaredUpdate, Evidence
from jaxrecipe.checks.skeleton.overfit_one_batch.explain import HYPOTHESES, Hypothesis
from jaxrecipe.checks.skeleton.overfit_one_batch.memorize import Run
from jaxrecipe.checks.skeleton.overfit_one_batch.trials import Trial
from jaxrecipe.diagnosis.causes.table import CAUSES, cause

FALLING = list(np.linspace(3.0, 1.0, 60))
STUCK = [1.0] * 60


def evidence(*, trials: dict[str, Any] | None = None, **changes: Any) -> Evidence:
    """A run like a healthy one that only stopped too early, changed; nothing is left to be measured."""
    trials = trials or {}
    run = Run(minimum=0.0, best_accuracy={}, uninformed=2.0, state=None, inputs=None, targets=None, batches=[])
    run.steps, run.training, run.evaluation, run.moved = list(range(31)), STUCK, STUCK, [1e-3] * 30
    for name in {"training", "evaluation"} & set(changes):
        setattr(run, name, changes.pop(name))
    measured = {
        "moved": 1e-3,
        "gradient_norm_at_start": 1.0,
        "gradient_at_end": np.ones(1),
        "first_change_along_gradient": -0.5,
        "declared_update": DeclaredUpdate(size=1.0, tenfold=1.0, cosine=0.7),
        "loss_is_flat": False,
        "losses": np.asarray([0.5, 1.0]),
        "outputs": [np.asarray([[1.0, -1.0], [-1.0, 1.0]])],
        "heads": [],
        "opens_with_raised_biases": False,
        "same_outputs": False,
        "same_outputs_at_start": False,
        "size_kept": 1.0,
        "outward_pull": 0.0,
        "output_spread": 0.5,
        "input_spread": 0.5,
        "noise": 0.0,
        "bounds": None,
        "trials": SimpleNamespace(
            **{
                "plain_adam": (0.5, 300),
                "adam_learns": False,
                "adam_is_better": False,
                "memorizes_elsewhere": False,
                "larger_kernels": None,
                "quiet_adam_learns": False,
                "lower_rate": Trial(0.1, 1.0, 20),
                "higher_rate": Trial(10.0, 1.0, 20),
                **trials,
            }
        ),
        "between_layers": [],
        "setup": SimpleNamespace(batch_size=32),
        "run": run,
    }
    assert set(changes) <= set(measured)
    made = object.__new__(Evidence)
    made.__dict__.update({**measured, **changes})
    return made


def with_moved(moved: list[float], **changes: Any) -> Evidence:
    made = evidence(moved=float(np.mean(moved[:10])), **changes)
    made.run.moved = moved
    return made


BOTH_SIDES: list[tuple[Any, str, Any, Any]] = [
    (proven.nothing_moves, "step/updates-thrown-away", evidence(moved=0.0), evidence(moved=1e-9)),
    (proven.nothing_moves, "step/updates-thrown-away", evidence(moved=0.0), evidence(moved=float("nan"))),
    (
        proven.nothing_moves,
        "optimizer/unintended-freeze",
        evidence(moved=0.0, declared_update=DeclaredUpdate(0.0, 0.0, 0.0)),
        evidence(moved=0.0, gradient_norm_at_start=0.0),
    ),
    (
        proven.single_output_softmax,
        "loss/single-output-softmax",
        evidence(gradient_norm_at_start=0.0, outputs=[np.ones((4, 1))]),
        evidence(gradient_norm_at_start=0.0, outputs=[np.ones((4, 2))]),
    ),
    (
        proven.clipped_loss,
        "loss/clipped",
        evidence(loss_is_flat=True, losses=np.ones(4), training=[2.0], evaluation=[2.0]),
        evidence(loss_is_flat=True, losses=np.asarray([1.0, 0.9]), training=[2.0], evaluation=[2.0]),
    ),
    (
        proven.flat_loss,
        "loss/flat",
        evidence(gradient_norm_at_start=0.0, loss_is_flat=True),
        evidence(gradient_norm_at_start=0.1, loss_is_flat=True),
    ),
    (
        proven.no_gradient,
        "model/no-gradient",
        evidence(gradient_norm_at_start=0.0),
        evidence(gradient_norm_at_start=0.0, loss_is_flat=True),
    ),
    (
        proven.uphill,
        "step/goes-uphill",
        evidence(first_change_along_gradient=0.1),
        evidence(first_change_along_gradient=0.0),
    ),
    (
        in_optimizer.steps_too_large,
        "optimizer/learning-rate-too-high",
        evidence(moved=0.11),
        evidence(moved=0.1),
    ),
    (in_optimizer.steps_too_large, "optimizer/learning-rate-too-high", with_moved([1e-3, 0.2]), evidence()),
    (
        in_optimizer.steps_too_large,
        "optimizer/learning-rate-too-high",
        evidence(moved=0.11),
        evidence(moved=0.11, trials={"lower_rate": None}),
    ),
    (
        in_optimizer.steps_too_small,
        "optimizer/learning-rate-too-low",
        evidence(moved=1e-6),
        evidence(moved=1e-6, trials={"higher_rate": None}),
    ),
    (
        in_optimizer.units_killed,
        "optimizer/learning-rate-too-high",
        evidence(same_outputs=True),
        evidence(same_outputs=True, same_outputs_at_start=True),
    ),
    (
        in_optimizer.schedule_run_down,
        "optimizer/schedule-run-down",
        with_moved([1e-3] * 29 + [0.9e-6]),
        with_moved([1e-3] * 29 + [1.1e-6]),
    ),
    (
        in_optimizer.schedule_run_down,
        "optimizer/schedule-run-down",
        with_moved([1e-3] * 29 + [0.0], gradient_at_end=np.full(1, 0.11)),
        with_moved([1e-3] * 29 + [0.0], gradient_at_end=np.full(1, 0.1)),
    ),
    (
        in_optimizer.warm_up_too_long,
        "optimizer/warm-up-too-long",
        with_moved(list(np.linspace(0.0, 1e-5, 30))),
        with_moved([1e-6] * 30),
    ),
    (
        in_optimizer.clipped_steps,
        "optimizer/clipping-too-tight",
        evidence(moved=1e-6, declared_update=DeclaredUpdate(1.0, 1.0, 1.0)),
        evidence(moved=1e-6, declared_update=DeclaredUpdate(1.0, 10.0, 1.0)),
    ),
    (
        in_optimizer.clipped_steps,
        "optimizer/clipping-too-tight",
        evidence(moved=1e-6, declared_update=DeclaredUpdate(1.0, 1.0, 1.0)),
        evidence(moved=1e-6, declared_update=DeclaredUpdate(1.0, 1.0, 0.7)),
    ),
    (in_optimizer.steps_too_small, "optimizer/learning-rate-too-low", evidence(moved=1.9e-4), evidence(moved=2e-4)),
    (
        in_optimizer.steps_too_small,
        "optimizer/learning-rate-too-low",
        evidence(moved=9e-3, training=FALLING),
        evidence(moved=1e-2, training=FALLING),
    ),
    (
        in_optimizer.decay_swamps,
        "optimizer/weight-decay-too-strong",
        evidence(size_kept=0.89, outward_pull=0.21),
        evidence(size_kept=0.9, outward_pull=0.21),
    ),
    (
        in_optimizer.decay_swamps,
        "optimizer/weight-decay-too-strong",
        evidence(size_kept=0.5, outward_pull=0.21),
        evidence(size_kept=0.5, outward_pull=0.2),
    ),
    (
        in_optimizer.one_at_a_time,
        "optimizer/batch-too-small",
        evidence(setup=SimpleNamespace(batch_size=1), trials={"adam_learns": True}),
        evidence(setup=SimpleNamespace(batch_size=2), trials={"adam_learns": True}),
    ),
    (
        in_optimizer.optimizer_at_fault,
        "optimizer/cause-in-optimizer",
        evidence(trials={"adam_learns": True}),
        evidence(trials={"adam_learns": False}),
    ),
    (
        in_optimizer.regularized,
        "optimizer/regularization-too-strong",
        evidence(evaluation=[0.59]),
        evidence(evaluation=[0.61]),
    ),
    (
        in_model.same_outputs,
        "model/constant-outputs",
        evidence(same_outputs=True, same_outputs_at_start=True),
        evidence(same_outputs=True),
    ),
    (
        in_model.dead_units,
        "model/dead-units",
        evidence(same_outputs=True, same_outputs_at_start=True, opens_with_raised_biases=True),
        evidence(same_outputs=True, same_outputs_at_start=True),
    ),
    (
        in_model.input_ignored,
        "model/input-ignored",
        evidence(same_outputs=True, same_outputs_at_start=True),
        evidence(same_outputs=True, same_outputs_at_start=True, opens_with_raised_biases=True),
    ),
    (in_model.dropout_too_strong, "model/dropout-too-strong", evidence(noise=1.1), evidence(noise=1.0)),
    (
        in_model.saturating_activation,
        "model/saturating-activation",
        evidence(output_spread=0.009, between_layers=["sigmoid"]),
        evidence(output_spread=0.01, between_layers=["sigmoid"]),
    ),
    (in_model.signal_fades, "model/signal-fades", evidence(output_spread=0.009), evidence(output_spread=0.01)),
    (
        in_model.outputs_confined,
        "model/outputs-confined",
        evidence(bounds=Bounds(0.0, float("inf"))),
        evidence(bounds=None),
    ),
    (
        in_model.not_expressive,
        "model/not-expressive",
        evidence(trials={"plain_adam": (0.94, 300)}),
        evidence(trials={"plain_adam": (0.95, 9)}),
    ),
]


@pytest.mark.parametrize(
    ("hypothesis", "code", "inside", "outside"),
    BOTH_SIDES,
    ids=[f"{i}-{one[0].__name__}" for i, one in enumerate(BOTH_SIDES)],
)
def test_both_sides(hypothesis: Any, code: str, inside: Any, outside: Any) -> None:
    found = hypothesis(inside)
    assert found is not None
    assert found.code == code
    assert hypothesis(outside) is None


def test_confined_outputs_are_right_where_the_targets_stay_within() -> None:
    def head(targets: list[float]) -> Any:
        return SimpleNamespace(targets=np.asarray(targets), behavior=SimpleNamespace(form="real"))

    bounds = Bounds(0.0, float("inf"))
    assert in_model.outputs_confined(evidence(bounds=bounds, heads=[head([0.0, 5.0])])) is None
    assert in_model.outputs_confined(evidence(bounds=bounds, heads=[head([-1.0, 5.0])])) is not None


def test_the_experiment_decides_whether_the_optimizer_or_the_model_is_named_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never, always = lambda _: False, lambda _: True
    table = (
        Hypothesis(lambda _: cause("model/signal-fades"), "model", never),
        Hypothesis(lambda _: cause("optimizer/learning-rate-too-low"), "optimizer", never),
        Hypothesis(lambda _: cause("optimizer/cause-in-optimizer"), "left", never),
    )
    monkeypatch.setattr(explain, "HYPOTHESES", table)
    with_adam = evidence(trials={"adam_learns": True})
    learns, does_not = explain.explain(with_adam), explain.explain(evidence())
    assert [why.code for why in learns.causes][:2] == ["optimizer/learning-rate-too-low", "model/signal-fades"]
    assert [why.code for why in does_not.causes][:2] == ["model/signal-fades", "optimizer/learning-rate-too-low"]
    assert not learns.proven
    witnessed = Hypothesis(lambda _: cause("model/dead-units"), "left", always)
    monkeypatch.setattr(explain, "HYPOTHESES", (*table, witnessed))
    found = explain.explain(with_adam)
    assert found.causes[0].code == "model/dead-units", "what has a witness comes before what has none"
    assert (found.proven, found.certain) == (True, False)
    proof = Hypothesis(lambda _: cause("loss/flat", here="first"), "certain", always)
    twice = Hypothesis(lambda _: cause("loss/flat", here="second"), "left", never)
    monkeypatch.setattr(explain, "HYPOTHESES", (*table, twice, proof))
    found = explain.explain(with_adam)
    assert [why.code for why in found.causes].count("loss/flat") == 1
    assert found.causes[0].here == "first"
    assert found.certain


def test_there_is_always_something_to_say() -> None:
    left = [one for one in HYPOTHESES if one.side == "left"]
    for learns in (True, False):
        seen = evidence(trials={"adam_learns": learns, "plain_adam": (1.0 if learns else 0.0, 300)})
        assert any(one.explains(seen) is not None for one in left)
    assert all(code in CAUSES for _, code, _, _ in BOTH_SIDES)
