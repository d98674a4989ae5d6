"""Losses of several scores an item."""

from math import exp, log

import pytest
import torch
from torch import tensor
from torch.nn import functional
from torch.testing import assert_close

from rankwell.errors import ConfigError, InputError
from rankwell.losses import LOSSES, as_contrast, classification_loss, expected_grade, ordinal_loss, sigmoid_loss

SCORES = torch.linspace(-2, 2, 24).sin().mul(3).reshape(2, 4, 3)
GRADES = tensor([[0, 2, 1, 1], [2, 2, 0, 1]])


def test_classification():
    """Chances 1/2 and 3/4 of the right grades."""
    scores = tensor([[0.0, log(2), 0.0], [log(6), 0.0, 0.0]])
    assert_close(classification_loss(scores, tensor([1, 0])), tensor((log(2) + log(8 / 6)) / 2))
    reference = functional.cross_entropy(SCORES.movedim(-1, 1), GRADES)
    assert_close(classification_loss(SCORES, GRADES), reference)


def test_ordinal():
    """Grade 1 of 0, 1, 2: above the first step, below the second."""
    scores = tensor([[0.5, 1.5]])
    assert_close(ordinal_loss(scores, tensor([1])), tensor(log(1 + exp(-0.5)) + log(1 + exp(1.5))))
    steps = (GRADES[..., None] > torch.arange(3)).float()
    reference = functional.binary_cross_entropy_with_logits(SCORES, steps, reduction="none").sum(-1).mean()
    assert_close(ordinal_loss(SCORES, GRADES), reference)


def test_ordinal_of_one_step_is_the_binary_cross_entropy():
    scores, labels = SCORES[..., 0], GRADES.clamp(max=1)
    assert_close(ordinal_loss(scores[..., None], labels), sigmoid_loss(scores, labels))


def test_far_scores_keep_their_gradient():
    scores = tensor([[-80.0, 80.0]], requires_grad=True)
    ordinal_loss(scores, tensor([1])).backward()
    assert_close(scores.grad, tensor([[-1.0, 1.0]]))
    scores = tensor([[0.0, 80.0]], requires_grad=True)
    classification_loss(scores, tensor([0])).backward()
    assert_close(scores.grad, tensor([[-1.0, 1.0]]))


def test_expected_grade():
    """Chances 1/6, 2/6, 3/6 of grades 0, 1, 2; steps passed with chances 3/4 and 1/4."""
    assert_close(expected_grade(tensor([[0.0, log(2), log(3)]])), tensor([8 / 6]))
    assert_close(expected_grade(tensor([[log(3), -log(3)]]), "ordinal"), tensor([1.0]))
    assert expected_grade(SCORES).shape == GRADES.shape
    assert expected_grade(SCORES.bfloat16()).dtype == torch.float32
    with pytest.raises(InputError, match="form must be 'classification' or 'ordinal'"):
        expected_grade(SCORES, "softmax")


@pytest.mark.parametrize(("loss", "form"), [(classification_loss, "classification"), (ordinal_loss, "ordinal")])
def test_training_ranks_by_the_expected_grade(loss, form):
    scores = torch.zeros(4, 3, requires_grad=True)
    labels = tensor([1, 0, 2, 1])
    for _ in range(50):
        (slope,) = torch.autograd.grad(loss(scores, labels), scores)
        scores = (scores - slope).detach().requires_grad_()
    rank = expected_grade(scores, form)
    assert rank[2] > rank[0] > rank[1]


@pytest.mark.parametrize("grade", [-1.0, 3.0, 0.5])
def test_grade_without_a_score_makes_its_list_nan(grade):
    labels = GRADES.float()
    labels[0, 1] = grade
    values = classification_loss(SCORES, labels, reduction="none")
    assert values.isnan().tolist() == [True, False]
    where = torch.ones(2, 4, dtype=torch.bool)
    where[0, 1] = False
    assert classification_loss(SCORES, labels, where=where).isfinite()


@pytest.mark.parametrize(
    ("scores", "labels"), [((4,), (4,)), ((2, 4, 3), (2, 4, 3)), ((2, 4, 3), (2, 3)), ((2, 4, 0), (2, 4))]
)
def test_shapes_that_do_not_fit(scores, labels):
    with pytest.raises(InputError, match=r"scores must be \[\*batch, list, grades\] and labels"):
        ordinal_loss(torch.zeros(scores), torch.zeros(labels))


def test_graded_losses_are_a_kind_of_their_own():
    assert LOSSES.names("graded") == ["classification", "ordinal"]
    with pytest.raises(ConfigError, match="only list and contrast losses"):
        as_contrast(LOSSES["ordinal"])
