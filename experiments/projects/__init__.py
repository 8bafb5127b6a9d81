"""Public JAX projects as controls: what the recipe says of programs that nobody wrote for it."""
