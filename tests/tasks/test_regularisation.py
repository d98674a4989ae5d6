"""Every option against overfitting but the early stop acts in every task, as ``docs/regularisation.md`` says."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from rankwell.config import Config, resolve
from rankwell.errors import ConfigError
from rankwell.tasks import TASKS, task_of
from rankwell.training import fit

MODELS = {"interactions": "mf", "sequences": "sasrec", "retrieval": "bag_of_words", "rerank": "max_sim"}
WITHOUT_DROPOUT = ("max_sim",)
"""Of its task ``cross_encoder`` has it, as its transformer does."""

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay": {"training": {"weight_decay": 0.5}},
    "norm limit": {"training": {"max_norm": 0.01}},
    "label smoothing": {"training": {"label_smoothing": 0.3}},
    "dropout": {"model": {"dropout": 0.7}},
}


def configuration(task: str, option: str) -> Config:
    given: dict[str, Any] = {"task": task, "data": {"path": "synthetic"}, "model": {}}
    given["training"] = {"epochs": 1, "batch_size": 256, "learning_rate": 0.01, "schedule": "constant"}
    if task in MODELS:
        given["model"]["name"] = MODELS[task]
    for section, values in OPTIONS[option].items():
        given[section] |= values
    return resolve(given)


@cache
def data_of(task: str) -> Any:
    return task_of(task).read(configuration(task, "none"))


@cache
def trained(task: str, option: str) -> dict[str, Tensor]:
    """The weights after a pass."""
    config, of, data = configuration(task, option), task_of(task), data_of(task)
    model = of.model(config, data)
    of.initialise(model, data.fit, seed=0)
    objective = of.objective(config, model, data, data.fit, None)
    fit(objective, of.batches(config, data, data.fit), config.training, seed=0)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@pytest.mark.parametrize("option", [option for option in OPTIONS if option != "none"])
@pytest.mark.parametrize("task", TASKS)
def test_each_option_acts_in_each_task(task: str, option: str) -> None:
    if option == "dropout" and MODELS.get(task) in WITHOUT_DROPOUT:
        with pytest.raises(ConfigError, match="dropout"):
            configuration(task, option)
        return
    weights, plain = trained(task, option), trained(task, "none")
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert not all(weights[name].equal(value) for name, value in plain.items())
    if option in ("weight decay", "norm limit"):
        assert square(weights) < square(plain)


def square(weights: dict[str, Tensor]) -> float:
    return float(sum(torch.linalg.vector_norm(value) ** 2 for value in weights.values()))
