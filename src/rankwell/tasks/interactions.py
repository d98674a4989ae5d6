"""Recommendation from interactions: who took what, and nothing else need be known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from rankwell.atomic import write_atomically
from rankwell.data import Batch, Interactions, ItemColumns, describe, synthesise
from rankwell.data.batching import BATCHES, Batches
from rankwell.errors import ConfigError
from rankwell.evaluation import Among, Background, Evaluation, evaluate
from rankwell.evaluation.full import check_binary
from rankwell.evaluation.recommended import check_recommended
from rankwell.evaluation.top import GROUP, Progress
from rankwell.generators import GENERATORS
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.metrics import Measure
from rankwell.models import MODELS, Popularity
from rankwell.registry import Entry
from rankwell.samplers import SAMPLERS
from rankwell.tasks.choices import (
    refuse_column,
    refuse_generator,
    refuse_rows,
    refuse_unfilled,
    refuse_without_features,
    refuse_without_vectors,
)
from rankwell.tasks.interaction_data import InteractionData, columns_of, ids_of, load, read
from rankwell.tasks.interaction_inputs import groups_of, rival_of, with_inputs
from rankwell.tasks.interaction_objective import build_batches, build_objective, build_observer
from rankwell.tasks.new_interactions import catalogue_of_new
from rankwell.tasks.popularity_parts import popularity_parts
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.settings import NAMED, Config, Section, refuse_watching
from rankwell.tasks.side_features import features_of
from rankwell.tasks.task import Catalogue, Data, Description, Newcomers, Slice, Task
from rankwell.training import ContrastObjective, Objective, checkpoint
from rankwell.training.adversarial_objective import RIVALS
from rankwell.types import Ragged

__all__ = ["Recommendation"]

SCORE_COPIES, VECTOR_COPIES = 6, 6
"""Tensors of the size of the batch's scores, and of the vectors of its negatives, that a loss and its gradient hold at most."""

DOT: Mapping[str, Any] = {"model": {"similarity": "dot"}}
"""For losses whose scale is 1: cosines, which differ by 2 at most, say little to them."""


