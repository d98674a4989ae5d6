"""The next item: what a user does after all that it did before."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor, nn

from rankwell.atomic import write_atomically
from rankwell.data.batching import Batches, SequenceBatches
from rankwell.data.readers import Format
from rankwell.data.sequence_splits import NextItems, split_last, split_time
from rankwell.data.sequences import Sequences, read_sequences, synthesise_sequences
from rankwell.errors import ConfigError
from rankwell.evaluation import Background, Evaluation
from rankwell.evaluation.full import check_binary
from rankwell.evaluation.next_item import HistoryRanker, distinct_items, evaluate_next
from rankwell.evaluation.recommended import check_recommended
from rankwell.evaluation.top import GROUP, Progress
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.metrics import METRICS, Measure
from rankwell.metrics.registry import RESULTS, filled_by_column
from rankwell.registry import Entry
from rankwell.samplers import SAMPLERS
from rankwell.tasks.choices import refuse_unfilled
from rankwell.tasks.interaction_data import ids_of
from rankwell.tasks.interaction_objective import build_miner
from rankwell.tasks.new_interactions import codes_in_history
from rankwell.tasks.popularity_parts import popularity_parts
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.settings import Config, Section, refuse_watching
from rankwell.tasks.task import Catalogue, Data, Description, Newcomers, Slice, Task
from rankwell.training import NegativesSeen, Objective, checkpoint
from rankwell.training.sequence_objective import SequenceHeadObjective, SequenceObjective
from rankwell.types import Ragged

__all__ = ["NextItem", "SequenceData"]

STATE_COPIES = 12
"""Tensors of the size of a batch's states that a model, its loss and their gradients hold, about."""


