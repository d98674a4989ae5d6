"""From a configuration to the parts of a run: data, model, objective."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rankwell.config import Config, DataConfig
from rankwell.data import (
    BATCHES,
    Batches,
    Dataset,
    Interactions,
    ItemColumns,
    Split,
    read_dataset,
    read_items,
    split_global_time,
    split_leave_last,
    split_random,
    synthesise,
)
from rankwell.errors import ConfigError
from rankwell.generators import GENERATORS, Generator
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.miners import MINERS, Miner, is_one, parse
from rankwell.models import MODELS
from rankwell.registry import Entry
from rankwell.samplers import POSITIVES, SAMPLERS
from rankwell.text.table import Table
from rankwell.training import ContrastObjective, EmbeddingObjective, NegativesSeen, Observer
from rankwell.training.generated import check_vectors

__all__ = ["Data", "build_batches", "build_model", "build_objective", "build_observer", "load", "read", "with_epochs"]

TEST_SPLIT, VALID_SPLIT = 1, 2
"""Keep the two splits' random numbers apart."""


@dataclass(frozen=True)
class Data:
    """What a run trains on, chooses on and is judged on; all with the same vocabularies."""

    train: Interactions
    """Everything but the test pairs."""
    fit: Interactions
    """``train`` without the validation pairs."""
    valid: Interactions | None
    test: Interactions
    notes: tuple[str, ...]
    ideal: Tensor | None = None
    """True preferences ``[users, items]``, for generated data."""
    items: ItemColumns | None = None
    """Columns of items, where a file tells them."""


def load(config: DataConfig, seed: int) -> tuple[Dataset, Tensor | None]:
    """The data that the configuration names, not yet split; and true preferences ``[users, items]``, where it is generated."""
    if config.path == "synthetic":
        made = synthesise(seed=seed)
        return _with_items(config, Dataset(made.train, made.test)), torch.as_tensor(made.ideal)
    names = {"user": config.user, "item": config.item}
    dataset = read_dataset(
        Path(config.path),
        format=config.format,
        weight=config.weight,
        timestamp=config.timestamp,
        delimiter=config.delimiter,
        unseen=config.unseen,
        **{key: value for key, value in names.items() if value is not None},
    )
    return _with_items(config, dataset), None


def _with_items(config: DataConfig, dataset: Dataset) -> Dataset:
    """The data with columns of their items, where the configuration names a file of them."""
    if config.items is None:
        if config.items_id is not None:
            raise ConfigError("data.items_id names a column of a file of items: give the file, --data.items FILE.")
        return dataset
    key = config.items_id or config.item
    items = read_items(config.items, dataset.train.item_ids, item=key, missing=config.missing_items)
    return replace(dataset, items=items, notes=(*dataset.notes, *items.notes))


def read(config: DataConfig, seed: int) -> Data:
    """Read and split."""
    dataset, ideal = load(config, seed)
    if dataset.test is not None:
        data = _with_validation(config, seed, dataset.train, dataset.test, dataset.notes, ideal)
    else:
        split = _hold_out(config, dataset.train, config.test_fraction, seed, TEST_SPLIT)
        data = _with_validation(config, seed, split.train, split.held_out, (*dataset.notes, *split.notes))
    return replace(data, items=dataset.items)


def _with_validation(
    config: DataConfig,
    seed: int,
    train: Interactions,
    test: Interactions,
    notes: tuple[str, ...],
    ideal: Tensor | None = None,
) -> Data:
    if not config.valid_fraction:
        return Data(train, train, None, test, notes, ideal)
    split = _hold_out(config, train, config.valid_fraction, seed, VALID_SPLIT)
    if not len(split.held_out):
        raise ConfigError(
            "no pair is left for validation: set data.valid_fraction to 0, or give users more than one pair."
        )
    return Data(train, split.train, split.held_out, test, notes, ideal)


def _hold_out(config: DataConfig, data: Interactions, fraction: float, seed: int, purpose: int) -> Split:
    """Hold out pairs in the way of the configuration: test pairs where no file gives them, and validation pairs."""
    if config.split == "leave_last":
        return split_leave_last(data)
    if config.split == "time":
        return split_global_time(data, fraction)
    return split_random(data, fraction, seed=2 * seed + purpose)