class Recommendation(Task[Interactions]):
    """Interactions: a contrast loss on sampled negatives, or an embedding loss on the batch; judged on the whole catalogue."""

    name: ClassVar[str] = "interactions"
    settings: ClassVar[type[Section]] = InteractionData
    models: ClassVar[str] = "interactions"
    unit: ClassVar[str] = "user"
    units: ClassVar[str] = "users"
    sections: ClassVar[tuple[str, ...]] = NAMED
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "mf"},
        "loss": {"name": "bsl"},
        "sampler": {"name": "uniform"},
        "miner": {"name": "none"},
        "generator": {"name": "none"},
        "batches": {"name": "shuffled"},
        "positives": {"name": "one"},
        "evaluation": {
            "measures": ["recall@20", "ndcg@20", "precision@20", "hit_rate@20", "mrr@20"],
            "monitor": "ndcg@20",
        },
    }
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "adversarial_info_nce": DOT,
        "bpr": DOT,
        "contrast_hinge": DOT,
        "scaled_cross_entropy": DOT,
        "top1": DOT,
        "variational_bpr": DOT,
        "warp": {**DOT, "training": {"learning_rate": 0.002}},
        "k_os_warp": {**DOT, "training": {"learning_rate": 0.002}},
        "ultragcn": {"model": {"name": "ultragcn", "similarity": "cosine"}},
        "neumf": {"loss": {"name": "sigmoid"}, "sampler": {"name": "uniform", "n": 4, "shared": False}},
        "ccl": {"training": {"learning_rate": 0.02}},
        "mml": {"training": {"learning_rate": 0.02}},
        "sampled_softmax": {"loss": {"temperature": 0.1}},
        "decoupled_softmax": {"loss": {"temperature": 0.1}},
    }
    """bench/LOG.md has what was compared on validation pairs: losses of inner products were better by these on each board of
    ``bench/leaderboard.py``, with factorisation and with LightGCN. WARP's steps grow with the rank, and want a lower rate.
    CCL's is taken over from MML, and the decoupled softmax's temperature from the sampled one. UltraGCN's inner products and
    NeuMF's outputs grow without bound under the default loss: NeuMF takes its article's."""

    hints: ClassVar[Sequence[str]] = (
        "Try another loss:        {call} train synthetic --loss mml --out runs/mml",
        "Recommend for two users: {call} recommend {folder} --users u000,u001",
        "Your own data:           {call} data FILE, then {call} train FILE --dry-run",
    )

    def loss(self, name: str) -> Entry[Any]:
        """A loss of embeddings as it is, others as contrast losses, with what fills their inputs."""
        entry = LOSSES[name]
        return entry if entry.kind == "embedding" else with_inputs(as_contrast(entry))

    def implied(self, names: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:
        """With losses of embeddings the batch is the sampler; naming another is an error."""
        if LOSSES[names["loss"]].kind != "embedding":
            return {}
        entry = SAMPLERS["in_batch"]
        batch = {"name": "in_batch", **{name: own.default for name, own in entry.parameters.items()}}
        if any(batch.get(key) != value for key, value in given.get("sampler", {}).items()):
            raise ConfigError(
                f"sampler: {names['loss']} is a loss of embeddings, whose negatives are the batch's other items. Leave the"
                " sampler out."
            )
        refuse_watching(given, f"{names['loss']}, a loss of embeddings,")
        return {"sampler": batch}

    def refuse(self, config: Config) -> None:
        """Columns without a file; inputs of losses and generators that nothing fills; vectors of a model that has none."""
        loss, generator = self.loss(str(config.loss["name"])), config.generator["name"]
        groups, rival = groups_of(loss), rival_of(loss)
        for section, entry, fillable in (
            ("loss", loss, groups),
            ("sampler", SAMPLERS[config.sampler["name"]], None),
            ("batches", BATCHES[config.batches["name"]], None),
        ):
            refuse_column(config, section, entry, entry.inputs if fillable is None else fillable)
        if loss.kind == "embedding":
            refuse_rows(config)
            refuse_without_vectors(config, f"loss {loss.name} compares", "or a loss of scores")
        else:
            filled = (*ContrastObjective.offers, *groups, *(RIVALS.names() if rival else ()))
            refuse_unfilled("loss", loss, filled, "interactions")
        if generator != "none":
            refuse_generator(config)
            refuse_without_vectors(config, f"generator {generator} makes negatives of", "or leave the generator out")
            if rival:
                raise ConfigError(f"loss {loss.name} is a game, whose negatives are items: leave the generator out.")

    def check(self, measure: Measure) -> Measure:
        """Held-out pairs have no grades."""
        return check_binary(measure)

    def read(self, config: Config) -> Data[Interactions]:
        """Read and split; what a measure or a model would lack is said before anything is trained."""
        refuse_without_features(config)
        data = read(_data(config), config.seed)
        measures = [Measure.parse(text) for text in config.evaluation.measures]
        check_recommended(measures, _background(measures, data.train, data.items))
        return replace(data, notes=(*data.notes, *_unused_columns(config, data)))

    def describe(self, config: Config) -> Description:
        """Counts, density, activity, popularity."""
        dataset, _ = load(_data(config), config.seed)
        tables = {"": describe(dataset.train, merged=dataset.merged).rows()}
        if dataset.items is not None:
            tables["columns of items:"] = dataset.items.rows()
        if dataset.users is not None:
            tables["columns of users:"] = dataset.users.rows()
        if dataset.test is not None:
            tables[f"test pairs: {len(dataset.test):,}"] = []
        return Description(dataset.notes, tables)

    def profile(self, data: Data[Interactions]) -> Profile:
        """Of training and test pairs together."""
        activity = data.train.activity() + data.test.activity()
        rows, kind = int(activity.sum()) + (data.merged or 0), describe(data.train).labels.partition(" ")[0]
        return profile_of(
            "graded" if kind in ("graded", "real") else "binary" if kind == "binary" else "implicit",
            sizes=activity,
            positives=activity,
            items=data.train.num_items,
            popularity=data.train.popularity() + data.test.popularity(),
            repeat_rate=None if data.merged is None else data.merged / max(rows, 1),
        )

    def generate(self, folder: Path, seed: int) -> None:
        """Interactions whose ideal ranking is known."""
        synthesise(seed=seed).write(folder)

    def sizes(self, data: Data[Interactions]) -> tuple[int, ...]:
        """Users and items."""
        return data.train.num_users, data.train.num_items

    def model(self, config: Config, data: Data[Interactions]) -> nn.Module:
        """The model; one that takes features gets those of the columns of items and users that it names."""
        own = {**config.parameters("model"), **features_of(config, data)}
        return MODELS[config.model["name"]].function(*self.sizes(data), **own)

    def initialise(self, model: nn.Module, part: Interactions, *, seed: int) -> None:
        """From what each user knows."""
        model.initialise(part.known(), seed=seed)  # type: ignore[operator]

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Interactions],
        part: Interactions,
        held_out: Interactions | None,
    ) -> Objective:
        """The loss on the model's scores of positives and negatives."""
        observer = build_observer(config, part, held_out)
        return build_objective(config, model, part, items=data.items, observer=observer)

    def batches(self, config: Config, data: Data[Interactions], part: Interactions) -> Batches[Batch]:
        """Pairs of user and item."""
        batches: Batches[Batch] = build_batches(config, part, data.items)
        return batches

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: Interactions,
        held_out: Interactions,
        progress: Progress | None = None,
        *,
        items: ItemColumns | None = None,
    ) -> Evaluation:
        """Against the whole catalogue, known items left out."""
        ranker: Any = model  # every model of interactions ranks the catalogue
        return evaluate(
            ranker,
            measures,
            known=known.known(),
            held_out=held_out.known(),
            background=_background(measures, known, items),
            block=config.evaluation.block,
            progress=progress,
        )

    def baselines(self, config: Config, data: Data[Interactions]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """Popularity; and the ideal ranking, where it is known."""
        popularity = Popularity(*self.sizes(data))
        popularity.initialise(data.train.known(), seed=0)
        rankers: dict[str, nn.Module] = {"popularity": popularity}
        if data.ideal is not None:
            rankers["ideal"] = _Fixed(data.ideal)
        return rankers

    def slices(self, config: Config, data: Data[Interactions]) -> Mapping[str, Slice]:
        """On a split by items, new items among new items; head, middle and tail where they are asked for."""
        found = {}
        if config.evaluation.by_popularity:
            for name, items in popularity_parts(data.train.popularity(), data.test.items).items():
                found[name] = Slice(data.test.take(items[data.test.items]))
        new = (data.test.popularity() > 0) & (data.train.popularity() == 0)
        # Not where the data come with a test of their own, of items that training knows.
        if _data(config).split == "cold_items" and new.any():
            held_out = data.test.take(new[data.test.items])
            name = f"among {int(new.sum()):,} new items"
            found[name] = Slice(held_out, partial(Among, items=torch.from_numpy(new)))
        return found

    def facts(self, data: Data[Interactions]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "users": data.train.num_users,
            "items": data.train.num_items,
            "train": len(data.train),
            "valid": 0 if data.valid is None else len(data.valid),
            "test": len(data.test),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.fingerprint()[:16]}",
            **({"columns": data.items.fingerprint()[:16]} if data.items else {}),
            **({"user columns": data.users.fingerprint()[:16]} if data.users else {}),
        }

    def rows(self, data: Data[Interactions], evaluation: Evaluation) -> pl.DataFrame:
        """Users, and how many items each has in training and in the test."""
        users = evaluation.users.numpy()
        counts = {"history": data.train.activity()[users], "test_items": data.test.activity()[users]}
        return pl.DataFrame({"user": data.test.user_ids[users], **counts})

    def memory(self, config: Config, data: Data[Interactions]) -> dict[str, float]:
        """Pairs, 48 bytes each for codes, keys and lists; the model's weights, its two moments and a copy being written; the
        batch's scores, positives and negatives; a block of scores of the whole catalogue."""
        (users, items), dim = self.sizes(data), config.model.get("dim", 64)
        memory = {"pairs": 48.0 * (len(data.train) + len(data.test) + (0 if data.valid is None else len(data.valid)))}
        if config.trainable:
            players = 1 if rival_of(self.loss(str(config.loss["name"]))) is None else 2
            memory["model"] = 16.0 * players * (users + items) * dim
            scores = config.training.batch_size * config.sampler.get("n", config.training.batch_size)
            memory["batch scores"] = 4.0 * SCORE_COPIES * scores
            if not config.sampler.get("shared", SAMPLERS[config.sampler["name"]].kind != "model"):
                memory["batch vectors"] = 4.0 * VECTOR_COPIES * scores * dim
            if config.generator["name"] != "none":
                memory["made vectors"] = _made(config, dim)
        else:
            memory["model"] = 8.0 * (len(data.train) + (users + items) * config.model.get("rank", 1))
        return {**memory, "evaluation": 4.0 * config.evaluation.block * (items + GROUP) * 1.2}

    def save(self, folder: Path, data: Data[Interactions]) -> None:
        """Known and test pairs, the ids of codes, and columns of items and users."""
        known, held_out = data.train.known(), data.test.known()
        pairs = {"known.offsets": known.offsets, "known.values": known.values}
        pairs |= {"held_out.offsets": held_out.offsets, "held_out.values": held_out.values}
        # Whom training met before validation was added: they decide what columns become.
        met = data.fit.activity() > 0, data.fit.popularity() > 0
        pairs |= {f"fit.{name}": torch.from_numpy(each) for name, each in zip(("users", "items"), met, strict=True)}
        checkpoint.save(folder / "pairs.safetensors", pairs, {})
        for name, ids in (("users", data.train.user_ids), ("items", data.train.item_ids)):
            with write_atomically(folder / f"{name}.parquet", pl.exceptions.PolarsError) as temporary:
                pl.DataFrame({"id": ids}).write_parquet(temporary)
        for name, columns in (("item", data.items), ("user", data.users)):
            if columns is not None:
                with write_atomically(folder / f"{name}_columns.parquet", pl.exceptions.PolarsError) as temporary:
                    columns.frame.write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[Interactions]:  # noqa: ARG002
        """Known and test pairs."""
        pairs, _ = checkpoint.load(folder / "pairs.safetensors")
        ids = [ids_of(folder, name) for name in ("users", "items")]
        lists = (Ragged(pairs[f"{name}.offsets"], pairs[f"{name}.values"]) for name in ("known", "held_out"))
        train, test = (_as_pairs(each, *ids) for each in lists)
        users, items = (columns_of(folder, name, of) for name, of in zip(("user", "item"), ids, strict=True))
        fit = train
        if "fit.users" in pairs:
            fit = train.take(pairs["fit.users"].numpy()[train.users] & pairs["fit.items"].numpy()[train.items])
        return Data(train, fit, None, test, items=items, users=users)

    def catalogue(self, model: nn.Module, data: Data[Interactions]) -> Catalogue:
        """Users and items by their ids, and what users know."""
        ranker: Any = model  # every model of interactions ranks the catalogue
        return Catalogue(data.train.user_ids, data.train.item_ids, data.train.known(), ranker)

    def catalogue_of_new(
        self, config: Config, model: nn.Module, data: Data[Interactions], given: Newcomers
    ) -> Catalogue:
        """By histories, or by features."""
        return catalogue_of_new(config, model, data, given)


