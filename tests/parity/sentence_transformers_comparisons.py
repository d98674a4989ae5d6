"""Losses that sentence-transformers has too.

Those of cross-encoders own the model: here a stub takes its place that knows a score for each pair of texts. They compute in
float32.
"""

import math
from typing import Any

import torch
from comparisons import Comparison, Data, Loss, graded_single, ordered_single, pairs, wide_fours, within
from torch import Tensor

from rankwell.losses import (
    contrastive_margin_loss,
    info_nce_loss,
    kl_loss,
    lambda_rank_loss,
    listmle_loss,
    listnet_loss,
    logistic_loss,
    margin_mse_loss,
    ndcg_loss1,
    ndcg_loss2,
    ndcg_loss2pp,
    p_listmle_loss,
    triplet_loss,
)

SINGLE = 2e-6
PAIRS = "mean over all pairs of the batch, here a sum a list"


class Stub(torch.nn.Module):
    """Scores for pairs of a query and a document, which are named by their places."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def preprocess(self, texts: list[tuple[str, str]], **_: Any) -> dict[str, Tensor]:
        """Places of the scores."""
        return {"places": torch.tensor([int(document) for _, document in texts])}

    def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores at these places."""
        return {"scores": self.scores.flatten()[tokens["places"]]}


def texts(scores: Tensor) -> list[Any]:
    """What a cross-encoder's loss takes: queries, and the documents of each."""
    places = torch.arange(scores.numel()).reshape(scores.shape).tolist()
    return [["query"] * len(scores), [[str(place) for place in row] for row in places]]


def of_lists(name: str, scheme: str | None = None, **own: Any) -> Loss:
    """A listwise loss by name, with a weighting scheme by name."""

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        from sentence_transformers.cross_encoder import losses

        given = own if scheme is None else own | {"weighting_scheme": getattr(losses, scheme)()}
        module = getattr(losses, name)(Stub(scores), mini_batch_size=-1, **given)
        return module(texts(scores), list(labels))

    return loss


def over_pairs(loss: Any, among: Loss | None = None, **own: Any) -> Loss:
    """Ours, summed and divided by the number of pairs; ``among`` counts them."""

    def ours(scores: Tensor, labels: Tensor) -> Tensor:
        number = _pairs(labels) if among is None else among(scores, labels)
        return loss(scores, labels, **own, reduction="sum") / number

    return ours


def _pairs(labels: Tensor) -> Tensor:
    return (labels[..., :, None] > labels[..., None, :]).sum()


def first_three(scores: Tensor, labels: Tensor) -> Tensor:
    """Pairs of which an item is among the first three."""
    ranks = scores.argsort(-1, descending=True).argsort(-1)
    reach = torch.minimum(ranks[..., :, None], ranks[..., None, :]) < 3
    return ((labels[..., :, None] > labels[..., None, :]) & reach).sum()


