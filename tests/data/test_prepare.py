"""Archives in CIFAR-10's format, made of random images by the test, prepared and read back; and every attack
refused."""

import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import sys
import tarfile

import numpy as np
import pytest

from jaxrecipe.data import archive as archive_module
from jaxrecipe.data import datasets
from jaxrecipe.data.archive import read_cifar10
from jaxrecipe.data.batches import stream
from jaxrecipe.data.prepare import prepare_cifar10

COUNT = 20
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def _small_and_offline(monkeypatch):
    """Twenty images a file instead of 10,000, and no network."""

    def refuse(*arguments, **keywords):
        raise AssertionError("tried the network")

    monkeypatch.setattr(archive_module, "IMAGES_PER_FILE", COUNT)
    monkeypatch.setattr(datasets, "CIFAR10_SIZES", {"train": 5 * COUNT, "test": COUNT})
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def random_batches():
    """`{name: (pixels uint8 [n, 3072] channel by channel, labels [n])}`."""
    rng = np.random.default_rng(0)
    return {name: (rng.integers(0, 256, (COUNT, 3072), dtype=np.uint8), rng.integers(0, 10, COUNT)) for name in NAMES}


def binary_file(pixels, labels):
    return b"".join(bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True))


def python2_pickle(pixels, labels):
    """The opcodes that Python 2 and old numpy wrote: str as bytes, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    state = b"(K\x01" + b"M" + struct.pack("<H", COUNT) + b"M" + struct.pack("<H", 3072) + b"\x86"
    dtype = (
        b"cnumpy\ndtype\n"
        + text(b"u1")
        + b"K\x00K\x01\x87R(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    raw = b"T" + struct.pack("<i", pixels.nbytes) + pixels.tobytes()
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = text(b"batch_label") + text(b"training batch") + text(b"labels") + listed
    return b"\x80\x02}(" + items + text(b"data") + array + state + dtype + b"\x89" + raw + b"tb" + b"u."


def modern_pickle(pixels, labels):
    return pickle.dumps({b"data": pixels, b"labels": labels.tolist()}, protocol=4)


def entry(name, content=b"", **changes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, content


def official_entries(suffix=".bin", folder="cifar-10-batches-bin", encode=binary_file):
    files = {f"{folder}/{name}{suffix}": encode(*batch) for name, batch in random_batches().items()}
    return [
        entry(folder, type=tarfile.DIRTYPE),
        *(entry(name, content) for name, content in files.items()),
        entry(f"{folder}/readme.html", b"<html></html>"),
        entry(f"{folder}/batches.meta.txt", b"airplane\n"),
    ]


def write_archive(path, entries):
    """Write a tar.gz and give its path and digest."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def image_by_loop(row):
    """Row by row: 1,024 reds, then greens, then blues, each 32 rows of 32."""
    image = np.zeros((32, 32, 3), np.uint8)
    for c in range(3):
        for y in range(32):
            for x in range(32):
                image[y, x, c] = row[c * 1024 + y * 32 + x]
    return image


VERSIONS = {
    "binary": (".bin", "cifar-10-batches-bin", binary_file),
    "python 2": ("", "cifar-10-batches-py", python2_pickle),
    "python 3": ("", "cifar-10-batches-py", modern_pickle),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_are_read_like_a_loop(tmp_path, version):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries(*VERSIONS[version]))
    splits = read_cifar10(path, sha256=digest.upper())
    batches = random_batches()
    for split, names in (("train", NAMES[:5]), ("test", NAMES[5:])):
        images, labels = splits[split]
        assert labels.tolist() == [int(label) for name in names for label in batches[name][1]]
        assert labels.dtype == np.int32
        rows = np.concatenate([batches[name][0] for name in names])
        assert len(images) == len(rows)
        for index in (0, 1, len(rows) - 1):
            np.testing.assert_array_equal(images[index], image_by_loop(rows[index]))


def test_prepared_data_are_read_back_without_tensorflow(tmp_path):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    made = prepare_cifar10(path, tmp_path / "data", sha256=digest)
    assert made == tmp_path / "data" / "cifar10" / "3.0.2"
    assert os.listdir(tmp_path / "data") == ["cifar10"]
    assert "tensorflow" not in sys.modules
    expected = read_cifar10(path, sha256=digest)
    for found, split in zip(datasets.cifar10(tmp_path / "data"), ("train", "test"), strict=True):
        np.testing.assert_array_equal(found[0], expected[split][0])
        np.testing.assert_array_equal(found[1], expected[split][1])
        assert found[0].dtype == np.uint8
        assert found[1].dtype == np.int32
    with pytest.raises(FileExistsError, match="exists already"):
        prepare_cifar10(path, tmp_path / "data", sha256=digest)


