"""Whether a simple predictor can tell the examples of two splits apart."""

import numpy as np

from jaxrecipe.probes.samples import Sample
from jaxrecipe.probes.simple_predictor import features_of, fit

DECIMALS = 9
"""Scores that agree to so many decimals are alike: they differ by rounding."""


def probability_of_telling_apart(train: Sample, test: Sample) -> tuple[float, float]:
    """Probability that a predictor ranks a test above a training example, each left out, and its standard error by
    chance.
    """
    from scipy.stats import rankdata

    both = {path: np.concatenate([leaf, test.inputs[path].astype(leaf.dtype)]) for path, leaf in train.inputs.items()}
    split = np.repeat([0.0, 1.0], [len(train.indices), len(test.indices)])
    features = features_of(both, train.kinds).of(both)
    if not features.shape[1]:
        return 0.5, 1.0
    ranks = rankdata(np.round(fit(features, split[:, None]).held_out[:, 0], DECIMALS))
    n, m = len(train.indices), len(test.indices)
    area = (ranks[split == 1].sum() - m * (m + 1) / 2) / (n * m)
    return float(area), float(np.sqrt((n + m + 1) / (12.0 * n * m)))
