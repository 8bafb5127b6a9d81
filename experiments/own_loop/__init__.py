"""A project with a training loop of its own, checked as it is."""