def test_prepared_data_stream_from_disk(tmp_path, monkeypatch):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    prepare_cifar10(path, tmp_path / "data", sha256=digest)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    _, test = datasets.cifar10(from_disk=True)
    images, labels = read_cifar10(path, sha256=digest)["test"]
    batches = list(stream(test, seed=0, batch_size=8, steps=3, shuffle=False))  # the last one repeats examples 0 to 3
    np.testing.assert_array_equal(
        np.concatenate([batch.inputs for batch in batches]), np.concatenate([images, images[:4]])
    )
    np.testing.assert_array_equal(np.concatenate([batch.targets for batch in batches])[:COUNT], labels)
    assert sum(int(batch.mask.sum()) for batch in batches) == COUNT


def test_names_of_the_labels_are_stored(tmp_path):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    made = prepare_cifar10(path, tmp_path, sha256=digest)
    assert (made / "label.labels.txt").read_text().split() == list(datasets.CIFAR10_CLASSES)


def test_absent_data_say_how_to_prepare_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such directory") as caught:
        datasets.cifar10(tmp_path)
    assert f"jaxrecipe prepare-cifar10 cifar-10-binary.tar.gz --data-dir {tmp_path}" in str(caught.value)


def test_half_prepared_data_say_what_is_missing(tmp_path):
    directory = tmp_path / "cifar10" / "3.0.2"
    directory.mkdir(parents=True)
    (directory / "cifar10-train.tfrecord-00000-of-00001").write_bytes(b"")
    (directory / "features.json").write_text("{}")
    with pytest.raises(
        FileNotFoundError, match=r"lacks dataset_info.json, array_record files; its TFRECORD files need TensorFlow"
    ):
        datasets.cifar10(tmp_path)


def test_another_number_of_examples_is_refused(tmp_path, monkeypatch):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    prepare_cifar10(path, tmp_path, sha256=digest)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"has \{'train': 100, 'test': 20\} examples; CIFAR-10 has \{'train': 50000"):
        datasets.cifar10(tmp_path)


def test_an_unofficial_archive_is_refused_unless_its_digest_is_given(tmp_path):
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    with pytest.raises(ValueError, match="not the official archive") as caught:
        prepare_cifar10(path, tmp_path / "data")
    assert digest in str(caught.value)
    assert archive_module.OFFICIAL_SHA256["cifar-10-binary.tar.gz"] in str(caught.value)
    with pytest.raises(ValueError, match=f"(?s){digest}.*wanted.*{'0' * 64}"):
        prepare_cifar10(path, tmp_path / "data", sha256="0" * 64)
    assert not (tmp_path / "data").exists()


def test_a_missing_archive_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        prepare_cifar10(tmp_path / "none.tar.gz", tmp_path)


def with_pickle(content):
    """The python version, whose first batch is replaced; what follows a pickle's end gives it a plausible size."""
    entries = official_entries(*VERSIONS["python 3"])
    entries[1] = entry("cifar-10-batches-py/data_batch_1", content + b"\0" * (COUNT * 3072))
    return entries


