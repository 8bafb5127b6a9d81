"""human_baseline: a person is compared with what takes no skill, and who has no figure is told how to get one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jaxrecipe.checks.skeleton.human_baseline import human_baseline
from jaxrecipe.report.result import Result, Status
from jaxrecipe.task import Task
from tests.zoo.healthy import (
    autoencoder_task,
    binary_task,
    contrastive_task,
    digits_task,
    heads_task,
    language_model_task,
    multi_label_task,
)

F, W, P, S = Status.FAIL, Status.WARN, Status.PASS, Status.SKIP


def leaking_task() -> Task:
    """Two thirds of the rows are noise to a person; one column is the label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1500).astype(np.int32)
    x = np.concatenate([np.eye(10)[y], rng.normal(size=(1500, 54))], axis=1).astype(np.float32)
    return digits_task(train=(x[:1000], y[:1000]), test=(x[1000:], y[1000:]), prepare=None)


CASES: list[tuple[Callable[[], Task], float | None, Status, tuple[str, ...]]] = [
    (digits_task, None, S, ()),
    (autoencoder_task, None, S, ()),
    (contrastive_task, 0.9, S, ()),
    (digits_task, 0.99, P, ()),
    (lambda: digits_task(test=None), 0.99, P, ()),
    (heads_task, 0.98, P, ()),
    (binary_task, 0.97, P, ()),
    (multi_label_task, 1.0, P, ()),
    (language_model_task, 0.99, P, ()),
    (binary_task, 0.6, W, ("data/human-figure-doubtful", "data/imbalance", "data/leaked-label")),
    (digits_task, 0.7, W, ("data/human-figure-doubtful", "data/leaked-label")),
    (leaking_task, 0.8, W, ("data/human-figure-doubtful", "data/leaked-label")),
    (digits_task, 0.02, F, ("data/human-figure-doubtful",)),
    (digits_task, 98.0, F, ("data/human-figure-no-share",)),
]


@pytest.mark.parametrize(("make", "human", "status", "causes"), CASES, ids=range(len(CASES)))
def test_the_status_and_its_causes(
    run: Callable[..., Result], make: Callable[[], Task], human: float | None, status: Status, causes: tuple[str, ...]
) -> None:
    result = run(human_baseline, make().replace(human=human))
    assert result.status is status, result.headline
    assert result.codes == causes[:1]
    assert tuple(cause.code for finding in result.findings for cause in finding.causes) == causes


def test_the_baselines_are_those_of_scikit_learn(run: Callable[..., Result]) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import RidgeClassifier
    from sklearn.preprocessing import StandardScaler

    task: Any = digits_task(human=0.99)
    (x, y), (x_test, y_test) = (
        (images.reshape(len(images), -1).astype(np.float64), labels) for images, labels in (task.train, task.test)
    )
    scaler = StandardScaler().fit(x)
    linear = RidgeClassifier(alpha=0.1 * len(x)).fit(scaler.transform(x), y).score(scaler.transform(x_test), y_test)
    dummy = DummyClassifier(strategy="most_frequent").fit(x, y).score(x_test, y_test)
    measured = run(human_baseline, task).measured
    assert measured["the most common answer"] == pytest.approx(dummy)
    assert measured["a linear model"] == pytest.approx(linear, abs=0.02)


def test_a_finer_figure_needs_more_labels(run: Callable[..., Result]) -> None:
    coarse, fine = (run(human_baseline, digits_task(), precision=width) for width in (0.03, 0.01))
    assert coarse.measured["examples to label"] == 210
    assert fine.measured["examples to label"] > 359
