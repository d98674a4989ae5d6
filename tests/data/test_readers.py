import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import rankwell.data
from rankwell.data import read_dataset, read_interactions
from rankwell.errors import ConfigError, DataError

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public data sets (../shared/data) are not here")


def folder(path, **files):
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def pairs(data):
    return set(zip(data.user_ids.gather(data.users), data.item_ids.gather(data.items), strict=True))


def test_a_folder_has_train_and_test_with_shared_vocabularies(tmp_path):
    data = read_dataset(folder(tmp_path, train_txt="a x y\nb z\n", test_txt="b x\na z\n"))
    assert pairs(data.train) == {("a", "x"), ("a", "y"), ("b", "z")}
    assert pairs(data.test) == {("b", "x"), ("a", "z")}
    assert data.train.user_ids.equals(data.test.user_ids) and data.train.item_ids.equals(data.test.item_ids)
    assert data.notes == ()


def test_one_file_is_all_training(tmp_path):
    path = folder(tmp_path, train_csv="user,item\na,x\n")
    assert read_dataset(path / "train.csv").test is None
    assert read_dataset(path).test is None


def test_train_and_test_may_have_different_formats(tmp_path):
    data = read_dataset(folder(tmp_path, train_tsv="user\titem\na\tx\nb\ty\n", test_txt="a y\n"))
    assert pairs(data.test) == {("a", "y")}


def test_duplicates_and_overlap_are_counted(tmp_path):
    data = read_dataset(folder(tmp_path, train_txt="a x y x\nb z\na y\n", test_txt="a x z z\nb z x\n"))
    assert data.notes == (
        "train.txt: 2 duplicate pairs merged, the earliest row of each kept",
        "test.txt: 1 duplicate pair merged, the earliest row of each kept",
        "2 pairs in both train and test removed from test",
    )
    assert data.merged == 2
    assert len(data.train) == 3
    assert pairs(data.test) == {("a", "z"), ("b", "x")}


UNSEEN = {"train_txt": "a x y\nb x\nd\n", "test_txt": "b y\nc x new\na new\nd y\n"}


def test_unseen_is_an_error_that_counts_and_offers(tmp_path):
    says = r"test.txt: every test user and item.*2 users \('c', 'd'\) and 1 item \('new'\) have none, in 4 test interactions"
    with pytest.raises(DataError, match=says + ".*--data.unseen drop.*--data.unseen keep"):
        read_dataset(folder(tmp_path, **UNSEEN))


def test_unseen_may_be_dropped_from_test_and_vocabularies(tmp_path):
    data = read_dataset(folder(tmp_path, **UNSEEN), unseen="drop")
    assert pairs(data.test) == {("b", "y")}
    assert data.train.user_ids.to_list() == data.test.user_ids.to_list() == ["a", "b"]
    assert data.train.item_ids.to_list() == ["x", "y"]
    assert data.notes[-1].startswith("4 test interactions with 2 users") and data.notes[-1].endswith(
        "removed from test"
    )


def test_unseen_may_be_kept(tmp_path):
    data = read_dataset(folder(tmp_path, **UNSEEN), unseen="keep")
    assert len(data.test) == 5
    assert data.train.user_ids.to_list() == ["a", "b", "c", "d"]
    assert data.train.num_items == 3
    assert data.notes[-1].endswith("kept")


def test_nothing_left_of_test_is_an_error(tmp_path):
    with pytest.raises(
        DataError, match=r"test.txt: .* nothing is left. 1 pair in both train and test removed from test"
    ):
        read_dataset(folder(tmp_path, train_txt="a x y\n", test_txt="a x\n"))


