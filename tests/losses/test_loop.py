"""Optimal hard negatives, against a search of the grid of points between the embeddings of each class."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import tensor
from torch.nn.functional import normalize
from torch.testing import assert_close

from rankwell.errors import InputError
from rankwell.losses import LOSSES, loop_loss, same_class
from rankwell.losses import loop as loop_file
from rankwell.losses.cases import cases
from rankwell.losses.laws import LAWS, gradients, peak_bytes

SHARES = torch.linspace(0, 1, 41, dtype=torch.double)[:, None]
FORMS = pytest.mark.parametrize("form", ["spherical", "linear"])


def between(a, b, form):
    line = (1 - SHARES) * a + SHARES * b
    return normalize(line, dim=-1) if form == "spherical" else line


def by_grid(args, classes, margin, form):
    values = []
    queries, items = args["queries"], args["items"]
    if form == "spherical":
        queries, items = normalize(queries, dim=-1), normalize(items, dim=-1)
    for row, query in enumerate(queries):
        there, right = args["where"][row], args["positives"][row]
        wrong = (there & ~right).nonzero().flatten().tolist()
        pairs = [(j, k) for j in wrong for k in wrong if j <= k and classes[j] == classes[k]]
        terms = []
        for i in (there & right).nonzero().flatten().tolist():
            own = between(query, items[i], form)
            hard = min(torch.cdist(own, between(items[j], items[k], form)).min() ** 2 for j, k in pairs)
            gap = margin + (query - items[i]).square().sum() - hard
            terms.append(args["weights"][row, i] * gap.clamp(min=0))
        values.append(torch.stack(terms).mean())
    return torch.stack(values)


@FORMS
def test_by_the_grid(form):
    for case in cases(LOSSES["loop"], dtype=torch.double):
        classes = torch.arange(len(case.args["items"])) // 3
        ours = loop_loss(**case.args, item_classes=classes, margin=0.5, form=form, reduction="none")
        assert_close(ours, by_grid(case.args, classes, 0.5, form), rtol=0.0, atol=2e-2)


@FORMS
def test_gradient_of_classes_is_numerical(form):
    for case in cases(LOSSES["loop"], dtype=torch.double):
        classes = torch.arange(len(case.args["items"])) // 3

        def value(queries, items, args=case.args, classes=classes):
            given = args | {"queries": queries, "items": items}
            return loop_loss(**given, item_classes=classes, margin=0.5, form=form, reduction="none")

        leaves = [case.args[name].clone().requires_grad_() for name in case.scores]
        assert torch.autograd.gradcheck(value, leaves, fast_mode=True)


@FORMS
@pytest.mark.parametrize(
    "law",
    [
        "batch_is_independent",
        "batch_may_have_dimensions",
        "masked_values_change_nothing",
        "half_precision_is_summed_in_float32",
        "second_derivative_is_numerical_or_an_error",
        "vmap_is_a_loop",
        "compiles_to_the_same",
    ],
)
def test_classes_keep_the_laws(law, form):
    def loss(queries, items, **rest):
        classes = torch.arange(items.shape[-2]).expand(items.shape[:-1]) // 3
        return loop_loss(queries, items, **rest, item_classes=classes, form=form)

    LAWS[law].check(replace(LOSSES["loop"], function=loss))


def test_negatives_of_one_class_are_nearest_between_them():
    """The query's arc is a point on the equator; both negatives are 60 degrees away, and their middle is 45 degrees."""
    query = tensor([[1.0, 0.0, 0.0]])
    side = 0.5**0.5
    items = tensor([[1.0, 0.0, 0.0], [0.5, 0.5, side], [0.5, -0.5, side]])
    hinge = 3.0 - (2 - 2 * (0.5 / (0.5**2 + 0.5) ** 0.5))
    assert_close(loop_loss(query, items, item_classes=tensor([0, 1, 1]), margin=3.0), tensor(hinge))
    assert_close(loop_loss(query, items, margin=3.0), tensor(3.0 - (2 - 2 * 0.5)))


def test_without_classes_it_is_the_hardest_negative_of_both_ends():
    """Where the nearest point of the arc is one of its ends."""
    query, items = tensor([[0.0, 0.0]]), tensor([[1.0, 0.0], [4.0, 0.0], [-2.0, 0.0]])
    value = loop_loss(query, items, margin=5.0, form="linear")
    assert_close(value, tensor(5.0 + 1 - 2**2))


def test_labels_are_enough():
    labels = tensor([0, 0, 1, 1, 2, 2])
    positives, where = same_class(labels)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    args = {"queries": x, "items": x, "positives": positives, "where": where, "weights": torch.ones(6, 6).double()}
    ours = loop_loss(x, x, positives=positives, where=where, item_classes=labels, reduction="none")
    assert_close(ours, by_grid(args, labels, 0.2, "spherical"), rtol=0.0, atol=1e-2)


def test_chunks_are_the_whole(monkeypatch):
    for case in cases(LOSSES["loop"]):
        own = partial(loop_loss, item_classes=torch.arange(len(case.args["items"])) // 3)
        whole = gradients(own, case, case.args)
        with monkeypatch.context() as patch:
            patch.setattr(loop_file, "CHUNK_CURVES", 3)
            for part, expected in zip(gradients(own, case, case.args), whole, strict=True):
                assert_close(part, expected)


def test_memory_does_not_grow_with_the_classes():
    """Sixteen times as many pairs of curves take the memory of the search's chunks, and no more."""

    def peak(size):
        labels = torch.arange(64) // size
        positives, where = same_class(labels)
        x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        return peak_bytes(lambda: loop_loss(x, x, positives=positives, where=where, item_classes=labels).backward())

    assert peak(16) < 1.5 * peak(4)


def test_query_without_negatives_is_zero():
    x = torch.randn(3, 2, requires_grad=True)
    value = loop_loss(x, x, positives=torch.ones(3, 3, dtype=torch.bool))
    value.backward()
    assert value == 0
    assert not x.grad.any()


def test_second_derivative_is_an_error():
    x = torch.randn(4, 3, requires_grad=True)
    (slope,) = torch.autograd.grad(loop_loss(x, x.detach(), margin=9.0), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        slope.square().sum().backward()


def test_arguments():
    square = torch.eye(2)
    with pytest.raises(InputError, match="form must be 'spherical' or 'linear': got 'round'"):
        loop_loss(square, square, form="round")
    for classes in (torch.zeros(3, dtype=torch.long), torch.zeros(2)):
        with pytest.raises(InputError, match=r"item_classes must be integers, one an item \(2,\)"):
            loop_loss(square, square, item_classes=classes)
