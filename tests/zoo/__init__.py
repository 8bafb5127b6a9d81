"""A zoo of small training set-ups: healthy ones that every check must leave alone, and ways to break them."""
