"""What fills the inputs of losses: a column of items for groups, a rival for rewards; from the command line to the loss."""

import json

import polars as pl
import pytest
import torch

from rankwell.config import resolve
from rankwell.data import Batch, ItemColumns
from rankwell.errors import ConfigError
from rankwell.experiments import RunFolder, run
from rankwell.losses import hierarchical_loss
from rankwell.models import MatrixFactorisation
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_objective

HIERARCHY = {"name": "hierarchical", "column": "kind", "among_weight": 0.3, "temperature": 0.5}


def settings(**sections):
    return resolve(
        {
            "model": {"dim": 4, "dropout": 0.0},
            "sampler": {"n": 8},
            "training": {"epochs": 3, "batch_size": 2048, "watch_every": 0},
            **sections,
        }
    )


def kinds(data):
    frame = pl.DataFrame({"kind": [f"k{code % 3}" for code in range(data.train.num_items)]})
    return ItemColumns("shop.csv", frame, data.train.item_ids)


@pytest.mark.parametrize("shared", [True, False])
def test_groups_are_those_of_the_positive_and_its_negatives(shared):
    config = settings(loss=HIERARCHY, sampler={"n": 8, "shared": shared}, data={"items": "shop.csv"})
    data = read(settings().data, 0)
    model = MatrixFactorisation(data.train.num_users, data.train.num_items, **config.parameters("model"))
    model.initialise(data.fit.known(), seed=0)
    objective = build_objective(config, model, data.fit, items=kinds(data))
    users, items = data.fit.tensors()
    batch = Batch(users[:9], items[:9], torch.arange(9))
    (play,) = objective.plays(batch, epoch=0, step=0)
    drawn = objective.sampler(batch.users, batch.index, epoch=0, step=0, positives=batch.items, scorer=model)
    listed = torch.cat([batch.items[:, None], drawn.ids.expand(9, -1)], 1)
    where = torch.ones_like(listed, dtype=torch.bool)
    if drawn.collisions is not None:
        where[:, 1:] = ~drawn.collisions
    expected = hierarchical_loss(
        model.score(batch.users, listed) / 0.5,
        torch.zeros(listed.shape).index_fill_(1, torch.tensor([0]), 1),
        where=where,
        groups=listed % 3,
        among_weight=0.3,
    )
    assert play.value.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_run_by_groups_and_a_run_of_a_game(tmp_path):
    for name, loss in (
        ("groups", HIERARCHY),
        ("game", {"name": "irgan_generator", "warm_epochs": 1, "temperature": 0.2}),
    ):
        file = tmp_path / "items.csv"
        ids = read(settings().data, 0).train.item_ids.to_list()
        file.write_text("item,kind\n" + "".join(f"{item},k{place % 3}\n" for place, item in enumerate(ids)))
        config = settings(loss=loss, data={"items": str(file)})
        result = run(config, RunFolder(tmp_path / name))
        assert result.test["ndcg@20"] > 0.1  # an order at random has .03
        assert json.loads((tmp_path / name / "metrics.json").read_text())["epochs"] >= 1


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"loss": {"name": "hierarchical"}}, "name its column, --data.items FILE --loss.column NAME"),
        ({"loss": HIERARCHY}, "loss.column names a column of items: give their file"),
        ({"loss": {"name": "irgan_generator"}, "generator": {"name": "mixgcf"}}, "leave the generator out"),
    ],
)
def test_what_cannot_be_filled_is_a_clear_error(sections, said):
    with pytest.raises(ConfigError, match=said):
        settings(**sections)


def test_parameters_are_options_where_there_is_something_to_fill():
    filled = settings(loss={"name": "irgan_generator"}).loss
    assert (filled["reward"], filled["warm_epochs"], filled["result"]) == ("bounded", 5, "generator")
    assert settings(model={"name": "popularity"}, loss={"name": "hierarchical"}).loss["column"] is None
    for loss in ({"name": "bpr", "column": "x"}, {"name": "hierarchical", "reward": "log"}):
        with pytest.raises(ConfigError, match="has no such parameter"):
            settings(loss=loss)


def test_the_balanced_split_is_one_of_the_splits():
    data = read(settings(data={"split": "balanced", "valid_fraction": 0.2}).data, 0)
    assert data.valid is not None and len(data.fit) + len(data.valid) == len(data.train)
