"""The styles are one algebra: what equals what, in values and gradients."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from rankwell.losses import (
    LOSSES,
    as_contrast,
    bpr_loss,
    bsl_loss,
    ccl_loss,
    contrast,
    decoupled_softmax_loss,
    hinge_loss,
    in_batch,
    info_nce_loss,
    logistic_loss,
    mml_loss,
    sampled_softmax_loss,
    softmax_loss,
    triplet_loss,
)
from rankwell.losses.cases import cases, scalars
from rankwell.losses.laws import gradients
from rankwell.similarity import negative_squared_euclidean

CONTRAST = LOSSES["bpr"]
CCL = partial(ccl_loss, margin=0.4, neg_weight=30.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bpr_loss, contrast(logistic_loss)),
        (sampled_softmax_loss, contrast(softmax_loss)),
        (partial(sampled_softmax_loss, temperature=0.2), contrast(softmax_loss, temperature=0.2)),
        (partial(mml_loss, margins=(0.4,), margin_weights=(1.0,), neg_weight=30.0), CCL),
        (partial(mml_loss, margins=(0.4, 0.4), margin_weights=(0.3, 0.7), neg_weight=30.0), CCL),
    ],
    ids=["bpr", "sampled softmax", "sampled softmax at 0.2", "one margin is ccl", "equal margins add up"],
)
def test_equal_in_value_and_gradient_with_masks_and_weights(one, other):
    for case in cases(CONTRAST):
        pairs = zip(gradients(one, case, case.args), gradients(other, case, case.args), strict=True)
        for ours, expected in pairs:
            assert_close(ours, expected)


def test_margin_losses_by_their_formula():
    for case in cases(CONTRAST, dtype=torch.double):

        def formula(pos, neg, pos_where, where, weights, margins, margin_weights, p, q, reduction):
            if pos.ndim == 1:
                pos, pos_where, weights = pos[:, None], pos_where[:, None], weights[:, None]

            def mean(x, there):
                return torch.where(there, x, 0).sum(-1) / there.sum(-1)

            charge = sum(v * (neg - m) * (neg > m) for m, v in zip(margins, margin_weights, strict=True))
            return p * mean(weights * (1 - pos) * (pos < 1), pos_where) + q * mean(weights, pos_where) * mean(
                charge, where
            )

        own = {"margins": (-0.5, 0.1, 0.6), "margin_weights": (0.2, 0.3, 1.0)}
        pairs = [
            (partial(mml_loss, **own, pos_weight=2.0, neg_weight=9.0), partial(formula, **own, p=2.0, q=9.0)),
            (
                partial(ccl_loss, margin=-0.1, neg_weight=9.0),
                partial(formula, margins=(-0.1,), margin_weights=(1.0,), p=1.0, q=9.0),
            ),
        ]
        for one, other in pairs:
            for ours, expected in zip(gradients(one, case, case.args), gradients(other, case, case.args), strict=True):
                assert_close(ours, expected)


def test_in_batch_softmax_is_info_nce():
    for case in cases(LOSSES["info_nce"]):
        expected = in_batch(softmax_loss, temperature=0.3)(**case.args, reduction="none")
        assert_close(info_nce_loss(**case.args, temperature=0.3, reduction="none"), expected)


def test_symmetric_info_nce_is_the_mean_of_both_directions():
    queries, items = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    both = info_nce_loss(queries, items, symmetric=True)
    assert_close(both, (info_nce_loss(queries, items) + info_nce_loss(items, queries)) / 2)


def test_contrast_of_hinge_over_negative_squared_distances_is_the_triplet_loss():
    anchor, positive, negative = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    pos = negative_squared_euclidean(anchor[:, None], positive[:, None])[:, 0, 0]
    neg = negative_squared_euclidean(anchor[:, None], negative[:, None])[:, 0]
    by_hand = ((anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1) + 1).clamp(min=0).mean()
    assert_close(contrast(hinge_loss)(pos, neg, margin=1.0), by_hand)


def test_triplet_is_the_mean_over_all_triplets_of_a_query():
    for case in cases(LOSSES["triplet"]):
        args = case.args
        values = triplet_loss(**args, margin=0.7, reduction="none")
        square = (args["queries"][:, None] - args["items"]).square().sum(-1)
        for row, value in enumerate(values):
            right = args["where"][row] & args["positives"][row]
            wrong = args["where"][row] & ~args["positives"][row]
            gaps = (square[row][right][:, None] - square[row][wrong] + 0.7).clamp(min=0)
            assert_close(value, (args["weights"][row][right][:, None] * gaps).mean())


def test_bsl_with_one_positive_and_ratio_one_is_the_decoupled_softmax():
    pos, neg = torch.tensor([0.3, -0.2]), torch.tensor([[0.1, 0.5, -0.3], [0.2, 0.2, 0.9]])
    decoupled = decoupled_softmax_loss(pos, neg, temperature=0.1, reduction="none") - torch.tensor(3.0).log()
    assert_close(bsl_loss(pos, neg, temperature=0.1, ratio=1.0, reduction="none"), decoupled)
    paper = bsl_loss(pos, neg, temperature=0.1, ratio=1.0, form="paper", reduction="none")
    assert_close(paper, 0.1 * decoupled)


def test_bsl_pools_positives_by_query():
    """Rows of one query pool as if each had all their positives."""
    pos, neg = torch.tensor([0.3, -0.2, 0.1]), torch.tensor([[0.1, 0.5], [0.2, 0.9], [0.0, 0.4]])
    pooled = bsl_loss(pos, neg, query_ids=torch.tensor([7, 7, 5]), reduction="none")
    apart = bsl_loss(torch.tensor([[0.3, -0.2], [-0.2, 0.3]]), neg[:2], reduction="none")
    assert_close(pooled, torch.cat([apart, bsl_loss(pos[2:], neg[2:], reduction="none")]))


def test_temperature_divides_scores():
    for case in cases(CONTRAST):
        args = dict(case.args)
        expected = contrast(hinge_loss)(**args | {"pos": args["pos"] / 0.5, "neg": args["neg"] / 0.5}, margin=2.0)
        assert_close(contrast(hinge_loss, temperature=0.5)(**args, margin=2.0), expected)
        assert_close(contrast(partial(hinge_loss, margin=2.0), temperature=0.5)(**args), expected)
        assert_close(as_contrast(LOSSES["hinge"])(**args, margin=2.0, temperature=0.5), expected)


def test_as_contrast_keeps_contrast_losses_and_refuses_embedding_losses():
    assert as_contrast(LOSSES["bpr"]) is LOSSES["bpr"]
    entry = as_contrast(LOSSES["softmax"])
    assert (entry.kind, list(entry.parameters), entry.softmax) == ("contrast", ["temperature"], True)
    with pytest.raises(ValueError, match="only list and contrast losses"):
        as_contrast(LOSSES["info_nce"])


def test_styles_carry_names():
    assert contrast(partial(hinge_loss, margin=2.0)).__name__ == "contrast_hinge_loss"
    assert "worse item" in in_batch(hinge_loss).__doc__


def test_row_without_valid_positive_counts_neither_way():
    where = torch.tensor([True, False])
    pos, neg = torch.tensor([0.2, torch.nan]), torch.tensor([[0.1], [0.5]])
    for entry in LOSSES:
        needs = [given for given in entry.inputs.values() if given.required and given.alignment != "scalar"]
        if entry.kind in ("list", "contrast") and not needs:
            loss = partial(as_contrast(entry), **scalars(entry))
            assert_close(loss(pos, neg, pos_where=where), loss(pos[:1], neg[:1]))