def with_epochs(config: Config, data: Data) -> Config:
    """The configuration with its number of epochs, the same when choosing the epoch and when training on everything."""
    training = config.training.for_steps(build_batches(config, data.fit, data.items).steps(0))
    return config.model_copy(update={"training": training})


def build_model(config: Config, num_users: int, num_items: int) -> nn.Module:
    """The model, not yet initialised."""
    model = MODELS[config.model["name"]].function
    return model(num_users, num_items, **config.parameters("model"))


def build_batches(config: Config, data: Interactions, items: ItemColumns | None = None) -> Batches:
    """How the pairs come in batches."""
    chosen = BATCHES[config.batches["name"]]
    own = _filled(config, "batches", chosen, items)
    batches: Batches = chosen.function(data.tensors(), config.training.batch_size, seed=config.seed, **own)
    return batches


def _filled(
    config: Config, section: Literal["sampler", "batches"], entry: Entry[Any], items: ItemColumns | None
) -> dict[str, Any]:
    """Own parameters, and the declared inputs, which the named column of items fills."""
    own = config.parameters(section)
    column = own.pop("column", None)
    if column is None:
        if needed := [name for name, given in entry.inputs.items() if given.required]:
            raise ConfigError(
                f"{section} {entry.name} needs {', '.join(needed)}, which interactions do not tell: give a file of items and"
                f" name its column, --data.items FILE --{section}.column NAME."
            )
        return own
    if items is None:
        raise ConfigError(f"{section}.column names a column of items: give their file, --data.items FILE.")
    filled = {
        name: items.weights(column) if given.holds == "number" else items.groups(column)
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
    own = config.parameters("loss")
    chosen = SAMPLERS[config.sampler["name"]]
    built_from = data.known(), data.num_items
    sampler = chosen.function(*built_from, seed=config.seed, **_filled(config, "sampler", chosen, items))
    several = POSITIVES[config.positives["name"]].function
    return ContrastObjective(
        model,
        partial(entry.function, **own),
        sampler,
        seed=config.seed,
        correct=entry.softmax,
        temperature=own.get("temperature", 1.0),
        inputs=entry.inputs,
        weights=None if data.weights is None else torch.from_numpy(data.weights),
        miner=_miner(config),
        observer=observer,
        positives=several(*built_from, seed=config.seed, **config.parameters("positives")),
        per_row=getattr(BATCHES[config.batches["name"]].function, "learns", False),
        generator=_generator(config, model, data),
    )


def _of_embeddings(config: Config, model: nn.Module, data: Interactions) -> EmbeddingObjective:
    """An embedding loss on users and items of the batch."""
    name = config.loss["name"]
    if config.positives["name"] != Config.model_fields["positives"].default["name"]:
        raise ConfigError(
            f"positives {config.positives['name']}: {name} takes all that a user knows of the batch. Leave the positives out."
        )
    if getattr(BATCHES[config.batches["name"]].function, "learns", False):
        raise ConfigError(
            f"batches {config.batches['name']} learn from the loss of each row, which losses of embeddings do not tell."
            " Choose others."
        )
    return EmbeddingObjective(
        model,
        partial(LOSSES[name].function, **config.parameters("loss")),
        data.known(),
        seed=config.seed,
        weights=None if data.weights is None else torch.from_numpy(data.weights),
        miner=_miner(config),
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
    if needed := [name for name, given in chosen.inputs.items() if given.required and name not in texts]:
        if "described" in needed:
            raise ConfigError(
                f"generator {chosen.name} needs a table of described negatives: make one by 'rankwell describe', and name it by"
                " --generator.table FILE."
            )
        raise ConfigError(
            f"generator {chosen.name} needs {', '.join(needed)}, which interactions do not tell. Build it in Python, or"
            " choose another."
        )
    check_vectors(model)
    made: Generator = chosen.function(data.known(), data.num_items, model.dim, seed=config.seed, **own, **texts)
    return made


def _miner(config: Config) -> Miner:
    """One miner with its own parameters, or several by their text."""
    name = str(config.miner["name"])
    miner: Miner = MINERS[name](**config.parameters("miner")) if is_one(name) else parse(name)
    return miner
