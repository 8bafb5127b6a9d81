"""Command-line values in their Python form; each function is an argparse `type`, so a mistake is a usage error."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from jaxrecipe.report.evidence import Scalar


def names(text: str) -> list[str]:
    """`a,b` as a list; dashes may stand for underscores."""
    return [part.strip().replace("-", "_") for part in text.split(",") if part.strip()]


def exact_names(text: str) -> list[str]:
    """`a,b` as a list, as it is written."""
    return [part.strip() for part in text.split(",") if part.strip()]


def calls(text: str) -> int:
    """A whole number, 2 or more."""
    value = scalar(text)
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted a whole number, 2 or more")
    return value


def threshold(text: str) -> tuple[str, str, Scalar]:
    """`check.name=value` (`*.name=value` for every check that has it) as `(check, name, value)`."""
    path, equals, value = text.partition("=")
    check, dot, name = path.strip().rpartition(".")
    if not (equals and dot and check and name and value.strip()):
        raise argparse.ArgumentTypeError(
            f"got {text!r}; wanted check.threshold=value, such as overfit_one_batch.steps=500"
        )
    return check.replace("-", "_"), name.replace("-", "_"), scalar(value.strip())


def scalar(text: str) -> Scalar:
    """A bool, an int or a float where the text reads as one, else the text."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def expectation(text: str) -> tuple[str, str]:
    """`check=reason` as a pair."""
    check, equals, reason = text.partition("=")
    if not (equals and check.strip() and reason.strip()):
        raise argparse.ArgumentTypeError(f'got {text!r}; wanted check=reason, such as init_well="the prior is unknown"')
    return check.strip().replace("-", "_"), reason.strip()


def output(text: str) -> Path:
    """A file that can be written, found out before anything is computed."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory; wanted a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.parent}; make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written")
    return path


def seed(text: str) -> int:
    """A whole number, 0 or more."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted a whole number, 0 or more")
    return value


def seconds(text: str) -> float:
    """A positive number of seconds."""
    value = scalar(text)
    if isinstance(value, str) or not value > 0:
        raise argparse.ArgumentTypeError(f"got {text!r}; wanted seconds, more than 0")
    return float(value)


def by_check(given: Iterable[tuple[str, str, Scalar]]) -> dict[str, dict[str, Scalar]]:
    """`{check: {threshold: value}}`; of two values for one threshold the later one counts."""
    thresholds: dict[str, dict[str, Scalar]] = {}
    for check, name, value in given:
        thresholds.setdefault(check, {})[name] = value
    return thresholds
