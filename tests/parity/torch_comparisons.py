"""Losses that torch.nn.functional has too.

Its reductions run over the whole batch; so they are taken list by list here, from unreduced terms.
"""

from typing import Any

import torch
from comparisons import (
    Comparison,
    Loss,
    binary,
    binary_masked,
    contrasted,
    graded,
    masked,
    one_relevant,
    pairs,
)
from torch import Tensor
from torch.nn import functional

from rankwell.losses import (
    bpr_loss,
    classification_loss,
    contrast_hinge_loss,
    hinge_loss,
    info_nce_loss,
    kl_loss,
    listnet_loss,
    logistic_loss,
    mae_loss,
    margin_mse_loss,
    mse_loss,
    ordinal_loss,
    pointwise_hinge_loss,
    sampled_softmax_loss,
    sigmoid_loss,
    sigmoid_pairwise_loss,
    smooth_l1_loss,
    softmax_loss,
    squared_hinge_loss,
    triplet_loss,
)

ITEM_MEAN = "mean of a list's terms"
PAIR_MEAN = "mean of the terms of a list's pairs"
ROW_MEAN = "mean of the terms of a row's negatives"


def per_list(loss: Any, **own: Any) -> Loss:
    """Ours, a value a list."""
    return lambda **data: loss(**data, **own, reduction="none")


def items(name: str, **own: Any) -> Loss:
    """An unreduced loss of scores and labels, weighed and averaged over the valid items of a list."""

    def loss(scores: Tensor, labels: Tensor, where: Tensor | None = None, weights: Tensor | float = 1.0) -> Tensor:
        terms = weights * getattr(functional, name)(scores, labels, reduction="none", **own)
        return terms.mean(-1) if where is None else torch.where(where, terms, 0).sum(-1) / where.sum(-1)

    return loss


def of_pairs(name: str, **own: Any) -> Loss:
    """An unreduced loss of the better scores, the worse ones and 1, averaged over the pairs of a list."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        values = []
        for s, y in zip(scores, labels, strict=True):
            better, worse = torch.nonzero(y[:, None] > y, as_tuple=True)
            values.append(getattr(functional, name)(s[better], s[worse], torch.ones_like(s[better]), **own))
        return torch.stack(values)

    return loss


def soft_margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Logistic loss of each pair's gap."""
    values = []
    for s, y in zip(scores, labels, strict=True):
        gaps = (s[:, None] - s)[y[:, None] > y]
        values.append(functional.soft_margin_loss(gaps, torch.ones_like(gaps)))
    return torch.stack(values)


def multi_margin(p: int) -> Loss:
    """The margin loss of classes, whose mean is over all n items."""

    def loss(scores: Tensor, labels: Tensor, where: Tensor) -> Tensor:
        rows = [(s[w], y[w]) for s, y, w in zip(scores, labels, where, strict=True)]
        return torch.stack([functional.multi_margin_loss(s, y.argmax(), p=p) for s, y in rows])

    return loss


def times_others(loss: Any) -> Loss:
    """Ours, times the share of the items that are not relevant."""
    return lambda where, **data: (1 - 1 / where.sum(-1).double()) * loss(**data, where=where, reduction="none")


def multilabel_margin(scores: Tensor, labels: Tensor) -> Tensor:
    """Relevant items by their places, then -1; a sum over pairs, over n."""
    places = torch.where(labels > 0, torch.arange(labels.shape[-1]), labels.shape[-1]).sort(-1).values
    return functional.multilabel_margin_loss(
        scores, torch.where(places < labels.shape[-1], places, -1), reduction="none"
    )


def times_pairs(scores: Tensor, labels: Tensor) -> Tensor:
    """The hinge, times pairs over items."""
    relevant, n = (labels > 0).sum(-1).double(), labels.shape[-1]
    return hinge_loss(scores, labels, reduction="none") * relevant * (n - relevant) / n


def hinge_embedding(scores: Tensor, labels: Tensor) -> Tensor:
    """Of scores whose sign says whether they are right."""
    right = torch.where(labels > 0, scores, -scores)
    return functional.hinge_embedding_loss(right, -torch.ones_like(right), margin=0.7, reduction="none").mean(-1)


