"""What checks find, and how it is shown: as text, as a page, as JSON."""
