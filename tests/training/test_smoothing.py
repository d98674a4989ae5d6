"""Label smoothing: by hand for lists; for the others, the draws' mean against the exact sum."""

import dataclasses
import importlib
import inspect
import math
import pkgutil

import pytest
import torch
from scipy.stats import chi2

import rankwell.training
from rankwell.data.batching import ListBatches
from rankwell.errors import ConfigError
from rankwell.losses import (
    bpr_loss,
    bsl_loss,
    contrast_hinge_loss,
    info_nce_loss,
    linear_softmax_loss,
    sampled_softmax_loss,
    softmax_loss,
    triplet_loss,
)
from rankwell.training.smoothing import Smoothing, _drawn

EPSILON = 0.3
POS = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
NEG = torch.tensor([[0.1, 0.7, -0.3], [1.0, 0.2, 0.4], [0.0, 1.5, -2.0]], dtype=torch.float64)
WHERE = torch.tensor([[True, True, False], [True, False, True], [False, False, False]])
COPIES = 4_000
"""Rows are drawn for one by one: so many copies of a row are as good as so many steps."""


class TestLists:
    LABELS = torch.tensor([2.0, 0.0, 1.0, 1.0, 0.0])
    SCORES = torch.tensor([0.3, 0.1, -0.2, 0.5, 0.0])

    def test_ragged_labels_by_hand(self):
        """Means 1 and .5."""
        seen = {}

        def loss(scores, labels, **given):
            seen["labels"] = labels
            return softmax_loss(scores, labels, **given)

        Smoothing(0.5).of_lists(loss)(self.SCORES, self.LABELS, offsets=torch.tensor([0, 3, 5]))
        assert seen["labels"].tolist() == pytest.approx([1.5, 0.5, 1.0, 0.75, 0.25])

    def test_masked_labels_do_not_count(self):
        scores, labels = torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 100.0]])
        where = torch.tensor([[True, True, False]])
        value = Smoothing(0.5).of_lists(softmax_loss)(scores, labels, where=where)
        assert float(value) == pytest.approx(math.log(2))  # labels .75 and .25

    def test_labels_that_are_all_equal_stay(self):
        labels = torch.ones(5)
        plain = softmax_loss(self.SCORES, labels)
        assert torch.allclose(Smoothing(0.9).of_lists(softmax_loss)(self.SCORES, labels), plain)


def test_nothing_is_wrapped_without_a_share():
    none = Smoothing()
    wrapped = (none.of_lists(bpr_loss), none.of_rows(bpr_loss, 0, 0), none.of_pairs(bpr_loss, 0, 0))
    assert all(each is bpr_loss for each in (*wrapped, none.of_targets(bpr_loss, 0, 0)))


def exact_rows(loss, pos, neg, where):
    """(1 - e) L(pos, neg) + e mean over j of L(neg_j, neg with neg_j replaced by pos), row by row."""
    values = loss(pos, neg, where=where, reduction="none")
    total = (1 - EPSILON) * values
    for row in range(len(pos)):
        valid = where[row].nonzero().flatten().tolist()
        found = []
        for j in valid:
            swapped, rest = pos.clone(), neg.clone()
            swapped[row], rest[row, j] = neg[row, j], pos[row]
            found.append(loss(swapped, rest, where=where, reduction="none")[row])
        total[row] += EPSILON * (torch.stack(found).mean() if found else values[row])
    return total


def close(values, expected):
    """Whether the mean of copies ``[copies, rows]`` is what it must be, within five standard errors."""
    return bool(((values.mean(0) - expected).abs() < 5 * values.std(0) / len(values) ** 0.5 + 1e-6).all())


@pytest.mark.parametrize("loss", [bpr_loss, sampled_softmax_loss, contrast_hinge_loss], ids=["bpr", "softmax", "hinge"])
def test_the_mean_of_the_draws_is_the_exact_sum(loss):
    copies = (POS.repeat(COPIES), NEG.repeat(COPIES, 1))
    smoothed = Smoothing(EPSILON, seed=3).of_rows(loss, 0, 0)
    values = smoothed(*copies, where=WHERE.repeat(COPIES, 1), reduction="none").view(COPIES, 3)
    assert close(values, exact_rows(loss, POS, NEG, WHERE))
    assert (values[:, :2].std(0) > 0).all() and values[:, 2].std() == 0  # the last row has no negative


