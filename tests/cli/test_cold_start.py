"""Columns of items and users, and what training did not see, as a person types them."""

import json

import polars as pl
import pytest

from rankwell.config import resolve
from rankwell.data import synthesise_features
from rankwell.experiments import RunFolder, run

SMALL = ["--model.dim", "4", "--sampler.n", "8", "--training.batch_size", "256", "--training.epochs", "2"]
ITEMS = ["--all", "--new-items"]
FEATURES = ["--model", "two_tower", "--model.columns", "genres,year", "--model.user_columns", "club"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Pairs, columns, and a few rows of what is new."""
    folder = tmp_path_factory.mktemp("shop")
    synthesise_features(num_users=60, num_items=40, interactions_per_user=8).write(folder)
    items, users, pairs = (pl.read_csv(folder / f"{name}.csv") for name in ("items", "users", "pairs"))
    items.head(3).with_columns(pl.Series("item", ["new0", "new1", "new2"])).write_csv(folder / "new_items.csv")
    users.head(2).with_columns(pl.Series("user", ["ann", "bo"])).write_csv(folder / "new_users.csv")
    pairs.head(6).with_columns(pl.Series("user", ["ann"] * 4 + ["bo"] * 2)).write_csv(folder / "history.csv")
    return folder


@pytest.fixture(scope="module")
def trained(shop):
    raw = {
        "data": {
            "path": str(shop / "pairs.csv"),
            "items": str(shop / "items.csv"),
            "users": str(shop / "users.csv"),
            "split": "cold_items",
        },
        "model": {"name": "two_tower", "columns": ["genres", "year"], "user_columns": ["club"], "dim": 4},
        "sampler": {"n": 8},
        "training": {"epochs": 2, "batch_size": 256},
    }
    run(resolve(raw), RunFolder(shop / "run"))
    return shop / "run"


def test_a_run_with_columns(shop, rankwell, no_picture, tmp_path):
    sides = ["--data.items", shop / "items.csv", "--data.users", shop / "users.csv", "--data.split", "cold_items"]
    said = rankwell("train", shop / "pairs.csv", *sides, *FEATURES, *SMALL, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert "among 8 new items:" in said.out and "popularity" in said.out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert {"columns", "user columns"} <= facts.keys()
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())["slices"]["among 8 new items"]
    again = rankwell("evaluate", tmp_path / "run").out
    row = next(line for line in again.splitlines() if line.startswith("two_tower, among 8 new items"))
    assert row.split()[-1] == f"{figures['two_tower']['mrr@20']:.4f}"
    described = rankwell("data", shop / "pairs.csv", "--data.users", shop / "users.csv")
    assert "columns of users:" in described.out and "club" in described.out


@pytest.mark.parametrize(
    ("words", "users", "items"),
    [
        (["--users", "u000,u001", "--new-items", "new_items.csv"], {"u000", "u001"}, 43),
        (["--users", "u000", "--new-items", "new_items.csv", "--only-new"], {"u000"}, 3),
        (["--history", "history.csv"], {"ann", "bo"}, 40),
        (["--history", "history.csv", "--new-items", "new_items.csv", "--only-new"], {"ann", "bo"}, 3),
        (["--new-users", "new_users.csv"], {"ann", "bo"}, 40),
        (["--new-users", "new_users.csv", "--new-items", "new_items.csv"], {"ann", "bo"}, 43),
    ],
)
def test_what_training_did_not_see_is_recommended(trained, shop, rankwell, tmp_path, words, users, items):
    words = [shop / word if str(word).endswith(".csv") else word for word in words]
    said = rankwell("recommend", trained, *words, "-k", "50", "--known", "-o", tmp_path / "top.parquet")
    assert said.code == 0, said.err
    table = pl.read_parquet(tmp_path / "top.parquet")
    assert set(table["user"]) == users and table.group_by("user").len()["len"].to_list() == [items] * len(users)
    new = {"new0", "new1", "new2"} if "--new-items" in words else set()
    assert set(table["item"]) & {"new0", "new1", "new2"} == new


def test_a_history_is_not_recommended_again(trained, shop, rankwell, tmp_path):
    rankwell("recommend", trained, "--history", shop / "history.csv", "-k", "50", "-o", tmp_path / "top.parquet")
    table, history = pl.read_parquet(tmp_path / "top.parquet"), pl.read_csv(shop / "history.csv")
    both = table.join(history, on=["user", "item"])
    assert not len(both) and len(table) == 2 * 40 - len(history)


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("user,item\nann,nothing\n", ["--history"], "x.csv: 1 unknown item id: 'nothing'."),
        ("user,thing\nann,i000\n", ["--history"], "x.csv"),
        ("item,genres\nnew,g0\n", ITEMS, "x.csv has no column 'year', as the run's items have."),
        ("item,genres,year\ni000,g0,1999\n", ITEMS, "must not be in the training data: 1 are ('i000')"),
        ("item,genres,year\nnew,g0,soon\n", ITEMS, "x.csv: column 'year' must hold numbers, as in training: row 1"),
        ("item,genres,year\nnew,g0\n", ITEMS, "x.csv, line 2: each line must have the 3 fields"),
        ("item,genres,year\nn,g0,1\nn,g1,2\n", ITEMS, "each item must have one row: 'n' has several"),
        ("who,club\nnew,g0\n", ["--new-users"], "the column of user ids, 'user', must be in the header"),
        ("user,club\nnew,g0\n", ["--all", "--new-users"], "say for whom: one of --users u1,u2, --users-file"),
    ],
)  # fmt: skip
def test_what_recommend_refuses(trained, rankwell, tmp_path, text, words, says):
    (tmp_path / "x.csv").write_text(text)
    assert says in rankwell("recommend", trained, *words, tmp_path / "x.csv").sentence


def test_unknown_categories_and_missing_numbers_are_left_out(trained, rankwell, tmp_path):
    (tmp_path / "x.csv").write_text("item,genres,year\nnew0,unheard of,\nnew1,,NaN\n")
    said = rankwell("recommend", trained, "--users", "u000", "--new-items", tmp_path / "x.csv", "--only-new")
    scores = [line.split()[-1] for line in said.out.splitlines() if "new" in line]
    assert said.code == 0 and len(scores) == 2 and scores[0] == scores[1]


def test_models_that_cannot_say_so(shop, rankwell, no_picture, tmp_path):
    for model, how in (("neumf", SMALL), ("ease", [])):
        done = rankwell("train", shop / "pairs.csv", "--model", model, *how, "--out", tmp_path / model)
        assert done.code == 0, done.err
    said = rankwell("recommend", tmp_path / "neumf", "--history", shop / "history.csv").sentence
    assert "model neumf does not score users by a history alone: train one that does, als, ease," in said
    said = rankwell(
        "recommend", tmp_path / "ease", "--history", shop / "history.csv", "--new-items", shop / "new_items.csv"
    ).sentence
    assert "model ease makes no vectors of features: train one that does, two_tower." in said
    assert rankwell("recommend", tmp_path / "ease", "--history", shop / "history.csv").code == 0
    said = rankwell("recommend", tmp_path / "ease", "--all", "--only-new").sentence
    assert "--only-new ranks the items of --new-items FILE alone" in said


def test_a_side_without_columns_says_so(shop, rankwell, no_picture, tmp_path):
    rankwell("train", shop / "pairs.csv", "--model", "two_tower", *SMALL, "--out", tmp_path / "plain")
    unused = ["--data.items", shop / "items.csv", "--out", tmp_path / "unused"]
    given = rankwell("train", shop / "pairs.csv", "--model", "two_tower", *SMALL, *unused)
    assert "note: none of two_tower, uniform, shuffled uses a column of data.items: " in given.err
    said = rankwell("recommend", tmp_path / "plain", "--all", "--new-items", shop / "new_items.csv").sentence
    assert (
        "this run knows items by their ids alone, and new ones have none: train with --data.items FILE --model.columns"
        in said
    )


def test_sequences_take_histories_alone(shop, rankwell, no_picture, tmp_path):
    words = ["--task", "sequences", "--model", "item_mean", "--model.dim", "4", "--training.epochs", "1"]
    done = rankwell("train", shop / "pairs.csv", *words, "--out", tmp_path / "events")
    assert done.code == 0, done.err
    said = rankwell("recommend", tmp_path / "events", "--history", shop / "history.csv", "-k", "2")
    assert said.code == 0 and [line.split()[0] for line in said.out.splitlines() if line][1:] == [
        "ann",
        "ann",
        "bo",
        "bo",
    ]
    said = rankwell("recommend", tmp_path / "events", "--all", "--new-items", shop / "new_items.csv").sentence
    assert "task sequences knows users and items by what users did: give --history FILE" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model.columns", "genres"], "model.columns names columns of items: give their file, --data.items FILE."),
        (["--model.user_columns", "club"], "model.user_columns names columns of users: give their file"),
        (["--data.items", "items.csv", "--model.columns", "genre"], "items.csv has no column 'genre'. Did you mean"),
        (["--data.users_id", "who"], "data.users_id names a column of a file of users"),
        (["--data.items", "few.csv", "--model.columns", "genres"], "every item must have a row: 38 of 40 have none"),
        (["--data.items", "items.csv", "--data.texts", "title"], "the files of items and users: there is no 'title'."),
        (["--data.items", "wide.parquet", "--model.columns", "vector"], "must hold texts, numbers, or lists of as many"),
        (["--data.items", "items.csv", "--model.columns", "genres", "--model.fusion", "sum"], "model.fusion"),
    ],
)  # fmt: skip
def test_what_train_refuses(shop, rankwell, tmp_path, options, says):
    items = pl.read_csv(shop / "items.csv")
    items.head(2).write_csv(shop / "few.csv")
    items.with_columns(pl.Series("vector", [[1.0] * (1 + row % 2) for row in range(40)])).write_parquet(
        shop / "wide.parquet"
    )
    words = [shop / word if str(word).endswith((".csv", ".parquet")) else word for word in options]
    said = rankwell(
        "train", shop / "pairs.csv", "--model", "two_tower", *words, *SMALL, "--out", tmp_path / "run"
    ).sentence
    assert says in said and not (tmp_path / "run").exists()


def test_items_without_a_row_are_known_by_their_id(shop, rankwell, no_picture, tmp_path):
    pl.read_csv(shop / "items.csv").head(20).write_csv(tmp_path / "half.csv")
    words = ["--data.items", tmp_path / "half.csv", "--data.missing_items", "default", "--model.columns", "genres"]
    said = rankwell("train", shop / "pairs.csv", "--model", "two_tower", *words, *SMALL, "--out", tmp_path / "run")
    assert said.code == 0 and "half.csv: 20 of 40 items have no row" in said.err
