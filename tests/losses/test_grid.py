import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import same_class, supervised_contrastive_loss
from rankwell.losses.grid import open_grid


def test_same_class():
    positives, where = same_class(tensor([4, 9, 4]))
    assert positives.tolist() == [[False, False, True], [False, False, False], [True, False, False]]
    assert torch.equal(where, ~torch.eye(3, dtype=torch.bool))


def test_same_class_of_batches_and_of_values_that_are_no_integers():
    positives, where = same_class(tensor([[0.5, 0.5], [0.5, 1.5]]))
    assert positives.shape == where.shape == (2, 2, 2)
    assert positives.flatten(1).sum(-1).tolist() == [2, 0]


def test_labels_by_hand_are_the_same():
    """What users of class labels write themselves."""
    labels, x = tensor([0, 1, 0, 1, 2]), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    positives, where = same_class(labels)
    for row in range(5):
        others = [i for i in range(5) if i != row]
        alone = supervised_contrastive_loss(
            x[row : row + 1], x[others], positives=(labels[others] == labels[row])[None], reduction="none"
        )
        together = supervised_contrastive_loss(x, x, positives=positives, where=where, reduction="none")
        assert_close(together[row], alone[0])


def test_weight_of_a_query_is_that_of_its_positives_or_of_all_its_items():
    positives = tensor([[True, False, False], [False, False, False]])
    where = tensor([[True, True, True], [True, True, False]])
    weights = tensor([[2.0, 5.0, 7.0], [1.0, 3.0, 100.0]])
    grid = open_grid(torch.ones(2, 1), torch.ones(3, 1), positives=positives, where=where, weights=weights)
    assert grid.query_weights().tolist() == [2.0, (1.0 + 3.0) / 2]


def test_positives_must_be_a_mask_of_all_pairs():
    square = torch.ones(2, 2)
    for positives in (torch.eye(2), torch.ones(2, 1, dtype=torch.bool)):
        with pytest.raises(InputError, match=r"positives must be boolean \[\*batch, queries, items\] \(2, 2\)"):
            supervised_contrastive_loss(square, square, positives=positives)


def test_weights_must_broadcast():
    square = torch.ones(2, 2)
    with pytest.raises(InputError, match=r"weights must broadcast to the pairs \(2, 2\): got \(3,\)"):
        supervised_contrastive_loss(square, square, weights=torch.ones(3))
