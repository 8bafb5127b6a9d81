"""Everything that can be seen to be wrong with a task before anything is trained: all of it at once, by shapes and a
few examples.
"""

from jaxrecipe.validate.problem import InvalidTaskError, Problem
from jaxrecipe.validate.run import problems, validate

__all__ = ["InvalidTaskError", "Problem", "problems", "validate"]
