"""Which inputs are numbers on a scale, and which are tokens or categories."""

import numpy as np

from jaxrecipe.probes.copies import is_integer, is_picture


def has_scale(leaf: np.ndarray) -> bool:
    """Whether a leaf holds numbers that have a scale, and no tokens or categories."""
    return not is_integer(leaf) or is_picture(leaf) or leaf.dtype == np.uint8
