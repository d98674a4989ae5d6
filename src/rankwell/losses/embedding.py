"""Embedding losses: each query against every item of the batch."""

from typing import Annotated

from torch import Tensor

from rankwell.errors import InputError
from rankwell.lists import reduce
from rankwell.losses.pairwise import hinge_loss
from rankwell.losses.registry import Items, Positives, Queries, embedding_loss
from rankwell.losses.softmax import softmax_loss
from rankwell.losses.styles import in_batch
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Similarity, Weights

__all__ = ["info_nce_loss", "triplet_loss"]


@embedding_loss(paper="oord2018", complexity="q m")
def info_nce_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    temperature: Annotated[float, Search(0.01, 1.0, log=True)] = 0.05,
    similarity: Similarity = "cosine",
    symmetric: bool = False,
) -> Tensor:
    r"""Cross-entropy of each query's softmax over all items of the batch.

    .. math:: \ell_q = -\sum_{i \in P_q} w_{qi} \log \frac{e^{s_{qi}/\tau}}{\sum_j e^{s_{qj}/\tau}}

    It is ``in_batch(softmax_loss, similarity=..., temperature=τ)``. Symmetric, it is the loss of CLIP: half of this and half
    of the same with queries and items changed round. Time O(q m d), memory O(q m).

    Weights multiply the terms; in both directions a pair keeps its weight.

    Args:
        temperature: what similarities are divided by.
        similarity: dot, cosine, euclidean or squared_euclidean.
        symmetric: also each item against all queries; item i's value joins query i's, so both must be as many.

    Raises:
        InputError: if ``symmetric`` and there are not as many items as queries, the similarity is unknown, or
            ``temperature`` is not above 0.

    >>> import torch
    >>> info_nce_loss(torch.eye(2), torch.eye(2), temperature=1.0)  # log(1 + 1/e)
    tensor(0.3133)

    Source: :cite:`oord2018`, eq. 4. Differs from it: several positives add up, and the density ratio is the exponential of a
    similarity. The symmetric form: :cite:`radford2021`, figure 3.
    """
    loss = in_batch(softmax_loss, similarity=similarity, temperature=temperature)
    values = loss(queries, items, positives=positives, where=where, weights=weights, reduction="none")
    if symmetric:
        if queries.shape[-2] != items.shape[-2]:
            raise InputError(
                f"symmetric needs as many items as queries: got {items.shape[-2]} and {queries.shape[-2]}."
            )
        shape = (*queries.shape[:-1], items.shape[-2])
        pairs = {"positives": positives, "where": where, "weights": weights}
        turned = {name: None if x is None else x.expand(shape).mT for name, x in pairs.items()}
        values = (values + loss(items, queries, reduction="none", **turned)) / 2
    return reduce(values, None if where is None else where.any(-1).expand(values.shape), reduction)


@embedding_loss(paper="schroff2015", complexity="q m")
def triplet_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    margin: Annotated[float, Search(0.05, 5.0, log=True)] = 1.0,
    similarity: Similarity = "squared_euclidean",
) -> Tensor:
    r"""Hinge of each query's positives against all its other items: closer than they are, by a margin.

    .. math:: \ell_q = \frac{1}{|P_q||N_q|} \sum_{i \in P_q} \sum_{j \notin P_q} w_{qi} \left[ m - s_{qi} + s_{qj} \right]_+

    It is ``in_batch(hinge_loss, similarity=...)``; over negative squared distances, the plain triplet loss
    :math:`[d_{qi}^2 - d_{qj}^2 + m]_+`. Averaged over all triplets, without mining. Time O(q m d) and O(triplets), memory
    O(q m).

    A triplet weighs as its positive.

    Args:
        margin: in units of the similarity.
        similarity: dot, cosine, euclidean or squared_euclidean.

    Raises:
        InputError: if the similarity is unknown.

    >>> import torch
    >>> triplet_loss(torch.tensor([[0.0]]), torch.tensor([[1.0], [1.0]]))  # as far as each other
    tensor(1.)

    Source: :cite:`schroff2015`, eq. 3. Differs from it: all triplets of a query, a mean, embeddings not normalised.
    """
    loss = in_batch(hinge_loss, similarity=similarity)
    return loss(queries, items, positives=positives, where=where, weights=weights, reduction=reduction, margin=margin)
