"""What is silently wrong with your training set-up: the recipe for training neural networks, as checks."""

__version__ = "0.1.0"
