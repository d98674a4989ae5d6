"""The paragraph "Bad input": each item gets one sentence and exit code 2, and nothing half-written stays."""

import re
import shlex
import shutil

import polars as pl
import pytest

from .conftest import SMALL


@pytest.fixture
def refused(rankwell, tmp_path):
    """Train on such a file or folder of files, and give what is said; no run folder may be left."""

    def call(files, *options):
        if isinstance(files, dict):
            (tmp_path / "data").mkdir()
            for name, text in files.items():
                (tmp_path / "data" / name).write_text(text)
            files = tmp_path / "data" / (name if len(files) == 1 else "")
        said = rankwell("train", files, "--out", tmp_path / "run", *SMALL, *options).sentence
        assert not (tmp_path / "run").exists()
        return said

    return call


GOOD = "user,item,stars\n" + "".join(f"u{n % 5},i{n % 7},{n % 3 + 1}\n" for n in range(30))


def test_a_malformed_line(refused):
    assert re.search(
        r"data.a.csv, line 4: each line must have the 3 fields of the header: got 2",
        refused({"a.csv": GOOD.replace("u2,i2,3", "u2,i2", 1)}),
    )


def test_a_malformed_line_of_adjacency_text(refused):
    assert "train.txt, line 2: each line must start with a user id" in refused({"train.txt": "a x y\n\nb x\n"})


def test_a_wrong_delimiter(refused):
    said = refused({"a.csv": GOOD.replace(",", ";")})
    assert "a.csv, line 1" in said and "--data.delimiter ';'" in said


def test_a_wrong_delimiter_of_adjacency_text(refused):
    said = refused({"train.txt": "a\tx\ty\nb\tx\n"})
    assert "train.txt, line 1" in said and r"--data.delimiter '\t'" in said


def test_a_missing_column(refused):
    said = refused({"a.csv": GOOD.replace("item", "product")})
    assert "'item'" in said and "product" in said and "stars" in said


@pytest.mark.parametrize("name", ["a.csv", "train.txt", "a.parquet", "a.inter"])
def test_an_empty_file(refused, name):
    assert "the file is empty" in refused({name: ""})


def test_no_file(refused, tmp_path):
    assert "none.csv: there is no such file" in refused(tmp_path / "none.csv")


@pytest.mark.parametrize("weight", ["nan", "inf", "-inf", "many"])
def test_weights_that_are_no_finite_numbers(refused, weight):
    said = refused({"a.csv": GOOD.replace("u1,i1,2", f"u1,i1,{weight}", 1)}, "--data.weight", "stars")
    assert "a.csv, line 3" in said and repr(weight) in said


UNSEEN = {"train.txt": "a x y\nb x z\nc y z x\n"}


def test_users_only_in_test(refused):
    said = refused(UNSEEN | {"test.txt": "a z\nnew x\n"})
    assert "1 user ('new')" in said and "--data.unseen drop" in said and "--data.unseen keep" in said


def test_items_never_seen(refused):
    said = refused(UNSEEN | {"test.txt": "a z new\n"})
    assert "1 item ('new')" in said and "--data.unseen drop" in said


def test_duplicates_are_counted_and_said(rankwell, tmp_path, no_picture):
    (tmp_path / "a.csv").write_text(GOOD + "u1,i1,9\nu2,i2,9\n")
    said = rankwell("train", tmp_path / "a.csv", "--out", tmp_path / "run", *SMALL)
    assert said.code == 0 and "2 duplicate pairs merged" in said.err
    said = rankwell("data", tmp_path / "a.csv")
    assert said.code == 0 and "2 duplicate pairs merged" in said.err


def test_a_run_folder_that_exists(rankwell, tmp_path, tiny):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").write_text("")
    said = rankwell("train", tiny, "--out", tmp_path / "run").sentence
    assert "run exists and is not empty" in said and "--resume" in said
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["mine"]
    assert (
        "is a file, where a run needs a folder" in rankwell("train", tiny, "--out", tmp_path / "run" / "mine").sentence
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--loss", "mlm"], "unknown loss 'mlm'. Did you mean 'mml'?"),
        (["--model", "mff"], "unknown model 'mff'. Did you mean 'mf'?"),
        (
            ["--loss", "hinge", "--loss.margn", "2"],
            "options: loss.margn: hinge has no such parameter. Did you mean 'margin'?",
        ),
        (["--trainning.epochs", "2"], "options: unknown key trainning. Did you mean 'training'?"),
        (["--training.epoch=2"], "options: unknown key training.epoch. Did you mean 'epochs'?"),
        (["--training.epochs"], "option --training.epochs needs a value."),
        (["--training.epochs", "--seed", "1"], "option --training.epochs needs a value."),
        (["--training.epochs", "few"], "got 'few'."),
        (["--seed", "1.5"], "got '1.5'."),
        (["--evaluation.measures", "ndgc@20"], "unknown metric 'ndgc'. Did you mean 'ndcg'?"),
        (["elsewhere"], "unexpected argument 'elsewhere' beside"),
        (["--data.path", "elsewhere"], "name the data once"),
        (["--config", "none.toml"], "there is no configuration file none.toml."),
        (["--resume", "runs/none"], "--resume takes the run's own configuration: give nothing else beside it."),
    ],
)
def test_options_that_are_wrong(refused, tiny, words, says):
    assert says in refused(tiny, *words)


