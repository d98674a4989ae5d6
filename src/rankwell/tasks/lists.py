"""Learning to rank: queries whose documents have features and graded labels."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import polars as pl
import torch
from pydantic import BeforeValidator, Field
from torch import nn

from rankwell import keyed
from rankwell.atomic import write_atomically
from rankwell.data.batching import Batches, ListBatches
from rankwell.data.judged import JudgedFormat, JudgedLists, read_judged, synthesise_judged, with_width
from rankwell.errors import ConfigError, RunError
from rankwell.evaluation import Evaluation, evaluate_lists
from rankwell.evaluation.top import Progress
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.models import BestFeature
from rankwell.registry import Entry
from rankwell.tasks.settings import Config, Section, listed
from rankwell.tasks.task import Data, Description, Task
from rankwell.training import ListObjective, checkpoint

__all__ = ["JudgedData", "LearningToRank"]

NAMES = {"train": ("train",), "valid": ("valid", "vali", "validation", "dev"), "test": ("test",)}
"""What files of a folder are called, before or behind the dot."""

SPLIT = 1
"""Keeps the random numbers of the split apart from those drawn for other purposes with the same seed."""


class JudgedData(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A folder with train, valid and test files, or one file; ``synthetic`` generates lists."""
    train: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files of the folder to train on; None: the one called train."""
    valid: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files that choose the epoch; None: the one called valid or vali, if there is one."""
    test: Annotated[list[str] | None, BeforeValidator(listed)] = None
    """Files that are looked at once; None: the one called test."""
    format: JudgedFormat | None = None
    query: str = "query"
    """Of a table: the column of queries."""
    label: str = "label"
    """Of a table: the column of labels."""
    ignore: Annotated[list[str], BeforeValidator(listed)] = Field(default_factory=list)
    """Of a table: columns that are no features."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the queries to hold out, where there is no test file."""
    valid_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the training queries that chooses the epoch, where there is no file for it; 0 trains without choosing."""


class LearningToRank(Task[JudgedLists]):
    """Judged lists: a list loss on the scores of documents."""

    name: ClassVar[str] = "ltr"
    settings: ClassVar[type[Section]] = JudgedData
    models: ClassVar[str] = "lists"
    unit: ClassVar[str] = "query"
    units: ClassVar[str] = "queries"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "mlp"},
        "loss": {"name": "lambda_rank"},
        "training": {"batch_size": 32, "learning_rate": 0.001, "epochs": 30, "refit": False},
        "evaluation": {"measures": ["ndcg@10", "ndcg@5", "ap", "mrr"], "monitor": "ndcg@10"},
    }

    def loss(self, name: str) -> Entry[Any]:
        """A list loss."""
        entry = LOSSES[name]
        if entry.kind != "list":
            raise ConfigError(
                f"loss {name!r} is of kind {entry.kind!r}: judged lists take list losses. 'rankwell losses' lists them."
            )
        return entry

    def read(self, config: Config) -> Data[JudgedLists]:
        """Read the files, or split one."""
        given = self._given(config)
        parts: tuple[JudgedLists, JudgedLists | None, JudgedLists]
        parts = synthesise_judged(seed=config.seed) if given.path == "synthetic" else self._files(given, config.seed)
        train, valid, test = parts
        notes = []
        for what, part in (("training", train), ("validation", valid), ("test", test)):
            if part is not None and (without := part.without_relevant()):
                notes.append(
                    f"{without:,} of {len(part):,} {what} queries have no relevant document: measures skip them"
                )
        whole = train if valid is None else _joined([train, valid])
        return Data(whole, train, valid, test, tuple(notes))

    def _files(self, given: JudgedData, seed: int) -> tuple[JudgedLists, JudgedLists | None, JudgedLists]:
        paths = {name: _paths(Path(given.path), name, getattr(given, name)) for name in NAMES}
        how: dict[str, Any] = {
            "format": given.format,
            "query": given.query,
            "label": given.label,
            "ignore": given.ignore,
        }
        parts = {name: read_judged(files, **how) if files else None for name, files in paths.items()}
        if (train := parts["train"]) is None:
            raise ConfigError(f"{given.path} has no file called train: name the files by --data.train A,B.")
        width = max(part.features.shape[1] for part in parts.values() if part is not None)
        train = with_width(train, width, given.path)
        valid, test = (
            None if part is None else with_width(part, width, given.path) for part in (parts["valid"], parts["test"])
        )
        if test is None:
            train, test = _split(train, given.test_fraction, seed, SPLIT)
        if valid is None and given.valid_fraction:
            train, valid = _split(train, given.valid_fraction, seed, SPLIT + 1)
        return train, valid, test

    def describe(self, config: Config) -> Description:
        """Counts, lengths and labels."""
        data = self.read(config)
        return Description(data.notes, {"training": data.fit.rows(), "test": data.test.rows()})

    def sizes(self, data: Data[JudgedLists]) -> tuple[int, ...]:
        """The number of features."""
        return (data.train.features.shape[1],)

    def initialise(self, model: nn.Module, part: JudgedLists, *, seed: int) -> None:
        """From features, labels and offsets."""
        model.initialise(*part.tensors(), seed=seed)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[JudgedLists],  # noqa: ARG002
        part: JudgedLists,  # noqa: ARG002
        held_out: JudgedLists | None,  # noqa: ARG002
    ) -> ListObjective:
        """The list loss on the model's scores."""
        entry = self.loss(str(config.loss["name"]))
        return ListObjective(model, partial(entry.function, **config.parameters("loss")), config.seed, entry.inputs)

    def batches(self, config: Config, data: Data[JudgedLists], part: JudgedLists) -> Batches[Any]:  # noqa: ARG002
        """Whole lists."""
        return ListBatches(*part.tensors(), config.training.batch_size, seed=config.seed)

    def judge(
        self,
        config: Config,  # noqa: ARG002
        model: nn.Module,
        measures: Sequence[Measure],
        known: JudgedLists,  # noqa: ARG002
        held_out: JudgedLists,
        progress: Progress | None = None,
    ) -> Evaluation:
        """Every query's documents."""
        return evaluate_lists(model, measures, *held_out.tensors(), progress=progress)

    def baselines(self, config: Config, data: Data[JudgedLists]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """The one feature that ranks the training lists best."""
        best = BestFeature(*self.sizes(data))
        best.initialise(*data.train.tensors(), seed=0)
        return {"best feature": best}

    def facts(self, data: Data[JudgedLists]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "queries": len(data.train),
            "documents": len(data.train.labels),
            "features": data.train.features.shape[1],
            "valid": 0 if data.valid is None else len(data.valid),
            "test": len(data.test),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.fingerprint()[:16]}",
        }

    def rows(self, data: Data[JudgedLists], evaluation: Evaluation) -> pl.DataFrame:
        """Queries, and how many documents each has."""
        queries = evaluation.users.numpy()
        return pl.DataFrame({"query": data.test.query_ids[queries], "documents": np.diff(data.test.offsets)[queries]})

    def memory(self, config: Config, data: Data[JudgedLists]) -> dict[str, float]:
        """Features, and what a batch of the longest lists needs."""
        longest = float(np.diff(data.train.offsets).max(initial=0))
        width = max([float(config.model.get("dim", 64)) * 8, *map(float, config.model.get("widths", ()))])
        return {
            "lists": 4.0 * (data.train.features.size * 2 + data.test.features.size),
            "batch": 4.0 * 6 * width * longest * config.training.batch_size,
        }

    def save(self, folder: Path, data: Data[JudgedLists]) -> None:
        """The test lists: what the run is judged on."""
        features, labels, offsets = data.test.tensors()
        checkpoint.save(folder / "lists.safetensors", {"features": features, "labels": labels, "offsets": offsets}, {})
        with write_atomically(folder / "queries.parquet", pl.exceptions.PolarsError) as temporary:
            pl.DataFrame({"id": data.test.query_ids}).write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[JudgedLists]:  # noqa: ARG002
        """The test lists."""
        kept, _ = checkpoint.load(folder / "lists.safetensors")
        try:
            ids = pl.read_parquet(folder / "queries.parquet")["id"]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{folder}/queries.parquet is corrupt or missing. Train again.") from error
        features, labels, offsets = (kept[name].numpy() for name in ("features", "labels", "offsets"))
        test = JudgedLists(features, labels, offsets, ids)
        return Data(test, test, None, test)

    @staticmethod
    def _given(config: Config) -> JudgedData:
        assert isinstance(config.data, JudgedData)
        return config.data


