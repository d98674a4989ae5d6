import math
from functools import partial

import pytest
import torch

from rankwell.errors import ConfigError, InputError
from rankwell.losses import hierarchical, hierarchical_loss, hinge_loss, logistic_loss, softmax_loss


def draw(rows=5, n=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=generator, dtype=torch.double)
    labels = torch.randint(0, 4, (rows, n), generator=generator).double()
    groups = torch.randint(0, 4, (rows, n), generator=generator) * 1_000_003 - 7
    return scores, labels, groups


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_a_loop_over_lists_and_groups(pool):
    scores, labels, groups = draw()
    where = torch.rand(scores.shape, generator=torch.Generator().manual_seed(1)) < 0.7
    where[0] = False
    within, among = partial(hinge_loss, margin=0.7), logistic_loss
    values = hierarchical(within, among, among_weight=0.3, pool=pool)(
        scores, labels, groups=groups, where=where, reduction="none"
    )
    for row in range(len(scores)):
        inside, s, y = [], [], []
        for group in groups[row].unique():
            chosen = where[row] & (groups[row] == group)
            if not chosen.any():
                continue
            inside.append(within(scores[row, chosen], labels[row, chosen]))
            for pooled, x in ((s, scores), (y, labels)):
                pooled.append(x[row, chosen].max() if pool == "max" else x[row, chosen].mean())
        expected = 0.0
        if inside:
            expected = sum(inside) / len(inside) + 0.3 * among(torch.stack(s), torch.stack(y))
        assert float(values[row]) == pytest.approx(float(expected), rel=1e-12)


def test_one_group_and_groups_of_one():
    scores, labels, groups = draw()
    loss = hierarchical(softmax_loss, hinge_loss)
    together = loss(scores, labels, groups=torch.zeros_like(groups), reduction="none")
    torch.testing.assert_close(together, softmax_loss(scores, labels, reduction="none"))  # one group: no pairs among
    alone = loss(scores, labels, groups=torch.arange(9).expand(5, 9), reduction="none")
    torch.testing.assert_close(alone, hinge_loss(scores, labels, reduction="none"))  # the softmax of one item is 1


def test_by_hand():
    """Groups {0, 1} and {2}: within, log 2 and 0; among, scores (0, log 3) and labels (1, 0)."""
    value = hierarchical_loss(
        torch.tensor([0.0, 0.0, math.log(3)]), torch.tensor([1.0, 0.0, 0.0]), groups=torch.tensor([8, 8, 2])
    )
    assert value.item() == pytest.approx(math.log(2) / 2 + math.log(4), rel=1e-6)


def test_the_best_of_a_group_takes_the_gradient_among():
    scores = torch.tensor([0.0, 1.0, 0.5], requires_grad=True)
    loss = hierarchical(partial(hinge_loss, margin=0.1), softmax_loss)
    loss(scores, torch.tensor([0.0, 1.0, 0.0]), groups=torch.tensor([1, 1, 2])).backward()
    assert scores.grad[0] == 0 and scores.grad[1] < 0
    torch.testing.assert_close(scores.grad[2], -scores.grad[1])


@pytest.mark.parametrize("groups", [None, torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)])
def test_groups_are_checked(groups):
    with pytest.raises(InputError, match="one integer id an item, of the shape of scores"):
        hierarchical_loss(torch.zeros(2, 3), torch.zeros(2, 3), groups=groups)


def test_levels_are_checked():
    with pytest.raises(ConfigError, match="'bpr' is of kind 'contrast'"):
        hierarchical_loss(torch.zeros(2), torch.zeros(2), groups=torch.zeros(2, dtype=torch.long), among="bpr")
    with pytest.raises(InputError, match="pool must be 'max' or 'mean'"):
        hierarchical(softmax_loss, softmax_loss, pool="min")


def test_levels_by_name():
    scores, labels, groups = torch.tensor([1.0, 0.0, 0.5]), torch.tensor([1.0, 0.0, 2.0]), torch.tensor([5, 5, 9])
    named, given = hierarchical("softmax", "hinge"), hierarchical(softmax_loss, hinge_loss)
    assert named(scores, labels, groups=groups) == given(scores, labels, groups=groups)
    with pytest.raises(ConfigError, match="needs a list loss: 'bpr' is of kind 'contrast'"):
        hierarchical("softmax", "bpr")
