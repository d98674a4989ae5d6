import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import tomllib
from importlib.metadata import version

import polars as pl
import pytest

from rankwell.cli import screen
from rankwell.config import resolve
from rankwell.experiments import RunFolder, run
from rankwell.losses import LOSSES
from rankwell.training import RowAdam

from .conftest import SMALL


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines() if line.strip()]


def test_train(rankwell, tiny, tmp_path, no_picture):
    said = rankwell(
        "train", tiny, "--out", tmp_path / "run", "--loss", "bpr", *SMALL, "--evaluation.measures", "recall@5,ndcg@5"
    )
    assert said.code == 0
    table = rows(said.out)
    assert table[0] == ["recall@5", "ndcg@5", "ndcg@20"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert table[1] == ["mf,", "bpr", *(f"{metrics['test'][name]:.4f}" for name in table[0])]
    assert table[2] == ["popularity", *(f"{metrics['baselines']['popularity'][name]:.4f}" for name in table[0])]
    assert f"{metrics['users']:,} test users · {metrics['epochs']} epochs, chosen by ndcg@20" in said.out
    assert f"run folder: {tmp_path / 'run'}\n" in said.out
    table = said.out.partition("Negatives, as training saw them")[2].splitlines()
    for name in (
        "collisions",
        "above the positive",
        "held-out positives",
        "effective number",
        "gradient in ranks 1–10",
    ):
        assert name in table[1]
    assert [line.split()[:2] for line in table[2:4]] == [["epoch", "1"], ["epoch", "2"]]
    assert said.err.count("epoch ") == 2 + metrics["epochs"]
    again = rankwell("train", "--resume", tmp_path / "run")
    assert again.code == 0 and again.out == said.out


def test_train_from_a_file_with_options_over_it(rankwell, tiny, tmp_path):
    (tmp_path / "my.toml").write_text(
        f'loss = "hinge"\n[data]\npath = "{tiny}"\n[training]\nepochs = 5\npatience = 2\n'
    )
    said = rankwell(
        "train", "--config", tmp_path / "my.toml", "--training.epochs", "7", "--loss.margin=0.5", "--dry-run"
    )
    config = tomllib.loads(said.out)
    assert config["loss"] == {"name": "hinge", "margin": 0.5, "temperature": 1.0}
    assert (config["training"]["epochs"], config["training"]["patience"]) == (7, 2)
    assert "my.toml: loss.margn" in _with(tmp_path, "[loss]\nname = 'hinge'\nmargn = 1\n", rankwell).sentence


def _with(tmp_path, text, rankwell):
    (tmp_path / "my.toml").write_text(text)
    return rankwell("train", "--config", tmp_path / "my.toml", "--dry-run")


def test_dry_run_shows_configuration_work_and_memory(rankwell, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = rankwell("train", tiny, "--dry-run", "--loss", "mml", "--training.batch_size", "100", "--model.dim", "8")
    assert said.code == 0 and not list(tmp_path.iterdir())
    config = resolve(tomllib.loads(said.out))  # the whole of it is a configuration file
    assert (config.loss["name"], config.loss["margins"], config.training.batch_size) == ("mml", (0.7, 0.8, 0.9), 100)
    facts = {line[1]: line[2:] for line in rows(said.out) if line[0] == "#"}
    assert facts["data"][:4] == ["40", "users,", "30", "items,"]
    train, valid = (int(facts["data"][place]) for place in (4, 6))
    assert f"{-(-(train - valid) // 100)} steps an epoch, at most {config.training.epochs} epochs" in said.out
    # The model's weights, its moments, and a copy; scores of a batch; no more than what the parts add up to.
    numbers = [int(word.strip("(),")) for word in facts["peak"] if word.strip("(),").isdigit()]
    assert abs(numbers[0] - sum(numbers[1:])) <= len(numbers) and numbers[0] > 400


def test_dry_run_survives_a_long_path(rankwell, tmp_path):
    folder = tmp_path / ("long [bold]" * 15)
    folder.mkdir()
    (folder / "train.txt").write_text("a x y z\nb x y\nc y z\n")
    said = rankwell("train", folder, "--dry-run")
    assert tomllib.loads(said.out)["data"]["path"] == str(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Ids with leading zeros and with marks that Rich would take for its own."""
    place = tmp_path_factory.mktemp("runs")
    lines = [
        f"00{u}," + (f"[i]{i:02d}" if i % 2 else f":key:0{i}") + "\n"
        for u in range(8)
        for i in range(10)
        if (u + i) % 3
    ]
    (place / "a.csv").write_text("user,item\n" + "".join(lines))
    raw = {"data": {"path": str(place / "a.csv")}, "model": {"dim": 4}, "sampler": {"n": 8}, "training": {"epochs": 2}}
    run(resolve(raw), RunFolder(place / "run"))
    return place / "run"


def test_recommend_to_the_terminal(rankwell, finished):
    said = rankwell("recommend", finished, "--users", "003, 000", "-k", "3")
    table = rows(said.out)
    assert table[0] == ["user", "rank", "item", "score"]
    assert [row[:2] for row in table[1:]] == [[user, str(rank)] for user in ("003", "000") for rank in (1, 2, 3)]
    items = set(pl.read_parquet(finished / "items.parquet")["id"])
    assert {row[2] for row in table[1:]} <= items and all(item[:3] in ("[i]", ":ke") for item in items)
    for user in ("003", "000"):
        scores = [float(row[3]) for row in table[1:] if row[0] == user]
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_recommend_to_a_file(rankwell, finished, tmp_path, suffix):
    file = tmp_path / "new" / f"top.{suffix}"
    said = rankwell("recommend", finished, "--all", "-k", "4", "--output", file)
    assert said.code == 0
    table = pl.read_csv(file, infer_schema=False) if suffix == "csv" else pl.read_parquet(file)
    assert table.columns == ["user", "rank", "item", "score"] and str(file) in said.out
    assert f"{len(table)} rows for 8 users" in said.out
    saved = RunFolder(finished).load()
    user_ids, item_ids, lists, _ = saved.task.catalogue(saved.model, saved.data)
    for code, user in enumerate(user_ids):
        mine = table.filter(pl.col("user") == user)
        known = item_ids[lists.values[lists.offsets[code] : lists.offsets[code + 1]].numpy()]
        assert len(mine) == min(4, 10 - len(known)) and not set(mine["item"]) & set(known)
    assert [entry.name for entry in file.parent.iterdir()] == [file.name]


def test_recommend_known_items_too(rankwell, finished, tmp_path):
    rankwell("recommend", finished, "--all", "-k", "99", "--known", "-o", tmp_path / "top.parquet")
    assert pl.read_parquet(tmp_path / "top.parquet").group_by("user").len()["len"].to_list() == [10] * 8


def test_recommend_for_a_file_of_users(rankwell, finished, tmp_path):
    (tmp_path / "users.txt").write_text("005\n\n 001 \n")
    said = rankwell("recommend", finished, "--users-file", tmp_path / "users.txt", "-k", "1")
    assert [row[0] for row in rows(said.out)[1:]] == ["005", "001"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--users", "0003"], "1 unknown user id: '0003'. Did you mean '00"),
        (["--users", "3"], "1 unknown user id: '3'. Known ids look like '000', '001', '002'."),
        (["--users", "003,00x,zz"], "2 unknown user ids: '00x', 'zz'."),
        (["--users", ","], "no user was named: give at least one id."),
        (
            [],
            "say for whom: one of --users u1,u2, --users-file FILE or --all; or, for users whom training did not see,",
        ),
        (["--users", "003", "--all"], "say for whom"),
        (["--users-file", "none.txt"], "none.txt cannot be read"),
        (["--all", "-o", "top.xlsx"], "--output must end in .parquet or .csv: got top.xlsx."),
        (["--all", "-o", "top"], "--output must end in .parquet or .csv"),
    ],
)
def test_recommend_refuses(rankwell, finished, words, says):
    assert says in rankwell("recommend", finished, *words).sentence


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_recommend_to_a_full_disk(rankwell, finished, tmp_path, monkeypatch, suffix):
    full = {
        "csv": OSError(errno.ENOSPC, "No space left on device"),
        "parquet": pl.exceptions.ComputeError("disk\nfull"),
    }

    def write(table, path):
        path.write_bytes(b"half")
        raise full[suffix]

    (tmp_path / f"top.{suffix}").write_text("old")
    monkeypatch.setattr(pl.DataFrame, f"write_{suffix}", write)
    said = rankwell("recommend", finished, "--all", "-o", tmp_path / f"top.{suffix}").sentence
    assert f"top.{suffix}: {'No space left on device' if suffix == 'csv' else 'disk full'}. Nothing was changed" in said
    assert (tmp_path / f"top.{suffix}").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_evaluate(rankwell, finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    table = rows(rankwell("evaluate", finished).out)
    assert table[0] == list(metrics["test"])
    assert table[1] == ["mf", *(f"{value:.4f}" for value in metrics["test"].values())]


def test_evaluate_other_measures(rankwell, finished):
    names = ["recall@20", "auc", "ap", "ndcg(gain=linear,ties=order)@10", *(f"precision@{k}" for k in range(1, 12))]
    said = rankwell("evaluate", finished, "--measures", ", ".join(names))
    table = rows(said.out)
    assert table[0] == names and len(table[1]) == 1 + len(names)  # no column is cut where nobody looks
    assert table[1][1] == f"{json.loads((finished / 'metrics.json').read_text())['test']['recall@20']:.4f}"
    assert all(0 <= float(value) <= 1 for value in table[1][1:])
    assert "Did you mean 'ndcg'" in rankwell("evaluate", finished, "--measures", "ndgc").sentence
    assert "each once" in rankwell("evaluate", finished, "--measures", "auc,AUC").sentence


def test_losses(rankwell):
    said = rankwell("losses")
    *listed, count = rows(said.out)[1:]
    assert [row[:3] for row in listed] == [
        [entry.name, family, entry.kind] for family, entries in LOSSES.families().items() for entry in entries
    ]
    assert len(listed) == len(LOSSES) and count == [str(len(LOSSES)), "loss", "names"]
    for entry in LOSSES:
        assert entry.summary in said.out


def test_one_loss(rankwell):
    said = rankwell("losses", "mml")
    assert said.out.startswith("mml  (contrast)\n")
    assert r".. math:: \ell = \lambda^+ \operatorname{mean}_i w_i [1 - s_i]_+" in said.out
    assert "Source: :cite:`ozsoy2024`" in said.out
    parameters = {row[0]: row[1:] for row in rows(said.out.partition("parameter  ")[2])[1:]}
    assert parameters["margins"][:5] == ["tuple[float,", "...]", "(0.7,", "0.8,", "0.9)"]
    assert parameters["neg_weight"] == ["float", "700.0", "1.0", "…", "1000.0,", "log"]
    assert "No parameters of its own." in rankwell("losses", "bpr").out
    assert "code | paper" in rankwell("losses", "bsl").out


def test_metrics(rankwell):
    from rankwell.metrics import METRICS

    assert {row[0] for row in rows(rankwell("metrics").out)[1:-1]} == {entry.name for entry in METRICS}
    said = rankwell("metrics", "ndcg")
    assert said.out.startswith("ndcg  (list)\n") and "gain" in said.out


def test_miners(rankwell):
    from rankwell.miners import MINERS

    assert {row[0] for row in rows(rankwell("miners").out)[1:-1]} == {entry.name for entry in MINERS}
    said = rankwell("miners", "hardest")
    assert said.out.startswith("hardest  (negatives)\n") and "1 … 100, log" in said.out


def test_train_with_a_miner(rankwell, tiny, tmp_path, no_picture):
    """One of eight negatives is another loss than all; eight of eight is the same."""
    found = {}
    for k in ("", "1", "8"):
        mining = ("--miner", "hardest", "--miner.k", k) if k else ()
        said = rankwell("train", tiny, "--out", tmp_path / f"run{k}", "--loss", "bpr", *SMALL, *mining)
        assert said.code == 0
        found[k] = json.loads((tmp_path / f"run{k}" / "metrics.json").read_text())["test"]
    assert found["8"] == found[""] != found["1"]
    assert tomllib.loads((tmp_path / "run1" / "config.toml").read_text())["miner"] == {"name": "hardest", "k": 1}
    several = ("--miner", "hardest(8) & hardest(1)")
    assert rankwell("train", tiny, "--out", tmp_path / "several", "--loss", "bpr", *SMALL, *several).code == 0
    assert json.loads((tmp_path / "several" / "metrics.json").read_text())["test"] == found["1"]
    said = rankwell("train", tiny, "--out", tmp_path / "no", *SMALL, "--miner", "hardest", "--miner.k", "0")
    assert said.code == 2 and said.sentence.endswith("k must be at least 1: got 0.")
    assert not (tmp_path / "no").exists()


def test_data(rankwell, tmp_path):
    (tmp_path / "a.csv").write_text("who,what\nann,x\nann,y\nbo,x\n")
    said = rankwell("data", "--data.user", "who", tmp_path / "a.csv", "--data.item=what")
    assert said.code == 0
    assert ["users", "2"] in rows(said.out) and ["items", "2"] in rows(said.out)
    assert "'user'" in rankwell("data", tmp_path / "a.csv").sentence


def test_data_generates(rankwell, tmp_path):
    said = rankwell("data", tmp_path / "new", "--generate", "--seed", "3")
    assert said.code == 0 and "test pairs: " in said.out
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == ["test.txt", "train.txt"]
    first = (tmp_path / "new" / "train.txt").read_bytes()
    assert "exists. Name a folder that does not" in rankwell("data", tmp_path / "new", "--generate").sentence
    assert (tmp_path / "new" / "train.txt").read_bytes() == first
    rankwell("data", tmp_path / "other", "--generate", "--seed", "4")
    assert (tmp_path / "other" / "train.txt").read_bytes() != first


def test_a_loss_from_a_file(rankwell, tiny, tmp_path, monkeypatch, no_picture):
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    (tmp_path / "mine.py").write_text(
        "from rankwell.losses import contrast_loss\n\n"
        "@contrast_loss()\n"
        "def gap_loss(pos, neg, *, pos_where=None, where=None, weights=None, reduction='mean', scale: float = 1.0):\n"
        "    return -(pos[:, None] - neg).tanh().mean() * scale\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ["train", tiny, "--out", "run", "--loss", "mine.py:gap_loss", *SMALL]
    assert "gap has no such parameter. Did you mean 'scale'?" in rankwell(*words, "--loss.scal", "2").sentence
    assert rankwell(*words, "--loss.scale", "2").code == 0
    assert tomllib.loads((tmp_path / "run" / "config.toml").read_text())["loss"] == {
        "name": "mine.py:gap_loss",
        "scale": 2.0,
    }
    assert rankwell("evaluate", "run").code == 0
    assert "there is no file 'yours.py'" in rankwell("train", tiny, "--loss", "yours.py:gap_loss").sentence


def test_interrupted_by_the_keyboard(rankwell, tiny, tmp_path, monkeypatch, no_picture):
    def stop(*_):
        raise KeyboardInterrupt

    words = ["train", tiny, "--out", tmp_path / "run", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(RowAdam, "step", stop)
        said = rankwell(*words)
    assert said.code == 130 and said.err.strip().splitlines()[-1].startswith("interrupted. Go on")
    assert rankwell("train", "--resume", tmp_path / "run").code == 0


def test_help(rankwell):
    said = rankwell()
    assert said.code == 0 and said.out == rankwell("--help").out
    for command in ("train", "evaluate", "recommend", "data", "losses", "metrics", "miners"):
        assert command in said.out and rankwell(command, "-h").code == 0


KILLED = """
import itertools, os, signal, sys
import torch
from rankwell.cli import main
from rankwell.experiments import run
module = sys.modules["rankwell.experiments.run"]
module.draw_curve = module.draw_negatives = lambda path, *_: path.write_bytes(b"")
from rankwell.training import RowAdam
number, sys.argv = int(sys.argv[1]), ["rankwell", *sys.argv[2:]]
step, count = RowAdam.step, itertools.count(1)
def killing(*args):
    if next(count) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args)
RowAdam.step = killing
main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_three_times_and_resumed(rankwell, tiny, tmp_path, no_picture):
    """In the choice of the epoch, once more there, and in the refit: the same model file as of a run left alone."""
    words = ["train", tiny, *SMALL, "--training.checkpoint_seconds", "0", "--threads", "1"]
    for number, command in zip(
        (4, 5, 6),
        itertools.chain(
            [[*words, "--out", tmp_path / "run"]], itertools.repeat(["train", "--resume", tmp_path / "run"])
        ),
        strict=False,
    ):
        child = subprocess.run(
            [sys.executable, "-c", KILLED, str(number), *map(str, command)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
    assert rankwell("train", "--resume", tmp_path / "run").code == 0
    assert rankwell(*words, "--out", tmp_path / "alone").code == 0
    for name in ("model.safetensors", "per_user.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    names = [sorted(entry.name for entry in (tmp_path / folder).iterdir()) for folder in ("run", "alone")]
    assert names[0] == names[1]


def test_data_that_is_generated_afresh(rankwell, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = rankwell("data", "synthetic", "--seed", "3")
    assert said.code == 0 and "test pairs: " in said.out
    assert ["users", "600"] in rows(said.out) and ["items", "400"] in rows(said.out)
    assert "name another folder" in rankwell("data", "synthetic", "--generate").sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("found", "call"), [("/bin/rankwell", "rankwell"), (None, "'my env/bin/rankwell'")])
def test_what_to_type_next(monkeypatch, found, call):
    monkeypatch.setattr("shutil.which", lambda _: found)
    monkeypatch.setattr("sys.argv", ["my env/bin/rankwell"])
    assert screen.program() == call


def test_versions_are_told(rankwell):
    said = rankwell("--version")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"rankwell {version('rankwell')}, torch ")