def grades() -> dict[str, Tensor]:
    """Five scores an item."""
    data = graded()
    draw = torch.Generator().manual_seed(5)
    return {**data, "scores": torch.randn(*data["labels"].shape, 5, generator=draw, dtype=torch.double)}


def taught() -> dict[str, Tensor]:
    """Grades with a teacher's scores."""
    data = graded()
    draw = torch.Generator().manual_seed(6)
    return {**data, "teacher": torch.randn(data["scores"].shape, generator=draw, dtype=torch.double)}


def margin_mse(scores: Tensor, labels: Tensor, teacher: Tensor) -> Tensor:
    """Squared error of the gaps of a list's pairs."""
    values = []
    for s, y, t in zip(scores, labels, teacher, strict=True):
        better = y[:, None] > y
        values.append(functional.mse_loss((s[:, None] - s)[better], (t[:, None] - t)[better]))
    return torch.stack(values)


def normal(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The labels divided by their sum."""
    return {"scores": scores, "labels": labels / labels.sum(-1, keepdim=True)}


def cosines(queries: Tensor, items: Tensor) -> Tensor:
    """All of them."""
    return functional.cosine_similarity(queries[:, None], items, dim=-1)


def triplets() -> dict[str, Tensor]:
    """For each query a positive and a negative of its own."""
    draw = torch.Generator().manual_seed(7)
    return {
        "queries": torch.randn(8, 1, 4, generator=draw, dtype=torch.double),
        "items": torch.randn(8, 2, 4, generator=draw, dtype=torch.double),
    }


def first_is_right(queries: Tensor, items: Tensor) -> Tensor:
    """Ours on these."""
    positives = torch.tensor([True, False]).expand(len(queries), 1, 2)
    return triplet_loss(
        queries, items, positives=positives, similarity="euclidean", margin=0.8, reduction="none"
    ).squeeze(-1)


def triplet_margin(queries: Tensor, items: Tensor) -> Tensor:
    """Theirs. The distance is given because torch's own adds 1e-6 to each coordinate."""
    return functional.triplet_margin_with_distance_loss(
        queries[:, 0],
        items[:, 0],
        items[:, 1],
        distance_function=lambda a, b: torch.linalg.vector_norm(a - b, dim=-1),
        margin=0.8,
        reduction="none",
    )


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Over classes, with the labels as their shares."""
    return functional.cross_entropy(scores, labels, reduction="none")


def kl_div(scores: Tensor, labels: Tensor) -> Tensor:
    """Summed over a list."""
    divided = torch.log_softmax(scores / 0.5, -1), torch.log_softmax(labels / 2.0, -1)
    return functional.kl_div(*divided, log_target=True, reduction="none").sum(-1)


def in_both_directions(queries: Tensor, items: Tensor) -> Tensor:
    """CLIP's loss."""
    scores, own = cosines(queries, items) / 0.3, torch.arange(len(queries))
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def of_contrast(loss: Any, **own: Any) -> Loss:
    """Ours, a value a row."""
    return lambda pos, neg: loss(pos, neg, **own, reduction="none")


COMPARISONS = [
    Comparison(*row)
    for row in (
        ("sigmoid", "binary_cross_entropy_with_logits", binary_masked, per_list(sigmoid_loss),
         items("binary_cross_entropy_with_logits"), ITEM_MEAN),
        ("mse", "mse_loss", masked, per_list(mse_loss), items("mse_loss"), ITEM_MEAN),
        ("mae", "l1_loss", masked, per_list(mae_loss), items("l1_loss"), ITEM_MEAN),
        ("smooth_l1", "smooth_l1_loss", masked, per_list(smooth_l1_loss, beta=0.4),
         items("smooth_l1_loss", beta=0.4), ITEM_MEAN),
        ("smooth_l1", "huber_loss", masked, lambda **data: 0.4 * smooth_l1_loss(**data, beta=0.4, reduction="none"),
         items("huber_loss", delta=0.4), ITEM_MEAN + "; times beta"),
        ("pointwise_hinge", "hinge_embedding_loss", binary, per_list(pointwise_hinge_loss, margin=0.7), hinge_embedding,
         ITEM_MEAN + "; of scores turned to the side of their label"),
        ("classification", "cross_entropy", grades, per_list(classification_loss),
         lambda scores, labels: functional.cross_entropy(scores.mT, labels.long(), reduction="none").mean(-1), ITEM_MEAN),
        ("ordinal", "binary_cross_entropy_with_logits", grades, per_list(ordinal_loss),
         lambda scores, labels: functional.binary_cross_entropy_with_logits(
             scores, (labels[..., None] > torch.arange(5)).to(scores), reduction="none").sum(-1).mean(-1),
         ITEM_MEAN + "; its steps summed"),
        ("softmax", "cross_entropy", binary, lambda **data: softmax_loss(**normal(**data), reduction="none"),
         lambda **data: cross_entropy(**normal(**data)), "labels that sum to 1"),
        ("listnet", "cross_entropy", graded, per_list(listnet_loss),
         lambda scores, labels: cross_entropy(scores, labels.softmax(-1)), "labels there are a softmax"),
        ("kl", "kl_div", graded, per_list(kl_loss, temperature=0.5, label_temperature=2.0), kl_div, "sum over a list"),
        ("hinge", "margin_ranking_loss", graded, per_list(hinge_loss, margin=0.7),
         of_pairs("margin_ranking_loss", margin=0.7), PAIR_MEAN),
        ("hinge", "multi_margin_loss", one_relevant, times_others(hinge_loss), multi_margin(1),
         "one relevant item; there a mean over all items, here over the others"),
        ("hinge", "multilabel_margin_loss", binary, times_pairs, multilabel_margin, "there a sum over pairs, over items"),
        ("squared_hinge", "multi_margin_loss(p=2)", one_relevant, times_others(squared_hinge_loss), multi_margin(2),
         "one relevant item; there a mean over all items, here over the others"),
        ("logistic", "soft_margin_loss", graded, per_list(logistic_loss), soft_margin, PAIR_MEAN),
        ("margin_mse", "mse_loss", taught, per_list(margin_mse_loss), margin_mse, PAIR_MEAN + ", of gaps"),
        ("bpr", "soft_margin_loss", contrasted, of_contrast(bpr_loss),
         lambda pos, neg: functional.soft_margin_loss(
             pos[:, None] - neg, torch.ones_like(neg), reduction="none").mean(-1), ROW_MEAN),
        ("contrast_hinge", "margin_ranking_loss", contrasted, of_contrast(contrast_hinge_loss, margin=0.7),
         lambda pos, neg: functional.margin_ranking_loss(
             pos[:, None], neg, torch.ones_like(neg), margin=0.7, reduction="none").mean(-1), ROW_MEAN),
        ("sampled_softmax", "cross_entropy", contrasted, of_contrast(sampled_softmax_loss, temperature=0.5),
         lambda pos, neg: functional.cross_entropy(
             torch.cat([pos[:, None], neg], -1) / 0.5, torch.zeros(len(pos)).long(), reduction="none"),
         "the positive is class 0"),
        ("info_nce", "cross_entropy", pairs, lambda **data: info_nce_loss(**data, temperature=0.3, reduction="none"),
         lambda **data: functional.cross_entropy(
             cosines(**data) / 0.3, torch.arange(7), reduction="none"), "of cosines over the temperature"),
        ("info_nce(symmetric)", "cross_entropy", pairs,
         lambda **data: info_nce_loss(**data, temperature=0.3, symmetric=True), in_both_directions,
         "half of rows and half of columns"),
        ("sigmoid_pairwise", "binary_cross_entropy_with_logits", pairs,
         lambda **data: sigmoid_pairwise_loss(**data, bias=-2.0, temperature=0.3, reduction="none"),
         lambda **data: functional.binary_cross_entropy_with_logits(
             cosines(**data) / 0.3 - 2, torch.eye(7, dtype=torch.double), reduction="none").sum(-1), "sum over items"),
        ("triplet", "triplet_margin_with_distance_loss", triplets, first_is_right, triplet_margin,
         "one triplet a query; plain distance"),
    )
]  # fmt: skip
