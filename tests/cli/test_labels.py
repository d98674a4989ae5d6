"""Labels as a person meets them."""

import polars as pl
import pytest

SMALL = ["--task", "labels", "--model.widths", "8", "--training.epochs", "3", "--training.learning_rate", "0.05"]


@pytest.fixture
def films(tmp_path):
    rows = [f"{n},{1900 + n},film {n},{'old' if n < 25 else 'new'}" for n in range(50)]
    (tmp_path / "films.csv").write_text("movieId,year,title,genres\n" + "\n".join(rows) + "\n")
    tags = [f"{user},{n},{'long' if n % 5 == 0 else 'short'},7" for user in range(2) for n in range(0, 50, 2)]
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + "\n".join(tags) + "\n")
    return tmp_path / "films.csv"


@pytest.fixture
def options(films):
    of = {
        "id": "movieId",
        "labels": "genres",
        "features": "year",
        "pairs": films.with_name("tags.csv"),
        "pairs_label": "tag",
    }
    return [*SMALL, *(word for name, value in of.items() for word in (f"--data.{name}", value))]


def test_train_evaluate_and_score(rankwell, films, options, tmp_path, no_picture):
    said = rankwell("train", films, *options, "--out", tmp_path / "run")
    assert said.code == 0 and "label_mlp, sigmoid" in said.out and "10 test rows" in said.out, said.err
    assert "popularity" in said.out and "ideal" not in said.out and "25 labels repeat" in said.err
    again = rankwell("evaluate", tmp_path / "run", "--measures", "ndcg@10")
    first, second = (
        next(line for line in each.out.splitlines() if line.startswith("label_mlp")) for each in (said, again)
    )
    assert second.split()[1] == first.split()[2]  # the name of a loss is a word more
    told = rankwell("score", tmp_path / "run", films, "-o", tmp_path / "out.parquet")
    assert told.code == 0 and "200 labels of 50 rows" in told.out
    table = pl.read_parquet(tmp_path / "out.parquet")
    assert table.columns == ["row", "label", "rank", "score"] and table["row"].n_unique() == 50
    assert rankwell("score", tmp_path / "run", films, "-o", tmp_path / "out.run").code == 0
    assert (tmp_path / "out.run").read_text().startswith("0 Q0 ")
    assert "recommend" in rankwell("recommend", tmp_path / "run", "--all").sentence


def test_generated_data_say_how_far_it_came(rankwell, tmp_path, no_picture):
    said = rankwell("train", "synthetic", *SMALL, "--out", tmp_path / "run")
    assert said.code == 0 and "of the way from popularity" in said.out
    assert "--task labels --loss soft_dice" in said.out and "recommend" not in said.out
    made = rankwell("data", tmp_path / "made", "--task", "labels", "--generate")
    assert made.code == 0 and (tmp_path / "made" / "rows.csv").exists()


def test_data_and_a_dry_run(rankwell, films, options, tmp_path):
    said = rankwell("data", films, *[word for word in options if word not in SMALL[2:]], "--task", "labels")
    assert said.code == 0 and "labels of a row" in said.out and "commonest labels" in said.out and "year" in said.out
    planned = rankwell("train", films, *options, "--dry-run", "--out", tmp_path / "run")
    assert planned.code == 0 and "rows" in planned.out and not (tmp_path / "run").exists()
    linear = rankwell("train", films, *options[:2], *options[4:], "--model.widths", "", "--dry-run")
    assert linear.code == 0 and "widths = []" in linear.out, linear.err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--loss", "bpr"], "loss 'bpr' is of kind 'contrast': labelled rows take list losses"),
        (["--loss", "margin_mse"], "loss 'margin_mse' needs teacher, which labelled rows do not tell"),
        (
            ["--model", "mlp"],
            "mlp is a model of lists; task labels has label_mlp, label_popularity, label_ridge, label_vectors",
        ),
        (["--sampler", "uniform"], "task labels has no sampler. It has model, loss"),
        (["--data.labels", "genre"], "films.csv has no column 'genre'. Did you mean 'genres'?"),
        (["--data.features", "yaer"], "films.csv has no column 'yaer'"),
        (["--data.pairs_label", "label"], "tags.csv has no column 'label'"),
        (["--data.id", "id"], "has no column 'id'"),
        (["--data.min_rows", "0"], "data.min_rows"),
        (["--data.min_rows", "90"], "there must be two labels of at least 90 rows"),
        (["--data.separator", ""], "data.separator"),
        (["--data.pairs", "gone.csv"], "gone.csv: there is no such file"),
    ],
)
def test_what_train_refuses(rankwell, films, options, tmp_path, given, said):
    if given[0] == "--model":
        options = [word for at, word in enumerate(options) if at not in (2, 3)]
    name = given[0]
    if name in options:
        at = options.index(name)
        options = options[:at] + options[at + 2 :]
    heard = rankwell("train", films, *options, *given, "--out", tmp_path / "run").sentence
    assert said in heard
    assert not (tmp_path / "run").exists()


def test_a_row_that_stands_twice_names_its_line(rankwell, films, options, tmp_path):
    films.write_text(films.read_text() + "7,1999,again,new\n")
    heard = rankwell("train", films, *options, "--out", tmp_path / "run").sentence
    assert "films.csv, line 52: each row must have an id of its own: '7' has been before" in heard
