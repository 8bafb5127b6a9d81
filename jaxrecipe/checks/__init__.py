"""The checks, in a folder for each stage of the recipe."""
