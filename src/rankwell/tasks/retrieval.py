"""Retrieval: queries and documents as texts, and which belong together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import torch
from torch import nn

from rankwell.atomic import write_atomically
from rankwell.data.batching import BATCHES, Batch, Batches
from rankwell.data.retrieval import Retrieval, Texts
from rankwell.data.synthetic_texts import synthesise_texts, write_beir
from rankwell.data.text_tables import read_texts
from rankwell.errors import ConfigError, DataError, RunError, require
from rankwell.evaluation import Evaluation, evaluate
from rankwell.evaluation.top import GROUP, Progress
from rankwell.generators import GENERATORS
from rankwell.metrics import Measure
from rankwell.models import MODELS
from rankwell.registry import Entry
from rankwell.samplers import SAMPLERS
from rankwell.tasks.choices import refuse_rows, refuse_unfilled
from rankwell.tasks.interactions import Recommendation
from rankwell.tasks.profile import Profile, profile_of
from rankwell.tasks.retrieval_data import RetrievalData, has_corpus, read
from rankwell.tasks.retrieval_lists import refuse_of_rows, text_list_batches, text_list_objective
from rankwell.tasks.retrieval_objective import build_encoded, build_objective, loss_of
from rankwell.tasks.retrieval_ranking import ByWords, best_of, ranker_of, tokens_of, within
from rankwell.tasks.settings import NAMED, Config, Section
from rankwell.tasks.task import Data, Description, Task
from rankwell.training import ContrastObjective, NegativesSeen, Objective, checkpoint
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["TextRetrieval"]

WIDTH, LAYERS, STATES = 384, 6, 16
"""What memory of a transformer is predicted by: MiniLM's shape, and tensors of it that a layer keeps for the way back."""


