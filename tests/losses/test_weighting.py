import numpy as np
import pytest
import torch

from rankwell.errors import InputError
from rankwell.losses import class_weights, inverse_propensity_weights, sigmoid_loss, softmax_loss


def test_balanced_classes_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    torch.testing.assert_close(class_weights(labels, labels.bincount()), torch.tensor(expected)[labels].float())


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.99, 1.0])
def test_effective_numbers(beta):
    """1 + beta + … + beta^(c - 1), as a sum, and one on average."""
    counts = torch.tensor([5, 1, 0, 3])
    labels = torch.repeat_interleave(torch.arange(4), counts)
    rarity = [1 / sum(beta**i for i in range(c)) if c else 0.0 for c in counts.tolist()]
    mean = sum(r * c for r, c in zip(rarity, counts.tolist(), strict=True)) / 9
    expected = torch.tensor([rarity[label] / mean for label in labels])
    weights = class_weights(labels, counts, beta=beta)
    torch.testing.assert_close(weights, expected)
    assert weights.mean().item() == pytest.approx(1, rel=1e-6)


def test_inverse_propensities_take_the_bias_out_of_clicks():
    """Relevant items are examined, and then clicked, with probability 1 / position: the expectation over all clicks of the
    weighted softmax loss is the loss over relevance."""
    positions, relevant = torch.arange(1, 5), torch.tensor([0.0, 1.0, 1.0, 1.0])
    scores = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=torch.double)
    weights = inverse_propensity_weights(positions)
    expected = 0.0
    for clicked in torch.cartesian_prod(*(torch.tensor([0.0, 1.0]) for _ in range(4))):
        chances = torch.where(clicked > 0, relevant / positions, 1 - relevant / positions)
        expected += float(chances.prod()) * float(softmax_loss(scores, clicked, weights=weights))
    assert expected == pytest.approx(float(softmax_loss(scores, relevant)), rel=1e-6)
    assert inverse_propensity_weights(positions, eta=2.0, clip=9.0).tolist() == [1, 4, 9, 9]


def test_they_fit_a_loss():
    scores, labels = torch.zeros(1, 3), torch.tensor([[1, 0, 0]])
    value = sigmoid_loss(scores, labels, weights=class_weights(labels, torch.tensor([2, 1])))
    assert value.item() == pytest.approx(torch.log(torch.tensor(2.0)).item())


def test_bad_arguments():
    with pytest.raises(InputError, match=r"beta must be in \[0, 1\]: got 1.5"):
        class_weights(torch.tensor([0]), torch.tensor([1]), beta=1.5)
    with pytest.raises(InputError, match="clip at least 1"):
        inverse_propensity_weights(torch.tensor([1]), clip=0.5)


@pytest.mark.parametrize("labels", [[0, -1, 2], [0.0, float("nan"), 2.0], [0.0, -0.5, 2.0]])
def test_padding_has_no_class(labels):
    counts = torch.tensor([5, 3, 1])
    weights = class_weights(torch.tensor(labels), counts)
    assert weights[1] == 0
    assert torch.equal(weights[[0, 2]], class_weights(torch.tensor([0, 2]), counts))
