"""Learning to rank: queries whose documents have features and graded labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from torch import nn

from rankwell.atomic import write_atomically
from rankwell.data.batching import Batches, ListBatches
from rankwell.data.judged import JudgedLists, synthesise_judged, with_features
from rankwell.data.judged_files import read_documents, read_judged
from rankwell.errors import ConfigError, RunError
from rankwell.evaluation import Evaluation, evaluate_lists, score_lists
from rankwell.evaluation.top import Progress
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.models import MODELS, BestFeature
from rankwell.registry import Entry
from rankwell.tasks.choices import refuse_unfilled
from rankwell.tasks.list_data import JudgedData, is_judged, read
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.settings import Config, Section
from rankwell.tasks.task import Data, Description, Task
from rankwell.training import ListObjective, checkpoint

__all__ = ["LearningToRank"]

SHARES = frozenset({"sigmoid", "focal", "poly1", "pointwise_hinge", "soft_dice", "tversky", "excessiveness"})
"""Losses whose labels are shares of relevance: above 1 they have no lower bound, or mean nothing."""


class LearningToRank(Task[JudgedLists]):
    """Judged lists: a list loss on the scores of documents."""

    name: ClassVar[str] = "ltr"
    settings: ClassVar[type[Section]] = JudgedData
    models: ClassVar[str] = "lists"
    unit: ClassVar[str] = "query"
    units: ClassVar[str] = "queries"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "mlp"},
        "loss": {"name": "softmax"},
        "training": {"batch_size": 32, "learning_rate": 0.003, "epochs": 30, "refit": False},
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

    def refuse(self, config: Config) -> None:
        """A loss that needs what judged lists do not tell."""
        refuse_unfilled("loss", self.loss(str(config.loss["name"])), ListObjective.offers, "judged lists")

    def read(self, config: Config) -> Data[JudgedLists]:
        """Read the files, or split one."""
        assert isinstance(config.data, JudgedData)
        data = read(config.data, config.seed)
        notes = [*data.notes]
        model = str(config.model["name"])
        if not getattr(MODELS[model].function, "trainable", True):
            notes.append(f"{model} is fitted on training and validation lists together: nothing of it is chosen")
        elif (name := config.loss["name"]) in SHARES and (highest := float(data.train.labels.max())) > 1:
            notes.append(f"{name} takes labels from 0 to 1: it trains on labels divided by the highest, {highest:g}")
        return replace(data, notes=tuple(notes))

    def generate(self, folder: Path, seed: int) -> None:
        """Write training, validation and test lists as Parquet."""
        for name, lists in zip(("train", "valid", "test"), synthesise_judged(seed=seed), strict=True):
            columns = {f"feature_{place}": column for place, column in enumerate(lists.features.T)}
            queries = lists.query_ids[np.repeat(np.arange(len(lists)), np.diff(lists.offsets))]
            with write_atomically(folder / f"{name}.parquet", pl.exceptions.PolarsError) as temporary:
                pl.DataFrame({"query": queries, "label": lists.labels, **columns}).write_parquet(temporary)

    def describe(self, config: Config) -> Description:
        """Counts, lengths and labels."""
        data = self.read(config)
        return Description(data.notes, {"training": data.fit.rows(), "test": data.test.rows()})

    def recognises(self, path: Path) -> bool:
        """Lines with the number of their query, or LightGBM's sizes of queries beside them."""
        return is_judged(path)

    def profile(self, data: Data[JudgedLists]) -> Profile:
        """Of the training lists; labels of one grade above 0 are binary."""
        lists, sizes = data.train, np.diff(data.train.offsets)
        grades = np.unique(lists.labels[lists.labels > 0])
        queries = np.repeat(np.arange(len(lists)), sizes)
        return profile_of(
            "graded" if len(grades) > 1 else "binary",
            sizes=sizes,
            positives=np.bincount(queries[lists.labels > 0], minlength=len(lists)),
            items=len(lists.labels),
        )

    def sizes(self, data: Data[JudgedLists]) -> tuple[int, ...]:
        """The number of features."""
        return (data.train.features.shape[1],)

    def initialise(self, model: nn.Module, part: JudgedLists, *, seed: int) -> None:
        """From features, labels and offsets; what is fitted at once takes weights here, as no loss will see them."""
        fitted = {} if model.trainable or part.weights is None else {"weights": part.weight_tensor()}
        model.initialise(*part.tensors(), seed=seed, **fitted)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[JudgedLists],
        part: JudgedLists,  # noqa: ARG002
        held_out: JudgedLists | None,  # noqa: ARG002
    ) -> ListObjective:
        """The list loss on the model's scores."""
        entry = self.loss(str(config.loss["name"]))
        highest = max(float(data.train.labels.max()), 1.0) if entry.name in SHARES else 1.0
        bound = partial(entry.function, **config.parameters("loss"))
        return ListObjective(model, bound, config.seed, entry.inputs, 1 / highest)

    def batches(self, config: Config, data: Data[JudgedLists], part: JudgedLists) -> Batches[Any]:  # noqa: ARG002
        """Whole lists."""
        return ListBatches(*part.tensors(), config.training.batch_size, seed=config.seed, weights=part.weight_tensor())

    def judge(
        self,
        config: Config,  # noqa: ARG002
        model: nn.Module,
        measures: Sequence[Measure],
        known: JudgedLists,  # noqa: ARG002
        held_out: JudgedLists,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """Every query's documents."""
        return evaluate_lists(model, measures, *held_out.tensors(), progress=progress)

    def baselines(self, config: Config, data: Data[JudgedLists]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """The one feature that ranks the training lists best."""
        best = BestFeature(*self.sizes(data))
        best.initialise(*data.train.tensors(), seed=0, weights=data.train.weight_tensor())
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
        kept = {"features": features, "labels": labels, "offsets": offsets}
        checkpoint.save(folder / "lists.safetensors", kept, {"names": list(data.test.names)})
        with write_atomically(folder / "queries.parquet", pl.exceptions.PolarsError) as temporary:
            pl.DataFrame({"id": data.test.query_ids}).write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[JudgedLists]:  # noqa: ARG002
        """The test lists."""
        kept, facts = checkpoint.load(folder / "lists.safetensors")
        try:
            ids = pl.read_parquet(folder / "queries.parquet")["id"]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{folder}/queries.parquet is corrupt or missing. Train again.") from error
        features, labels, offsets = (kept[name].numpy() for name in ("features", "labels", "offsets"))
        test = JudgedLists(features, labels, offsets, ids, tuple(facts["names"]))
        return Data(test, test, None, test)

    def score(
        self,
        config: Config,
        model: nn.Module,
        data: Data[JudgedLists],
        paths: Sequence[Path],
        *,
        document: str | None = None,
        progress: Progress | None = None,
        notes: list[str] | None = None,  # noqa: ARG002
    ) -> pl.DataFrame:
        """Rank the documents of new lists; labels, where they are there, are not looked at."""
        given = config.data
        assert isinstance(given, JudgedData)
        ignore = [name for name in (*given.ignore, document) if name is not None]
        lists = read_judged(
            paths,
            format=given.format,
            query=given.query,
            label=given.label,
            ignore=ignore,
            weight=given.weight,
            labelled=False,
        )
        ids = read_documents(paths, lists, column=document, format=given.format)
        width, names = data.test.features.shape[1], data.test.names
        lists = with_features(lists, width, names, f"{paths[0]}: documents must have the features of the training data")
        features, _, offsets = lists.tensors()
        table = pl.DataFrame(
            {
                "query": lists.query_ids[np.repeat(np.arange(len(lists)), np.diff(lists.offsets))],
                "document": ids,
                "score": score_lists(model, features, offsets, progress=progress).numpy(),
            }
        )
        ranks = pl.col("score").rank("ordinal", descending=True).over("query").alias("rank")
        order = pl.col("query").rle_id()
        return table.with_columns(ranks).sort(order, "rank").select("query", "document", "rank", "score")
