"""Labels: which of many labels fit a row, such as a film's genres and tags."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankwell.atomic import write_atomically
from rankwell.data.batching import Batches, LabelBatches
from rankwell.data.features import FeatureEncoder
from rankwell.data.labelled_rows import LabelledRows, indicators, synthesise_labelled
from rankwell.errors import ConfigError
from rankwell.evaluation import Evaluation
from rankwell.evaluation.full import check_binary
from rankwell.evaluation.labelled import evaluate_labels, score_labels
from rankwell.evaluation.top import Progress
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.models import LabelPopularity
from rankwell.registry import Entry
from rankwell.tasks.interaction_data import ids_of
from rankwell.tasks.label_data import LabelData, read, read_rows
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.settings import Config, Section
from rankwell.tasks.task import Data, Description, Task
from rankwell.training import ListObjective, checkpoint
from rankwell.types import Features, Ragged

__all__ = ["Labelling"]


class Labelling(Task[LabelledRows]):
    """Labelled rows: a list loss on the scores of all labels."""

    name: ClassVar[str] = "labels"
    settings: ClassVar[type[Section]] = LabelData
    models: ClassVar[str] = "labels"
    unit: ClassVar[str] = "row"
    units: ClassVar[str] = "rows"
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "label_mlp"},
        "loss": {"name": "sigmoid"},
        "training": {"batch_size": 128, "learning_rate": 0.003, "epochs": 30, "refit": False},
        "evaluation": {"measures": ["ndcg@10", "ap", "recall@5", "r_precision"], "monitor": "ndcg@10"},
    }

    hints: ClassVar[Sequence[str]] = (
        "Try another loss: {call} train synthetic --task labels --loss soft_dice --out runs/soft_dice",
        "Your own data:    {call} data FILE --task labels --data.labels COLUMN, then {call} train the same",
    )

    def loss(self, name: str) -> Entry[Any]:
        """A list loss that needs nothing beside scores and labels."""
        entry = LOSSES[name]
        if entry.kind != "list":
            raise ConfigError(
                f"loss {name!r} is of kind {entry.kind!r}: labelled rows take list losses. 'rankwell losses' lists them."
            )
        known = ("query_ids", "key")
        if lacking := [what for what, own in entry.inputs.items() if own.required and what not in known]:
            raise ConfigError(
                f"loss {name!r} needs {', '.join(lacking)}, which labelled rows do not tell. Choose another loss."
            )
        return entry

    def check(self, measure: Measure) -> Measure:
        """A row has a label, or not: there are no grades."""
        return check_binary(super().check(measure))

    def read(self, config: Config) -> Data[LabelledRows]:
        """Read and split."""
        return read(self._given(config), config.seed)

    def describe(self, config: Config) -> Description:
        """Counts, labels and features."""
        data = self.read(config)
        encoder = data.train.encoder
        columns = [(name, "number" if width == 1 else f"{width} numbers") for name, width in encoder.numbers.items()]
        columns += [(name, f"{len(codes):,} categories") for name, codes in encoder.categories.items()]
        tables = {"training": data.fit.rows(), "test": data.test.rows(), "features:": columns}
        return Description(data.notes, tables)

    def generate(self, folder: Path, seed: int) -> None:
        """Write rows whose best order of labels is known."""
        with write_atomically(folder / "rows.csv", pl.exceptions.PolarsError) as temporary:
            synthesise_labelled(seed=seed)[0].write_csv(temporary)

    def sizes(self, data: Data[LabelledRows]) -> tuple[int, ...]:
        """Numbers, categories and labels."""
        features = data.test.features
        return features.numbers.shape[1], features.num_categories, len(data.test.label_ids)

    def initialise(self, model: nn.Module, part: LabelledRows, *, seed: int) -> None:
        """From features and labels."""
        model.initialise(part.features, part.labels, seed=seed)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[LabelledRows],  # noqa: ARG002
        part: LabelledRows,  # noqa: ARG002
        held_out: LabelledRows | None,  # noqa: ARG002
    ) -> ListObjective:
        """The list loss on the scores of all labels."""
        entry = self.loss(str(config.loss["name"]))
        return ListObjective(model, partial(entry.function, **config.parameters("loss")), config.seed, entry.inputs)

    def batches(self, config: Config, data: Data[LabelledRows], part: LabelledRows) -> Batches[Any]:  # noqa: ARG002
        """Rows with all labels."""
        weights = None
        if power := self._given(config).rare_power:
            weights = part.counts().clamp(min=1) ** -power
            weights = weights / weights.mean()
        of = (part.features, part.labels, len(part.label_ids))
        return LabelBatches(*of, config.training.batch_size, seed=config.seed, weights=weights)

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: LabelledRows,  # noqa: ARG002
        held_out: LabelledRows,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """All labels, for every row."""
        of = (held_out.features, held_out.labels, len(held_out.label_ids))
        return evaluate_labels(model, measures, *of, block=config.evaluation.block, progress=progress)

    def baselines(self, config: Config, data: Data[LabelledRows]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """The commonest labels first; and the ideal order, where it is known."""
        popularity = LabelPopularity(*self.sizes(data))
        popularity.initialise(data.train.features, data.train.labels, seed=0)
        rankers: dict[str, nn.Module] = {"popularity": popularity}
        if data.ideal is not None:
            rankers["ideal"] = _Ideal(data.ideal)
        return rankers

    def profile(self, data: Data[LabelledRows]) -> Profile:
        """Of the training rows; every row lists all labels."""
        positives = data.train.labels.offsets.diff().numpy()
        labels = len(data.train.label_ids)
        return profile_of(
            "binary",
            sizes=np.full(len(positives), labels),
            positives=positives,
            items=labels,
            popularity=data.train.counts().numpy(),
        )

    def facts(self, data: Data[LabelledRows]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "rows": len(data.train),
            "labels": len(data.train.label_ids),
            "pairs": len(data.train.labels.values),
            "valid": 0 if data.valid is None else len(data.valid),
            "test": len(data.test),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.fingerprint()[:16]}",
        }

    def rows(self, data: Data[LabelledRows], evaluation: Evaluation) -> pl.DataFrame:
        """Rows, and how many labels each has."""
        rows = evaluation.users.numpy()
        return pl.DataFrame({"row": data.test.ids[rows], "labels": data.test.labels.offsets.diff().numpy()[rows]})

    def memory(self, config: Config, data: Data[LabelledRows]) -> dict[str, float]:
        """Features; the model's weights, moments and a copy; a batch's layers and scores; a block of scores."""
        numbers, categories, labels = self.sizes(data)
        widths = [*map(float, config.model.get("widths", ())), float(config.model.get("dim", 0))]
        wide = max(*widths, 1.0)
        return {
            "rows": 4.0 * (len(data.train) + len(data.test)) * numbers,
            "model": 16.0 * ((numbers + categories) * wide + wide * labels),
            "batch": 4.0 * 12 * config.training.batch_size * (wide + labels),
            "evaluation": 4.0 * 6 * config.evaluation.block * labels,
        }

    def save(self, folder: Path, data: Data[LabelledRows]) -> None:
        """The test rows, the labels, and how columns became features."""
        test, encoder = data.test, data.test.encoder
        numbers, (starts, codes), count = test.features
        kept = {"numbers": numbers, "starts": starts, "categories": codes}
        kept |= {"offsets": test.labels.offsets, "labels": test.labels.values}
        facts = {"count": count, "numbers": dict(encoder.numbers), "categories": dict(encoder.categories)}
        checkpoint.save(folder / "labels.safetensors", kept, facts)
        for name, ids in (("rows", test.ids), ("labels", test.label_ids)):
            with write_atomically(folder / f"{name}.parquet", pl.exceptions.PolarsError) as temporary:
                pl.DataFrame({"id": ids}).write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[LabelledRows]:  # noqa: ARG002
        """The test rows, the labels, and how columns become features."""
        kept, facts = checkpoint.load(folder / "labels.safetensors")
        features = Features(kept["numbers"], Ragged(kept["starts"], kept["categories"]), facts["count"])
        encoder = FeatureEncoder(facts["numbers"], facts["categories"])
        labels = Ragged(kept["offsets"], kept["labels"])
        test = LabelledRows(features, labels, ids_of(folder, "rows"), ids_of(folder, "labels"), encoder)
        return Data(test, test, None, test)

    def score(
        self,
        config: Config,
        model: nn.Module,
        data: Data[LabelledRows],
        paths: Sequence[Path],
        *,
        document: str | None = None,
        progress: Progress | None = None,
        notes: list[str] | None = None,  # noqa: ARG002
    ) -> pl.DataFrame:
        """Rank all labels for the rows of new files; labels, where they are there, are not looked at."""
        if document is not None:
            raise ConfigError("rows have labels, not documents: leave --document out.")
        given, label_ids = self._given(config), data.test.label_ids
        found = []
        for path in paths:
            table = read_rows(given, path, labelled=False)
            for at, scores in score_labels(model, data.test.encoder(table.features), progress=progress):
                best = scores.sort(dim=1, descending=True, stable=True)
                repeated = pl.Series(range(at.start, at.stop), dtype=pl.UInt32).repeat_by(len(label_ids)).explode()
                columns = {"row": table.ids[repeated], "label": label_ids[best.indices.flatten().numpy()]}
                ranks = torch.arange(1, len(label_ids) + 1).repeat(len(scores))
                found.append(pl.DataFrame({**columns, "rank": ranks.numpy(), "score": best.values.flatten().numpy()}))
        return pl.concat(found)

    @staticmethod
    def _given(config: Config) -> LabelData:
        assert isinstance(config.data, LabelData)
        return config.data


class _Ideal(nn.Module):
    """The sums that generated labels were drawn from."""

    effects: Tensor

    def __init__(self, effects: Float[Tensor, "effects labels"]) -> None:
        super().__init__()
        self.register_buffer("effects", effects, persistent=False)

    def forward(self, features: Features) -> Float[Tensor, "n labels"]:
        """Bias, numbers and categories."""
        kinds = indicators(features.categories, features.num_categories)
        return torch.cat([torch.ones(len(kinds), 1, device=kinds.device), features.numbers, kinds], 1) @ self.effects
