"""Text that Python ships, as numbers of characters."""

import pydoc_data.topics

import numpy as np

CHARACTERS = 128


def prose() -> np.ndarray:
    """What Python says of its language, in ASCII."""
    topics: dict[str, str] = pydoc_data.topics.topics
    text = "".join(topics[name] for name in sorted(topics))
    return np.array([ord(character) for character in text if ord(character) < CHARACTERS], np.int32)
