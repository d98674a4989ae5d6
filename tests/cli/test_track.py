"""``rankwell train --track``: who else is told of a run."""

import pytest

from rankwell.experiments import tracking

from .conftest import SMALL


class Told:
    def __init__(self):
        self.parameters, self.epochs, self.test, self.status = None, 0, None, None

    def start(self, parameters):
        self.parameters = parameters

    def log(self, *_):
        self.epochs += 1

    def finish(self, figures, _):
        self.test = figures

    def close(self, status):
        self.status = status


@pytest.fixture
def told(monkeypatch, no_picture):
    tracker = Told()
    monkeypatch.setattr(tracking, "TRACKERS", {"told": lambda _: tracker})
    monkeypatch.setattr(tracking, "TRACES", {})
    return tracker


def test_by_option_and_by_environment(rankwell, tiny, tmp_path, told, monkeypatch):
    plain = rankwell("train", tiny, "--out", tmp_path / "plain", *SMALL)
    assert plain.code == 0 and told.parameters is None
    said = rankwell("train", tiny, "--out", tmp_path / "run", "--track", "told", *SMALL)
    assert said.code == 0 and said.out.splitlines()[:4] == plain.out.splitlines()[:4]
    assert (told.parameters["model.dim"], told.status) == (4, "FINISHED")
    assert told.epochs == said.err.count("epoch ") and set(told.test) == {*plain.out.splitlines()[0].split()}
    for name in ("config.toml", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    monkeypatch.setenv("RANKWELL_TRACK", "told")
    told.parameters = None
    assert rankwell("train", tiny, "--out", tmp_path / "third", *SMALL).code == 0
    assert told.parameters is not None
    # A finished run has nothing to tell.
    told.parameters = None
    assert rankwell("train", "--resume", tmp_path / "run", "--track", "told").code == 0
    assert told.parameters is None


def test_an_unknown_tracker(rankwell, tiny, tmp_path):
    said = rankwell("train", tiny, "--out", tmp_path / "run", "--track", "mlflw")
    assert said.sentence == "unknown tracker 'mlflw'. Did you mean 'mlflow'?"
    assert not (tmp_path / "run").exists()
