"""The objective of judged lists: the loss, of the model's scores, and nothing else."""

from functools import partial

import pytest
import torch

from rankwell.data.batching import ListBatches
from rankwell.errors import ConfigError
from rankwell.losses import LOSSES, lambda_rank_loss, sigmoid_loss, softmax_loss
from rankwell.models import MLPRanker
from rankwell.training import ListObjective

OFFSETS = torch.tensor([0, 3, 4, 9])
FEATURES = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([1.0, 0, 0, 1, 0, 2, 0, 0, 1])


def scene(dropout=0.0):
    model = MLPRanker(2, widths=(4,), dropout=dropout)
    model.initialise(FEATURES, LABELS, OFFSETS, seed=0)
    batches = ListBatches(FEATURES, LABELS, OFFSETS, 2, seed=0)
    return model, next(iter(batches.of_epoch(0)))


def value(objective, batch, epoch=0, step=0):
    (play,) = objective.plays(batch, epoch=epoch, step=step)
    return play.value.detach()


@pytest.mark.parametrize("loss", [softmax_loss, partial(lambda_rank_loss, temperature=2.0)])
def test_the_value_is_the_loss_of_the_scores(loss):
    model, batch = scene()
    expected = loss(model(batch.features, batch.offsets), batch.labels, offsets=batch.offsets)
    assert value(ListObjective(model, loss, 0), batch).equal(expected.detach())


def test_labels_are_scaled():
    model, batch = scene()
    expected = sigmoid_loss(model(batch.features, batch.offsets), batch.labels / 2, offsets=batch.offsets)
    assert value(ListObjective(model, sigmoid_loss, 0, scale=0.5), batch).equal(expected)


def test_dropout_is_keyed_by_seed_epoch_and_step():
    model, batch = scene(dropout=0.5)
    model.train()
    values = [
        float(value(ListObjective(model, softmax_loss, seed), batch, epoch, step))
        for seed, epoch, step in ((0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert values[0] == values[1] and len(set(values)) == 4


def test_inputs_that_lists_tell_are_given_and_others_refused():
    model, batch = scene()
    given = {}

    def loss(scores, labels, *, offsets, **extra):
        given.update(extra)
        return scores.sum()

    entry = LOSSES["gumbel_approx_ndcg"]
    value(ListObjective(model, loss, 0, entry.inputs), batch)
    assert set(given) <= {"key", "query_ids"} and "key" in given
    with pytest.raises(ConfigError, match="needs teacher, which judged lists do not tell"):
        ListObjective(model, loss, 0, LOSSES["margin_mse"].inputs)