def test_options_before_the_path(rankwell, tiny):
    for words in (["--loss", "hinge", tiny], [tiny, "--loss", "hinge"], ["--loss=hinge", tiny, "--seed", "1"]):
        said = rankwell("train", *words, "--dry-run")
        assert said.code == 0 and f'path = "{tiny}"' in said.out and 'name = "hinge"' in said.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["evaluate", "run", "--mesures", "auc"], "No such option: --mesures (Possible options: --measures)."),
        (["recommend"], "Missing argument"),
        (["recommend", "run", "-k", "0"], "-k"),
        (["recommend", "run", "-k", "many"], "-k"),
        (["losses", "sofmax"], "unknown loss 'sofmax'. Did you mean 'softmax'?"),
        (["miners", "hardets"], "unknown miner 'hardets'. Did you mean 'hardest'?"),
        (["metrics", "ndgc"], "unknown metric 'ndgc'. Did you mean 'ndcg'?"),
        (["data"], "Missing argument"),
        (
            ["data", "x.csv", "--loss", "bpr"],
            "rankwell data takes --task, --data.user and its like, and --seed: got --loss.",
        ),
        (["evaluate", "none"], "none is not a run's folder: it has no config.toml."),
        (["recommend", "none", "--all"], "none is not a run's folder"),
        (["recommend", "none"], "say for whom: one of --users"),
        (["recommend", "none", "--users", " , "], "no user was named"),
        (["train", "--resume", "none"], "none is not a run's folder"),
    ],
)
def test_commands_that_are_wrong(rankwell, monkeypatch, tmp_path, words, says):
    monkeypatch.chdir(tmp_path)
    assert says in rankwell(*words).sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["a [bold]x[/] b", "[red", "x:smile:y", "back\\slash [/]", "ü"])
def test_messages_are_not_markup(rankwell, tmp_path, text):
    assert rankwell("train", f"{tmp_path}/{text}.csv").sentence.startswith(
        f"{tmp_path}/{text}.csv: there is no such file"
    )


def test_messages_are_not_wrapped(rankwell, tmp_path):
    name = "a long name " * 15
    assert f"{name}.csv: there is no such file" in rankwell("train", f"{tmp_path}/{name}.csv").sentence
    assert "File name too long" in rankwell("train", f"{tmp_path}/{name * 2}.csv").sentence


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny):
    from rankwell.config import resolve
    from rankwell.experiments import RunFolder, run

    folder = tmp_path_factory.mktemp("runs") / "run"
    run(resolve({"data": {"path": str(tiny)}, "model": {"name": "popularity"}}), RunFolder(folder))
    return folder


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pairs.safetensors", "users.parquet", "items.parquet", "config.toml", "metrics.json"]
)
@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_a_corrupt_run(rankwell, finished, tmp_path, name, command):
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run" / name
    file.write_bytes(file.read_bytes()[:-9])
    if name == "metrics.json":
        file.unlink()
    said = rankwell(command, tmp_path / "run", *(["--all"] if command == "recommend" else [])).sentence
    assert (name if name != "metrics.json" else "is not finished") in said


def test_a_file_that_cannot_be_written(rankwell, finished, tmp_path):
    (tmp_path / "file").write_text("")
    said = rankwell("recommend", finished, "--all", "-o", tmp_path / "file" / "x.csv").sentence
    assert "cannot write" in said
    assert "x.csv" in rankwell("data", tmp_path / "file" / "x.csv", "--generate").sentence


def test_parquet_without_rows(refused, tmp_path):
    pl.DataFrame({"user": [], "item": []}, schema={"user": pl.String, "item": pl.String}).write_parquet(
        tmp_path / "a.parquet"
    )
    assert "the file must have rows" in refused(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "text"), [("tab.csv", GOOD.replace(",", "\t")), ("train.txt", "a\tx\ty\nb\tx\n"), ("one.txt", "a\nb\tx\n")]
)
def test_the_advice_on_tabs_can_be_followed(rankwell, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    said = rankwell("data", tmp_path / name).sentence
    option = re.search(r"ive (--data.delimiter '.*?')", said)
    assert option, said
    assert rankwell("data", tmp_path / name, *shlex.split(option[1])).code == 0


def test_a_file_with_a_loss_that_does_not_run(rankwell, tmp_path, tiny):
    (tmp_path / "bad.py").write_text("def x(:\n")
    assert "bad.py: SyntaxError: " in rankwell("train", tiny, "--loss", f"{tmp_path / 'bad.py'}:x").sentence


@pytest.mark.parametrize("measure", ["P(rel=0)@3", "recall(rel=4)@20"])
def test_measures_that_cannot_be_taken_are_refused_before_training(refused, measure):
    assert ": rel must be " in refused({"a.csv": GOOD}, "--evaluation.measures", measure)
