"""The objective of retrieval: loss, sampler, mined negatives, miner, generator and positives, put together as configured."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import Tensor

from rankwell.data.batching import BATCHES
from rankwell.data.retrieval import Retrieval
from rankwell.generators import GENERATORS, Generator
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.models.text_model import encode_tokens
from rankwell.registry import Entry, Parameter
from rankwell.samplers import POSITIVES, SAMPLERS
from rankwell.samplers.mined import MinedNegatives
from rankwell.samplers.registry import Sampler
from rankwell.tasks.interaction_objective import build_miner
from rankwell.tasks.retrieval_ranking import tokens_of
from rankwell.tasks.settings import Config
from rankwell.text.likeness import encoder_likeness, word_likeness
from rankwell.training import ContrastObjective, EmbeddingObjective, Observer
from rankwell.training.encoded_texts import EncodedTexts
from rankwell.training.mined_objective import MinedEmbeddingObjective
from rankwell.types import Contrast

__all__ = ["build_encoded", "build_objective", "loss_of"]

LIKE = Parameter("like", Literal["bm25", "encoder"], "bm25")
"""Who says how like a row's negatives are to what it looks for, to losses that weigh negatives by it."""


def loss_of(name: str) -> Entry[Any]:
    """A loss of embeddings as it is, others as contrast losses; with ``like`` where similarities are to be told."""
    entry = LOSSES[name]
    if entry.kind == "embedding":
        return entry
    entry = as_contrast(entry)
    return replace(entry, parameters={**entry.parameters, "like": LIKE}) if "similarities" in entry.inputs else entry


def build_encoded(model: Any, part: Retrieval) -> EncodedTexts:
    """The model, asked by codes of queries and documents."""
    tokens = (tokens_of(model, part.queries, "query").lists, tokens_of(model, part.documents, "document").lists)
    return EncodedTexts(model, *tokens, micro_batch=model.micro_batch)


def build_objective(
    config: Config, model: Any, part: Retrieval, *, hard: int, observer: Observer | None = None
) -> ContrastObjective | EmbeddingObjective:
    """The loss on the scores of positives and negatives, or on the batch's vectors."""
    entry = loss_of(str(config.loss["name"]))
    own = config.parameters("loss")
    like = own.pop("like", None)
    encoded = build_encoded(model, part)
    bound = partial(entry.function, **own)
    generator = _generator(config, encoded, part)
    if entry.kind == "embedding":
        return _of_embeddings(config, encoded, bound, part, hard, generator)
    several = POSITIVES[config.positives["name"]].function
    sampler: Sampler = SAMPLERS[config.sampler["name"]].function(
        part.known(), part.num_items, seed=config.seed, **config.parameters("sampler")
    )
    return ContrastObjective(
        encoded,
        bound,
        _with_mined(config, part, hard, sampler),
        seed=config.seed,
        # The batch is no draw from the corpus: what is published on in-batch negatives of texts corrects nothing.
        correct=entry.softmax and config.sampler["name"] != "in_batch",
        temperature=own.get("temperature", 1.0),
        inputs=entry.inputs,
        fills={} if like is None else {"similarities": _likeness(like, model, part)},
        miner=build_miner(config),
        observer=observer,
        positives=several(part.relevant(), part.num_items, seed=config.seed, **config.parameters("positives")),
        per_row=_learns(config),
        generator=generator,
    )


def _of_embeddings(
    config: Config,
    encoded: EncodedTexts,
    loss: Callable[..., Tensor],
    part: Retrieval,
    hard: int,
    generator: Generator | None,
) -> EmbeddingObjective:
    given: Mapping[str, Any] = {"seed": config.seed, "miner": build_miner(config), "generator": generator}
    if part.negatives is None:
        return EmbeddingObjective(encoded, loss, part.known(), **given)
    mined = _with_mined(config, part, hard, None)
    assert mined is not None
    return MinedEmbeddingObjective(encoded, loss, part.known(), sampler=mined, **given)


def _learns(config: Config) -> bool:
    """Whether the batches ask for the loss of each row."""
    return bool(getattr(BATCHES[config.batches["name"]].function, "learns", False))


def _with_mined(config: Config, part: Retrieval, hard: int, sampler: Sampler | None) -> Any:
    """The sampler, and mined negatives beside it where there are some."""
    if part.negatives is None:
        return sampler
    return MinedNegatives(part.negatives.lists, part.known(), part.num_items, seed=config.seed, n=hard, beside=sampler)


def _likeness(like: str, model: Any, part: Retrieval) -> Callable[[Contrast], Tensor]:
    """Of queries and documents, by their words or by the model as it is before training."""
    if like == "bm25":
        return word_likeness(part.queries.texts, part.documents.texts, part.relevant(), between="query_document")
    model.eval()
    queries = encode_tokens(model, tokens_of(model, part.queries, "query").lists, "query")
    documents = encode_tokens(model, tokens_of(model, part.documents, "document").lists, "document")
    return encoder_likeness(queries, documents, part.relevant())


def _generator(config: Config, encoded: EncodedTexts, part: Retrieval) -> Generator | None:
    """The generator, of vectors of the model's length; None for none."""
    if config.generator["name"] == "none":
        return None
    chosen = GENERATORS[config.generator["name"]]
    made: Generator = chosen.function(
        part.known(), part.num_items, encoded.dim, seed=config.seed, **config.parameters("generator")
    )
    return made