def ranknet(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over the pairs of the batch from those over the pairs of a list."""
    numbers = (labels[..., :, None] > labels[..., None, :]).sum((-1, -2))
    return (logistic_loss(scores, labels, reduction="none") * numbers).sum() / numbers.sum() / math.log(2)


def with_itself(scores: Tensor, labels: Tensor) -> Tensor:
    """NDCG-Loss1 with the pairs of an item and itself, each G over D."""
    n = scores.shape[-1]
    gains, discounts = torch.exp2(labels) - 1, torch.log2(torch.arange(n) + 2.0)
    best = (gains.sort(-1, descending=True).values / discounts).sum(-1)
    ranks = scores.argsort(-1, descending=True).argsort(-1)
    own = (gains / discounts[ranks]).sum(-1) / best
    return (ndcg_loss1(scores, labels, reduction="none") + own).sum() / (len(scores) * n * n)


def positions(scores: Tensor, labels: Tensor) -> Tensor:
    """Ours with weights that sum to one."""
    n = scores.shape[-1]
    return p_listmle_loss(scores, labels) * 2 ** (n - 1) / (2**n - 1 - n)


def of_embeddings(name: str, *columns: str, **own: Any) -> Loss:
    """A loss by name, of the columns of embeddings that it takes."""

    def loss(**data: Tensor) -> Tensor:
        from sentence_transformers.sentence_transformer import losses

        module = getattr(losses, name)(None, **own)
        none = torch.zeros(0)
        return module.compute_loss_from_embeddings([data[column] for column in columns], data.get("labels", none))

    return loss


def of_classes(name: str, **own: Any) -> Loss:
    """A loss by name, of embeddings with class labels."""

    def loss(vectors: Tensor, classes: Tensor) -> Tensor:
        from sentence_transformers.sentence_transformer import losses

        return getattr(losses, name)(None, **own).compute_loss_from_embeddings([vectors], classes)

    return loss


def active(vectors: Tensor, classes: Tensor) -> Tensor:
    """The mean over the triplets of the batch from those over the triplets of a query."""
    own = {"margin": 2.0, "similarity": "euclidean"}
    means = within(triplet_loss, **own, mining="active", reduction="none")(vectors, classes)
    with torch.no_grad():
        far = torch.cdist(vectors, vectors)
        same, apart = classes[:, None] == classes, ~torch.eye(len(classes), dtype=torch.bool)
        costs = far[:, :, None] - far[:, None, :] + 2.0 > 0
        numbers = (costs & (same & apart)[:, :, None] & ~same[:, None, :]).sum((-1, -2))
    return (means * numbers).sum() / numbers.sum()


def harder() -> Data:
    """As many hard negatives beside."""
    draw = torch.Generator().manual_seed(8)
    data = pairs()
    return {**data, "neg": torch.randn(data["items"].shape, generator=draw, dtype=torch.double)}


def among_all(queries: Tensor, items: Tensor, neg: Tensor) -> Tensor:
    """Ours over positives and hard negatives in one."""
    return info_nce_loss(queries, torch.cat([items, neg]))


def candidates() -> Data:
    """Queries, three documents of each, and the scores of a teacher."""
    draw = torch.Generator().manual_seed(9)
    data = harder()
    return {**data, "labels": torch.rand(len(data["items"]), 2, generator=draw, dtype=torch.double)}


def _two_scores(queries: Tensor, items: Tensor, neg: Tensor) -> Tensor:
    return torch.stack([(queries * items).sum(-1), (queries * neg).sum(-1)], -1)


def gaps(queries: Tensor, items: Tensor, neg: Tensor, labels: Tensor) -> Tensor:
    """Margin-MSE of the first document over the second."""
    scores = _two_scores(queries, items, neg)
    return margin_mse_loss(scores, torch.tensor([1.0, 0.0]).expand_as(scores), teacher=labels)


def divergence(queries: Tensor, items: Tensor, neg: Tensor, labels: Tensor) -> Tensor:
    """KL, times the squared temperature."""
    return 0.25 * kl_loss(_two_scores(queries, items, neg), labels, temperature=0.5, label_temperature=0.5)


def one_triplet(queries: Tensor, items: Tensor, neg: Tensor) -> Tensor:
    """A triplet a query."""
    both = torch.stack([items, neg], 1)
    positives = torch.tensor([True, False]).expand(len(queries), 1, 2)
    return triplet_loss(queries[:, None], both, positives=positives, similarity="euclidean", margin=0.8)


def coupled() -> Data:
    """Pairs, every other one of them similar."""
    return {**pairs(), "labels": torch.arange(7) % 2}


def one_pair(queries: Tensor, items: Tensor, labels: Tensor) -> Tensor:
    """A pair a query."""
    positives = (labels > 0)[:, None, None]
    return contrastive_margin_loss(queries[:, None], items[:, None], positives=positives, margin=3.0) / 2


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean; torch's own adds 1e-6 to each coordinate."""
    return torch.linalg.vector_norm(a - b, dim=-1)


COMPARISONS = [
    Comparison(*row)
    for row in (
        ("listmle", "ListMLELoss", ordered_single, listmle_loss, of_lists("ListMLELoss", respect_input_order=False),
         "mean over lists; distinct labels; float32", SINGLE),
        ("p_listmle", "PListMLELoss", ordered_single, positions, of_lists("PListMLELoss", respect_input_order=False),
         "mean over lists; distinct labels; weights there sum to 1; float32", SINGLE),
        ("listnet", "ListNetLoss", graded_single, listnet_loss, of_lists("ListNetLoss"), "mean over lists; float32", SINGLE),
        ("logistic", "RankNetLoss", graded_single, ranknet, of_lists("RankNetLoss"),
         "mean over all pairs of the batch; base 2 there; float32", SINGLE),
        ("lambda_rank", "LambdaLoss(LambdaRankScheme)", graded_single, over_pairs(lambda_rank_loss),
         of_lists("LambdaLoss", "LambdaRankScheme", reduction_log="natural"), PAIRS + "; float32", SINGLE),
        ("lambda_rank(k=3)", "LambdaLoss(LambdaRankScheme, k=3)", graded_single,
         over_pairs(lambda_rank_loss, first_three, k=3),
         of_lists("LambdaLoss", "LambdaRankScheme", reduction_log="natural", k=3), PAIRS + "; float32", SINGLE),
        ("ndcg_loss1", "LambdaLoss(NDCGLoss1Scheme)", graded_single, with_itself,
         of_lists("LambdaLoss", "NDCGLoss1Scheme"), PAIRS + "; there an item is paired with itself too; float32", SINGLE),
        ("ndcg_loss2", "LambdaLoss(NDCGLoss2Scheme)", graded_single, over_pairs(ndcg_loss2),
         of_lists("LambdaLoss", "NDCGLoss2Scheme"), PAIRS + "; float32", SINGLE),
        ("ndcg_loss2pp", "LambdaLoss(NDCGLoss2PPScheme)", graded_single, over_pairs(ndcg_loss2pp),
         of_lists("LambdaLoss", "NDCGLoss2PPScheme"), PAIRS + "; float32", SINGLE),
        ("info_nce", "MultipleNegativesRankingLoss", pairs, info_nce_loss,
         of_embeddings("MultipleNegativesRankingLoss", "queries", "items"), "temperature is one over scale"),
        ("info_nce", "MultipleNegativesRankingLoss, hard negatives", harder, among_all,
         of_embeddings("MultipleNegativesRankingLoss", "queries", "items", "neg"), "their documents behind the items"),
        ("info_nce(symmetric)", "MultipleNegativesRankingLoss(per_direction)", pairs,
         lambda **data: info_nce_loss(**data, symmetric=True),
         of_embeddings("MultipleNegativesRankingLoss", "queries", "items", partition_mode="per_direction",
                       directions=("query_to_doc", "doc_to_query")), "temperature is one over scale"),
        ("margin_mse", "MarginMSELoss", candidates, gaps, of_embeddings("MarginMSELoss", "queries", "items", "neg"),
         "one pair a query"),
        ("kl", "DistillKLDivLoss", candidates, divergence,
         of_embeddings("DistillKLDivLoss", "queries", "items", "neg", temperature=0.5), "there times the squared temperature"),
        ("triplet", "TripletLoss", harder, one_triplet,
         of_embeddings("TripletLoss", "queries", "items", "neg", distance_metric=distance, triplet_margin=0.8),
         "one triplet a query; plain distance"),
        ("triplet(active)", "BatchAllTripletLoss", wide_fours, active, of_classes("BatchAllTripletLoss", margin=2.0),
         "mean over the batch's triplets that cost something"),
        ("triplet(batch_hard)", "BatchHardTripletLoss", wide_fours,
         within(triplet_loss, margin=2.0, similarity="euclidean", mining="batch_hard"),
         of_classes("BatchHardTripletLoss", margin=2.0), "mean over queries"),
        ("contrastive_margin", "ContrastiveLoss", coupled, one_pair,
         of_embeddings("ContrastiveLoss", "queries", "items", distance_metric=distance, margin=3.0), "there one half"),
    )
]  # fmt: skip
