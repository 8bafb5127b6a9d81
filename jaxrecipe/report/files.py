"""Writing a report to a file so that nobody ever reads half of one."""

import os
import secrets
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, replacing the file in one go: a reader sees the old file or the new one, never a part.

    Raises:
        FileNotFoundError: if the directory does not exist.
        IsADirectoryError: if the path is a directory.
        OSError: if the directory cannot be written to.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"cannot save {path}: {folder} is not an existing directory; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"cannot save {path}: it is a directory; give the name of a file")
    # A short name of its own, in the same directory: renaming is atomic only within one file system.
    unfinished = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        # A lone surrogate (from an undecodable file name) becomes \udcXX, which is also how JSON writes it.
        with unfinished.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise type(error)(error.errno, f"cannot save {path}: writing to {folder} failed ({reason})") from error
    finally:
        unfinished.unlink(missing_ok=True)
