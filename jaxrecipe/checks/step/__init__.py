"""Stage "step": what can be seen of a training step alone, without its model, loss and optimizer."""
