"""A bare training step as a loop, without a word on how it is called: that is found out by calling it."""

from jaxrecipe.adapters.step.of_step import BareStep, bare_step

__all__ = ["BareStep", "bare_step"]
