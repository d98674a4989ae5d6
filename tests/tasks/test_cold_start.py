"""New items and users in the task of interactions, on generated data in which features alone decide."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from rankwell.config import resolve
from rankwell.data import synthesise_features
from rankwell.experiments import RunFolder, run
from rankwell.tasks import Newcomers, task_of
from rankwell.tasks.interaction_objective import build_objective
from rankwell.tasks.side_features import features_of, new_rows

MEASURE = "ndcg@10"


def configuration(folder, **model):
    return resolve(
        {
            "data": {
                "path": str(folder / "pairs.csv"),
                "items": str(folder / "items.csv"),
                "users": str(folder / "users.csv"),
                "split": "cold_items",
            },
            "model": model,
            "loss": {"name": "sampled_softmax", "temperature": 0.2},
            "sampler": {"name": "uniform", "n": 32},
            "training": {"batch_size": 256, "epochs": 4, "watch_every": 0},
            "evaluation": {"measures": [MEASURE], "monitor": MEASURE},
        }
    )


TOWERS = {"name": "two_tower", "dim": 16, "columns": ["genres"], "user_columns": ["club"], "id_dropout": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cold")
    synthesise_features(num_users=200, num_items=150).write(folder)
    return folder


@pytest.fixture(scope="module")
def results(place):
    settings = {
        "towers": TOWERS,
        "ids": {"name": "mf", "dim": 16, "dropout": 0.0},
        "knn": {"name": "feature_knn", "columns": ["genres"]},
    }
    return {
        name: run(configuration(place, **own), RunFolder(place / name)).slices["among 30 new items"]
        for name, own in settings.items()
    }


def test_categories_of_validations_items_are_not_learnt(place, tmp_path):
    """Each item has a category of its own: those that validation holds have none, in a finished run too."""
    columns = pl.read_csv(place / "items.csv")
    for name in ("pairs.csv", "users.csv"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    columns.with_columns(pl.Series("own", [f"c{at}" for at in range(len(columns))])).write_csv(tmp_path / "items.csv")
    config = configuration(tmp_path, **{**TOWERS, "columns": ["own"]})
    task = task_of("interactions")
    data = task.read(config)
    held = (data.valid.popularity() > 0) & (data.fit.popularity() == 0)
    sizes = features_of(config, data)["item_features"].categories.offsets.diff()
    assert held.any() and sizes[torch.from_numpy(held)].sum() == 0
    assert sizes[torch.from_numpy(data.fit.popularity() > 0)].eq(1).all()
    task.save(tmp_path, data)
    again = features_of(config, task.load(tmp_path, config))["item_features"]
    assert again.categories.offsets.diff().equal(sizes)


def expected_by_chance(place) -> float:
    """The expectation of NDCG@10 where the order of the new items is chance: each place is relevant with the same share."""
    data = task_of("interactions").read(configuration(place, **TOWERS))
    relevant = torch.from_numpy(np.bincount(data.test.users, minlength=data.test.num_users))
    gains = 1 / torch.log2(torch.arange(2, 12).double())
    values = [share / 30 * gains.sum() / gains[: min(share, 10)].sum() for share in relevant[relevant > 0].tolist()]
    return float(torch.stack(values).mean())


def test_new_items_are_ranked_by_features_and_by_nothing_else(place, results):
    chance = expected_by_chance(place)
    assert results["towers"]["two_tower"][MEASURE] > 2.5 * chance
    assert results["knn"]["feature_knn"][MEASURE] > 2 * chance
    assert abs(results["ids"]["mf"][MEASURE] - chance) < 0.5 * chance
    # New items are all as unpopular: ties must not tell which of them the file names first.
    assert abs(results["ids"]["popularity"][MEASURE] - chance) < 0.5 * chance and len(results["ids"]) == 2


def test_the_order_of_new_items_tells_nothing(tmp_path):
    """Item n has n users, and files name popular items early: among new items the order of codes is another."""
    pairs = [(f"u{user}", f"i{item:02d}") for user in range(40) for item in range(40) if user <= item]
    pl.DataFrame(pairs[::-1], schema=["user", "item"], orient="row").write_csv(tmp_path / "pairs.csv")
    raw = {"data": {"path": str(tmp_path / "pairs.csv"), "split": "cold_items", "test_fraction": 0.5}}
    data = task_of("interactions").read(resolve(raw))
    new = data.test.popularity()[data.train.popularity() == 0]
    assert len(new) == 20 and abs(np.corrcoef(new, np.arange(20))[0, 1]) < 0.5
    old = data.fit.popularity()[data.fit.popularity() > 0]
    assert len(old) == 18 and (np.argsort(-old, kind="stable") == np.arange(18)).all()  # these stay as they were


def test_new_items_are_behind_the_others_and_no_negatives(place):
    config = configuration(place, **TOWERS)
    data = task_of("interactions").read(config)
    fit, train, test = (part.popularity() > 0 for part in (data.fit, data.train, data.test))
    # Codes from the first on: of what validation trains on, then of what it holds.
    assert fit[: fit.sum()].all() and train[: train.sum()].all()
    assert not (train & test).any() and data.valid.popularity()[train & ~fit].all()
    # Rows of the table follow the codes.
    table = pl.read_csv(place / "items.csv")
    assert data.items.frame["genres"].to_list() == [
        dict(zip(table["item"], table["genres"], strict=True))[one] for one in data.train.item_ids
    ]
    for part in (data.fit, data.train):
        model = task_of("interactions").model(config, data)
        model.initialise(part.known(), seed=0)
        objective = build_objective(config, model, part, items=data.items)
        drawn = torch.cat([objective.sampler(*pairs(part), epoch=0, step=step).ids for step in range(20)])
        assert int(drawn.max()) < (part.popularity() > 0).sum()


def test_a_test_of_known_items_has_no_new_ones(tmp_path):
    config = resolve({"data": {"split": "cold_items"}})  # the generated data come with their test
    task = task_of("interactions")
    data, usual = task.read(config), task.read(resolve({}))
    assert not task.slices(config, data)
    # Items have other codes, and what is ideal goes with them.
    codes = {item: code for code, item in enumerate(usual.train.item_ids)}
    order = [codes[item] for item in data.train.item_ids]
    assert order != sorted(order) and torch.equal(data.ideal, usual.ideal[:, order])


def pairs(part):
    users, items = part.tensors()
    return users[:8], items[:8]


def test_a_finished_run_knows_what_it_needs(place, results):
    saved = RunFolder(place / "towers").load()
    config, model, data = saved.config, saved.model, saved.data
    first = pl.read_csv(place / "items.csv").head(3)
    first.with_columns(pl.Series("item", ["n0", "n1", "n2"])).write_csv(place / "new_items.csv")
    catalogue = saved.task.catalogue_of_new(config, model, data, Newcomers(items=place / "new_items.csv"))
    assert catalogue.item_ids[-3:].to_list() == ["n0", "n1", "n2"] and len(catalogue.item_ids) == 153
    users = torch.arange(5)
    scores = catalogue.ranker.score_all(users)
    torch.testing.assert_close(scores[:, :-3], model.score_all(users))
    alone = saved.task.catalogue_of_new(config, model, data, Newcomers(items=place / "new_items.csv", only_new=True))
    torch.testing.assert_close(alone.ranker.score_all(users), scores[:, -3:])
    assert alone.known.offsets[-1] == 0
    # An item that training did not see has no id: a copy of its row is the same item.
    new = (data.train.popularity() == 0).nonzero()[0][:1]
    row = data.items.frame[new.tolist()].with_columns(pl.Series("item", ["copy"]))
    row.write_csv(place / "copy.csv")
    copied = saved.task.catalogue_of_new(config, model, data, Newcomers(items=place / "copy.csv")).ranker.score_all(
        users
    )
    torch.testing.assert_close(copied[:, -1], copied[:, int(new[0])])


def test_new_users_by_features_and_by_history(place, results):
    saved = RunFolder(place / "towers").load()
    genres = dict(pl.read_csv(place / "items.csv").select("item", "genres").iter_rows())
    clubs = ["g0", "g3"]
    pl.DataFrame({"user": ["new0", "new1"], "club": clubs}).write_csv(place / "new_users.csv")
    liking = {club: [item for item, own in genres.items() if club in own.split("|")] for club in clubs}
    trained = set(saved.data.train.item_ids.gather(np.unique(saved.data.train.items)))
    rows = [
        (f"h{number}", item) for number, club in enumerate(clubs) for item in sorted(set(liking[club]) & trained)[:5]
    ]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").write_csv(place / "history.csv")
    for given in (Newcomers(users=place / "new_users.csv"), Newcomers(history=place / "history.csv")):
        made = saved.task.catalogue_of_new(saved.config, saved.model, saved.data, given)
        scores = made.ranker.score_all(torch.arange(2))
        scores[torch.repeat_interleave(made.known.offsets.diff()), made.known.values] = -math.inf
        for place_of, club in enumerate(clubs):
            best = made.item_ids.gather(scores[place_of].topk(10).indices.numpy())
            assert np.mean([item in liking[club] for item in best]) >= 0.8, given


def test_a_history_is_read_as_the_run_read_its_data(place, results, tmp_path):
    saved = RunFolder(place / "towers").load()
    config = resolve(saved.config.as_dict() | {"data": saved.config.as_dict()["data"] | {"format": "csv"}})
    known = saved.data.train.item_ids[int(saved.data.train.items[0])]
    (tmp_path / "visits.dat").write_text(f"user,item\nsomebody,{known}\n")
    made = saved.task.catalogue_of_new(config, saved.model, saved.data, Newcomers(history=tmp_path / "visits.dat"))
    assert made.user_ids.to_list() == ["somebody"] and len(made.known.values) == 1


class Letters:
    """An encoder of texts that counts two letters, and notes how many texts it is given."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def encode(self, texts, **_):
        self.calls.append(len(texts))
        return torch.tensor([[text.count("a"), text.count("b")] for text in texts], dtype=torch.float32)


