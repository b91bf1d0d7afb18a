"""What a mutation is: one promise, broken by changing a few words of the source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutation:
    """A change of the source that breaks a promise.

    Attributes:
        name: What it is called in docs/reliability.md.
        promise: What is promised, in a sentence.
        file: The source file.
        old: What stands in it, exactly once.
        new: What stands there instead.
        killer: What has to fail then: a fast test, `tests/a.py::test_b`, or a line of
            scripts/bench/survive, `survive flips`.
    """

    name: str
    promise: str
    file: str
    old: str
    new: str
    killer: str

    @property
    def survive_line(self) -> str:
        """The line of scripts/bench/survive that kills it; empty where a test does."""
        return self.killer.removeprefix("survive ") if self.killer.startswith("survive ") else ""

    def mutate(self, text: str) -> str:
        """Returns the source with the change.

        Raises:
            ValueError: What is to be changed is not there exactly once: the list is out of date.
        """
        found = text.count(self.old)
        if found != 1:
            wanted = max(self.old.splitlines(), key=len)
            near = difflib.get_close_matches(wanted, text.splitlines(), 1, 0.4)
            raise ValueError(
                f"{self.name}: expected this once in {self.file}, found it {found} times: "
                f"{self.old!r}; give the mutation in scripts/bench/mutation/ what stands there now"
                + "".join(f", maybe {each!r}" for each in near)
            )
        return text.replace(self.old, self.new)

    def apply(self, root: Path) -> str:
        """Changes the source below a folder; returns what stood in the file before."""
        path = root / self.file
        text = path.read_text("utf-8")
        path.write_text(self.mutate(text), "utf-8")
        return text
