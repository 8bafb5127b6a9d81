"""The demonstration: one healthy set-up on real data, and known silent bugs to plant in it."""
