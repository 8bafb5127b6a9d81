"""Read CIFAR-10's official archives safely: digest first, in memory, by exact name, with caps, no code ever run from
them.
"""

import gzip
import hashlib
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

Split = tuple[UInt8[np.ndarray, "_ 32 32 3"], Int[np.ndarray, "_"]]

OFFICIAL_SHA256 = {
    "cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
}
"""SHA-256 of the official archives, as recorded by tensorflow-datasets (binary) and Keras (python).

The MD5 on the CIFAR-10 page, c32a1d4ab5d03f1284b67883e8d87530 and c58f30108f718f92721af3b95e74349a, no longer protects.
"""
LARGEST_ARCHIVE = 200_000_000
"""Bytes; the official ones have 170,052,171 and 170,498,071."""
LARGEST_CONTENT = 256_000_000
"""Bytes of the unpacked stream; the official ones have about 186,000,000."""
IMAGES_PER_FILE = 10_000
_PIXELS = 3 * 32 * 32
_FOLDERS = {"cifar-10-batches-bin": ".bin", "cifar-10-batches-py": ""}


def read_cifar10(archive: str | os.PathLike[str], *, sha256: str | None = None) -> dict[str, Split]:
    """The images and labels of an official CIFAR-10 archive (binary or python version), without unpacking it to disk.

    Args:
        archive: path of `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`.
        sha256: accept the archive with this digest instead of the two official ones. Only for an archive that you
            trust.

    Returns:
        `{"train": (images, labels), "test": ...}`: uint8 `[n, 32, 32, 3]` and int32 `[n]`, in the order of the files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the digest is not the expected one, or the content is not that of CIFAR-10 (with what is wrong).
    """
    files = _members(_verified(Path(archive), sha256))
    suffix = ".bin" if any(name.endswith(".bin") for name in files) else ""
    names = [*(f"data_batch_{number}{suffix}" for number in range(1, 6)), f"test_batch{suffix}"]
    missing = sorted(set(names) - set(files))
    if missing:
        raise ValueError(f"{archive} is not a whole CIFAR-10 archive: it lacks {', '.join(missing)}")
    parts = {name: _decode(name, files.pop(name)) for name in names}
    train = [parts[name] for name in names[:-1]]
    images, labels = (np.concatenate(arrays) for arrays in zip(*train, strict=True))
    return {"train": (images, labels), "test": parts[names[-1]]}


def _verified(path: Path, sha256: str | None) -> bytes:
    """The archive's bytes. They are held in memory, so that what is read later is what was checked."""
    with path.open("rb") as file:
        content = file.read(LARGEST_ARCHIVE + 1)
    if len(content) > LARGEST_ARCHIVE:
        raise ValueError(
            f"{path} has more than {LARGEST_ARCHIVE:,} bytes; the official archives have about 170,000,000"
        )
    found = hashlib.sha256(content).hexdigest()
    wanted = {"the given digest": sha256.lower()} if sha256 else OFFICIAL_SHA256
    if found not in wanted.values():
        listed = "\n".join(f"    {digest} ({name})" for name, digest in wanted.items())
        raise ValueError(
            f"{path} ({len(content):,} bytes) is not the official archive, or was not downloaded whole. Its SHA-256 "
            "is\n"
            f"    {found}\nwanted\n{listed}\nDownload it again from https://www.cs.toronto.edu/~kriz/cifar.html."
        )
    return content


class _Capped(io.RawIOBase):
    """A stream that refuses to give more than a number of bytes, however much its source would unpack to."""

    def __init__(self, source: gzip.GzipFile, limit: int) -> None:
        self.source, self.left = source, limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self.source.read(min(len(buffer), self.left + 1))
        self.left -= len(chunk)
        if self.left < 0:
            raise ValueError(f"the archive unpacks to more than {LARGEST_CONTENT:,} bytes; refused")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def _members(archive: bytes) -> dict[str, bytes]:
    """The batch files by name. Nothing is written to disk; an odd member condemns the archive."""
    files: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(archive)) as unpacked:
            stream = io.BufferedReader(_Capped(unpacked, LARGEST_CONTENT))  # pyright: ignore[reportArgumentType]
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    name = _checked_name(member)
                    if name in files:
                        raise ValueError(f"the archive holds {member.name!r} twice; refused")
                    if name is not None:
                        files[name] = _read_whole(tar, member)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"the archive is damaged or cut off: {error}") from error
    return files


