"""What a study tries next, and which trials it stops."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from rankwell import keyed
from rankwell.config import Config
from rankwell.errors import require
from rankwell.experiments.dimensions import Dimension, Space, configured, settings, values_of

__all__ = ["PRUNERS", "Pruner", "distribution", "propose", "pruner_of"]

Pruner = Literal["median", "hyperband", "none"]
PRUNERS: tuple[Pruner, ...] = ("median", "hyperband", "none")

RANDOM = 10
"""Trials before the sampler learns from them."""

AGAIN = 20
"""Proposals that were tried before, until one that was not is drawn at random."""

GRID = 10_000
"""Combinations of choices that are counted at most."""


def propose(config: Config, space: Space, trials: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Values, and the options they make, that were not tried before: first the configuration's; None where none is left."""
    if not trials:
        return configured(config, space), _options(config, space)
    tried = {_key(each.user_attrs["options"]) for each in trials}
    seed = keyed.mix(config.seed, len(trials)) % 2**32
    optuna = require("optuna", "tune")
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM)
    memory = optuna.create_study(direction="maximize", sampler=sampler)
    memory.add_trials(trials)
    distributions = {name: distribution(each) for name, each in space.items()}
    for _ in range(AGAIN):
        values = memory.ask(distributions).params
        options = settings(space, values)
        if _key(options) not in tried:
            return values_of(space, options), options
    left = [values for values in _grid(space) if _key(settings(space, values)) not in tried]
    if not left:
        return None
    options = settings(space, left[seed % len(left)])
    return values_of(space, options), options


def pruner_of(name: Pruner, epochs: int) -> Any:
    """What stops trials of so many epochs."""
    pruners = require("optuna.pruners", "tune")
    if name == "median":
        # Slow starters get a quarter of the epochs.
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=math.ceil(epochs / 4))
    return pruners.HyperbandPruner(max_resource=max(epochs, 1)) if name == "hyperband" else pruners.NopPruner()


def distribution(each: Dimension) -> Any:
    """The dimension as the sampler takes it."""
    made = require("optuna.distributions", "tune")
    if each.choices:
        return made.CategoricalDistribution(each.choices)
    if each.whole:
        return made.IntDistribution(int(each.low), int(each.high), log=each.log)
    return made.FloatDistribution(each.low, each.high, log=each.log)


def _options(config: Config, space: Space) -> dict[str, Any]:
    """What the configuration itself says of each option that is searched."""
    plain = config.as_dict()
    found = {}
    for path in dict.fromkeys(each.path for each in space.values()):
        section, _, key = path.partition(".")
        if key in plain.get(section, {}):
            found[path] = plain[section][key]
    return found


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True)


def _grid(space: Space) -> Iterator[dict[str, Any]]:
    """Every combination, of a space that is small."""
    axes = [each.choices or (range(int(each.low), int(each.high) + 1) if each.whole else ()) for each in space.values()]
    if all(axes) and math.prod(map(len, axes)) <= GRID:
        yield from (dict(zip(space, values, strict=True)) for values in itertools.product(*axes))
