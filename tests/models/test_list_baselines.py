"""What trained rankers answer to."""

import pytest
import torch

from rankwell.data.judged import synthesise_judged
from rankwell.errors import InputError
from rankwell.evaluation import evaluate_lists
from rankwell.metrics import Measure
from rankwell.models import BestFeature, LambdaMART
from rankwell.training import checkpoint

NDCG = Measure.parse("ndcg@10")


@pytest.fixture(scope="module")
def lists():
    return synthesise_judged(60, 12, 4, noise=0.1, seed=0)


def grown(part, **own):
    model = LambdaMART(
        part.features.shape[1], **{"trees": 20, "leaves": 4, "min_documents": 5, "learning_rate": 0.2, **own}
    )
    model.initialise(*part.tensors(), seed=0)
    return model


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("place", [0, 2])
def test_the_best_feature_is_found_and_its_direction(place, sign):
    generator = torch.Generator().manual_seed(0)
    offsets, labels = torch.tensor([0, 5, 12]), torch.randint(0, 3, (12,), generator=generator).float()
    features = torch.randn(12, 3, generator=generator)
    features[:, place] = sign * labels
    model = BestFeature(3)
    model.initialise(features, labels, offsets, seed=0)
    assert int(model.place) == place and float(model.sign) == sign
    assert model(features, offsets).equal(labels)


def test_the_first_of_equal_features_is_taken():
    model = BestFeature(2)
    model.initialise(torch.ones(3, 2), torch.tensor([0.0, 1, 2]), torch.tensor([0, 3]), seed=0)
    assert int(model.place) == 0


def test_trees_beat_the_best_feature(lists):
    train, _, test = lists
    best = BestFeature(train.features.shape[1])
    best.initialise(*train.tensors(), seed=0)
    reached = [evaluate_lists(model, [NDCG], *test.tensors()).means()["ndcg@10"] for model in (grown(train), best)]
    assert reached[0] > reached[1] + 0.1


def test_trees_are_lightgbms_own(lists):
    import lightgbm

    train, _, test = lists
    features, labels, offsets = train.tensors()
    settings = {
        "objective": "lambdarank", "verbosity": -1, "num_leaves": 4, "min_data_in_leaf": 5, "learning_rate": 0.2, "seed": 0,
        "deterministic": True, "force_row_wise": True, "num_threads": 1,
    }  # fmt: skip
    given = lightgbm.Dataset(features.numpy(), label=labels.numpy(), group=offsets.diff().numpy())
    booster = lightgbm.train(settings, given, num_boost_round=20)
    scores = torch.from_numpy(booster.predict(test.features)).float()
    assert torch.allclose(grown(train)(*test.tensors()[::2]), scores)


def test_more_trees_begin_with_the_fewer(lists):
    train = lists[0]
    few, more = (grown(train, trees=trees).text.numpy().tobytes().decode() for trees in (2, 4))
    assert few.split("Tree=1")[1].split("Tree=")[0].split("end of trees")[0] in more


def test_a_fit_has_the_same_bits_and_is_kept_as_bytes(lists, tmp_path):
    train, _, test = lists
    model = grown(train)
    assert grown(train).text.equal(model.text)
    checkpoint.save(tmp_path / "model.safetensors", model.state_dict(), {})
    loaded = LambdaMART(train.features.shape[1])
    features, _, offsets = test.tensors()
    loaded(features, offsets)  # an earlier state's trees must not stay
    loaded.load_state_dict(checkpoint.load(tmp_path / "model.safetensors")[0])
    assert loaded(features, offsets).equal(model(features, offsets))
    loaded.load_state_dict(grown(train, trees=2).state_dict())
    assert not loaded(features, offsets).equal(model(features, offsets))


def test_without_a_fit_scores_are_zero():
    assert LambdaMART(2)(torch.ones(3, 2), torch.tensor([0, 3])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("labels", "sizes", "said"),
    [
        ([0.5, 1.0], [2], "whole labels of at most 30: got 1"),
        ([31.0, 1.0], [2], "whole labels of at most 30: got 31"),
        ([0.0] * 10_001, [10_001], "lists of at most 10,000 documents: got one of 10,001"),
    ],
)
def test_what_trees_do_not_take(labels, sizes, said):
    with pytest.raises(InputError, match=said):
        LambdaMART(1).initialise(
            torch.ones(len(labels), 1), torch.tensor(labels), torch.tensor([0, *sizes]).cumsum(0), seed=0
        )


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"trees": 0}, "trees"),
        ({"leaves": 1}, "leaves"),
        ({"min_documents": 0}, "min_documents"),
        ({"learning_rate": 0.0}, "above 0"),
    ],
)
def test_arguments(own, said):
    with pytest.raises(InputError, match=said):
        LambdaMART(2, **own)
