"""CRC-32 as zlib computes it, by processor instructions where zlib-ng is installed.

A checksum is made of every frame that is written and of every frame that is read. zlib itself takes
a quarter of a millisecond for a megabyte, a quarter of all that the writer does with it; zlib-ng a
fiftieth. What it cannot be installed on, or is installed without it, has zlib's.
"""

from __future__ import annotations

__all__ = ["crc32"]

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32