def _paths(folder: Path, name: str, named: list[str] | None) -> list[Path]:
    """The files of a part: those that are named, or the one of the folder that is called so."""
    if named is not None:
        return [folder / file if folder.is_dir() else Path(file) for file in named]
    if folder.is_file() or not folder.exists():
        return [folder] if name == "train" else []  # a path that does not exist is an error when it is read
    found = [
        file
        for file in sorted(folder.iterdir())
        if file.suffix != ".query" and {file.stem.lower(), file.suffix[1:].lower()} & set(NAMES[name])
    ]
    if len(found) > 1:
        raise ConfigError(f"{folder} has {len(found)} files called {name}: name one by --data.{name} {found[0].name}.")
    return found


def _split(lists: JudgedLists, share: float, seed: int, purpose: int) -> tuple[JudgedLists, JudgedLists]:
    """The lists without a random share of the queries, and these."""
    order = torch.randperm(len(lists), generator=keyed.generator(seed, purpose)).numpy()
    held = max(1, round(share * len(lists)))
    if held >= len(lists):
        raise ConfigError(
            f"holding out {held} of {len(lists)} queries leaves none to train on: give more queries, or files."
        )
    return lists.take(np.sort(order[held:])), lists.take(np.sort(order[:held]))


def _joined(parts: list[JudgedLists]) -> JudgedLists:
    sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(part.offsets) for part in parts)])
    return JudgedLists(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.labels for part in parts]),
        sizes.cumsum(),
        pl.concat([part.query_ids for part in parts]),
    )