def test_sampled_softmax_is_smoothed_over_its_negatives():
    """The exact sum is the cross-entropy of labels 1 - e for the positive and e / n for each negative."""
    everywhere = torch.ones_like(WHERE)
    labels = torch.cat([torch.full((3, 1), 1 - EPSILON), torch.full((3, 3), EPSILON / 3)], 1).double()
    expected = softmax_loss(torch.cat([POS[:, None], NEG], 1), labels, reduction="none")
    assert torch.allclose(exact_rows(sampled_softmax_loss, POS, NEG, everywhere), expected)


def test_several_positives_exchange_one():
    pos, pos_where = torch.stack([POS, POS + 1], 1), torch.tensor([[True, True], [False, True], [True, True]])
    seen = []

    def loss(pos, neg, **given):
        seen.append((pos, neg))
        return (pos.sum() + neg.sum()).reshape(())

    for step in range(50):
        Smoothing(EPSILON).of_rows(loss, 0, step)(pos, NEG, where=WHERE, pos_where=pos_where)
    places = set()
    for swapped, rest in seen[::2]:  # the exchanged row comes first
        assert torch.cat([swapped, rest], 1).sort().values.equal(torch.cat([pos, NEG], 1).sort().values)
        moved = (swapped != pos).nonzero().tolist()
        assert [row for row, _ in moved] == [0, 1] and moved[1] == [1, 1]  # one a row, never a masked one
        assert not (rest != NEG)[~WHERE].any()
        places.add(moved[0][1])
    assert places == {0, 1}


def test_masked_places_change_nothing():
    neg = NEG.masked_fill(~WHERE, float("nan"))
    for step in range(5):
        smoothed = Smoothing(EPSILON).of_rows(bpr_loss, 0, step)
        assert smoothed(POS, neg, where=WHERE).equal(smoothed(POS, NEG, where=WHERE))


def test_draws_are_uniform_over_valid_places():
    where = torch.tensor([[True, False, True, True]]).expand(9_000, 4)
    place, some = _drawn(where, where, key=5)
    counts = place.flatten().bincount(minlength=4)
    assert some.all() and counts[1] == 0
    assert float(((counts[[0, 2, 3]] - 3_000) ** 2 / 3_000.0).sum()) < chi2.isf(1e-4, 2)


def test_draws_are_keyed_by_seed_epoch_and_step():
    values = [
        float(Smoothing(EPSILON, seed).of_rows(bpr_loss, epoch, step)(POS.repeat(30), NEG.repeat(30, 1)))
        for seed, epoch, step in ((0, 0, 0), (0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    assert values[0] == values[1] and len(set(values)) == 4


def test_gradients_flow_to_what_was_exchanged():
    pos, neg = POS.clone().requires_grad_(), NEG.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, n: Smoothing(EPSILON).of_rows(bpr_loss, 0, 1)(p, n, where=WHERE), (pos, neg)
    )


class TestPairs:
    QUERIES = torch.eye(3, dtype=torch.float64) + 0.1
    ITEMS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.2, 0, 1], [0.5, 0.5, 0]], dtype=torch.float64)
    POSITIVES = torch.tensor([[True, False, False, True], [False, True, False, False], [True, True, True, True]])
    WHERE = torch.tensor([[True, True, True, False], [True] * 4, [True] * 4])

    @pytest.mark.parametrize("loss", [info_nce_loss, triplet_loss], ids=["info_nce", "triplet"])
    def test_the_mean_of_the_draws_is_the_exact_sum(self, loss):
        given = {"where": self.WHERE, "reduction": "none"}
        plain = loss(self.QUERIES, self.ITEMS, positives=self.POSITIVES, **given)
        expected = (1 - EPSILON) * plain
        for row in range(3):
            right = (self.POSITIVES & self.WHERE)[row].nonzero().flatten().tolist()
            wrong = (~self.POSITIVES & self.WHERE)[row].nonzero().flatten().tolist()
            found = []
            for i in right:
                for j in wrong:
                    positives = self.POSITIVES.clone()
                    positives[row, i], positives[row, j] = False, True
                    found.append(loss(self.QUERIES, self.ITEMS, positives=positives, **given)[row])
            expected[row] += EPSILON * (torch.stack(found).mean() if found else plain[row])
        smoothed = Smoothing(EPSILON).of_pairs(loss, 0, 0)
        queries, positives, where = (x.repeat(COPIES, 1) for x in (self.QUERIES, self.POSITIVES, self.WHERE))
        values = smoothed(queries, self.ITEMS, positives=positives, where=where, reduction="none")
        assert close(values.view(COPIES, 3), expected)