def test_unseen_drop_leaves_what_a_loop_leaves(tmp_path):
    rng = np.random.default_rng(3)
    lines = [[(f"u{u}", f"i{i}") for u, i in rng.integers(0, 40, (60, 2))] for _ in range(2)]
    for name, rows in zip(("train", "test"), lines, strict=True):
        (tmp_path / f"{name}.csv").write_text("user,item\n" + "".join(f"{u},{i}\n" for u, i in rows))
    users, items = ({row[column] for row in lines[0]} for column in (0, 1))
    data = read_dataset(tmp_path, unseen="drop")
    assert pairs(data.train) == set(lines[0])
    assert pairs(data.test) == {row for row in lines[1] if row[0] in users and row[1] in items} - set(lines[0])


def test_codes_map_back_with_integer_ids(tmp_path):
    pl.DataFrame({"user": [9, 8], "item": [7, 6]}).write_parquet(tmp_path / "train.parquet")
    pl.DataFrame({"user": [8], "item": [7]}).write_parquet(tmp_path / "test.parquet")
    data = read_dataset(tmp_path)
    assert pairs(data.test) == {(8, 7)}
    assert data.train.user_codes([8]).tolist() == [1]


def test_a_folder_without_train(tmp_path):
    with pytest.raises(DataError, match=r"must have a train file, such as train.txt.*it has data.csv, test.txt"):
        read_dataset(folder(tmp_path, test_txt="a x\n", data_csv="user,item\n"))


def test_two_train_files(tmp_path):
    path = folder(tmp_path, train_txt="a x\n", train_csv="user,item\nb,y\n")
    with pytest.raises(DataError, match=r"one train file: found train.csv, train.txt.*--data.format"):
        read_dataset(path)
    assert pairs(read_dataset(path, format="csv").train) == {("b", "y")}


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: there is no such file"):
        read_interactions(tmp_path / "none.csv", weight="stars")
    with pytest.raises(DataError, match="a file is needed here: this is a folder"):
        read_interactions(tmp_path)
    (tmp_path / "a.xlsx").write_text("a")
    with pytest.raises(DataError, match=r"'.xlsx' is not one of .txt, .csv.*--data.format"):
        read_interactions(tmp_path / "a.xlsx")


def test_unknown_options(tmp_path):
    path = folder(tmp_path, train_txt="a x\n")
    with pytest.raises(
        ConfigError, match=r"--data.unseen must be error, drop or keep: got 'dropp'. Did you mean 'drop'"
    ):
        read_dataset(path, unseen="dropp")
    with pytest.raises(ConfigError, match=r"--data.format is unknown: got 'cvs'. Did you mean 'csv'"):
        read_interactions(path / "train.txt", format="cvs")


@needs_shared
def test_gowalla_has_its_published_counts():
    data = read_dataset(SHARED / "gowalla")
    assert (data.train.num_users, data.train.num_items) == (29_858, 40_981)
    assert (len(data.train), len(data.test)) == (810_128, 217_242)
    assert data.notes == () and data.merged == 0


@needs_shared
def test_gowalla_equals_a_plain_parse():
    data = read_dataset(SHARED / "gowalla")
    for name, part in (("train", data.train), ("test", data.test)):
        lines = [line.split() for line in (SHARED / "gowalla" / f"{name}.txt").read_text().splitlines()]
        assert pairs(part) == {(line[0], item) for line in lines for item in line[1:]}


@needs_shared
def test_movielens_ratings_have_weights_and_times():
    path = SHARED / "ml-latest-small" / "ratings.csv"
    data = read_interactions(path, user="userId", item="movieId", weight="rating", timestamp="timestamp")
    assert (data.num_users, data.num_items, len(data)) == (610, 9_724, 100_836)
    total = sum(float(line.split(",")[2]) for line in path.read_text().splitlines()[1:])
    assert float(data.weights.sum(dtype=np.float64)) == total


def test_public_names_are_there():
    assert sorted(rankwell.data.__all__) == rankwell.data.__all__
    assert all(hasattr(rankwell.data, name) for name in rankwell.data.__all__)


def test_without_polars_the_extra_is_named():
    code = "import sys; sys.modules['polars'] = None; import rankwell.data"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingExtra: polars is needed here and is not installed: pip install 'rankwell[data]'." in run.stderr
