"""Losses that pytorch-metric-learning has too, on batches with class labels.

It averages over pairs or triplets of the whole batch, we over those of a query and then over queries: in classes of one size
that is the same wherever each query has as many. Its distances normalise embeddings unless told otherwise.
"""

from typing import Any

import torch
from comparisons import Comparison, Loss, couples, fours, wide_fours, within
from torch import Tensor
from torch.nn import functional

from rankwell.losses import (
    circle_loss,
    contrastive_margin_loss,
    in_batch,
    info_nce_loss,
    lifted_structure_loss,
    multi_similarity_loss,
    n_pair_loss,
    smooth_ap_loss,
    supervised_contrastive_loss,
    triplet_loss,
)

PAIRS = "mean over pairs, classes of one size"
QUERIES = "mean over queries"


def theirs(name: str, distance: str | None = None, miner: Any = None, **own: Any) -> Loss:
    """A loss by name, over embeddings as they are unless cosines are its own, with the mean as its reducer."""

    def loss(vectors: Tensor, classes: Tensor) -> Tensor:
        from pytorch_metric_learning import distances, losses, reducers

        given = own if distance is None else own | {"distance": _distance(distances, distance)}
        module = getattr(losses, name)(**given, reducer=reducers.MeanReducer())
        return module(vectors, classes, None if miner is None else miner(vectors, classes))

    return loss


def _distance(distances: Any, name: str) -> Any:
    kind, power = {"euclidean": ("LpDistance", 1), "squared": ("LpDistance", 2), "dot": ("DotProductSimilarity", 1)}[
        name
    ]
    return getattr(distances, kind)(normalize_embeddings=False, power=power)


def mined(name: str, distance: str, **own: Any) -> Loss:
    """A miner by name."""

    def miner(vectors: Tensor, classes: Tensor) -> Any:
        from pytorch_metric_learning import distances, miners

        given = {} if distance == "cosine" else {"distance": _distance(distances, distance)}
        return getattr(miners, name)(**given, **own)(vectors, classes)

    return miner


def of_triplets(kind: str) -> Loss:
    """Their mined triplets' losses, averaged by anchor, then over all anchors."""

    def loss(vectors: Tensor, classes: Tensor) -> Tensor:
        from pytorch_metric_learning import distances, losses, reducers

        module = losses.TripletMarginLoss(
            margin=2.0, distance=_distance(distances, "squared"), reducer=reducers.DoNothingReducer()
        )
        found = mined("TripletMarginMiner", "squared", margin=2.0, type_of_triplets=kind)(vectors, classes)
        values, anchors = module(vectors, classes, found)["loss"]["losses"], found[0]
        sums = torch.zeros_like(vectors[:, 0]).index_add(0, anchors, values)
        return (sums / torch.bincount(anchors, minlength=len(vectors)).clamp(min=1)).mean()

    return loss


def squares(vectors: Tensor, classes: Tensor) -> Tensor:
    """The hinges of their contrastive loss, squared, over all pairs."""
    from pytorch_metric_learning import distances, losses, reducers

    module = losses.ContrastiveLoss(
        neg_margin=2.0, distance=_distance(distances, "euclidean"), reducer=reducers.DoNothingReducer()
    )
    parts = module(vectors, classes)
    return torch.cat([parts[side]["losses"] for side in ("pos_loss", "neg_loss")]).square().mean()


def n_pairs(vectors: Tensor, classes: Tensor) -> Tensor:
    """Of the first of each class and the second."""
    from pytorch_metric_learning import losses

    places = torch.arange(0, len(vectors), 2)
    none = places[:0]
    return losses.NPairsLoss(distance=_dot())(vectors, classes, (places, places + 1, none, none))


def _dot() -> Any:
    from pytorch_metric_learning import distances

    return _distance(distances, "dot")


def firsts_and_seconds(vectors: Tensor, **_: Tensor) -> Tensor:
    """Ours on these."""
    return n_pair_loss(vectors[::2], vectors[1::2])


def tempered(vectors: Tensor, classes: Tensor) -> Tensor:
    """N-pair over cosines that are divided by a temperature."""
    return within(n_pair_loss)(functional.normalize(vectors, dim=-1) / 0.3**0.5, classes)


def with_itself(vectors: Tensor, classes: Tensor) -> Tensor:
    """Smooth-AP of each query over the batch, the query among its positives.

    Theirs takes the number of classes for their size: it is right where the two are equal, as here.
    """
    same = classes[:, None] == classes
    return in_batch(smooth_ap_loss, similarity="cosine")(vectors, vectors, positives=same, temperature=0.3)


COMPARISONS = [
    Comparison(*row)
    for row in (
        ("info_nce", "NTXentLoss", couples, within(info_nce_loss, temperature=0.3),
         theirs("NTXentLoss", temperature=0.3), "mean over pairs, classes of two"),
        ("n_pair", "NTXentLoss", fours, tempered, theirs("NTXentLoss", temperature=0.3),
         PAIRS + "; of cosines over the temperature"),
        ("n_pair", "NPairsLoss", couples, firsts_and_seconds, n_pairs, "one pair a class"),
        ("supervised_contrastive", "SupConLoss", fours, within(supervised_contrastive_loss, temperature=0.3),
         theirs("SupConLoss", temperature=0.3), QUERIES),
        ("multi_similarity", "MultiSimilarityLoss", fours, within(multi_similarity_loss),
         theirs("MultiSimilarityLoss"), QUERIES),
        ("multi_similarity", "MultiSimilarityLoss, MultiSimilarityMiner", fours,
         within(multi_similarity_loss, epsilon=0.1),
         theirs("MultiSimilarityLoss", miner=mined("MultiSimilarityMiner", "cosine", epsilon=0.1)), QUERIES),
        ("circle", "CircleLoss", fours, within(circle_loss, margin=0.4, scale=8.0),
         theirs("CircleLoss", m=0.4, gamma=8), QUERIES),
        ("triplet", "TripletMarginLoss", wide_fours, within(triplet_loss, margin=2.0),
         theirs("TripletMarginLoss", "squared", margin=2.0), "mean over triplets, classes of one size"),
        *(
            (f"triplet({ours})", f"TripletMarginLoss, TripletMarginMiner({other})", wide_fours,
             within(triplet_loss, margin=2.0, mining=ours), of_triplets(other), "mean over a query's triplets, then queries")
            for ours, other in (("active", "all"), ("hard", "hard"), ("semi_hard", "semihard"))
        ),
        ("triplet(batch_hard)", "TripletMarginLoss, BatchHardMiner", wide_fours,
         within(triplet_loss, margin=2.0, similarity="euclidean", mining="batch_hard"),
         theirs("TripletMarginLoss", "euclidean", mined("BatchHardMiner", "euclidean"), margin=2.0), QUERIES),
        ("contrastive_margin", "ContrastiveLoss", wide_fours, within(contrastive_margin_loss, margin=2.0), squares,
         "mean over pairs; their terms squared, as in the paper"),
        ("lifted_structure", "LiftedStructureLoss", wide_fours, within(lifted_structure_loss, margin=2.0),
         theirs("LiftedStructureLoss", "euclidean", neg_margin=2.0), PAIRS),
        ("smooth_ap", "SmoothAPLoss", fours, with_itself, theirs("SmoothAPLoss", temperature=0.3),
         QUERIES + ", each its own positive too; there sums in float32", 1e-6),
    )
]  # fmt: skip
