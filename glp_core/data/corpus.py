"""The text that the demo is made of: the 113 binary probing tasks and their sister data sets, from the sae-probes wheel.

Decides once, by a digest of the text, which rows are for testing, so that no test text is ever trained on or indexed.
Knows texts and labels; knows nothing of models.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Literal, Protocol

import pandas as pd

from glp_core.data.task_words import task_words
from glp_core.errors import GlpError
from glp_core.llm.sources import wheel_file

PACKAGE = "sae-probes"
MASTER = "sae_probes/data/probing_datasets_MASTER.csv.zst"
MASTER_SHA256 = "c2b5634ce96501917f4526784aa65f6f4934b60e270c9ebe2068364ddf233131"
TABLES_SHA256 = "7b6a8971e1ce0a3b2a38403ae8da0c75600e21dea4e9ee47acac16ba02d1234e"
"""Of the digests of the tables of texts, in the order of their names."""
SHORTEST = 60
"""Characters; shorter texts teach a prior little beyond their template."""

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Task:
    """One binary probing task."""

    name: str
    """The data set's name, for example 92_glue_sst2."""
    asks: str
    """What a positive label means, in the words of the task list."""
    file: str
    """Path of its table inside the package."""

    @property
    def title(self) -> str:
        """The task in a few readable words."""
        return task_words(self.name).title

    @property
    def positive(self) -> str:
        """What positive texts have and negative ones have not, in a sentence."""
        return task_words(self.name).positive


@dataclass(frozen=True)
class Document:
    """One text with the data set that it comes from."""

    text: str
    source: str


class Documents(Protocol):
    """Documents by number, in a fixed order; how many there are need not be known."""

    def __getitem__(self, which: slice, /) -> Sequence[Document]:
        """Return documents of a range; fewer where they end before."""
        ...


def number_of(text: str) -> int:
    """Return a number of 32 bits that depends on the text alone."""
    return int.from_bytes(hashlib.sha1(text.encode("utf-8", "replace")).digest()[:4], "big")


def split_of(text: str) -> Split:
    """Return the split of a text: a fifth for testing, a fifth for validation, by digest, the same in every task."""
    bucket = number_of(text) % 5
    return "test" if bucket == 0 else "validation" if bucket == 1 else "train"


@lru_cache(maxsize=1)
def tasks() -> tuple[Task, ...]:
    """Return the 113 binary tasks, in the wheel's order."""
    table = pd.read_csv(wheel_file(PACKAGE, MASTER, MASTER_SHA256))
    binary = table[table["Data type"] == "Binary Classification"]
    listed = []
    for saved, asks, tag in zip(binary["Dataset save name"], binary["Probe to"], binary["Dataset Tag"], strict=True):
        name = Path(saved).stem
        said = asks if isinstance(asks, str) and asks.strip() != "^" else tag  # "^": as above
        listed.append(Task(name, str(said), f"sae_probes/data/cleaned_data/{name}.csv.zst"))
    return tuple(listed)


def task(name: str) -> Task:
    """Return the task of that name; raise GlpError when there is none."""
    for one in tasks():
        if one.name == name:
            return one
    raise GlpError(f"No probing task {name!r}: there are {len(tasks())}, for example {tasks()[0].name}. See the Concepts page.")


def task_rows(one: Task, split: Split | None = None) -> pd.DataFrame:
    """Return the task's rows: `text`, `label` (0 or 1) and `split`, texts unique, only those of `split` when given."""
    rows = pd.read_csv(wheel_file(PACKAGE, one.file), usecols=["prompt", "target"])
    rows = rows.rename(columns={"prompt": "text", "target": "label"}).dropna()
    rows["text"] = rows["text"].astype(str)
    rows = rows.drop_duplicates("text")
    rows["label"] = _binary(rows["label"], one.name)
    rows["split"] = [split_of(text) for text in rows["text"]]
    return rows[rows["split"] == split].reset_index(drop=True) if split else rows.reset_index(drop=True)


def is_test_row(text: str) -> bool:
    """Return whether a text is a test row of a probing task, which nothing may be trained on that tasks are tried with."""
    return split_of(text) == "test" and hash(text) in _test_rows()


@lru_cache(maxsize=1)
def _test_rows() -> frozenset[int]:
    """Return the hashes, of 64 bits, of all tasks' test rows."""
    return frozenset(hash(text) for one in tasks() for text in task_rows(one, "test")["text"])


def _binary(labels: pd.Series, name: str) -> list[int]:
    values = sorted(labels.unique(), key=str)
    if len(values) != 2:
        raise GlpError(f"Task {name} has {len(values)} label values ({values[:5]}), wanted two.")
    return [int(value == values[1]) for value in labels]


def _tables() -> list[tuple[str, Path]]:
    """Return name and path of every table of texts in the package, by name."""
    files = {str(file): Path(str(file.locate())) for file in metadata.distribution(PACKAGE).files or []}
    return sorted((name, path) for name, path in files.items() if "cleaned_data/" in name and name.endswith(".csv.zst"))


def check_files() -> int:
    """Check the package's files by their digests and return the number of tables.

    Raises:
        GlpError: the package is missing, or holds other files than the pinned release.
    """
    wheel_file(PACKAGE, MASTER, MASTER_SHA256)
    whole = hashlib.sha256()
    for _, path in _tables():
        if path.is_file():
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    if whole.hexdigest() != TABLES_SHA256:
        raise GlpError(f"The tables of package {PACKAGE} are not those of the pinned release: reinstall it with `make setup`.")
    return len(_tables())


@lru_cache(maxsize=1)
def _corpus_texts() -> tuple[Document, ...]:
    """Return every distinct text of at least SHORTEST characters that is no test row, in a fixed random order."""
    seen: dict[str, str] = {}
    for _, path in _tables():
        source = path.name.removesuffix(".csv.zst")
        for text in pd.read_csv(path, usecols=["prompt"])["prompt"].dropna().astype(str):
            if len(text) >= SHORTEST:
                seen.setdefault(text, source)
    documents = [Document(text, source) for text, source in sorted(seen.items()) if split_of(text) != "test"]
    random.Random(0).shuffle(documents)
    return tuple(documents)


HELD_OUT = 2000
"""Documents at the end of the fixed order that no GLP is trained on."""


def documents(split: Literal["train", "validation"]) -> tuple[Document, ...]:
    """Return the corpus in its fixed random order: for training, or the HELD_OUT documents for validation losses."""
    texts = _corpus_texts()
    return texts[:-HELD_OUT] if split == "train" else texts[-HELD_OUT:]
