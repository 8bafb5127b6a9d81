"""Reports as strict JSON and back, without loss.

The format is the dataclasses of report/run.py, report/result.py and diagnosis/, field by field, with each result's
status and whether all is ok beside them. A field that is missing or unknown is an error. What JSON has no word for is
an object with a "$type":

- an evidence: "Curve", "Histogram", "Matrix", "Images" or "Table", and its fields;
- an array: "array", `dtype`, `shape` and `values` in C order or, when it is large, `base64` of its little-endian bytes;
- NaN and infinity: "float" and `value` "nan", "inf" or "-inf"; within the values of an array just these words.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from jaxrecipe.diagnosis.causes.cause import Cause
from jaxrecipe.diagnosis.finding import Finding
from jaxrecipe.diagnosis.measure import Measure, Severity
from jaxrecipe.report.evidence import Curve, Evidence, Histogram, Images, Matrix, Table
from jaxrecipe.report.result import Result, Status
from jaxrecipe.report.run import Run

FORMAT = 2
_KINDS: dict[str, type[Evidence]] = {kind.__name__: kind for kind in (Curve, Histogram, Matrix, Images, Table)}
_KIND_TYPES = tuple(_KINDS.values())
_MOST_VALUES = 4096
"""Arrays up to this size are written as numbers that other programs can read; larger ones as bytes."""
_ARRAY_KINDS = "biuf"
"""Booleans, integers and floats; nothing that could hold objects."""


def dumps(run: Run) -> str:
    """A report as strict JSON text."""
    document = {"format": FORMAT, "ok": run.ok, **_encode_fields(run)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def loads(text: str) -> Run:
    """The report that `dumps` wrote.

    Raises:
        ValueError: if the text is not JSON, is of another format, or holds something that no report holds.
    """
    document = json.loads(text)
    version = document.get("format") if isinstance(document, dict) else None
    if version != FORMAT:
        raise ValueError(f'not a report: wanted a JSON object with "format": {FORMAT}, got format {version!r}')
    try:
        results = tuple(_decode_result(result) for result in document["results"])
        return Run(**{**_decode_fields(Run, document, beside=("format", "ok")), "results": results})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a whole report: {type(error).__name__} {error}") from error


def _encode(value: Any) -> Any:
    """Any part of a report as what `json` can write."""
    if isinstance(value, _KIND_TYPES):
        return {"$type": type(value).__name__, **_encode_fields(value)}
    if isinstance(value, Result):
        return {**_encode_fields(value), "status": str(value.status)}
    if isinstance(value, Finding | Measure | Cause):
        return _encode_fields(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        if "$type" in value:
            raise ValueError(
                'a report cannot hold a mapping with the name "$type", which marks types in its JSON; rename it'
            )
        return {str(name): _encode(item) for name, item in value.items()}
    if hasattr(value, "dtype"):
        return _encode_array(np.asarray(value)) if np.ndim(value) else _encode_scalar(np.asarray(value).item())
    if isinstance(value, Sequence):
        return [_encode(item) for item in value]
    return _encode_scalar(value)


def _encode_fields(value: Any) -> dict[str, Any]:
    return {item.name: _encode(getattr(value, item.name)) for item in fields(value)}


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"$type": "float", "value": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a report holds numbers, words, arrays and sequences of them; got {type(value).__name__}")


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind not in _ARRAY_KINDS:
        array = array.astype(np.float32)  # bfloat16 and float8 are dtypes that plain numpy cannot name
    head = {"$type": "array", "dtype": array.dtype.name, "shape": list(array.shape)}
    if array.size > _MOST_VALUES:
        data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        return {**head, "base64": base64.b64encode(data).decode("ascii")}
    values = array.ravel().tolist()
    return {**head, "values": [str(v) if isinstance(v, float) and not math.isfinite(v) else v for v in values]}


def _decode(value: Any) -> Any:
    """The inverse of `_encode`; lists become tuples."""
    if isinstance(value, list):
        return tuple(_decode(item) for item in value)
    if not isinstance(value, dict):
        return value
    match value.get("$type"):
        case None:
            return {name: _decode(item) for name, item in value.items()}
        case "float":
            return float(value["value"])
        case "array":
            return _decode_array(value)
        case name if name in _KINDS:
            return _KINDS[name](**_decode_fields(_KINDS[name], value, beside=("$type",)))
        case name:
            raise ValueError(f"not a report: an object of $type {name!r}")


def _decode_fields(kind: type, value: Mapping[str, Any], beside: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass; an unknown one is an error, since it says something that would be lost."""
    names = [item.name for item in fields(kind)]
    if unknown := sorted(set(value) - {*names, *beside}):
        raise ValueError(
            f"not a report: a {kind.__name__} with {', '.join(unknown)}; it was written by another version"
        )
    return {name: _decode(value[name]) for name in names}


def _decode_result(value: Mapping[str, Any]) -> Result:
    decoded: dict[str, Any] = _decode_fields(Result, value, beside=("status",))
    ended = None if decoded["ended"] is None else Status(decoded["ended"])
    findings = tuple(_decode_finding(finding) for finding in value["findings"])
    measures = tuple(_decode_measure(measure) for measure in value["measures"])
    return Result(**{**decoded, "ended": ended, "findings": findings, "measures": measures})


def _decode_finding(value: Mapping[str, Any]) -> Finding:
    decoded: dict[str, Any] = _decode_fields(Finding, value)
    measures = tuple(_decode_measure(measure) for measure in value["measures"])
    causes = tuple(Cause(**_decode_fields(Cause, cause)) for cause in value["causes"])
    return Finding(**{**decoded, "severity": Severity(value["severity"]), "measures": measures, "causes": causes})


def _decode_measure(value: Mapping[str, Any]) -> Measure:
    decoded: dict[str, Any] = _decode_fields(Measure, value)
    return Measure(**{**decoded, "severity": Severity(decoded["severity"])})


def _decode_array(value: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(value["dtype"])
    if dtype.kind not in _ARRAY_KINDS:
        raise ValueError(f"not a report: an array of dtype {dtype}")
    if "base64" in value:
        data = base64.b64decode(value["base64"], validate=True)
        return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype).reshape(value["shape"])
    return np.array([float(v) if isinstance(v, str) else v for v in value["values"]], dtype).reshape(value["shape"])
