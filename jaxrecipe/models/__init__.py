"""Models to try the recipe on: small ones for demonstrations, and the DPN family for the precision benchmark."""