class Evil:
    """Would run a command when unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


EXTRA = "cifar-10-batches-bin/extra"
ATTACKS = {
    "parent": (lambda: [entry("cifar-10-batches-bin/../../evil", b"x")], "leads outside"),
    "absolute": (lambda: [entry("/etc/evil", b"x")], "leads outside"),
    "backslash": (lambda: [entry("..\\evil", b"x")], "leads outside"),
    "symbolic link": (lambda: [entry(EXTRA, type=tarfile.SYMTYPE, linkname="/etc/passwd")], "link or a device"),
    "hard link": (lambda: [entry(EXTRA, type=tarfile.LNKTYPE, linkname="/etc/passwd")], "link or a device"),
    "device": (lambda: [entry(EXTRA, type=tarfile.CHRTYPE)], "link or a device"),
    "linked batch": (
        lambda: [entry("cifar-10-batches-bin/data_batch_1.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd")],
        "link or a device",
    ),
    "elsewhere": (lambda: [entry("other/data_batch_1.bin", b"x")], "not part of CIFAR-10"),
    "deeper": (lambda: [entry("cifar-10-batches-bin/a/data_batch_1.bin", b"x")], "not part of CIFAR-10"),
    "oversize": (
        lambda: [entry("cifar-10-batches-bin/data_batch_1.bin", b"\0" * (COUNT * 3172 + 10_001))],
        "bytes; wanted 61,440 to",
    ),
    "one byte more": (
        lambda: [entry("cifar-10-batches-bin/data_batch_1.bin", b"\0" * (COUNT * 3073 + 1)), *official_entries()[2:]],
        "data_batch_1.bin has 61,461 bytes; wanted 61,460",
    ),
    "undersize": (lambda: [entry("cifar-10-batches-bin/data_batch_1.bin", b"\0" * 100)], "has 100 bytes"),
    "label 10": (
        lambda: [
            entry("cifar-10-batches-bin/data_batch_1.bin", b"\x0a" + b"\0" * (COUNT * 3073 - 1)),
            *official_entries()[2:],
        ],
        "labels from 0 to 10",
    ),
    "twice": (lambda: [official_entries()[1]] * 2, "twice"),
    "lacks a batch": (lambda: official_entries()[:6], "lacks test_batch"),
    "another pickle": (lambda: with_pickle(pickle.dumps([1, 2])), "data_batch_1 is not a batch.*a list"),
    "wrong shape": (
        lambda: with_pickle(pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0] * 2})),
        r"of shape \(2, 3072\)",
    ),
    "object array": (
        lambda: with_pickle(pickle.dumps({b"data": np.array([None]), b"labels": [0]})),
        r"data_batch_1 is not a batch",
    ),
    "persistent reference": (lambda: with_pickle(b"\x80\x02Pother\n."), "objects elsewhere"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_attack_is_refused_and_writes_nothing(tmp_path, attack):
    make, message = ATTACKS[attack]
    path, digest = write_archive(tmp_path / "a.tar.gz", make())
    with pytest.raises(ValueError, match=message):
        prepare_cifar10(path, tmp_path / "data", sha256=digest)
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz"]


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_code_is_refused(tmp_path, protocol):
    marker = tmp_path / "ran"
    path, digest = write_archive(tmp_path / "a.tar.gz", with_pickle(pickle.dumps(Evil(marker), protocol)))
    with pytest.raises(ValueError, match=r"asks for \w+\.system"):
        prepare_cifar10(path, tmp_path / "data", sha256=digest)
    assert not marker.exists()


def test_a_truncated_archive_is_refused(tmp_path):
    path, _ = write_archive(tmp_path / "a.tar.gz", official_entries())
    whole = path.read_bytes()
    for kept in (0, 5, 100, len(whole) // 2, len(whole) - 50_000):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"damaged or cut off|lacks"):
            prepare_cifar10(path, tmp_path / "data", sha256=hashlib.sha256(whole[:kept]).hexdigest())
    assert sorted(os.listdir(tmp_path)) == ["a.tar.gz"]


def test_an_archive_that_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "a.tar.gz"
    for content in (b"not gzip at all", gzip.compress(b"not a tar" * 1000)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or cut off"):
            read_cifar10(path, sha256=hashlib.sha256(content).hexdigest())


def test_too_large_an_archive_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_module, "LARGEST_ARCHIVE", 1000)
    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        read_cifar10(path, sha256=digest)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_gzip_bomb_is_refused_while_it_unpacks(tmp_path, monkeypatch, kind):
    """A harmless name, or a header extension that tarfile reads whole, with far more zeros than the cap."""
    monkeypatch.setattr(archive_module, "LARGEST_CONTENT", 1_000_000)
    path, digest = write_archive(
        tmp_path / "a.tar.gz", [entry("cifar-10-batches-bin/readme.html", b"\0" * 3_000_000, type=kind)]
    )
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="unpacks to more than 1,000,000 bytes"):
        read_cifar10(path, sha256=digest)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    from PIL import Image

    path, digest = write_archive(tmp_path / "a.tar.gz", official_entries())
    real, calls = Image.fromarray, []

    def failing(image):
        calls.append(1)
        if len(calls) > 30:
            raise OSError("No space left on device")
        return real(image)

    monkeypatch.setattr(Image, "fromarray", failing)
    with pytest.raises(OSError, match="No space left"):
        prepare_cifar10(path, tmp_path / "data", sha256=digest)
    assert os.listdir(tmp_path / "data") == ["cifar10"]
    assert os.listdir(tmp_path / "data" / "cifar10") == []
