"""From a configuration to the parts of a run: data, model, objective."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from rankwell.config import Config, DataConfig
from rankwell.data import (
    Dataset,
    Interactions,
    Split,
    num_batches,
    read_dataset,
    split_global_time,
    split_leave_last,
    split_random,
    synthesise,
)
from rankwell.errors import ConfigError
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.miners import MINERS, Miner, is_one, parse
from rankwell.models import MODELS
from rankwell.samplers import SAMPLERS
from rankwell.training import ContrastObjective

__all__ = ["Data", "build_model", "build_objective", "load", "read", "with_epochs"]

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


def load(config: DataConfig, seed: int) -> tuple[Dataset, Tensor | None]:
    """The data that the configuration names, not yet split; and true preferences ``[users, items]``, where it is generated."""
    if config.path == "synthetic":
        made = synthesise(seed=seed)
        return Dataset(made.train, made.test), torch.as_tensor(made.ideal)
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
    return dataset, None


def read(config: DataConfig, seed: int) -> Data:
    """Read and split."""
    dataset, ideal = load(config, seed)
    if dataset.test is not None:
        return _with_validation(config, seed, dataset.train, dataset.test, dataset.notes, ideal)
    split = _hold_out(config, dataset.train, config.test_fraction, seed, TEST_SPLIT)
    return _with_validation(config, seed, split.train, split.held_out, (*dataset.notes, *split.notes))


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
    training = config.training.for_steps(num_batches(len(data.fit), config.training.batch_size))
    return config.model_copy(update={"training": training})


def build_model(config: Config, num_users: int, num_items: int) -> nn.Module:
    """The model, not yet initialised."""
    model = MODELS[config.model["name"]].function
    return model(num_users, num_items, **config.parameters("model"))


def build_objective(config: Config, model: nn.Module, data: Interactions) -> ContrastObjective:
    """The loss on the model's scores of positives and sampled negatives."""
    entry = as_contrast(LOSSES[config.loss["name"]])
    own = config.parameters("loss")
    chosen = SAMPLERS[config.sampler["name"]]
    if needed := [name for name, given in chosen.inputs.items() if given.required]:
        raise ConfigError(
            f"sampler {chosen.name} needs {', '.join(needed)}, which interactions do not tell. Build it in Python, or choose"
            " another."
        )
    sampler = chosen.function(data.known(), data.num_items, seed=config.seed, **config.parameters("sampler"))
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
    )


def _miner(config: Config) -> Miner:
    """One miner with its own parameters, or several by their text."""
    name = str(config.miner["name"])
    miner: Miner = MINERS[name](**config.parameters("miner")) if is_one(name) else parse(name)
    return miner