class TextRetrieval(Task[Retrieval]):
    """Texts: an encoder of queries and documents, trained by any loss; judged by exact search of the corpus."""

    name: ClassVar[str] = "retrieval"
    settings: ClassVar[type[Section]] = RetrievalData
    models: ClassVar[str] = "retrieval"
    unit: ClassVar[str] = "query"
    units: ClassVar[str] = "queries"
    sections: ClassVar[tuple[str, ...]] = NAMED
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "bi_encoder"},
        "loss": {"name": "info_nce"},
        "sampler": {"name": "in_batch"},
        "miner": {"name": "none"},
        "generator": {"name": "none"},
        "batches": {"name": "no_duplicates"},
        "positives": {"name": "one"},
        "training": {
            "batch_size": 32,
            "learning_rate": 2e-5,
            "epochs": 2,
            "schedule": "linear",
            "warmup": 0.1,
            "refit": False,
        },
        "evaluation": {"measures": ["ndcg@10", "recall@100", "mrr@10", "ap"], "monitor": "ndcg@10"},
    }

    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        **{
            name: {"loss": {"temperature": 0.05}}
            for name in ("info_nce", "sampled_softmax", "soft_info_nce", "softmax")
        },
        "adapter": {"training": {"batch_size": 128, "learning_rate": 0.001, "epochs": 20, "warmup": 0.0}},
        "bag_of_words": {"training": {"learning_rate": 0.02, "epochs": 20}},
    }

    def loss(self, name: str) -> Entry[Any]:
        """A loss of embeddings as it is, others as contrast losses."""
        return loss_of(name)

    def implied(self, names: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Whole lists need nothing to choose rows or negatives by. With losses of embeddings the batch is the sampler; no
        sampler may ask the model. Products have a scale of their own, which the temperatures for cosines do not suit."""
        if dict(given.get("data", {})).get("rows") == "lists":
            return refuse_of_rows(given, ("sampler", "miner", "generator", "batches", "positives"))
        if SAMPLERS[names["sampler"]].kind == "model":
            raise ConfigError(
                f"sampler: {names['sampler']} asks the model, which would encode the corpus at every step. Mine negatives by"
                " 'rankwell mine', and give them by --data.negatives."
            )
        return {**Recommendation().implied(names, given), **_of_products(names["loss"], given)}

    def refuse(self, config: Config) -> None:
        """A loss, a sampler or a generator that needs what texts do not tell; what losses of embeddings have no rows for."""
        if _data(config).rows == "lists":
            return
        entry, generator = self.loss(str(config.loss["name"])), str(config.generator["name"])
        if entry.kind == "embedding":
            refuse_rows(config)
        else:
            refuse_unfilled("loss", entry, (*ContrastObjective.offers, "similarities"), "texts")
        refuse_unfilled("sampler", SAMPLERS[config.sampler["name"]], (), "texts")
        if generator != "none":
            refuse_unfilled("generator", GENERATORS[generator], (), "texts")

    def read(self, config: Config) -> Data[Retrieval]:
        """Read and split; longer texts than the model reads are counted."""
        require("bm25s", "text")  # now, not when the baseline needs it after hours of training
        asked = _data(config)
        data = read(asked, config.seed)
        if data.fit.negatives is None and asked.hard != type(asked).model_fields["hard"].default:
            raise ConfigError(
                "data.hard counts hard negatives: the data have none. Give triplets, or rows of 'rankwell mine' by"
                " --data.negatives FILE, or leave it out."
            )
        model: Any = MODELS[config.model["name"]].function(**config.parameters("model"))
        notes = [
            f"{many(cut, name, plural)} of {len(texts):,} longer than the model reads: the rest of them does not count"
            for name, plural, texts, cut in (
                ("query", "queries", data.train.queries, tokens_of(model, data.train.queries, "query").cut),
                ("document", "documents", data.train.documents, tokens_of(model, data.train.documents, "document").cut),
            )
            if cut
        ]
        return replace(data, notes=(*data.notes, *notes))

    def recognises(self, path: Path) -> bool:
        """A corpus."""
        return has_corpus(path)

    def profile(self, data: Data[Retrieval]) -> Profile:
        """Of the training queries, and the whole corpus."""
        part = data.train
        gains, relevant = part.gains(), part.relevant()
        return profile_of(
            "teacher" if part.teacher is not None else "graded" if bool((gains != gains[:1]).any()) else "pairs",
            sizes=part.judged.offsets.diff().numpy(),
            positives=relevant.offsets.diff().numpy(),
            items=len(part.documents),
            popularity=torch.bincount(relevant.values, minlength=len(part.documents)).numpy(),
        )

    def generate(self, folder: Path, seed: int) -> None:
        """Texts in which it is known what answers what, as BEIR has them."""
        write_beir(folder, dict(zip(("train", "dev", "test"), synthesise_texts(seed=seed), strict=True)))

    def describe(self, config: Config) -> Description:
        """Counts and lengths."""
        data = read(_data(config), config.seed)
        return Description(data.notes, {"training": _facts(data.fit), "test": _facts(data.test)})

    def sizes(self, data: Data[Retrieval]) -> tuple[int, ...]:  # noqa: ARG002
        """Nothing: models read any text."""
        return ()

    def initialise(self, model: nn.Module, part: Retrieval, *, seed: int) -> None:  # noqa: ARG002
        """The weights before training."""
        model.initialise(seed=seed)  # type: ignore[operator]

    def objective(
        self, config: Config, model: nn.Module, data: Data[Retrieval], part: Retrieval, held_out: Retrieval | None
    ) -> Objective:
        """The loss on vectors, or on scores of positives and negatives."""
        if _data(config).rows == "lists":
            return text_list_objective(config, build_encoded(model, part), part, data.train)
        observer = None
        if config.training.watch_every:
            kept = None if held_out is None else held_out.known()
            observer = NegativesSeen(part.known(), part.num_items, every=config.training.watch_every, held_out=kept)
        return build_objective(config, model, part, hard=_data(config).hard, observer=observer)

    def batches(self, config: Config, data: Data[Retrieval], part: Retrieval) -> Batches[Any]:  # noqa: ARG002
        """Pairs of a query and a relevant document, or whole lists."""
        if _data(config).rows == "lists":
            return text_list_batches(config, part)
        chosen = BATCHES[config.batches["name"]]
        if needed := [name for name, given in chosen.inputs.items() if given.required]:
            raise ConfigError(
                f"batches {chosen.name} need {', '.join(needed)}, which texts do not tell. Choose others."
            )
        own = {name: value for name, value in config.parameters("batches").items() if name != "column"}
        batches: Batches[Batch] = chosen.function(part.pairs(), config.training.batch_size, seed=config.seed, **own)
        return batches

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: Retrieval,  # noqa: ARG002  (what training knows of other queries is no matter here)
        held_out: Retrieval,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """Exact search of the corpus, or of those documents of it that compete."""
        ranker = ranker_of(model, held_out, progress)
        relevant, there = within(held_out.relevant(), held_out.ranked)
        nothing = Ragged(torch.zeros(len(held_out.queries) + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        excluded = nothing if held_out.excluded is None else within(held_out.excluded, held_out.ranked)[0]
        gains, asked = held_out.gains()[there], held_out.asked()
        return evaluate(
            ranker,
            measures,
            known=excluded,
            held_out=relevant,
            gains=gains,
            users=asked,
            block=config.evaluation.block,
        )

    def baselines(self, config: Config, data: Data[Retrieval]) -> Mapping[str, nn.Module]:
        """BM25, and the model before training."""
        before = self.model(config, data)
        self.initialise(before, data.train, seed=config.seed)
        return {"bm25": ByWords(), "before training": before}

    def facts(self, data: Data[Retrieval]) -> dict[str, Any]:
        """Counts and a fingerprint."""
        return {
            "documents": len(data.train.documents),
            "queries": len(data.train.asked()),
            "pairs": len(data.train),
            "valid": 0 if data.valid is None else len(data.valid.asked()),
            "test": len(data.test.asked()),
            "fingerprint": f"{data.train.fingerprint()[:16]}-{data.test.fingerprint()[:16]}",
        }

    def rows(self, data: Data[Retrieval], evaluation: Evaluation) -> pl.DataFrame:
        """Queries, and how many relevant documents each has."""
        queries = evaluation.users.tolist()
        counts = data.test.relevant().offsets.diff()[evaluation.users].numpy()
        return pl.DataFrame({"query": [data.test.queries.ids[code] for code in queries], "relevant": counts})

    def memory(self, config: Config, data: Data[Retrieval]) -> dict[str, float]:
        """Texts and tokens; the weights, their moments, gradients and a copy; what a step keeps; vectors and scores."""
        model: Any = self.model(config, data)
        weights = sum(value.numel() for value in model.parameters())
        documents, length = len(data.train.documents), int(config.model.get("max_length", 128))
        texts = model.micro_batch or config.training.batch_size * (
            1 + _data(config).hard * bool(_data(config).negatives)
        )
        return {
            "texts": 2.0 * sum(map(len, data.train.documents.texts)) + 8.0 * documents * length,
            "model": 20.0 * weights,
            "batch": 4.0 * texts * length * WIDTH * LAYERS * STATES
            if hasattr(model, "encoder")
            else 4.0 * texts * model.dim,
            "vectors": 4.0 * documents * model.dim,
            "evaluation": 4.8 * config.evaluation.block * (documents + GROUP),
        }

    def save(self, folder: Path, data: Data[Retrieval]) -> None:
        """Corpus and queries, and what the test says of them."""
        kept = {"offsets": data.test.judged.offsets, "values": data.test.judged.values, "grades": data.test.grades}
        if data.test.excluded is not None:
            kept |= {"excluded.offsets": data.test.excluded.offsets, "excluded.values": data.test.excluded.values}
        checkpoint.save(folder / "judgements.safetensors", kept, {})
        for name, texts in (("queries", data.test.queries), ("documents", data.test.documents)):
            table = pl.DataFrame({"id": list(texts.ids), "text": list(texts.texts)})
            with write_atomically(folder / f"{name}.parquet", pl.exceptions.PolarsError) as temporary:
                table.write_parquet(temporary)

    def load(self, folder: Path, config: Config) -> Data[Retrieval]:  # noqa: ARG002
        """Corpus, queries and the test's judgements."""
        kept, _ = checkpoint.load(folder / "judgements.safetensors")
        queries, documents = (_texts_of(folder / f"{name}.parquet") for name in ("queries", "documents"))
        judged = Ragged(kept["offsets"], kept["values"])
        excluded = Ragged(kept["excluded.offsets"], kept["excluded.values"]) if "excluded.values" in kept else None
        test = Retrieval(queries, documents, judged, kept["grades"], excluded)
        return Data(test, test, None, test)

    def score(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Retrieval],
        paths: Sequence[Path],
        *,
        document: str | None = None,
        progress: Progress | None = None,
        notes: list[str] | None = None,
    ) -> pl.DataFrame:
        """The best documents of the corpus for the queries of new files: ``data.depth`` of them for each."""
        if document is not None:
            raise ConfigError(
                "--document names a column of features' lists: the documents here are those of the corpus."
            )
        asked = _asked(paths, data.test.documents, [] if notes is None else notes)
        found = best_of(model, asked, _data(config).depth, block=config.evaluation.block, progress=progress)
        there = found.ids >= 0
        rows, places = there.nonzero(as_tuple=True)
        documents = asked.documents.ids
        return pl.DataFrame(
            {
                "query": [asked.queries.ids[row] for row in rows.tolist()],
                "document": [documents[code] for code in found.ids[there].tolist()],
                "rank": (places + 1).numpy(),
                "score": found.scores[there].numpy(),
            }
        )