def _checked_name(member: tarfile.TarInfo) -> str | None:
    """The batch that a member holds, None if it is a harmless extra; anything that has no place in the archive is
    refused.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise ValueError(f"the archive holds {member.name!r}, a path that leads outside of it; refused")
    if not (member.isfile() or member.isdir()):
        raise ValueError(f"the archive holds {member.name!r}, which is a link or a device, not a file; refused")
    suffix = _FOLDERS.get(path.parts[0]) if path.parts else None
    if suffix is None or len(path.parts) > 2:
        raise ValueError(f"the archive holds {member.name!r}, which is not part of CIFAR-10; refused")
    is_batch = path.name.endswith(suffix) and path.name.startswith(("data_batch_", "test_batch"))
    return path.name if member.isfile() and is_batch else None


def _read_whole(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """A batch file; they have 3,073 bytes an image (binary), or 3,072 and some more (python)."""
    images = IMAGES_PER_FILE * _PIXELS
    most = images + IMAGES_PER_FILE * 100 + 10_000
    if not images <= member.size <= most:
        raise ValueError(
            f"{member.name!r} has {member.size:,} bytes; wanted {images:,} to {most:,} for {IMAGES_PER_FILE:,} images"
        )
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        raise ValueError(
            f"the archive is damaged or cut off: {member.name!r} has {len(content):,} of {member.size:,} bytes"
        )
    return content


def _decode(name: str, content: bytes) -> Split:
    """One batch file: of the binary version if its name ends so, else of the python version."""
    if name.endswith(".bin"):
        if len(content) != IMAGES_PER_FILE * (_PIXELS + 1):
            raise ValueError(f"{name} has {len(content):,} bytes; wanted {IMAGES_PER_FILE * (_PIXELS + 1):,}")
        rows = np.frombuffer(content, np.uint8).reshape(IMAGES_PER_FILE, _PIXELS + 1)
        labels, pixels = rows[:, 0].astype(np.int32), rows[:, 1:]
    else:
        labels, pixels = _from_pickle(name, content)
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}; CIFAR-10 has 0 to 9")
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels


class _Recorded:
    """Stands in for whatever numpy object a pickle describes: keeps its description, runs nothing."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Restricted(pickle.Unpickler):
    """An unpickler that can make numbers, strings, lists, dicts and `_Recorded`, and nothing else."""

    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self.allowed:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which no CIFAR-10 file needs; refused"
            )
        return _Recorded

    def persistent_load(self, pid: Any, /) -> Any:  # noqa: ARG002
        raise pickle.UnpicklingError("it refers to objects elsewhere; refused")


def _from_pickle(name: str, content: bytes) -> tuple[Int[np.ndarray, "_"], UInt8[np.ndarray, "_ 3072"]]:
    """Labels and pixels of a batch of the python version, rebuilt from the raw bytes that the pickle describes."""
    try:
        loaded = _Restricted(io.BytesIO(content), encoding="bytes").load()
        if not isinstance(loaded, Mapping):
            raise ValueError(f"it holds a {type(loaded).__name__}, not a dict")
        _, shape, dtype, fortran, raw = loaded[b"data"].state
        if dtype.arguments[0] not in (b"u1", "u1") or tuple(shape) != (IMAGES_PER_FILE, _PIXELS):
            raise ValueError(f"its data are {dtype.arguments[0]!r} of shape {shape}")
        pixels = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")
        labels = np.array(loaded[b"labels"], np.int32)
        if labels.shape != (IMAGES_PER_FILE,):
            raise ValueError(f"it has labels of shape {list(labels.shape)}")
    except Exception as error:  # whatever a hostile or damaged pickle makes fail
        raise ValueError(f"{name} is not a batch of CIFAR-10's python version: {error}") from error
    return labels, pixels
