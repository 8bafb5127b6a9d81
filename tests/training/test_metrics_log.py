import json
import struct
from pathlib import Path

import pytest

from jaxrecipe.training.metrics_log import both, jsonl_writer, tensorboard_writer


def lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_a_step_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    with jsonl_writer(path) as write:
        write(1, {"loss": 0.5})
        assert lines(path) == [{"step": 1, "loss": 0.5}]
        write(1, {"test/loss": 0.25})
    assert lines(path) == [{"step": 1, "loss": 0.5}, {"step": 1, "test/loss": 0.25}]


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with jsonl_writer(path) as write:
        write(1, {"a": float("nan"), "b": float("inf"), "c": -float("inf")})
    assert path.read_text() == '{"step": 1, "a": "nan", "b": "inf", "c": "-inf"}\n'
    assert float(lines(path)[0]["b"]) == float("inf")


def test_a_resumed_run_replaces_what_it_repeats_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with jsonl_writer(path) as write:
        for step in (1, 2, 3, 4):
            write(step, {"loss": float(step)})
    torn = path.read_text() + '{"step": 5, "lo'
    path.write_text(torn)
    with jsonl_writer(path) as write:
        write(3, {"loss": 30.0})
        write(4, {"loss": 40.0})
    assert [line["loss"] for line in lines(path)] == [1, 2, 30, 40]
    assert (tmp_path / "metrics.jsonl.old").read_text() == torn


def test_a_later_run_appends(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        with jsonl_writer(path) as write:
            write(step, {"loss": 1.0})
    assert [line["step"] for line in lines(path)] == [1, 2]
    assert not (tmp_path / "metrics.jsonl.old").exists()


def test_a_file_that_cannot_be_written_says_so_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), jsonl_writer(tmp_path / "file" / "metrics.jsonl"):
        pass


def test_both_calls_each_in_turn() -> None:
    calls: list[tuple[str, int]] = []
    both(lambda step, _: calls.append(("a", step)), lambda step, _: calls.append(("b", step)))(7, {})
    assert calls == [("a", 7), ("b", 7)]


def test_tensorboard_events_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with tensorboard_writer(tmp_path) as write:
        write(1, {"loss": 0.5, "accuracy": 0.25})
        write(2, {"loss": 0.125})
    assert scalars(tmp_path) == [("loss", 1, 0.5), ("accuracy", 1, 0.25), ("loss", 2, 0.125)]


def scalars(directory: Path) -> list[tuple[str, int, float]]:
    """Every scalar of the one event file, by its record format: length, 4 bytes, an Event message, 4 bytes."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    (path,) = directory.iterdir()
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    return found
