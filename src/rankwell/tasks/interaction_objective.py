"""The objective of interactions: loss, sampler, miner, generator and positives, put together as configured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rankwell.data import BATCHES, Interactions, ItemColumns, PairBatches
from rankwell.generators import GENERATORS, Generator
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.miners import MINERS, Miner, is_one, parse
from rankwell.registry import Entry
from rankwell.samplers import POSITIVES, SAMPLERS
from rankwell.tasks.interaction_data import InteractionData, trained_items
from rankwell.tasks.interaction_inputs import build_fills, build_rival, split_parameters
from rankwell.tasks.settings import Config
from rankwell.text.table import Table
from rankwell.training import ContrastObjective, EmbeddingObjective, NegativesSeen, Observer
from rankwell.training.adversarial_objective import AdversarialObjective
from rankwell.training.generated import check_vectors

__all__ = ["build_batches", "build_miner", "build_objective", "build_observer"]


def build_batches(config: Config, data: Interactions, items: ItemColumns | None = None) -> PairBatches:
    """How the pairs come in batches."""
    chosen = BATCHES[config.batches["name"]]
    own = _filled(config, "batches", chosen, items, data.num_items)
    return chosen.function(data.tensors(), config.training.batch_size, seed=config.seed, **own)


def _filled(
    config: Config, section: str, entry: Entry[Any], items: ItemColumns | None, catalogue: int
) -> dict[str, Any]:
    """Own parameters, and the declared inputs, which the named column of the first ``catalogue`` items fills."""
    own = config.parameters(section)
    column = own.pop("column", None)
    if column is None:
        return own
    assert items is not None  # or the settings were refused
    filled = {
        name: (items.weights(column) if given.holds == "number" else items.groups(column))[:catalogue]
        for name, given in entry.inputs.items()
    }
    return {**own, **filled}


def build_observer(config: Config, data: Interactions, held_out: Interactions | None) -> NegativesSeen | None:
    """What looks at the negatives of a training on ``data``; None where nobody is to look."""
    if not config.training.watch_every:
        return None
    kept = None if held_out is None else held_out.known()
    return NegativesSeen(data.known(), data.num_items, every=config.training.watch_every, held_out=kept)


def build_objective(
    config: Config,
    model: nn.Module,
    data: Interactions,
    *,
    items: ItemColumns | None = None,
    observer: Observer | None = None,
) -> ContrastObjective | EmbeddingObjective:
    """The loss on the model's scores of positives and sampled negatives, or on the batch's embeddings."""
    if LOSSES[config.loss["name"]].kind == "embedding":
        return _of_embeddings(config, model, data)
    entry = as_contrast(LOSSES[config.loss["name"]])
    own, more = split_parameters(entry, config.parameters("loss"))
    fills, rival = build_fills(entry, more, items), build_rival(entry, config, model, data)
    kind: Callable[..., ContrastObjective] = partial(AdversarialObjective, rival=rival) if rival else ContrastObjective
    chosen = SAMPLERS[config.sampler["name"]]
    built_from = data.known(), _catalogue(config, data)
    sampler = chosen.function(*built_from, seed=config.seed, **_filled(config, "sampler", chosen, items, built_from[1]))
    several = POSITIVES[config.positives["name"]].function
    return kind(
        model,
        partial(entry.function, **own),
        sampler,
        seed=config.seed,
        correct=entry.softmax,
        temperature=own.get("temperature", 1.0),
        inputs=entry.inputs,
        fills=fills,
        weights=None if data.weights is None else torch.from_numpy(data.weights),
        miner=build_miner(config),
        observer=observer,
        positives=several(*built_from, seed=config.seed, **config.parameters("positives")),
        per_row=getattr(BATCHES[config.batches["name"]].function, "learns", False),
        generator=_generator(config, model, data),
    )


def _catalogue(config: Config, data: Interactions) -> int:
    """How many items there are to draw from."""
    return trained_items(config.data, data) if isinstance(config.data, InteractionData) else data.num_items


def _of_embeddings(config: Config, model: nn.Module, data: Interactions) -> EmbeddingObjective:
    """An embedding loss on users and items of the batch."""
    name = config.loss["name"]
    return EmbeddingObjective(
        model,
        partial(LOSSES[name].function, **config.parameters("loss")),
        data.known(),
        seed=config.seed,
        weights=None if data.weights is None else torch.from_numpy(data.weights),
        miner=build_miner(config),
        generator=_generator(config, model, data),
    )


def _generator(config: Config, model: nn.Module, data: Interactions) -> Generator | None:
    """The generator, of vectors of the model's length; None for none."""
    if config.generator["name"] == "none":
        return None
    chosen = GENERATORS[config.generator["name"]]
    own = config.parameters("generator")
    texts = {}
    if "described" in chosen.inputs and own.get("table"):
        table = Table.load(Path(own["table"]))
        texts["described"] = table.aligned(data.user_ids.to_list(), data.item_ids.to_list(), *data.tensors())
    check_vectors(model, "a generator makes negatives of")
    made: Generator = chosen.function(
        data.known(), _catalogue(config, data), model.dim, seed=config.seed, **own, **texts
    )
    return made


def build_miner(config: Config) -> Miner:
    """One miner with its own parameters, or several by their text."""
    name = str(config.miner["name"])
    miner: Miner = MINERS[name](**config.parameters("miner")) if is_one(name) else parse(name)
    return miner
