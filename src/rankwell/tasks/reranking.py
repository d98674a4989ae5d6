"""Reranking: a model of pairs that ranks again what a first stage has found."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from rankwell.data.batching import Batches, ShuffledBatches
from rankwell.data.retrieval import HardNegatives, Retrieval
from rankwell.errors import ConfigError, require
from rankwell.evaluation import Evaluation
from rankwell.evaluation.top import Progress, TopItems
from rankwell.lists import offsets_from_sizes
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.metrics import Measure
from rankwell.models import MODELS
from rankwell.registry import Entry
from rankwell.samplers.mined import MinedNegatives
from rankwell.tasks.choices import refuse_unfilled
from rankwell.tasks.retrieval import LAYERS, STATES, WIDTH, TextRetrieval
from rankwell.tasks.retrieval_data import RetrievalData, read
from rankwell.tasks.retrieval_lists import text_list_batches, text_list_objective
from rankwell.tasks.retrieval_ranking import ByWords, best_of
from rankwell.tasks.settings import Config, Section
from rankwell.tasks.task import Data, Task
from rankwell.training import ContrastObjective, Objective
from rankwell.training.paired_texts import PairedTexts, score_pairs
from rankwell.types import Ragged
from rankwell.words import many

__all__ = ["Reranker", "Reranking", "RerankingData", "first_stage", "found_for", "with_found"]

_FOUND: "weakref.WeakKeyDictionary[Retrieval, dict[tuple[str, int], TopItems]]" = weakref.WeakKeyDictionary()


class RerankingData(RetrievalData):
    """What to read, how to split it, and what is ranked again."""

    hard: Annotated[int, Field(ge=1)] = 4
    """Negatives that each row takes in a step: of ``negatives``, or of what the first stage found."""
    first: str = "bm25"
    """What finds the candidates: ``bm25``, or the name or folder of an encoder."""
    candidates: Annotated[int, Field(ge=1)] = 100
    """How many it finds for each query, for training and for ranking again; others are not ranked."""


class Reranking(TextRetrieval):
    """Pairs of texts: a cross-encoder, judged by the order that it gives to a first stage's candidates."""

    name: ClassVar[str] = "rerank"
    settings: ClassVar[type[Section]] = RerankingData
    models: ClassVar[str] = "rerank"
    sections: ClassVar[tuple[str, ...]] = ("model", "loss")
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": {"name": "cross_encoder"},
        "loss": {"name": "softmax"},
        "training": {**TextRetrieval.defaults["training"], "batch_size": 16, "watch_every": 0},
        "evaluation": TextRetrieval.defaults["evaluation"],
    }
    # Retrieval's temperatures suit cosines; scores of pairs have a scale of their own.
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "max_sim": {"training": {"epochs": 15, "learning_rate": 0.03}}
    }

    def loss(self, name: str) -> Entry[Any]:
        """A list or a contrast loss, on one positive and its negatives."""
        entry = LOSSES[name]
        if entry.kind not in ("list", "contrast") or "similarities" in entry.inputs:
            raise ConfigError(
                f"loss {name!r} cannot train a model of pairs: it takes list and contrast losses. 'rankwell losses' lists them."
            )
        return as_contrast(entry)

    def implied(self, names: Mapping[str, str], given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing follows from the names."""
        return Task.implied(self, names, given)

    def read(self, config: Config) -> Data[Retrieval]:
        """Read and split; where no negatives are given, what the first stage finds is told from the positives."""
        require("bm25s", "text")
        given = _data(config)
        data, first = read(given, config.seed), first_stage(given.first)  # a name that is wrong is told before training
        data = replace(data, notes=(*data.notes, *_cut(config, data.train)))
        if given.rows == "lists" or given.negatives is not None or data.fit.negatives is not None:
            return data
        fit = with_found(data.fit, first, given.candidates)
        train = fit if data.valid is None else with_found(data.train, first, given.candidates)
        return replace(data, fit=fit, train=train)

    def refuse(self, config: Config) -> None:
        """A loss that needs what texts do not tell."""
        if _data(config).rows != "lists":
            refuse_unfilled("loss", self.loss(str(config.loss["name"])), ContrastObjective.offers, "texts")

    def objective(
        self,
        config: Config,
        model: nn.Module,
        data: Data[Retrieval],
        part: Retrieval,
        held_out: Retrieval | None,  # noqa: ARG002
    ) -> Objective:
        """The loss on each pair and its negatives, or on whole lists."""
        paired = PairedTexts(
            model, part.queries.texts, part.documents.texts, micro_batch=int(config.model["micro_batch"])
        )
        if _data(config).rows == "lists":
            return text_list_objective(config, paired, part, data.train)
        entry = self.loss(str(config.loss["name"]))
        assert part.negatives is not None
        sampler = MinedNegatives(
            part.negatives.lists, part.known(), part.num_items, seed=config.seed, n=_data(config).hard
        )
        bound = partial(entry.function, **config.parameters("loss"))
        return ContrastObjective(paired, bound, sampler, seed=config.seed, inputs=entry.inputs)

    def batches(self, config: Config, data: Data[Retrieval], part: Retrieval) -> Batches[Any]:  # noqa: ARG002
        """Pairs of a query and a relevant document, or whole lists."""
        if _data(config).rows == "lists":
            return text_list_batches(config, part)
        return ShuffledBatches(part.pairs(), config.training.batch_size, seed=config.seed)

    def judge(
        self,
        config: Config,
        model: nn.Module,
        measures: Sequence[Measure],
        known: Retrieval,
        held_out: Retrieval,
        progress: Progress | None = None,
        *,
        items: Any = None,  # noqa: ARG002
    ) -> Evaluation:
        """The candidates of each query in the model's order, measured against all that is relevant."""
        return super().judge(config, self._ranking(config, model), measures, known, held_out, progress)

    def score(self, config: Config, model: nn.Module, *args: Any, **given: Any) -> Any:
        """The candidates of new queries, in the model's order."""
        return super().score(config, self._ranking(config, model), *args, **given)

    def baselines(self, config: Config, data: Data[Retrieval]) -> Mapping[str, nn.Module]:  # noqa: ARG002
        """The first stage alone."""
        first = _data(config).first
        return {"bm25" if first == "bm25" else "first stage": _FirstStage(first_stage(first))}

    def memory(self, config: Config, data: Data[Retrieval]) -> dict[str, float]:
        """Texts; weights, moments, gradients and a copy; what a step keeps."""
        model: Any = self.model(config, data)
        pairs = model.micro_batch or config.training.batch_size * (1 + _data(config).hard)
        return {
            "texts": 2.0 * sum(map(len, data.train.documents.texts)),
            "model": 20.0 * sum(value.numel() for value in model.parameters()),
            "batch": 4.0 * pairs * int(config.model["max_length"]) * WIDTH * LAYERS * STATES,
        }

    def _ranking(self, config: Config, model: nn.Module) -> nn.Module:
        """The model behind the first stage; a first stage alone stays as it is."""
        if isinstance(model, _FirstStage):
            return model.model
        given = _data(config)
        return Reranker(model, given.first, given.candidates)


class Reranker(nn.Module):
    """A model of pairs that orders the ``candidates`` best documents of a first stage; others are not ranked."""

    def __init__(self, model: nn.Module, first: str, candidates: int) -> None:
        super().__init__()
        self.model, self.first, self.candidates = model, first, candidates

    def ranker(self, part: Retrieval, progress: Progress | None = None) -> "_Reordered":
        """The ranking of a part: its candidates are scored now, each pair once."""
        found = found_for(part, self.first, self.candidates)
        rows, places = (found.ids >= 0).nonzero(as_tuple=True)
        competing = found.ids[rows, places]
        codes = competing if part.ranked is None else part.ranked[competing]
        asked = part.asked()
        queries = [part.queries.texts[code] for code in asked[rows].tolist()]
        documents = [part.documents.texts[code] for code in codes.tolist()]
        training = self.model.training
        self.model.eval()
        try:
            scores = score_pairs(self.model, queries, documents, progress=progress)
        finally:
            self.model.train(training)
        return _Reordered(
            asked, offsets_from_sizes(rows.bincount(minlength=len(asked))), competing, scores, part.num_items
        )


class _Reordered(nn.Module):
    """Scores of some documents for each query; all others are -inf, which is not ranked."""

    def __init__(self, asked: Tensor, offsets: Tensor, competing: Tensor, scores: Tensor, num_items: int) -> None:
        super().__init__()
        self.asked, self.lists, self.scores, self.num_items = asked, Ragged(offsets, competing), scores, num_items

    def score_all(self, queries: Int[Tensor, " q"], out: Tensor | None = None) -> Float[Tensor, "q m"]:  # noqa: ARG002
        """Scores of every document."""
        made = torch.full((len(queries), self.num_items), -torch.inf)
        for row, place in enumerate(torch.searchsorted(self.asked, queries).tolist()):
            here = slice(int(self.lists.offsets[place]), int(self.lists.offsets[place + 1]))
            made[row, self.lists.values[here]] = self.scores[here]
        return made


class _FirstStage(nn.Module):
    """A first stage, to be judged as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model


def first_stage(name: str) -> nn.Module:
    """What finds candidates: BM25, or an encoder by name."""
    if name == "bm25":
        return ByWords(hashed=True)
    return MODELS["bi_encoder"].function(encoder=name)


def found_for(part: Retrieval, first: str, candidates: int) -> TopItems:
    """The first stage's candidates of a part; found once for each part."""
    made = _FOUND.setdefault(part, {})
    if (first, candidates) not in made:
        made[first, candidates] = best_of(first_stage(first), part, candidates, block=256)
    return made[first, candidates]


def with_found(part: Retrieval, first: nn.Module, candidates: int) -> Retrieval:
    """The part with the first stage's candidates of each query as what its pairs are to be told from.

    What is relevant or excluded is none of them. Raises :class:`ConfigError` where a query is left without any.
    """
    asked, known = part.asked(), part.known()
    best = best_of(first, replace(part, excluded=known, ranked=None), candidates, block=256)
    of_query = {code: row[row >= 0] for code, row in zip(asked.tolist(), best.ids, strict=True)}
    lists = [of_query[code] for code in part.pairs()[0].tolist()]
    if lists and not any(len(each) for each in lists):
        raise ConfigError("the first stage finds nothing but relevant documents: there is nothing to tell them from.")
    sizes = torch.tensor([len(each) for each in lists], dtype=torch.int64)
    values = torch.cat(lists) if lists else torch.zeros(0, dtype=torch.int64)
    return replace(part, negatives=HardNegatives(Ragged(offsets_from_sizes(sizes), values)))


def _cut(config: Config, part: Retrieval) -> list[str]:
    """How many relevant pairs the model does not read to their end, where it tells."""
    model: Any = MODELS[config.model["name"]].function(**config.parameters("model"))
    if not hasattr(model, "cut"):
        return []
    queries, documents = part.pairs()
    texts = (
        [part.queries.texts[code] for code in queries.tolist()],
        [part.documents.texts[code] for code in documents.tolist()],
    )
    if not (count := model.cut(*texts)):
        return []
    return [
        f"{many(count, 'relevant pair')} of {len(part):,} longer than the model reads: the rest of them does not count"
    ]


def _data(config: Config) -> RerankingData:
    assert isinstance(config.data, RerankingData)
    return config.data
