"""Laws of models of judged lists, over their registry."""

import pytest
import torch

from rankwell.data.batching import ListBatches
from rankwell.data.judged import synthesise_judged
from rankwell.evaluation import evaluate_lists, score_lists
from rankwell.losses import softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MODELS
from rankwell.training import ListObjective, TrainingSettings, fit

TRAIN, _, TEST = synthesise_judged(60, 12, 4, noise=0.1, seed=0)
FEATURES, LABELS, OFFSETS = TEST.tensors()
OWN = {"lambdamart": {"trees": 10, "min_documents": 5}, "set_transformer": {"dim": 16}, "mlp": {"widths": (16,)}}
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
"""Sums in another order."""


def fresh(name: str) -> torch.nn.Module:
    return MODELS[name].function(TRAIN.features.shape[1], **OWN.get(name, {}))


def trained(name: str) -> torch.nn.Module:
    model = fresh(name)
    model.initialise(*TRAIN.tensors(), seed=0)
    if model.trainable:
        settings = TrainingSettings(epochs=6, batch_size=6, learning_rate=0.01)
        fit(ListObjective(model, softmax_loss, 0), ListBatches(*TRAIN.tensors(), 6, seed=0), settings, seed=0)
    return model.eval()


@pytest.fixture(scope="module", params=[entry.name for entry in MODELS if entry.kind == "lists"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    return trained(name)


@torch.no_grad()
def scores(model, features=FEATURES, offsets=OFFSETS):
    return model(features, offsets)


def test_it_ranks_better_than_chance(model):
    measure = Measure.parse("ndcg@10")
    reached, by_chance = (
        evaluate_lists(scorer, [measure], FEATURES, LABELS, OFFSETS).means()["ndcg@10"]
        for scorer in (model, lambda features, _: torch.zeros(len(features)))  # ties: the mean over all orders
    )
    assert reached > by_chance + 0.05


def test_a_permutation_of_documents_permutes_their_scores(model):
    generator = torch.Generator().manual_seed(0)
    order = torch.cat(
        [
            first + torch.randperm(size, generator=generator)
            for first, size in zip(OFFSETS, OFFSETS.diff().tolist(), strict=False)
        ]
    )
    assert torch.allclose(scores(model, FEATURES[order]), scores(model)[order], **CLOSE)


def test_lists_are_independent_of_each_other(model):
    changed = FEATURES.clone()
    changed[: OFFSETS[1]] = 7.0
    assert torch.allclose(scores(model, changed)[OFFSETS[1] :], scores(model)[OFFSETS[1] :], **CLOSE)


def test_lists_may_come_in_any_batches(model):
    one_by_one = [scores(model, part, torch.tensor([0, len(part)])) for part in FEATURES.split(OFFSETS.diff().tolist())]
    assert torch.allclose(torch.cat(one_by_one), scores(model), **CLOSE)
    assert torch.allclose(score_lists(model, FEATURES, OFFSETS, block=20), scores(model), **CLOSE)


def test_same_seed_same_bits(model, name):
    assert scores(trained(name)).equal(scores(model))


def test_a_loaded_state_scores_the_same(model, name):
    loaded = fresh(name)
    loaded.load_state_dict(model.state_dict())
    assert scores(loaded.eval()).equal(scores(model))


def test_features_are_not_changed(model):
    before = FEATURES.clone()
    scores(model)
    assert FEATURES.equal(before)