class SequenceData(Section):
    """What to read, and how to split it."""

    path: str = "synthetic"
    """A file of events, or of ``user item item …`` in the order of time; ``synthetic`` generates some."""
    format: Format | None = None
    user: str = "user"
    item: str = "item"
    timestamp: str | None = None
    delimiter: str | None = None
    split: Literal["leave_last", "time"] = "leave_last"
    """Each user's last event is the test and the one before chooses; or all events behind two moments."""
    every: bool = False
    """With a split by time: ask for every event behind a cut, not the first of each user."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    windows: Literal["all", "last"] = "all"
    """Whether training sees all of a long history, cut into windows, or its end."""
    exclude_history: bool = False
    """Whether what a user had before may not come again, in evaluation."""

    @field_validator("delimiter", mode="after")
    @classmethod
    def _tab(cls, value: str | None) -> str | None:
        return "\t" if value == r"\t" else value  # a shell passes the two characters on


class NextItem(Task[Any]):
    """Sequences: what comes next, a loss at every event; over the whole catalogue, or on sampled negatives."""

    name: ClassVar[str] = "sequences"
    settings: ClassVar[type[Section]] = SequenceData
    models: ClassVar[str] = "sequences"
    unit: ClassVar[str] = "user"
    units: ClassVar[str] = "users"
    sections: ClassVar[tuple[str, ...]] = ("model", "loss", "sampler", "miner")
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "sasrec"},
        "loss": {"name": "linear_softmax"},
        "sampler": {"name": "uniform"},
        "miner": {"name": "none"},
        "training": {"batch_size": 128, "learning_rate": 0.001, "epochs": 40, "schedule": "constant", "refit": False},
        "evaluation": {"measures": ["ndcg@10", "hit_rate@10", "mrr@10"], "monitor": "ndcg@10"},
    }

    def loss(self, name: str) -> Entry[Any]:
        """A loss over the catalogue as it is, others as contrast losses."""
        entry = LOSSES[name]
        return entry if entry.kind == "head" else as_contrast(entry)

    def implied(self, names: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:
        """A loss over the whole catalogue samples nothing."""
        if LOSSES[names["loss"]].kind != "head":
            return {}
        if extra := [section for section in ("sampler", "miner") if given.get(section)]:
            raise ConfigError(
                f"{extra[0]}: {names['loss']} is over the whole catalogue and samples nothing. Leave it out."
            )
        refuse_watching(given, f"{names['loss']}, over the whole catalogue,")
        return {"sampler": {}, "miner": {}}

    def check(self, measure: Measure) -> Measure:
        """What comes next has no grades, and items have no columns."""
        if measure.kind in RESULTS and filled_by_column(METRICS[measure.name]):
            raise ConfigError(f"{measure} needs a column of items, and task sequences has none. Leave it out.")
        return check_binary(measure)

    def refuse(self, config: Config) -> None:
        """A loss or a sampler that needs what sequences do not tell."""
        entry = self.loss(str(config.loss["name"]))
        offers = SequenceHeadObjective.offers if entry.kind == "head" else SequenceObjective.offers
        refuse_unfilled("loss", entry, offers, "sequences")
        if config.sampler:
            refuse_unfilled("sampler", SAMPLERS[config.sampler["name"]], (), "sequences")

    def read(self, config: Config) -> Data[Any]:
        """Read, and hold out; what a measure would lack is said before anything is trained."""
        given = self._given(config)
        data = self._sequences(given, config.seed)
        if given.split == "time":
            split = split_time(data, given.valid_fraction, given.test_fraction, every=given.every)
        else:
            split = split_last(data)
        measures = [Measure.parse(text) for text in config.evaluation.measures]
        if any(each.kind in RESULTS for each in measures):
            check_recommended(measures, _background(split.train, split.test))
        return Data(split.train, split.fit, split.valid, split.test, split.notes)

    def _sequences(self, given: SequenceData, seed: int) -> Sequences:
        if given.path == "synthetic":
            return synthesise_sequences(seed=seed)
        return read_sequences(
            Path(given.path),
            format=given.format,
            user=given.user,
            item=given.item,
            timestamp=given.timestamp,
            delimiter=given.delimiter,
        )

    def describe(self, config: Config) -> Description:
        """Counts and lengths."""
        data = self._sequences(self._given(config), config.seed)
        quantiles = np.quantile(data.lengths(), [0, 0.25, 0.5, 0.75, 1])
        rows = [
            ("users", f"{data.num_users:,}"),
            ("items", f"{data.num_items:,}"),
            ("events", f"{len(data):,}"),
            ("events of a user (min 25 50 75 % max)", " ".join(f"{value:,.0f}" for value in quantiles)),
            ("events that repeat an item", f"{1 - len(data.known().values) / max(len(data), 1):.2%}"),
        ]
        return Description((), {"": rows})

    def sizes(self, data: Data[Any]) -> tuple[int, ...]:
        """Items."""
        return (data.test.data.num_items,)

    def initialise(self, model: nn.Module, part: Sequences, *, seed: int) -> None:
        """A start, or popularities."""
        model.initialise(part.lists(), seed=seed)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Any],  # noqa: ARG002
        part: Sequences,
        held_out: NextItems | None,  # noqa: ARG002
    ) -> Objective:
        """The loss at every event."""
        entry = self.loss(str(config.loss["name"]))
        own = config.parameters("loss")
        loss = partial(entry.function, **own)
        if entry.kind == "head":
            return SequenceHeadObjective(model, loss, seed=config.seed, inputs=entry.inputs)
        known = part.known()
        observer = (
            NegativesSeen(known, part.num_items, every=config.training.watch_every)
            if config.training.watch_every
            else None
        )
        chosen = SAMPLERS[config.sampler["name"]].function
        return SequenceObjective(
            model,
            loss,
            chosen(known, part.num_items, seed=config.seed, **config.parameters("sampler")),
            seed=config.seed,
            correct=entry.softmax,
            temperature=own.get("temperature", 1.0),
            inputs=entry.inputs,
            miner=build_miner(config),
            observer=observer,
        )

    def batches(self, config: Config, data: Data[Any], part: Sequences) -> Batches[Any]:  # noqa: ARG002
        """Windows of sequences."""
        return SequenceBatches(
            part.lists(),
            config.training.batch_size,
            seed=config.seed,
            max_length=config.model.get("max_length", 50),
            windows=self._given(config).windows,
        )

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: Sequences,
        held_out: NextItems,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """Where the item that came stands among all."""
        ranker: Any = model  # every model of sequences scores what may come next
        return evaluate_next(
            ranker,
            measures,
            held_out.histories(config.model.get("max_length")),
            held_out.targets,
            exclude_history=self._given(config).exclude_history,
            background=_background(known, held_out) if any(each.kind in RESULTS for each in measures) else None,
            block=config.evaluation.block,
            progress=progress,
        )

    def baselines(self, config: Config, data: Data[Any]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """Popularity."""
        return {"popularity": _Popular(torch.from_numpy(data.train.popularity()).float())}

    def slices(self, config: Config, data: Data[Any]) -> Mapping[str, Slice]:
        """Head, middle and tail, where they are asked for."""
        if not config.evaluation.by_popularity:
            return {}
        whole, places = data.test.data, data.test.places
        parts = popularity_parts(data.train.popularity(), whole.items[places])
        return {name: Slice(NextItems(whole, places[items[whole.items[places]]])) for name, items in parts.items()}

    def profile(self, data: Data[Any]) -> Profile:
        """Of all events."""
        whole: Sequences = data.test.data
        lengths = whole.lengths()
        return profile_of(
            "implicit",
            sizes=lengths,
            positives=lengths,
            items=whole.num_items,
            popularity=whole.popularity(),
            repeat_rate=1 - len(whole.known().values) / max(len(whole), 1),
        )

    def facts(self, data: Data[Any]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "users": data.train.num_users,
            "items": data.train.num_items,
            "events": len(data.test.data),
            "valid": 0 if data.valid is None else len(data.valid),
            "test": len(data.test),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.data.fingerprint()[:16]}",
        }

    def rows(self, data: Data[Any], evaluation: Evaluation) -> pl.DataFrame:
        """Users, and how long their histories are."""
        users = data.test.users[evaluation.users].numpy()
        lengths = data.test.histories().offsets.diff()[evaluation.users].numpy()
        return pl.DataFrame({"user": data.test.data.user_ids[users], "history": lengths})

    def memory(self, config: Config, data: Data[Any]) -> dict[str, float]:
        """Events; the model's weights, moments and a copy; a batch's states; a block of scores."""
        dim, length = config.model.get("dim", 64), config.model.get("max_length", 50)
        events, items = config.training.batch_size * length, data.train.num_items
        memory = {
            "events": 32.0 * len(data.test.data),
            "model": 16.0 * (items + 12 * dim) * dim,
            "batch": 4.0 * STATE_COPIES * events * dim * config.model.get("layers", 1),
        }
        if self.loss(str(config.loss["name"])).kind != "head":
            memory["negatives"] = (
                24.0 * events * config.sampler.get("n", events) * (1 if config.sampler.get("shared") else dim)
            )
        return {**memory, "evaluation": 4.8 * config.evaluation.block * (items + GROUP)}

    def save(self, folder: Path, data: Data[Any]) -> None:
        """All events, the questions of the test, and the ids of codes."""
        lists = data.test.data.lists()
        kept = {"offsets": lists.offsets, "items": lists.values, "places": torch.from_numpy(data.test.places)}
        kept["trained"] = torch.from_numpy(data.train.lengths())  # the first ones of each user
        checkpoint.save(folder / "sequences.safetensors", kept, {})
        for name, ids in (("users", data.test.data.user_ids), ("items", data.test.data.item_ids)):
            with write_atomically(folder / f"{name}.parquet", pl.exceptions.PolarsError) as temporary:
                pl.DataFrame({"id": ids}).write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[Any]:  # noqa: ARG002
        """All events, and the questions of the test."""
        kept, _ = checkpoint.load(folder / "sequences.safetensors")
        ids = [ids_of(folder, name) for name in ("users", "items")]
        whole = Sequences(kept["offsets"].numpy(), kept["items"].numpy(), ids[0], ids[1])
        before = np.arange(len(whole)) - whole.offsets[whole.users]
        train = whole.keep(before < kept["trained"].numpy()[whole.users])
        return Data(train, train, None, NextItems(whole, kept["places"].numpy()))

    def catalogue(self, model: nn.Module, data: Data[Any]) -> Catalogue:
        """Users and items by their ids; what comes after all that a user did."""
        whole: Sequences = data.test.data
        next_items: Any = model
        return Catalogue(whole.user_ids, whole.item_ids, whole.known(), HistoryRanker(next_items, whole.lists()))

    def catalogue_of_new(self, config: Config, model: nn.Module, data: Data[Any], given: Newcomers) -> Catalogue:
        """What comes after new histories."""
        if given.history is None or given.items is not None:
            raise ConfigError(
                "task sequences knows users and items by what users did: give --history FILE, and nothing else new."
            )
        settings, whole = self._given(config), data.test.data
        new = read_sequences(
            given.history,
            user=settings.user,
            item=settings.item,
            timestamp=settings.timestamp,
            delimiter=settings.delimiter,
        )
        codes = codes_in_history(given.history, new.item_ids, whole.item_ids)
        told = Sequences(new.offsets, codes[new.items], new.user_ids, whole.item_ids)
        next_items: Any = model
        return Catalogue(told.user_ids, told.item_ids, told.known(), HistoryRanker(next_items, told.lists()))

    @staticmethod
    def _given(config: Config) -> SequenceData:
        assert isinstance(config.data, SequenceData)
        return config.data


def _background(train: Sequences, asked: NextItems) -> Background:
    """What each question's user had had, and how many users have an item in training."""
    history = distinct_items(asked.histories(), train.num_items)
    counts = torch.bincount(train.known().values, minlength=train.num_items)
    return Background(history, counts, train.num_users)


class _Popular(nn.Module):
    """Items by their number of events, whatever came before."""

    def __init__(self, counts: Float[Tensor, " m"]) -> None:
        super().__init__()
        self.counts, self.num_items = counts, len(counts)

    def score_next(self, history: Ragged, out: Tensor | None = None) -> Tensor:
        rows = self.counts.expand(len(history.offsets) - 1, -1)
        return rows if out is None else out.copy_(rows)
