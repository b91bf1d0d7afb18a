"""How much memory the texts and numbers of a file may take together.

A few kilobytes can hold a hundred thousand attributes that all lead to one text, or declare a
thousand fields of which none was ever written: each by itself is within its limit.
"""

from __future__ import annotations

from pathlib import Path

from replay.schema import FileError

_TEXTS = 64 << 20  # bytes of all texts
_NUMBERS = 512 << 20  # bytes of all numbers that are read whole, where a file is no larger


class Allowance:
    """What has been read of a file since it was last looked at.

    Args:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reset()

    def reset(self) -> None:
        """Forgets what has been read."""
        self._texts = self._numbers = 0
        self._known: dict[str, int] = {}

    def take_text(self, size: int) -> None:
        """Counts a text.

        Raises:
            FileError: All texts together are larger than those of a recording.
        """
        self._texts += size
        if self._texts > _TEXTS:
            raise FileError(
                f"refused: the texts in {self._path} have more than {_TEXTS:,} bytes together; "
                "expected a recording, whose texts are short"
            )

    def take_numbers(self, place: str, size: int, file_size: int) -> None:
        """Counts numbers that are about to be read whole, those of each place once.

        Args:
            place: The dataset.
            size: Their bytes in memory.
            file_size: The bytes that the file has, or may expand to.

        Raises:
            FileError: All numbers together are larger than those of a recording of this size.
        """
        self._numbers += size - self._known.get(place, 0)
        self._known[place] = size
        most = max(_NUMBERS, 2 * file_size)
        if self._numbers > most:
            raise FileError(
                f"refused: the fields in {self._path} declare more than {most:,} bytes together; "
                f"expected no more of a file of {file_size:,} bytes"
            )
