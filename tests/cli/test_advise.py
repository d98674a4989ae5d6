"""``rankwell advise``: what is said, what is written, and what is refused."""

import json

import pytest

from rankwell.config import resolve
from rankwell.experiments import limits


def test_three_choices_with_reasons(rankwell, tiny):
    said = rankwell("advise", tiny, "--memory", "8GB")
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines() if line]
    assert lines[0] == ["task", "interactions", "(by", "default;", "--task", "names", "another)"]
    assert ["users", "40"] in lines and ["limits", "8", "GB"] in lines
    titles = [line for line in said.out.splitlines() if line[:2] in ("1.", "2.", "3.", "4.")]
    assert titles == [
        "1. sampled_softmax with mf, negatives: uniform",
        "2. bsl with mf, negatives: uniform",
        "3. bpr with mf, negatives: uniform",
    ]
    assert [line[0] for line in lines].count("reason") == [line[0] for line in lines].count("takes") == 3
    assert "(the rule was written with this result of synthetic in sight)" in said.out
    assert f"train --data.path {tiny} --task interactions --loss sampled_softmax" in said.out
    assert "on these data nothing was measured" in said.out


def test_what_is_written_trains(rankwell, tiny, tmp_path, no_picture):
    said = rankwell("advise", tiny, "--out", tmp_path / "advice")
    files = sorted((tmp_path / "advice").iterdir())
    assert [file.name[:2] for file in files] == ["1-", "2-", "3-"]
    assert all(f"written: {file}" in said.out for file in files)
    small = ["--model.dim", "4", "--training.epochs", "1"]
    assert rankwell("train", "--config", files[0], "--out", tmp_path / "run", *small).code == 0
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert "exists. Name a file" in rankwell("advise", tiny, "--out", tmp_path / "advice").sentence


def test_json(rankwell, tiny, tmp_path):
    said = rankwell("advise", tiny, "--json", "--memory", "8GB", "--out", tmp_path / "first.toml", "--seed", "2")
    found = json.loads(said.out)
    assert (found["task"], found["facts"]["queries"], found["limits"]["memory"]) == ("interactions", 40, 8e9)
    assert [choice["loss"] for choice in found["choices"]] == ["sampled_softmax", "bsl", "bpr"]
    for choice in found["choices"]:
        assert choice["reason"] and choice["evidence"] and choice["changes"] and choice["memory"] > 1e8
        assert resolve(choice["config"]).seed == 2
    assert found["written"] == [str(tmp_path / "first.toml")]


def test_what_is_too_large_is_told(rankwell, tiny):
    said = rankwell("advise", tiny, "--memory", "10MB")
    assert said.code == 0 and said.out.count("too large  it needs about") == 3
    assert "Passed over: simce: it needs about" in said.out


def test_what_is_too_slow_is_told(rankwell, tiny, monkeypatch):
    monkeypatch.setattr(limits, "step_seconds", lambda *_: 3600.0)
    said = rankwell("advise", tiny, "--memory", "8GB", "--minutes", "1")
    assert said.code == 0 and said.out.count("too slow   time for 0 of") == 3 and "too large" not in said.out


def test_the_task_is_found_or_given(rankwell, tmp_path):
    rankwell("data", tmp_path / "lists", "--generate", "--task", "ltr")
    assert "ltr (given)" in rankwell("advise", tmp_path / "lists", "--task", "ltr").out
    lines = [f"{place % 3} qid:{place // 5} 0:{place % 7} 1:1" for place in range(60)]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    assert "ltr (by its files)" in rankwell("advise", tmp_path / "train.txt").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--memory", "much"], "--memory must be a number above 0 with MB or GB, such as 8GB: got 'much'."),
        (["--minutes", "0"], "--minutes must be a number above 0: got 0.0."),
        (["--task", "lrt"], "unknown task 'lrt'. Did you mean 'ltr'?"),
        (["--loss", "bpr"], "loss is what advice is about"),
        (["--data.usr", "u"], "unknown key data.usr"),
    ],
)
def test_refusals(rankwell, tiny, words, says):
    assert says in rankwell("advise", tiny, *words).sentence


def test_data_that_are_no_data(rankwell, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "one.csv").write_text("user,item\na,1\na,2\na,3\na,4\na,5\n")
    assert "empty.csv" in rankwell("advise", tmp_path / "empty.csv").sentence
    assert "at least two users" in rankwell("advise", tmp_path / "one.csv", "--data.valid_fraction", "0").sentence
    assert "absent" in rankwell("advise", tmp_path / "absent").sentence
    assert "say on which data: rankwell advise PATH." in rankwell("advise").sentence
