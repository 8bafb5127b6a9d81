"""Arrays as PNG files, with nothing but zlib."""

import base64
import struct
import zlib

import numpy as np
from jaxtyping import UInt8

_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
"""PNG color types by channels: gray, RGB, RGBA."""


def png(pixels: UInt8[np.ndarray, "height width channels"]) -> bytes:
    """The bytes of a PNG file (PNG specification, third edition); 1, 3 or 4 channels of 8 bits, unfiltered.

    Raises:
        ValueError: if there is no pixel or another number of channels.
    """
    height, width, channels = pixels.shape
    if channels not in _COLOR_TYPES or not pixels.size:
        raise ValueError(f"a PNG needs at least one pixel and 1, 3 or 4 channels; got shape {pixels.shape}")
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    rows = pixels.reshape(height, width * channels)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each row begins with its filter: none
    parts = _chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(filtered.tobytes(), 9)), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def data_uri(pixels: UInt8[np.ndarray, "height width channels"]) -> str:
    """The PNG as an address that holds the picture itself."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