def test_texts_are_vectors_made_once(place, tmp_path, monkeypatch):
    encoder = Letters()
    monkeypatch.setattr("rankwell.tasks.text_columns.load_encoder", lambda _: encoder)
    ids = pl.read_csv(place / "items.csv")["item"]
    titles = ["ab", " aab ", "", "b"]
    frame = pl.DataFrame({"item": ids, "title": [titles[number % 4] for number in range(len(ids))]})
    frame.write_csv(tmp_path / "titles.csv")
    raw = configuration(place, name="two_tower", columns=["title"]).as_dict()
    raw["data"] |= {"items": str(tmp_path / "titles.csv"), "texts": ["title"], "cache": str(tmp_path / "vectors")}
    config = resolve(raw)
    data = task_of("interactions").read(config)
    assert encoder.calls == [3]  # three distinct texts
    codes = {text: number for number, text in enumerate(ids)}
    for item, vector in zip(data.items.item_ids, data.items.frame["title"], strict=True):
        text = titles[codes[item] % 4].strip()
        assert (vector is None) if not text else list(vector) == [text.count("a"), text.count("b")]
    model = task_of("interactions").model(config, data)
    assert model.items.numbers.shape == (150, 2) and int(model.items.numbers.isnan().any(1).sum()) in (37, 38)
    task_of("interactions").read(config)
    assert encoder.calls == [3]  # the cache has them
    (tmp_path / "new.csv").write_text("item,title\nnew0,\nnew1,\n")
    assert new_rows(config, data, "item", tmp_path / "new.csv")[1].numbers.isnan().all()  # no text is no vector
