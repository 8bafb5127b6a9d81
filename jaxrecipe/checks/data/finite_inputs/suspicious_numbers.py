"""Numbers that are no measurements: two scales in one split, codes for missing values, what 32 bits cannot hold."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Int

from jaxrecipe.checks.data.finite_inputs.ranges import Scan
from jaxrecipe.data.sources import Source
from jaxrecipe.diagnosis.finding import Finding, failure, warning
from jaxrecipe.probes.reading import by_path, prepared_inputs
from jaxrecipe.setup import Setup, Split

TRIED = 256
"""Examples that are prepared to see what becomes of them."""
CODES = (-9.0, -99.0, 99.0, -999.0, 999.0, -9999.0, 9999.0, -99999.0, 99999.0, -(2.0**31), 2.0**31 - 1, 1e20, 1e30)
"""Numbers that people write for "missing"."""
APART = 5.0
"""A repeated value is no measurement when it lies more than this many ranges of all the others away from them."""
TOO_LARGE = float(np.sqrt(np.finfo(np.float32).max))
"""Above this a square overflows in float32."""
MOST_SORTED = 20_000
"""Examples of which columns are sorted."""
SMALL_TABLE = 512
"""Columns up to which each is searched for a code."""
TWO_SCALES = 10.0
"""A gap of this factor, with nothing in it, between the sizes of examples makes two groups of them."""
STILL_APART = TWO_SCALES / 3
"""Groups, or columns of theirs, that are apart by a factor like this are still on two scales."""
FEWEST_OF_A_GROUP = 5
"""Examples that make a group at least; fewer are outliers."""
LOOKED_AT = 64
"""Examples of each group that are prepared and compared."""
MOSTLY = 0.5
"""Share of the columns in which the groups must be apart; where fewer are, some column of its own is large."""
SAME_RATIO = 0.01
"""Relative difference up to which a ratio of two scales is one of those that bytes make."""
LEAST_REST = 20
"""Other values of a column that it takes to say that one stands apart."""
STANDS_OUT = 2.0
"""After preparation, examples with a code that are this many times as large as others still stand out."""
BITS_OF_NOISE = 64
"""A column that varies by fewer than so many steps of float32 loses what distinguishes its values."""


def _stored(source: Source, rows: Int[np.ndarray, "k"], path: str) -> np.ndarray:
    """One input of some examples as stored, `[k, features]`."""
    return by_path(source.gather(rows)[0])[path].reshape(len(rows), -1)


def scales(setup: Setup, split: Split, source: Source, scan: Scan, mixed: float) -> Iterator[Finding]:
    """Two groups of examples whose sizes are far apart, with nothing between them."""
    if scan.integer:
        return
    kept = np.flatnonzero(np.nan_to_num(scan.sizes) > 0)
    order = kept[np.argsort(scan.sizes[kept], kind="stable")]
    least = max(FEWEST_OF_A_GROUP, int(mixed * len(order)))
    if len(order) < 2 * least:
        return
    sizes = scan.sizes[order]
    gaps = sizes[least : -least + 1] / sizes[least - 1 : -least]
    cut = least + int(gaps.argmax())
    if gaps.max() < TWO_SCALES:
        return
    small, large = (
        scan.rows[np.sort(group[:: max(1, len(group) // LOOKED_AT)][:LOOKED_AT])]
        for group in (order[:cut], order[cut:])
    )
    after = [_median_size(prepared_inputs(setup, split, rows).get(scan.path)) for rows in (small, large)]
    if after[1] < STILL_APART * after[0]:
        return
    stored = [_stored(source, rows, scan.path).astype(np.float64) for rows in (small, large)]
    typical = [np.abs(values).mean(axis=0) for values in stored]
    nonzero = typical[0] + typical[1] > 0
    if (typical[1] > STILL_APART * typical[0])[nonzero].mean() < MOSTLY:
        return  # some column of its own is large
    whole = [bool((values == np.rint(values)).all()) for values in stored]
    ratio = sizes[-1] / sizes[cut - 1]
    bytes_of_one = any(abs(ratio / known - 1) < SAME_RATIO for known in (127.5, 128, 255, 256, 65535, 65536))
    exact = bytes_of_one or (whole[1] and not whole[0] and sizes[cut - 1] <= 1.0 + 1e-6)
    text = (
        f"{split}, {scan.path}: {cut} examples reach up to {sizes[cut - 1]:.3g} and {len(order) - cut} others from "
        f"{sizes[cut]:.3g} to {sizes[-1]:.3g}, with nothing between."
    )
    yield (failure if exact else warning)("data/mixed-scale", text)


def codes(setup: Setup, split: Split, source: Source, scan: Scan) -> Iterator[Finding]:
    """Codes for missing values, and numbers too large to be squared."""
    if scan.integer or not scan.low.size:
        return
    huge = scan.rows[np.nan_to_num(scan.sizes) > TOO_LARGE]
    if huge.size:
        after = prepared_inputs(setup, split, huge[:TRIED])
        if any((np.abs(leaf[np.isfinite(leaf)]) > TOO_LARGE).any() for leaf in after.values()):
            text = (
                f"{split}, {scan.path}: {len(huge)} examples hold numbers as large as {np.nanmax(scan.sizes):.1e}, "
                "first "
                f"example {huge[0]}."
            )
            yield failure("data/huge-values", text)
            return
    rows = np.setdiff1d(scan.rows[:: max(1, len(scan.rows) // MOST_SORTED)], scan.bad)
    table = len(scan.shape) <= 1 and len(scan.low) <= SMALL_TABLE
    values = _stored(source, rows if table else rows[:SMALL_TABLE], scan.path)
    columns = values.T if table else [values.ravel()]
    coded = {number: code for number, column in enumerate(columns) if (code := _code(column)) is not None}
    known = {number: code for number, code in coded.items() if code in CODES}
    if not coded:
        return
    number, code = next(iter((known or coded).items()))
    column = columns[number]
    if not _stays(setup, split, scan, rows[column == code] if table else rows[(values == code).any(axis=1)]):
        return
    where = f"in {len(coded)} of {len(columns)} columns (first column {number})" if table else "in it"
    times = int((column == code).sum())
    text = f"{split}, {scan.path}: the value {code:g} occurs {where} {times} times, far from all the others."
    rest = column[column != code]
    far = max(rest.min() - code, code - rest.max()) > APART * np.ptp(rest)
    yield (failure if known and far else warning)("data/missing-value-code", text)


def _code(column: np.ndarray) -> float | None:
    """A value at one end of a column that is repeated and far from the others, or negative where no other is and a
    known code.
    """
    ordered = np.sort(column.astype(np.float64))
    for end in (ordered, -ordered[::-1]):
        times = int(np.searchsorted(end, end[0], side="right"))
        rest = end[times:]
        value = float(end[0] if end is ordered else -end[0])
        if times < 2 or len(rest) < LEAST_REST or value == 0:
            continue
        if 0 < APART * (rest[-1] - rest[0]) < rest[0] - end[0]:
            return value
        if end is ordered and value in CODES and value < 0 <= rest[0]:
            return value
    return None


def _stays(setup: Setup, split: Split, scan: Scan, rows: Int[np.ndarray, "k"]) -> bool:
    """Whether the code still stands out after preparation: the examples with it are far larger than the others."""
    others = np.setdiff1d(scan.rows, rows)[:TRIED]
    if setup.task.prepare is None or not others.size:
        return True
    with_code, without = (
        _median_size(prepared_inputs(setup, split, some).get(scan.path)) for some in (rows[:TRIED], others)
    )
    return not with_code <= STANDS_OUT * without


def _median_size(leaf: np.ndarray | None) -> float:
    """The median over examples of the largest absolute value; NaN where there is no such input."""
    return float("nan") if leaf is None else float(np.median(np.abs(leaf).reshape(len(leaf), -1).max(axis=1)))


def narrowed(split: Split, scan: Scan) -> Iterator[Finding]:
    """Numbers that 32 bits cannot hold, and bytes that were read as signed."""
    if not scan.low.size:
        return
    where, low, high = f"{split}, {scan.path}", float(scan.low.min()), float(scan.high.max())
    wide = scan.integer and scan.dtype.itemsize == 8 and not jax.config.jax_enable_x64  # type: ignore[attr-defined]
    if wide and (low < -(2**31) or high > 2**31 - 1):
        yield failure(
            "data/integers-overflow", f"{where}: integers from {low:.0f} to {high:.0f} do not fit into 32 bits."
        )
    if scan.dtype == np.int8 and scan.kind == "image" and low < 0:
        yield warning("data/bytes-read-as-signed", f"{where}: images are stored as int8, from {low:g} to {high:g}.")
    if scan.integer or len(scan.shape) > 1:
        return
    reach = np.maximum(np.abs(scan.low), np.abs(scan.high)).astype(np.float64)
    spread = scan.high.astype(np.float64) - scan.low
    rounded = np.flatnonzero((spread > 0) & (spread < BITS_OF_NOISE * reach * 2.0**-24))
    if rounded.size:
        first = rounded[0]
        text = (
            f"{where}: {rounded.size} columns vary by less than float32 can tell (column {first}: "
            f"{scan.low[first]:.10g} to {scan.high[first]:.10g})."
        )
        yield warning("data/rounded-away", text)
