"""Reports as strict JSON and back, without loss.

The format is the dataclasses of report/result.py and of what is found, field by field, with each result's status beside them. What JSON has no word for is an object with a "$type":

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
from jaxrecipe.report.result import Curve, Evidence, Histogram, Images, Matrix, Report, Result, Status, Table

FORMAT = 2
_KINDS: dict[str, type[Evidence]] = {kind.__name__: kind for kind in (Curve, Histogram, Matrix, Images, Table)}
_MOST_VALUES = 4096
"""Arrays up to this size are written as numbers that other programs can read; larger ones as bytes."""
_ARRAY_KINDS = "biuf"
"""Booleans, integers and floats; nothing that could hold objects."""


def dumps(report: Report) -> str:
    """A report as strict JSON text."""
    document = {"format": FORMAT, "ok": report.ok, **_encode_fields(report)}
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def loads(text: str) -> Report:
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
        return Report(**{**_decode_fields(Report, document), "results": results})
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


_KIND_TYPES = tuple(_KINDS.values())


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
            return _KINDS[name](**_decode_fields(_KINDS[name], value))
        case name:
            raise ValueError(f"not a report: an object of $type {name!r}")


def _decode_fields(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: _decode(value[item.name]) for item in fields(kind)}


def _decode_result(value: Mapping[str, Any]) -> Result:
    decoded: dict[str, Any] = _decode_fields(Result, value)
    ended = None if decoded["ended"] is None else Status(decoded["ended"])
    findings = tuple(_decode_finding(finding) for finding in value["findings"])
    measures = tuple(_decode_measure(measure) for measure in value["measures"])
    return Result(**{**decoded, "ended": ended, "findings": findings, "measures": measures})


def _decode_finding(value: Mapping[str, Any]) -> Finding:
    return Finding(
        code=value["code"],
        severity=Severity(value["severity"]),
        message=value["message"],
        measures=tuple(_decode_measure(measure) for measure in value["measures"]),
        causes=tuple(Cause(**_decode_fields(Cause, cause)) for cause in value["causes"]),
    )


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