def _of_products(loss: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A temperature of 1 where the loss sees inner products, by its own similarity or the model's, and none is given."""
    own, parameters = dict(given.get("loss", {})), loss_of(loss).parameters
    compared = own if "similarity" in parameters else dict(given.get("model", {}))
    if compared.get("similarity", "cosine") == "cosine" or "temperature" not in parameters:
        return {}
    return {"loss": {"name": loss, "temperature": 1.0, **own}}


def _data(config: Config) -> RetrievalData:
    assert isinstance(config.data, RetrievalData)
    return config.data


def _facts(part: Retrieval) -> list[tuple[str, str]]:
    asked = part.asked()
    words = sorted(len(part.queries.texts[code].split()) for code in asked.tolist())
    lengths = sorted(len(text.split()) for text in part.documents.texts)
    return [
        ("queries", f"{len(asked):,}"),
        ("documents", f"{len(part.documents):,}"),
        ("relevant pairs", f"{len(part):,} ({len(part) / max(len(asked), 1):.2f} a query)"),
        ("words of a query", f"{words[len(words) // 2]:,} in the middle, {words[-1]:,} at most"),
        ("words of a document", f"{lengths[len(lengths) // 2]:,} in the middle, {lengths[-1]:,} at most"),
    ]


def _texts_of(file: Path) -> Texts:
    try:
        table = pl.read_parquet(file)
        return Texts(table["id"].to_list(), table["text"].to_list())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{file} is corrupt or missing. Train again.") from error


def _asked(paths: Sequence[Path], documents: Texts, notes: list[str]) -> Retrieval:
    """New queries on the corpus; a document with a query's own text is left out for it. Every query counts as judged."""
    ids: list[str] = []
    texts: list[str] = []
    for path in paths:
        table = read_texts(path, "query", notes=notes)
        if twice := set(ids).intersection(table.ids):
            raise DataError(
                f"{path}: queries must have ids of their own: {min(twice)!r} is in a file before. Rename one."
            )
        ids, texts = [*ids, *table.ids], [*texts, *table.texts]
    codes = {text: code for code, text in enumerate(documents.texts)}
    own = [[codes[text]] if text in codes else [] for text in texts]
    offsets = torch.tensor([0, *map(len, own)]).cumsum(0)
    excluded = Ragged(offsets, torch.tensor([code for each in own for code in each], dtype=torch.int64))
    everyone = Ragged(torch.arange(len(texts) + 1), torch.zeros(len(texts), dtype=torch.int64))
    return Retrieval(Texts(ids, texts), documents, everyone, torch.zeros(len(texts)), excluded)
