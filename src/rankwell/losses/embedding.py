"""Softmax and logistic losses of embeddings: each query against every item of the batch."""

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from rankwell.errors import InputError
from rankwell.lists import Dense, check_finite, check_positive, reduce
from rankwell.losses.grid import check_similarity, logsumexp_where, open_grid
from rankwell.losses.registry import Items, Positives, Queries, Temperature, embedding_loss
from rankwell.losses.softmax import softmax_loss
from rankwell.losses.styles import in_batch
from rankwell.registry import Search
from rankwell.types import Mask, Reduction, Similarity, Weights

__all__ = ["info_nce_loss", "n_pair_loss", "sigmoid_pairwise_loss", "supervised_contrastive_loss"]


@embedding_loss(paper="oord2018", complexity="q m")
def info_nce_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    temperature: Temperature = 0.05,
    similarity: Similarity = "cosine",
    symmetric: bool = False,
) -> Tensor:
    r"""Cross-entropy of each query's softmax over all items of the batch.

    .. math:: \ell_q = -\sum_{i \in P_q} w_{qi} \log \frac{e^{s_{qi}/\tau}}{\sum_j e^{s_{qj}/\tau}}

    It is ``in_batch(softmax_loss, similarity=..., temperature=τ)``. With the batch's other items as negatives it is also
    known as NT-Xent (SimCLR), in-batch softmax and MultipleNegativesRanking. Symmetric, it is the loss of CLIP: half of this
    and half of the same with queries and items changed round. The mean over several positives, not their sum, is
    :func:`supervised_contrastive_loss`. Time O(q m d), memory O(q m).

    Weights multiply the terms; in both directions a pair keeps its weight.

    Choose it for pairs of texts, of two views, or of users and items, a positive each and the rest of the batch as
    negatives: larger batches and a lower temperature make it harder. With several positives of a query take
    :func:`supervised_contrastive_loss`, in small batches try :func:`sigmoid_pairwise_loss`. On SciFact it brought
    MiniLM's NDCG@10 from 0.6239 to 0.6787, with a mined negative a pair to 0.7084 (``bench/results/scifact.txt``).

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


@embedding_loss(paper="khosla2020", complexity="q m")
def supervised_contrastive_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    temperature: Temperature = 0.1,
    similarity: Similarity = "cosine",
) -> Tensor:
    r"""Supervised contrastive loss: cross-entropy of the softmax over all items, averaged over the query's positives.

    .. math:: \ell_q = -\frac{1}{|P_q|} \sum_{i \in P_q} w_{qi} \log \frac{e^{s_{qi}/\tau}}{\sum_j e^{s_{qj}/\tau}}

    With one positive a query it is :func:`info_nce_loss`, which adds several up. For labels see
    :func:`~rankwell.losses.same_class`. Time O(q m d), memory O(q m).

    Weights multiply the terms, not the denominator. A query without positives has value 0.

    Choose it for classes with several examples each in a batch, as a first loss: a temperature is all there is to set.
    With two examples a class it is :func:`info_nce_loss`; for memory of small batches only, put
    :class:`~rankwell.losses.CrossBatchMemoryLoss` around it. On new images of digits it had MAP@R 0.8520,
    :func:`~rankwell.losses.multi_similarity_loss` 0.8641 (``bench/results/digits.txt``); over frozen vectors of
    SciFact, a positive each, NDCG@10 0.7527, InfoNCE, which is the same at half the temperature, 0.7307
    (``docs/leaderboard.md``).

    Args:
        temperature: what similarities are divided by.
        similarity: dot, cosine, euclidean or squared_euclidean.

    Raises:
        InputError: if the similarity is unknown, or ``temperature`` is not above 0.

    >>> import torch
    >>> query, items = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> both = torch.tensor([[True, True, False]])
    >>> supervised_contrastive_loss(query, items, positives=both, temperature=1.0)  # log(2 + 1/e)
    tensor(0.8620)

    Source: :cite:`khosla2020`, the form with the sum outside of the logarithm; equation number unchecked. Differs from it:
    queries without positives count in the mean.
    """
    check_similarity(similarity)
    check_positive(temperature, "temperature")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    scores = grid.scores(similarity) / temperature
    return grid.reduce(-grid.mean_right(Dense(scores, grid.where).log_softmax(scores)), reduction)


@embedding_loss(paper="sohn2016", complexity="q m")
def n_pair_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    similarity: Similarity = "dot",
) -> Tensor:
    r"""Multi-class N-pair loss: each positive against all negatives at once, without a temperature.

    .. math:: \ell_q = \frac{1}{|P_q|} \sum_{i \in P_q} w_{qi} \log \Big( 1 + \sum_{j \notin P_q} e^{s_{qj} - s_{qi}} \Big)

    With one positive a query it is :func:`info_nce_loss` over inner products at temperature 1; of several positives, only
    its own stands in a term's denominator, so that positives do not push each other. With one negative it is the logistic
    loss of the gap. Time O(q m d), memory O(q m).

    Weights multiply the terms. A query without positives or without negatives has value 0.

    Choose it only to compare with :func:`info_nce_loss` and :func:`supervised_contrastive_loss`, which were ahead
    wherever we looked: over inner products it has neither a temperature nor a bound on lengths, unless you add one. On
    new images of digits it had MAP@R 0.6940, supervised contrastive 0.8520 (``bench/results/digits.txt``); over frozen
    vectors of SciFact NDCG@10 0.6144, InfoNCE 0.7307 (``docs/leaderboard.md``).

    Args:
        similarity: dot, cosine, euclidean or squared_euclidean.

    Raises:
        InputError: if the similarity is unknown.

    >>> import torch
    >>> n_pair_loss(torch.tensor([[1.0]]), torch.tensor([[2.0], [2.0], [2.0]]))  # log(1 + 2)
    tensor(1.0986)

    Source: :cite:`sohn2016`, the N-pair-mc loss; equation number unchecked. Differs from it: several positives are averaged,
    and the penalty on the lengths of embeddings is left to the caller.
    """
    check_similarity(similarity)
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    scores, wrong = grid.scores(similarity), grid.wrong
    # Only gaps count; beside the hardest negatives they are exact also where scores are large.
    scores = scores - torch.where(wrong.any(-1), logsumexp_where(scores, wrong), 0).detach()[..., None]
    of_wrong = logsumexp_where(scores, wrong)
    # torch's default threshold, 20, is too low for float64.
    return grid.reduce(grid.mean_right(functional.softplus(of_wrong[..., None] - scores, threshold=40)), reduction)


@embedding_loss(paper="zhai2023", complexity="q m")
def sigmoid_pairwise_loss(
    queries: Queries,
    items: Items,
    *,
    positives: Positives | None = None,
    where: Mask | None = None,
    weights: Weights | None = None,
    reduction: Reduction = "mean",
    temperature: Temperature = 0.1,
    bias: Annotated[float, Search(-20.0, 0.0)] = -10.0,
    similarity: Similarity = "cosine",
) -> Tensor:
    r"""Pairwise sigmoid loss of SigLIP: each pair is a yes or no of its own, with no softmax over the batch.

    .. math:: \ell_q = \sum_j w_{qj} \log\left(1 + e^{-z_{qj} (s_{qj}/\tau + b)}\right), \qquad
        z_{qj} = +1 \text{ for } j \in P_q, \text{ else } -1

    A sum over the items, averaged over queries, as in the paper; over the number of items it is
    ``in_batch(sigmoid_loss)`` of the same scores. Since no pair knows of the others, it takes several positives, or none,
    as they come. Time O(q m d), memory O(q m).

    Weights multiply the terms.

    Choose it for small or uneven batches, and for queries with no positive or many, since no pair depends on the rest.
    Its bias must suit the number of negatives, and the paper has it ahead of :func:`info_nce_loss` in batches below
    16,000; for classes of many examples take :func:`~rankwell.losses.multi_similarity_loss`. On new images of digits it
    had MAP@R 0.8455, InfoNCE 0.8520 (``bench/results/digits.txt``); over frozen vectors of SciFact NDCG@10 0.7211 and
    0.7307 (``docs/leaderboard.md``).

    Args:
        temperature: what similarities are divided by, the paper's 1/t.
        bias: added to the scores; far below 0 it makes up for the number of negatives. Both defaults are those that the
            paper starts to learn from.
        similarity: dot, cosine, euclidean or squared_euclidean.

    Raises:
        InputError: if the similarity is unknown, or ``temperature`` is not above 0.

    >>> import torch
    >>> sigmoid_pairwise_loss(torch.eye(2), torch.eye(2), temperature=1.0, bias=0.0)  # log(1 + 1/e) + log 2
    tensor(1.0064)

    Source: :cite:`zhai2023`, section 3.2; equation number unchecked. Differs from it: temperature and bias are given, not
    learned.
    """
    check_similarity(similarity)
    check_positive(temperature, "temperature")
    check_finite(bias, "bias")
    grid = open_grid(queries, items, positives=positives, where=where, weights=weights)
    scores = grid.scores(similarity) / temperature + bias
    terms = functional.softplus(torch.where(grid.right, -scores, scores), threshold=40)
    return grid.reduce(Dense(terms, grid.where).sum(grid.weights * terms), reduction)
