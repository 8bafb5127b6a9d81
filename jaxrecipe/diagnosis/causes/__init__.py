"""The table of causes, an area a file."""