class TestTargets:
    HIDDEN = torch.tensor([[1.0, 0.5], [-0.3, 0.2]])
    ITEMS = torch.tensor([[0.2, 0.1], [1.0, -1.0], [0.0, 0.4], [0.3, 0.3]])
    TARGETS = torch.tensor([1, 3])

    def test_the_mean_of_the_draws_is_uniform_smoothing_over_the_other_items(self):
        log_p = (self.HIDDEN @ self.ITEMS.T).log_softmax(1)
        labels = torch.full((2, 4), EPSILON / 3).scatter(1, self.TARGETS[:, None], 1 - EPSILON)
        smoothed = Smoothing(EPSILON).of_targets(linear_softmax_loss, 0, 0)
        copies = self.HIDDEN.repeat(COPIES, 1), self.ITEMS, self.TARGETS.repeat(COPIES)
        assert close(smoothed(*copies, reduction="none").view(COPIES, 2), -(labels * log_p).sum(1))

    def test_a_catalogue_of_one_item_has_nothing_to_exchange(self):
        given = (self.HIDDEN, self.ITEMS[:1], torch.zeros(2, dtype=torch.int64))
        assert Smoothing(0.5).of_targets(linear_softmax_loss, 0, 0)(*given).equal(linear_softmax_loss(*given))


@pytest.mark.parametrize("epsilon", [-0.1, 1.0, float("nan")])
def test_shares_that_make_no_sense(epsilon):
    with pytest.raises(ConfigError, match=r"label_smoothing must be in \[0, 1\)"):
        Smoothing(epsilon)


def test_inputs_of_single_negatives_are_refused():
    with pytest.raises(ConfigError, match="the loss takes neg_weights, which would stay behind"):
        Smoothing(EPSILON).of_rows(bpr_loss, 0, 0)(POS, NEG, neg_weights=NEG)
    with pytest.raises(ConfigError, match="the loss takes ids, which would stay behind"):
        Smoothing(EPSILON).of_pairs(info_nce_loss, 0, 0)(TestPairs.QUERIES, where=None, ids=torch.arange(3))
    assert Smoothing(EPSILON).of_rows(bsl_loss, 0, 0)(POS, NEG, query_ids=torch.tensor([0, 0, 1])).isfinite()


def test_batches_of_lists_reach_the_loss_with_their_weights():
    batches = ListBatches(
        torch.eye(3), torch.ones(3), torch.tensor([0, 1, 3]), 2, seed=0, weights=torch.tensor([1.0, 2, 3])
    )
    for batch in batches.of_epoch(0):
        assert batch.weights.tolist() == (1 + batch.features.argmax(1)).tolist()


def test_every_objective_is_told_of_its_smoothing():
    """So that the option reaches the loss of each task, and is never passed over in silence."""
    names = [f"rankwell.training.{info.name}" for info in pkgutil.iter_modules(rankwell.training.__path__)]
    found = {
        each
        for name in names
        for each in vars(importlib.import_module(name)).values()
        if inspect.isclass(each) and hasattr(each, "plays") and not getattr(each, "_is_protocol", False)
    }
    assert len(found) >= 5
    assert {
        each.__name__ for each in found if "smoothing" not in {one.name for one in dataclasses.fields(each)}
    } == set()
