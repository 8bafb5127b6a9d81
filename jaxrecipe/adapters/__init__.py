"""Models of Flax Linen, Flax NNX and Equinox as the two pure functions of `Model`; a plain function is a `Model` by
itself.

What all adapters keep to:

- `params` is a nested dict of arrays, and so is `state` (`{}` when there is none); the state that comes back has the
  structure of the one that went in.
- `train` chooses between training and evaluation in the library's own way: a flag of the call, an attribute, a field.
- All randomness follows `key`. In evaluation without a key, whatever is still random draws from one fixed key, so that
  dropout that was left on shows instead of raising. In training without a key, what needs randomness raises.
- The user's object is never changed, and no array of it is handed out where it could be donated.
"""

from jaxrecipe.adapters.of_equinox import equinox
from jaxrecipe.adapters.of_linen import linen
from jaxrecipe.adapters.of_nnx import nnx

__all__ = ["equinox", "linen", "nnx"]