class _Fixed(nn.Module):
    """Scores that are given."""

    scores: Tensor

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.num_items = scores.shape[1]
        self.register_buffer("scores", scores, persistent=False)

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        return self.scores[queries] if out is None else out.copy_(self.scores[queries])


def _unused_columns(config: Config, data: Data[Interactions]) -> Iterator[str]:
    """A note for each file of columns, where no setting names a column."""
    sections = [values for values in config.as_dict().values() if isinstance(values, Mapping)]
    named = any(value for values in sections for key, value in values.items() if key.endswith(("column", "columns")))
    if named or any(Measure.parse(text).column for text in config.evaluation.measures):
        return
    chosen = ", ".join(str(getattr(config, section)["name"]) for section in ("model", "sampler", "batches"))
    for what, columns in (("items", data.items), ("users", data.users)):
        if columns is not None:
            yield f"none of {chosen} uses a column of data.{what}: {', '.join(columns.frame.columns)}"


def _background(measures: Sequence[Measure], known: Interactions, items: ItemColumns | None) -> Background:
    """Who has what, and the columns of items that measures name."""
    named = {measure.column for measure in measures if measure.column}
    columns = {name: items.vectors(name) for name in named} if items is not None else {}
    return Background.of(known.known(), known.num_items, columns)


def _data(config: Config) -> InteractionData:
    assert isinstance(config.data, InteractionData)
    return config.data


def _made(config: Config, dim: int) -> float:
    """Bytes of the vectors that the generator makes, and of their scores."""
    batch = config.training.batch_size
    size = getattr(GENERATORS[config.generator["name"]].function, "size", None)
    each, shared = size(**config.parameters("generator")) if size else (config.sampler.get("n", batch), 0)
    vectors, scores = batch * each + shared, batch * (each + shared)
    return 4.0 * float(VECTOR_COPIES * vectors * dim + SCORE_COPIES * scores)


def _as_pairs(lists: Ragged, user_ids: pl.Series, item_ids: pl.Series) -> Interactions:
    users = torch.repeat_interleave(lists.offsets.diff()).numpy().astype(np.int64)
    return Interactions(users, lists.values.numpy(), user_ids, item_ids)
