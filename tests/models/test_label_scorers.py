"""Models of labelled rows: against values worked by hand, and laws over their registry."""

import pytest
import torch

from rankwell.data.batching import LabelBatches
from rankwell.data.labelled_rows import take_features
from rankwell.errors import InputError
from rankwell.evaluation import evaluate_labels
from rankwell.losses import sigmoid_loss
from rankwell.metrics import Measure
from rankwell.models import MODELS, LabelMLP, LabelPopularity, LabelRidge
from rankwell.tasks.label_data import LabelData, read
from rankwell.training import ListObjective, TrainingSettings, fit
from rankwell.types import Features, Ragged

OWN = {"label_mlp": {"widths": (16,), "dropout": 0.1}, "label_vectors": {"widths": (16,), "dim": 8, "dropout": 0.1}}


@pytest.fixture(scope="module")
def data():
    return read(LabelData(), seed=1)


def sizes(part):
    return part.features.numbers.shape[1], part.features.num_categories, len(part.label_ids)


def trained(name, data):
    part = data.train
    model = MODELS[name].function(*sizes(part), **OWN.get(name, {}))
    model.initialise(part.features, part.labels, seed=0)
    if model.trainable:
        batches = LabelBatches(part.features, part.labels, len(part.label_ids), 64, seed=0)
        settings = TrainingSettings(epochs=8, batch_size=64, learning_rate=0.02)
        fit(ListObjective(model, sigmoid_loss, 0), batches, settings, seed=0)
    return model.eval()


@pytest.fixture(scope="module", params=[entry.name for entry in MODELS if entry.kind == "labels"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name, data):
    return trained(name, data)


@torch.no_grad()
def scores(model, features):
    return model(features)


def test_what_looks_at_the_row_beats_popularity(model, name, data):
    if name == "label_popularity":
        pytest.skip("it is popularity")
    of = ([Measure.parse("ndcg@10")], data.test.features, data.test.labels, len(data.test.label_ids))
    popularity = trained("label_popularity", data)
    reached, least = (evaluate_labels(each, *of).means()["ndcg@10"] for each in (model, popularity))
    assert reached > least + 0.15


def test_rows_are_independent_of_each_other(model, data):
    whole = scores(model, data.test.features)
    rows = torch.tensor([5, 0, 9])
    assert torch.allclose(scores(model, take_features(data.test.features, rows)), whole[rows], atol=1e-5)


def test_same_seed_same_bits(model, name, data):
    assert scores(trained(name, data), data.test.features).equal(scores(model, data.test.features))


def test_a_loaded_state_scores_the_same(model, name, data):
    fresh = MODELS[name].function(*sizes(data.test), **OWN.get(name, {}))
    fresh.load_state_dict(model.state_dict())
    assert scores(fresh.eval(), data.test.features).equal(scores(model, data.test.features))


def test_what_is_missing_is_the_mean(model, data):
    features = take_features(data.test.features, torch.arange(4))
    missing, mean = features.numbers.clone(), features.numbers.clone()
    missing[:, 0], mean[:, 0] = torch.nan, model.mean[0]
    found = [scores(model, features._replace(numbers=numbers)) for numbers in (missing, mean)]
    assert torch.allclose(*found, atol=1e-5) and bool(found[0].isfinite().all())


def test_other_features_are_refused(model, name, data):
    if name == "label_popularity":
        pytest.skip("it looks at none")
    with pytest.raises(InputError, match="must have 6 numbers and 6 categories, as in training: got 5 and 6"):
        model(data.test.features._replace(numbers=data.test.features.numbers[:, 1:]))


def test_a_linear_model_by_hand():
    categories = Ragged(torch.tensor([0, 2, 2]), torch.tensor([0, 1]))
    features = Features(torch.tensor([[1.0], [3.0]]), categories, 2)
    model = LabelMLP(1, 2, 2, widths=())
    model.initialise(features, Ragged(torch.tensor([0, 1, 2]), torch.tensor([0, 1])), seed=0)
    with torch.no_grad():
        model.numbers.weight.copy_(torch.tensor([[2.0], [0.0]]))
        model.categories.copy_(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    # Numbers are -1 and 1 on their scale; the first row has the mean of both categories; the odds are 2 to 2.
    assert model(features).tolist() == [[-2 + 0.5, 2.0], [2.0, 0.0]]


def test_biases_start_where_they_are_told(data):
    odds = trained("label_popularity", data).odds
    for prior in (True, False):
        model = LabelMLP(*sizes(data.train), prior=prior)
        model.initialise(data.train.features, data.train.labels, seed=0)
        assert model.out.bias.equal(odds if prior else torch.zeros_like(odds))


def test_the_ridge_regression_solves_its_equations(data):
    part = data.test
    model = LabelRidge(*sizes(part), penalty=0.3)
    model.initialise(part.features, part.labels, seed=0)
    x = model._columns(part.features).double().requires_grad_()
    weights = model.weights.double().clone().requires_grad_()
    bias = model.bias.double().clone().requires_grad_()
    y = torch.zeros(len(part), sizes(part)[2], dtype=torch.float64)
    for row, (first, last) in enumerate(zip(part.labels.offsets[:-1], part.labels.offsets[1:], strict=True)):
        y[row, part.labels.values[first:last]] = 1
    cost = (y - bias - x @ weights).square().sum() + 0.3 * len(part) * weights.square().sum()
    cost.backward()
    assert weights.grad.abs().max() < 1e-3 and bias.grad.abs().max() < 1e-3


def test_arguments():
    with pytest.raises(InputError, match="dropout must be in"):
        LabelMLP(1, 0, 2, dropout=1.0)
    with pytest.raises(InputError, match="widths must be a whole number of at least 1"):
        LabelMLP(1, 0, 2, widths=(0,))
    with pytest.raises(InputError, match="penalty must be above 0"):
        LabelRidge(1, 0, 2, penalty=0.0)
    with pytest.raises(InputError, match="num_labels"):
        LabelPopularity(1, 0, 0)
