"""Metric learning: examples with a class each are embedded so that those of a class are near each other, in new classes too."""

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
from rankwell.data.batching import BATCHES, Batches, ExampleBatches
from rankwell.data.example_files import read_examples
from rankwell.data.examples import Examples, joined_examples, like, synthesise_examples
from rankwell.errors import ConfigError
from rankwell.evaluation import Evaluation
from rankwell.evaluation.examples import evaluate_examples, neighbours
from rankwell.evaluation.full import check_binary
from rankwell.evaluation.top import Progress
from rankwell.generators import GENERATORS, Generator
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.models import RawFeatures
from rankwell.registry import Entry
from rankwell.tasks.choices import refuse_unfilled
from rankwell.tasks.class_data import ClassData, read
from rankwell.tasks.interaction_data import ids_of
from rankwell.tasks.interaction_objective import build_miner
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.settings import Config, Section
from rankwell.tasks.task import Data, Description, Task
from rankwell.training import ClassObjective, checkpoint
from rankwell.types import Ragged

__all__ = ["MetricLearning"]

NEIGHBOURS = 10
"""Given for each new example."""


class MetricLearning(Task[Examples]):
    """Examples with classes: an embedding loss on each batch; judged on classes that training has not seen."""

    name: ClassVar[str] = "classes"
    settings: ClassVar[type[Section]] = ClassData
    models: ClassVar[str] = "examples"
    unit: ClassVar[str] = "example"
    units: ClassVar[str] = "examples"
    sections: ClassVar[tuple[str, ...]] = ("model", "loss", "miner", "generator", "batches")
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "encoder"},
        "loss": {"name": "supervised_contrastive"},
        "miner": {"name": "none"},
        "generator": {"name": "none"},
        "batches": {"name": "class_balanced"},
        "training": {"batch_size": 64, "learning_rate": 0.003, "epochs": 30},
        "evaluation": {"measures": ["hit_rate@1", "r_precision", "ap_at_r"], "monitor": "ap_at_r"},
    }
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "n_pair": {"model": {"similarity": "dot"}},
        "triplet": {"loss": {"margin": 0.2}},
        "cross_batch_memory": {"loss": {"warm_up": 100}},
    }
    """N-pair has no temperature, so that cosines would span too little; on unit vectors a margin of 0.2 is FaceNet's; few steps
    make a thousand of warm-up too many."""

    def loss(self, name: str) -> Entry[Any]:
        """A loss of embeddings, or one with a memory around such a loss."""
        entry = LOSSES[name]
        if entry.kind != "embedding" and (entry.kind, getattr(entry.function, "call", "")) != ("stateful", "embedding"):
            raise ConfigError(
                f"loss {name!r} is of kind {entry.kind!r}: examples with classes take losses of embeddings. 'rankwell losses'"
                " lists them."
            )
        return entry

    def refuse(self, config: Config) -> None:
        """A loss that needs what classes do not tell, a generator of texts, a generator beside a loss with a memory."""
        entry, generator = self.loss(str(config.loss["name"])), str(config.generator["name"])
        if generator != "none" and GENERATORS[generator].kind != "vectors":
            raise ConfigError(
                f"generator {generator} makes negatives of texts, which examples have none of. Choose another."
            )
        if entry.kind != "stateful":
            refuse_unfilled("loss", entry, ClassObjective.offers, "classes")
        elif generator != "none":
            raise ConfigError(
                f"loss {entry.name} has a memory of its own and takes no generator: leave one of them out, {generator} or it."
            )

    def check(self, measure: Measure) -> Measure:
        """Classes are the same, or not: there are no grades."""
        return check_binary(super().check(measure))

    def read(self, config: Config) -> Data[Examples]:
        """Read the file, and split its classes."""
        return read(_data(config), config.seed)

    def recognises(self, path: Path) -> bool:
        """Arrays of NumPy."""
        return path.suffix == ".npz"

    def profile(self, data: Data[Examples]) -> Profile:
        """Of the training examples: each lists those of its class."""
        sizes = data.train.sizes()
        listed = np.repeat(sizes, sizes)
        return profile_of("classes", sizes=listed, positives=listed - 1, items=len(data.train), popularity=sizes)

    def generate(self, folder: Path, seed: int) -> None:
        """Write ``examples.npz``."""
        made = synthesise_examples(seed=seed).examples
        labels = made.class_ids.to_numpy()[made.classes].astype(str)
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / "examples.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, features=made.features, labels=labels)

    def describe(self, config: Config) -> Description:
        """Counts of examples and classes."""
        data = self.read(config)
        return Description(data.notes, {"training": data.train.described(), "test": data.test.described()})

    def sizes(self, data: Data[Examples]) -> Any:
        """The shape of one example."""
        return (data.train.shape,)

    def initialise(self, model: nn.Module, part: Examples, *, seed: int) -> None:
        """From features and classes."""
        model.initialise(*part.tensors(), seed=seed)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Examples],  # noqa: ARG002
        part: Examples,
        held_out: Examples | None,  # noqa: ARG002
    ) -> ClassObjective:
        """The embedding loss on the batch's embeddings."""
        entry, own = self.loss(str(config.loss["name"])), config.parameters("loss")
        stateful = entry.kind == "stateful"
        return ClassObjective(
            model,
            entry.function(model.dim, **own) if stateful else partial(entry.function, **own),
            seed=config.seed,
            miner=build_miner(config),
            generator=_generator(config, model, part),
            inputs={} if stateful else entry.inputs,
        )

    def batches(self, config: Config, data: Data[Examples], part: Examples) -> Batches[Any]:  # noqa: ARG002
        """Some classes, and some examples of each; where there are few classes, all of them, and more examples of each."""
        chosen, own, size = BATCHES[config.batches["name"]], config.parameters("batches"), config.training.batch_size
        if own.pop("column", None) is not None or own.get("classes") == "user":
            raise ConfigError("batches of examples go by their classes: leave batches.column and batches.classes out.")
        if getattr(chosen.function, "learns", False):
            raise ConfigError(
                f"batches {chosen.name} learn from the loss of each row, which losses of embeddings do not tell. Choose others."
            )
        sizes = part.sizes()
        if "per_class" in own and 0 < len(sizes) * own["per_class"] < size:
            own["per_class"] = max(min(size // len(sizes), int(sizes.max())), own["per_class"])
            size = own["per_class"] * len(sizes)
        features, classes = part.tensors()
        pairs = chosen.function((torch.arange(len(classes)), classes), size, seed=config.seed, **own)
        if pairs.weights(torch.arange(1)) is not None:
            raise ConfigError(
                f"batches {chosen.name} weigh single rows, and losses of embeddings compare them: choose class_balanced, which"
                " shows all classes alike."
            )
        return ExampleBatches(features, pairs)

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: Examples,  # noqa: ARG002
        held_out: Examples,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """Each example among all others of the part."""
        embedder: Any = model
        return evaluate_examples(
            embedder, measures, *held_out.tensors(), block=config.evaluation.block, progress=progress
        )

    def baselines(self, config: Config, data: Data[Examples]) -> Mapping[str, nn.Module]:
        """Features as they are, and the network before training; the map that generated data hide their classes by."""
        untrained = self.model(config, data)
        self.initialise(untrained, data.train, seed=config.seed)
        compared: dict[str, nn.Module] = {"raw": RawFeatures(data.train.shape), "untrained": untrained.eval()}
        if data.ideal is not None:
            compared["true map"] = _Mapped(data.ideal)
        return compared

    def facts(self, data: Data[Examples]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "examples": len(data.train),
            "classes": len(data.train.sizes()),
            "valid": 0 if data.valid is None else len(data.valid),
            "test": len(data.test),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.fingerprint()[:16]}",
        }

    def rows(self, data: Data[Examples], evaluation: Evaluation) -> pl.DataFrame:
        """Examples by their place in the file, and their classes."""
        asked = evaluation.users.numpy()
        return pl.DataFrame({"example": data.test.rows[asked], "class": data.test.class_ids[data.test.classes[asked]]})

    def memory(self, config: Config, data: Data[Examples]) -> dict[str, float]:
        """Examples; a batch's hidden numbers and pairs; a block of similarities, with their order."""
        batch, widths = config.training.batch_size, config.model.get("widths", ())
        places = float(np.prod(data.train.shape[1:]))
        return {
            "examples": 4.0 * (2 * data.train.features.size + data.test.features.size),
            "batch": 4.0 * batch * (4 * places * sum(widths) + 8 * batch),
            "evaluation": 40.0 * config.evaluation.block * max(len(data.train), len(data.test)),
        }

    def save(self, folder: Path, data: Data[Examples]) -> None:
        """All examples: those of the test, to judge by, and the others, as neighbours for new ones."""
        whole = joined_examples([data.train, data.test])
        features, classes = whole.tensors()
        kept = {"features": features, "classes": classes, "rows": torch.from_numpy(whole.rows)}
        facts = {"train": len(data.train), "names": list(whole.names)}
        checkpoint.save(folder / "examples.safetensors", kept, facts)
        with write_atomically(folder / "classes.parquet", pl.exceptions.PolarsError) as temporary:
            pl.DataFrame({"id": whole.class_ids}).write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[Examples]:  # noqa: ARG002
        """All examples, training and test."""
        kept, facts = checkpoint.load(folder / "examples.safetensors")
        features, classes, rows = (kept[name].numpy() for name in ("features", "classes", "rows"))
        whole = Examples(features, classes, ids_of(folder, "classes"), rows, tuple(facts["names"]))
        train, test = (whole.take(part) for part in np.split(np.arange(len(whole)), [facts["train"]]))
        return Data(train, train, None, test)

    def score(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Examples],
        paths: Sequence[Path],
        *,
        document: str | None = None,
        progress: Progress | None = None,
        notes: list[str] | None = None,  # noqa: ARG002
    ) -> pl.DataFrame:
        """The ten most similar examples of the run for each new one, with their classes: a row each, the nearest first."""
        given = _data(config)
        embedder: Any = model
        if document is not None:
            raise ConfigError("examples go by their place in the file, from 1: leave --document out.")
        among, tables = joined_examples([data.train, data.test]), []
        for path in paths:
            ignore = [name for name in given.ignore if name != given.label]
            new = read_examples(path, format=given.format, label=given.label, ignore=ignore, labelled=False)
            new = like(new, among.shape, among.names, str(path))
            found, scores = neighbours(
                embedder,
                new.tensors()[0],
                among.tensors()[0],
                NEIGHBOURS,
                block=config.evaluation.block,
                progress=progress,
            )
            prefix = f"{path.stem}-" if len(paths) > 1 else ""
            tables.append(_table(found, scores, new.rows, among, prefix))
        return pl.concat(tables)


