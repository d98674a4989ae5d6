"""Limits of norms, and options of training that every objective takes."""

import pytest
import torch
from torch import nn

from rankwell.data.batching import ListBatches
from rankwell.errors import ConfigError, InputError
from rankwell.losses import bpr_loss, softmax_loss
from rankwell.models import MatrixFactorisation, MLPRanker
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, ListObjective, Play, RowAdam, TrainingSettings, fit
from rankwell.training.norms import limit_norms
from rankwell.types import Ragged

USERS, ITEMS = 10, 8
PAIRS = (
    torch.arange(USERS).repeat_interleave(3),
    torch.tensor([(2 * u + j) % ITEMS for u in range(USERS) for j in (0, 1, 3)]),
)
KNOWN = Ragged(torch.arange(0, 31, 3), PAIRS[1].view(USERS, 3).sort().values.flatten())
FEATURES = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
LABELS, OFFSETS = torch.tensor([1.0, 0, 0, 1, 0, 2, 0, 0, 1]), torch.tensor([0, 3, 4, 9])


def factors():
    model = MatrixFactorisation(USERS, ITEMS, dim=3, dropout=0.2, init="normal", similarity="dot")
    model.initialise(KNOWN, seed=0)
    return ContrastObjective(model, bpr_loss, UniformSampler(KNOWN, ITEMS, seed=0, n=4, shared=False), seed=0)


def lists():
    model = MLPRanker(2, widths=(4,), dropout=0.2)
    model.initialise(FEATURES, LABELS, OFFSETS, seed=0)
    return ListObjective(model, softmax_loss, 0)


SCENES = {
    "factors": (factors, lambda: PAIRS),
    "lists": (lists, lambda: ListBatches(FEATURES, LABELS, OFFSETS, 2, seed=0)),
}
scenes = pytest.mark.parametrize("scene", list(SCENES))


def trained(scene, folder=None, **own):
    make, data = SCENES[scene]
    objective = make()
    settings = TrainingSettings(
        **{"epochs": 4, "batch_size": 7, "learning_rate": 0.1, "checkpoint_seconds": 0.0, **own}
    )
    fit(objective, data(), settings, seed=0, folder=folder)
    return [tensor.detach().clone() for tensor in objective.model.state_dict().values()], objective.model


def test_rows_by_hand():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8], [-6.0, 8.0]])
    limit_norms(rows, 2.0)
    assert torch.allclose(rows, torch.tensor([[1.2, 1.6], [0, 0], [0.6, 0.8], [-1.2, 1.6]]))


def test_nothing_is_ever_above_the_limit():
    rows = torch.randn(1_000, 7, generator=torch.Generator().manual_seed(0)) * 10
    for most in (0.1, 1 / 3, 1.0, 7.7):
        limit_norms(rows, most)
        assert float(rows.norm(dim=1).max()) <= most


def test_row_adam_limits_the_rows_of_the_batch_alone():
    table = nn.Parameter(torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.3, 0.4]]))
    optimiser = RowAdam([table], lr=0.1, max_norm=1.0)
    nn.functional.embedding(torch.tensor([0, 2, 0]), table, sparse=True).sum().backward()
    optimiser.step()
    moved = torch.tensor([2.9, 3.9])  # Adam's first step is the rate
    assert torch.allclose(table[0], moved / moved.norm()) and table[1].tolist() == [3, 4]
    assert torch.allclose(table[2], torch.tensor([0.2, 0.3]))
    with pytest.raises(InputError, match="max_norm must be at least 0"):
        RowAdam([table], max_norm=-1.0)


@scenes
def test_trained_norms_stay_below_the_limit(scene):
    tables = [each.detach() for each in trained(scene, max_norm=0.3)[1].parameters() if each.ndim == 2]
    assert tables and all(float(each.norm(dim=1).max()) <= 0.3 for each in tables)
    free = [each.detach() for each in trained(scene)[1].parameters() if each.ndim == 2]
    assert max(float(each.norm(dim=1).max()) for each in free) > 0.6


@scenes
@pytest.mark.parametrize(
    "own",
    [{"max_norm": 0.3}, {"label_smoothing": 0.3}, {"weight_decay": 0.3}],
    ids=["max_norm", "label_smoothing", "weight_decay"],
)
def test_each_option_changes_the_training_and_resumes_to_the_same_bits(scene, own, tmp_path, monkeypatch):
    plain, _ = trained(scene)
    whole, _ = trained(scene, **own)
    assert not all(a.equal(b) for a, b in zip(plain, whole, strict=True))
    kind = type(SCENES[scene][0]())
    original, count = kind.plays, iter(range(1_000))

    class Killed(BaseException):
        """What a kill is to a process."""

    def killed(self, batch, **at):
        if next(count) == 5:
            raise Killed
        return original(self, batch, **at)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "plays", killed)
        with pytest.raises(Killed):
            trained(scene, tmp_path, **own)
    resumed, _ = trained(scene, tmp_path, **own)
    assert all(a.equal(b) for a, b in zip(whole, resumed, strict=True))


def test_a_later_training_is_not_smoothed_by_an_earlier_one():
    objective = lists()
    batches = ListBatches(FEATURES, LABELS, OFFSETS, 2, seed=0)
    fit(objective, batches, TrainingSettings(epochs=1, label_smoothing=0.5), seed=0)
    assert objective.smoothing.epsilon == 0.5
    fit(objective, batches, TrainingSettings(epochs=1), seed=0)
    assert objective.smoothing.epsilon == 0


def test_an_objective_without_labels_says_so():
    class Bare:
        """Pulls its weight to 0."""

        def __init__(self):
            self.model = nn.Linear(1, 1)
            self.groups = {"model": self.model}

        def plays(self, batch, *, epoch, step):  # noqa: ARG002 - the contract's
            yield Play(self.model.weight.square().sum())

    fit(Bare(), PAIRS, TrainingSettings(epochs=1), seed=0)
    with pytest.raises(ConfigError, match="label_smoothing: Bare has no labels to smooth"):
        fit(Bare(), PAIRS, TrainingSettings(epochs=1, label_smoothing=0.1), seed=0)


@pytest.mark.parametrize(
    ("own", "said"),
    [({"max_norm": -1}, "max_norm must be at least 0"), ({"label_smoothing": 1.0}, "label_smoothing must be")],
    ids=["norm", "smoothing"],
)
def test_settings_that_make_no_sense(own, said):
    with pytest.raises(ConfigError, match=said):
        TrainingSettings(**own)
