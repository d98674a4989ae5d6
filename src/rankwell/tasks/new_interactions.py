"""Users and items that training did not see: from their files to what a finished run recommends them."""

from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankwell.data import Interactions, codes_of, read_interactions
from rankwell.errors import ConfigError, DataError
from rankwell.evaluation import NewUsers, VectorRanker
from rankwell.models import MODELS
from rankwell.tasks.interaction_data import InteractionData
from rankwell.tasks.settings import Config
from rankwell.tasks.side_features import new_rows
from rankwell.tasks.task import Catalogue, Data, Newcomers
from rankwell.types import FeatureModel, Features, HistoryScorer, Ragged

__all__ = ["catalogue_of_new", "codes_in_history"]


def catalogue_of_new(config: Config, model: nn.Module, data: Data[Interactions], given: Newcomers) -> Catalogue:
    """Users of training or new ones, items of training and new ones, and a ranker of these by those."""
    train = data.train
    user_ids, known = train.user_ids, train.known()
    features: Features | None = None
    if given.history is not None:
        user_ids, known = _histories(config, train, given.history)
    elif given.users is not None:
        user_ids, features = new_rows(config, data, "user", given.users)
        known = Ragged(torch.zeros(len(user_ids) + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    if given.history is not None and given.items is None:
        return Catalogue(user_ids, train.item_ids, known, NewUsers(_with_history(config, model), known))
    of_features = _with_features(config, model)
    items, item_ids = of_features.item_vectors(), train.item_ids
    if given.history is not None:
        users: Tensor = of_features.encode_users(history=known)
    elif features is not None:
        users = of_features.encode_users(features)
    else:
        users = of_features.query_vectors(torch.arange(train.num_users))
    if given.items is not None:
        new_ids, of_items = new_rows(config, data, "item", given.items)
        vectors = of_features.encode_items(of_items)
        if given.only_new:
            items, item_ids = vectors, new_ids
            known = Ragged(torch.zeros_like(known.offsets), known.values[:0])
        else:
            items, item_ids = (
                torch.cat([items, vectors]),
                pl.concat([item_ids.cast(pl.String), new_ids.rename(item_ids.name)]),
            )
    return Catalogue(user_ids, item_ids, known, VectorRanker(users, items))


def _histories(config: Config, train: Interactions, path: Path) -> tuple[pl.Series, Ragged]:
    """New users and the codes of what each knows."""
    given = config.data
    assert isinstance(given, InteractionData)
    columns = {"user": given.user or "user", "item": given.item or "item"}
    new = read_interactions(path, format=given.format, delimiter=given.delimiter, **columns)
    codes = codes_in_history(path, new.item_ids, train.item_ids)
    recoded = Interactions(new.users, codes[new.items], new.user_ids, train.item_ids)
    return new.user_ids, recoded.known()


def codes_in_history(path: Path, ids: pl.Series, catalogue: pl.Series) -> NDArray[np.int64]:
    """The codes of a history's items; :class:`DataError` for an item that training does not know."""
    try:
        return codes_of(catalogue, ids.cast(catalogue.dtype, strict=False), "item").astype(np.int64, copy=False)
    except DataError as error:
        raise DataError(f"{path}: {error} Leave out items that the training data have not.") from error


def _with_history(config: Config, model: nn.Module) -> HistoryScorer:
    if isinstance(model, HistoryScorer):
        return model
    able = sorted(
        entry.name for entry in MODELS if entry.kind == "interactions" and hasattr(entry.function, "score_history")
    )
    raise ConfigError(
        f"model {config.model['name']} does not score users by a history alone: train one that does, {', '.join(able)}."
    )


def _with_features(config: Config, model: nn.Module) -> FeatureModel:
    if isinstance(model, FeatureModel):
        return model
    able = sorted(
        entry.name for entry in MODELS if entry.kind == "interactions" and hasattr(entry.function, "encode_items")
    )
    raise ConfigError(
        f"model {config.model['name']} makes no vectors of features: train one that does, {', '.join(able)}."
    )