class _Mapped(nn.Module):
    """Features by a given linear map."""

    similarity = "euclidean"

    def __init__(self, weights: Float[Tensor, "f d"]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        return features @ self.weights


def _table(found: Tensor, scores: Tensor, rows: Any, among: Examples, prefix: str) -> pl.DataFrame:
    """A row a neighbour."""
    asked, k = found.shape
    places = found.flatten().numpy()
    return pl.DataFrame(
        {
            "query": pl.Series(np.repeat(rows, k)).cast(pl.String),
            "document": pl.Series(among.rows[places]).cast(pl.String),
            "rank": np.tile(np.arange(1, k + 1), asked),
            "score": scores.flatten().numpy(),
            "class": among.class_ids[among.classes[places]],
        }
    ).with_columns(query=prefix + pl.col("query"))


def _generator(config: Config, model: nn.Module, part: Examples) -> Generator | None:
    """The generator, to which examples are queries that know their class; None for none."""
    if config.generator["name"] == "none":
        return None
    chosen = GENERATORS[config.generator["name"]]
    classes = part.tensors()[1]
    known = Ragged(torch.arange(len(classes) + 1), classes)
    made: Generator = chosen.function(
        known, len(part.class_ids), model.dim, seed=config.seed, **config.parameters("generator")
    )
    return made


def _data(config: Config) -> ClassData:
    assert isinstance(config.data, ClassData)
    return config.data
