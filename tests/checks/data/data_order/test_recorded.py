"""The order of batches that a bare step was given."""

import numpy as np

from jaxrecipe.checks.data.data_order import data_order
from jaxrecipe.report.result import Status
from tests.zoo import bare


def sgd_step():
    """A step that runs under strict promotion."""
    params = {"w": np.zeros((bare.FEATURES, bare.CLASSES), np.float32)}

    def step(params, x, y):
        return {"w": params["w"] + 0 * x.sum() * y.sum().astype(np.float32)}, {"loss": x.mean()}

    return step, params


def test_batches_in_the_order_in_which_they_came(run):
    x, y = bare.data(0)
    assert run(data_order, bare.task_of((*sgd_step(), bare.batches(x, y)))).status is Status.PASS
    order = np.argsort(y, kind="stable")
    result = run(data_order, bare.task_of((*sgd_step(), bare.batches(x[order], y[order]))))
    assert (result.status, result.codes) == (Status.WARN, ("data/sorted",))


def test_the_same_batch_every_time(run):
    first = bare.batches(*bare.data(0))[0]
    result = run(data_order, bare.task_of((*sgd_step(), [first] * 5)))
    assert (result.status, result.codes) == (Status.WARN, ("data/same-batch",))
    assert run(data_order, bare.task_of((*sgd_step(), [first]))).status is Status.PASS
