"""A workspace's folder of directions as a shelf: a new one is put there, renamed, taken away and put back.

What is taken away waits in a folder beside the others until as many more have been. Knows files; loads no model.
"""

import re
from dataclasses import replace
from pathlib import Path

from glp_core.errors import GlpError
from glp_core.files import writing
from glp_core.steering.direction_facts import DirectionFacts, stored_directions
from glp_core.steering.directions import Direction

LONGEST_TITLE = 60
"""Characters."""
KEPT_REMOVED = 50
"""Directions that were taken away and can be put back."""
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class Shelf:
    """The directions in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._removed = folder / ".removed"

    def facts(self) -> list[DirectionFacts]:
        """Return what is there, sorted by title."""
        return stored_directions(self.folder)

    def check_title(self, title: str, *, but: str = "") -> str:
        """Return a title without spaces around it.

        Args:
            but: name of a direction that may have it.
        Raises:
            GlpError: it is empty or too long, has no letter or digit, or another direction has it.
        """
        title = " ".join(title.split())
        if not 0 < len(title) <= LONGEST_TITLE:
            raise GlpError(f"The name has {len(title)} characters, wanted 1 to {LONGEST_TITLE}.")
        if not NAME.fullmatch(name_of(title)):
            raise GlpError(f"The name {title!r} needs a letter from a to z or a digit.")
        if any(one.title.casefold() == title.casefold() and one.name != but for one in self.facts()):
            raise GlpError(f"There is a direction {title!r} already: choose another name, or delete that one first.")
        return title

    def add(self, direction: Direction, title: str) -> str:
        """Write a direction under a title of its own; return its name.

        Raises:
            GlpError: the title does not do, or its file's name is taken.
        """
        title = self.check_title(title)
        name = name_of(title)
        if self._path(name).exists():
            raise GlpError(f"{name}.safetensors is there already: choose another name.")
        replace(direction, name=name, title=title).save(self.folder)
        return name

    def rename(self, name: str, title: str) -> None:
        """Give a direction another title; its file stays, so that links and reports still find it."""
        title = self.check_title(title, but=name)
        replace(Direction.load(self._path(name)), title=title).save(self.folder)

    def remove(self, name: str) -> None:
        """Take a direction away; `restore` puts it back."""
        path = self._path(name)
        if not path.is_file():
            raise GlpError(f"There is no direction {name!r} any more.")
        with writing(path):
            self._removed.mkdir(exist_ok=True)
            path.touch()
            path.replace(self._removed / path.name)
        for old in sorted(self._removed.glob("*.safetensors"), key=lambda one: one.stat().st_mtime)[:-KEPT_REMOVED]:
            old.unlink(missing_ok=True)

    def restore(self, name: str) -> None:
        """Put back a direction that was taken away; GlpError when it is gone, or its place or its title is taken."""
        kept = self._removed / self._path(name).name
        if not kept.is_file():
            raise GlpError(f"The direction {name!r} is not kept any more.")
        if self._path(name).exists():
            raise GlpError(f"Another direction has taken the place of {name!r}: delete or rename it first.")
        self.check_title(DirectionFacts.read(kept).title)
        with writing(self._path(name)):
            kept.replace(self._path(name))

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise GlpError(f"{name[:40]!r} is no name of a direction: small letters, digits and hyphens.")
        return self.folder / f"{name}.safetensors"


def name_of(title: str) -> str:
    """Return the file name, without ending, that a title gives."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:64].rstrip("-")
