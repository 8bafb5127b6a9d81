"""A benchmark of silent faults: every one that the catalogue knows, planted in a healthy set-up, beside healthy
controls.
"""
