"""Measures of recommended items, from the command line to every file that tells them."""

import json
import math

import polars as pl
import pytest
import torch

from rankwell.cli.screen import figures_table
from rankwell.experiments import RunFolder
from rankwell.metrics import coverage, gini, novelty, popularity_lift

from .conftest import SMALL

NAMES = ["coverage@1", "gini@1", "novelty@1", "popularity_lift@1", "serendipity@1"]
GENRES = ["diversity(column=genres)@2", "calibration(column=genres)@1"]


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


@pytest.fixture
def shop(tmp_path):
    """Four users know x, three y, one z and one w; c is asked about nothing."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "train.txt").write_text("a x y\nb x z\nc x y w\nd x y\n")
    (tmp_path / "shop" / "test.txt").write_text("a z\nb y\nd w\n")
    (tmp_path / "items.csv").write_text("item,genres,code\nz,sad,1\ny,fun,1\nx,fun|sad,2\nw,sad | fun,2\n")
    return tmp_path / "shop"


def words(shop, out, *measures, model="popularity"):
    given = ["--model", model, "--data.valid_fraction", "0", "--evaluation.measures", ",".join(["ndcg@1", *measures])]
    return ["train", shop, *given, "--evaluation.monitor", "ndcg@1", "--out", out]


def test_counted_by_hand(rankwell, shop, tmp_path):
    items = ["--data.items", tmp_path / "items.csv"]
    said = rankwell(*words(shop, tmp_path / "run", *NAMES, *GENRES), *items)
    assert said.code == 0, said.err
    # The most popular unknown item: z for a and d (w is as popular, and later), y for b.
    third, lift = math.log(0.25 / (0.99 + 0.01 * 0.25)) / 4, [1 / 3.5 - 1, 3 / 2.5 - 1, 1 / 3.5 - 1]
    expected = {
        "ndcg@1": 0.5 / 3 + 1 / 3 + 0.5 / 3,  # z and w are tied: each half of the time
        "coverage@1": 2 / 4,
        "gini@1": (-3 * 0 - 1 * 0 + 1 * 1 / 3 + 3 * 2 / 3) / 3,
        "novelty@1": (math.log2(4 / 1) + math.log2(4 / 3) + math.log2(4 / 1)) / 3,
        "popularity_lift@1": sum(lift) / 3,
        "serendipity@1": 0.0,
        "diversity(column=genres)@2": 1 - math.sqrt(1 / 2),  # one genre against both
        "calibration(column=genres)@1": 3 / 4 * math.log(1 / 0.01) + third,  # of what was 3/4 theirs, nothing
    }
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"] == pytest.approx(expected) and list(metrics["test"]) == list(expected)
    assert metrics["baselines"]["popularity"] == pytest.approx(expected)
    table = rows(said.out)
    assert table[0] == list(expected) and table[1] == ["popularity", *(f"{value:.4f}" for value in expected.values())]
    each = pl.read_parquet(tmp_path / "run" / "per_user.parquet")
    assert each["user"].to_list() == ["a", "b", "d"] and each["popularity_lift@1"].to_list() == pytest.approx(lift)
    assert {"coverage@1", "gini@1"}.isdisjoint(each.columns) and set(GENRES) < set(each.columns)
    # The saved run needs neither file; other cut-offs and columns are its to tell.
    (tmp_path / "items.csv").unlink()
    for file in shop.iterdir():
        file.unlink()
    assert rows(rankwell("evaluate", tmp_path / "run").out)[:2] == table[:2]
    again = rankwell("evaluate", tmp_path / "run", "--measures", "ItemCoverage@3,diversity(column=code)@2")
    # Of a, b and d: z w, y w, z w. Codes of numbers are categories: always two.
    assert rows(again.out)[:2] == [["coverage@3", "diversity(column=code)@2"], ["popularity", "0.7500", "1.0000"]]


@pytest.mark.parametrize("model", ["ease", "mf"])
def test_evaluate_tells_the_functions_of_what_recommend_recommends(rankwell, tiny, tmp_path, no_picture, model):
    own = [*SMALL, "--evaluation.measures", "coverage@4,ndcg@5,gini@7"] if model == "mf" else []
    assert rankwell("train", tiny, "--model", model, *own, "--out", tmp_path / "run").code == 0
    table = rows(
        rankwell("evaluate", tmp_path / "run", "--measures", "coverage@4,gini@4,novelty@4,popularity_lift@4").out
    )
    saved = RunFolder(tmp_path / "run").load()
    train, users = saved.data.train, pl.read_parquet(tmp_path / "run" / "per_user.parquet")["user"]
    file = tmp_path / "top.parquet"
    rankwell("recommend", tmp_path / "run", "--users", ",".join(users), "-k", "4", "-o", file)
    ids = torch.from_numpy(train.item_codes(pl.read_parquet(file)["item"])).view(-1, 4)
    known = train.known()
    counts = torch.bincount(known.values, minlength=train.num_items)
    assert len(ids) == train.num_users == known.offsets.numel() - 1
    found = [
        coverage(ids, num_items=train.num_items),
        gini(ids, num_items=train.num_items),
        novelty(ids, counts=counts, num_users=train.num_users),
        popularity_lift(ids, counts=counts, history=known),
    ]
    assert table[1] == [model, *(f"{float(value):.4f}" for value in found)]


def test_slices_tell_what_they_ask_about(rankwell, tiny, tmp_path):
    given = ["--model", "popularity", "--evaluation.by_popularity", "true", "--evaluation.measures", "gini@5,recall@5"]
    said = rankwell("train", tiny, *given, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics["test"]) == ["gini@5", "recall@5", "ndcg@20"] and metrics["slices"]
    for figures in metrics["slices"].values():
        assert list(figures["popularity"]) == ["recall@5", "ndcg@20"]
    table = rows(rankwell("evaluate", tmp_path / "run", "--measures", "gini@5,recall@5").out)
    recalls = [figures["popularity"]["recall@5"] for figures in metrics["slices"].values()]
    assert [row[-1] for row in table[2:-1]] == [f"{recall:.4f}" for recall in recalls]
    assert all(row[0] == "popularity," and row[3] == "items" and len(row) == 5 for row in table[2:-1])
    alone = rankwell("evaluate", tmp_path / "run", "--measures", "gini@5")
    assert len(rows(alone.out)) == 3


def test_a_table_leaves_open_what_a_row_lacks():
    assert list(figures_table({"whole": {"a": 1.0, "b": 2.0}, "part": {"b": 3.0}}).columns[1].cells) == ["1.0000", ""]


@pytest.mark.parametrize(
    ("measures", "more", "says"),
    [
        ("coverage", [], "coverage is of recommended items: say how many are recommended to each user, as coverage@20."),
        ("diversity@2", [], "diversity@2 needs vectors of items: name the column of --data.items FILE that holds them"),
        ("calibration(column=genres)@2", [], "calibration(column=genres)@2 names a column of items, which are not there"),
        ("diversity(column=genre)@2", ["items"], "items.csv has no column 'genre'. Did you mean 'genres'?"),
        ("calibration(alpha=2,column=genres)@2", ["items"], "alpha must be between 0 and 1: got 2.0."),
        ("coverage(column=genres)@2", ["items"], "coverage has no parameter 'column'."),
        ("coverage@2", ["--evaluation.monitor", "gini@2"], "evaluation.monitor: gini@2 is of recommended items: higher"),
        ("diversity(column=genres)@2", ["--task", "sequences"], "and task sequences has none. Leave it out."),
        ("coverage@2", ["--task", "ltr"], "coverage@2 is of items that are recommended out of a catalogue: task ltr"),
        ("gini@2", ["--task", "labels"], "gini@2 is of items that are recommended out of a catalogue: task labels"),
        ("gini@2", ["--task", "classes"], "gini@2 is of items that are recommended out of a catalogue: task classes"),
        ("gini@2", ["--task", "retrieval"], "gini@2 is of items that are recommended out of a catalogue: task retrieval"),
        ("gini@2", ["--task", "rerank"], "gini@2 is of items that are recommended out of a catalogue: task rerank"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused_before_training(rankwell, shop, tmp_path, measures, more, says):
    more = ["--data.items", tmp_path / "items.csv"] if more == ["items"] else more
    said = rankwell("train", shop, *more, "--evaluation.measures", f"ndcg@2,{measures}", "--out", tmp_path / "run")
    assert says in said.sentence and not (tmp_path / "run").exists()


def test_evaluate_refuses_what_a_run_cannot_tell(rankwell, shop, tmp_path):
    assert rankwell(*words(shop, tmp_path / "run")).code == 0
    for text, says in (
        ("diversity@2", "diversity@2 needs vectors of items"),
        ("diversity(column=genres)@2", "names a column of items, which are not there"),
        ("gini", "say how many are recommended to each user, as gini@20."),
    ):
        assert says in rankwell("evaluate", tmp_path / "run", "--measures", text).err


@pytest.mark.parametrize("command", [["compare", "--losses", "bpr"], ["tune", "--folds", "2", "--trials", "1"]])
def test_nothing_is_ranked_by_them(rankwell, tmp_path, command):
    lines = "".join(f"u{user},i{item}\n" for user in range(8) for item in range(8) if (user + item) % 3)
    (tmp_path / "a.csv").write_text(f"user,item\n{lines}")
    given = ["--evaluation.measures", "coverage@2,ndcg@2", "--out", tmp_path / "out"]
    said = rankwell(command[0], tmp_path / "a.csv", *command[1:], *given).sentence
    assert said.startswith("evaluation.measures: the first one ranks, and coverage@2 is of recommended items")
    assert not (tmp_path / "out").exists()


def test_what_comes_next(rankwell, tmp_path, no_picture):
    given = ["--task", "sequences", "--training.epochs", "1", "--model.dim", "4"]
    measures = "ndcg@5,coverage@5,gini@5,novelty@5,popularity_lift@5,serendipity@5"
    said = rankwell("train", "synthetic", *given, "--evaluation.measures", measures, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert rows(rankwell("evaluate", tmp_path / "run").out)[1][1:] == [
        f"{value:.4f}" for value in metrics["test"].values()
    ]
    # Popularity shows the same five to everybody.
    popular = metrics["baselines"]["popularity"]
    items = len(pl.read_parquet(tmp_path / "run" / "items.parquet"))
    assert popular["coverage@5"] == pytest.approx(5 / items)
    assert popular["gini@5"] == pytest.approx(1 - 4 / (items - 1))
