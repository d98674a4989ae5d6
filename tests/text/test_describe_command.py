"""``rankwell describe``, and training with what it writes."""

import sys

import pytest

from rankwell.cli import main
from rankwell.data import read_dataset, synthesise
from rankwell.text.table import Table


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Runs the program in a folder with data and items; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    synthesise(20, 15, 6, clusters=3).write("data")
    ids = read_dataset(tmp_path / "data").train.item_ids
    rows = [f"{name},Model {number},{('kettle', 'lamp', 'chair')[number % 3]}" for number, name in enumerate(ids)]
    (tmp_path / "items.csv").write_text("\n".join(["item,title,kind", *rows]))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rankwell", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


def test_offline_and_then_train(call, tmp_path, monkeypatch):
    for name in ("draw_curve", "draw_negatives"):
        monkeypatch.setattr(sys.modules["rankwell.experiments.run"], name, lambda path, *_: path.write_bytes(b""))
    code, out, err = call("describe", "data", "--items", "items.csv", "-o", "t.safetensors", "--k", 3, "--seed", 4)
    assert code == 0 and "60 negatives described, of title, kind" in out, (out, err)
    table = Table.load(tmp_path / "t.safetensors")
    assert table.vectors.shape == (20, 3, 384) and table.facts["writer"] == "offline" and table.facts["seed"] == 4
    train = ["train", "data", "--model.dim", 4, "--training.epochs", 1, "--training.batch_size", 64, "--seed", 4]
    for generator in ("semantic", "synthetic_mix"):
        named = ["--generator", generator, "--generator.table", "t.safetensors", "--out", generator]
        code, out, err = call(*train, *named)
        assert code == 0 and "run folder" in out, (out, err)
        assert call("train", "--resume", generator)[0] == 0
    code, _, err = call(*train, "--generator", "semantic", "--out", "none")
    assert code == 2 and "make one by 'rankwell describe'" in err and not (tmp_path / "none").exists()
    code, _, err = call(*train, "--generator", "semantic", "--generator.table", "items.csv", "--out", "none")
    assert code == 2 and "items.csv is no table of described negatives" in err


def test_a_service_within_its_budget(call, service, tmp_path):
    service.reply = lambda number, _: f'{{"hard_negative_item": "Lamp {number}", "reasoning": "dark"}}'
    words = ["describe", "data", "--items", "items.csv", "-o", "t.safetensors", "--writer", "openai", "--model", "tiny"]
    words += ["--base-url", service.url, "--key-variable", "TEST_KEY", "--k", 1, "--concurrency", 2]
    words += ["--domain", "lamps", "--parameters", '{"max_tokens": 90}']
    code, _, err = call(*words, "--budget-requests", 5)
    assert code == 2 and "budget of 5 requests" in err and "secret" not in err
    assert not (tmp_path / "t.safetensors").exists()
    code, out, err = call(*words)
    assert code == 0 and "15 requests, 150 tokens" in out, (out, err)
    assert len(service.bodies) == 20 and service.headers[0]["Authorization"] == "Bearer sk-secret-42"
    assert service.bodies[0]["max_tokens"] == 90
    assert "recommender of lamps" in service.bodies[0]["messages"][0]["content"]
    code, _, err = call(*words)
    assert code == 2 and "t.safetensors exists" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--items", "items.csv"], "say which interactions and which table"),
        (["-o", "t"], "say what is known of the items"),
        (["-o", "t", "--items", "items.csv", "--profiles"], "are for a service"),
        (["-o", "t", "--items", "items.csv", "--loss.margin", "2"], "got --loss"),
        (["-o", "t", "--items", "none.csv"], "none.csv: the items cannot be read"),
        (["-o", "t", "--items", "items.csv", "--encoder", "no/where"], "no folder here"),
        (["-o", "t", "--items", "items.csv", "--writer", "openai"], "a service needs a model"),
        (
            ["-o", "t", "--items", "items.csv", "--writer", "openai", "--model", "m", "--parameters", "[1]"],
            "JSON object",
        ),
        (["-o", "t", "--items", "items.csv", "--template", "hnlmrek"], "Did you mean 'hnlmrec'"),
    ],
    ids=["table", "items", "profiles", "option", "no_file", "encoder", "model", "parameters", "template"],
)
def test_what_is_refused(call, tmp_path, words, says):
    code, out, err = call("describe", "data", *words)
    assert code == 2 and says in err and out == "" and "Traceback" not in err
    assert not (tmp_path / "t").exists()
