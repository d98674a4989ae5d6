"""Losses that rax has too.

Its listwise losses give a value a list, as ours do. Its point- and pairwise ones have a mean over the batch alone, which is
ours where it is taken list by list; so they are called on one list at a time.
"""

import functools
import math
from typing import Any

import torch
from comparisons import Comparison, Data, Loss, binary, binary_masked, masked, masked_only, one_relevant, ordered
from torch import Tensor

from rankwell.losses import (
    approx_mrr_loss,
    approx_ndcg_loss,
    hinge_loss,
    lambda_loss,
    lambda_rank_loss,
    listmle_loss,
    listnet_loss,
    logistic_loss,
    mse_loss,
    ndcg_loss2,
    ndcg_loss2pp,
    pairwise_mse_loss,
    poly1_softmax_loss,
    sigmoid_loss,
    smooth_ap_loss,
    soft_zero_one_loss,
    softmax_loss,
    unique_softmax_loss,
)
from rankwell.transforms import bound

ITEM_MEAN = "mean over a list's items; its lists one at a time"
PAIR_MEAN = "mean over a list's pairs; its lists one at a time"
PER_LIST = "value a list"
LAMBDA = "sum over a list's pairs; there the number of items n is a factor, normalize=True"
LOG2 = "; natural logarithm there, base 2 here"


def in_jax(loss: Loss, data: Data, leaves: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
    """As ``in_torch``, on float64 arrays."""
    import jax
    from jax.experimental import enable_x64

    with enable_x64():
        arrays = {name: jax.numpy.asarray(x.numpy()) for name, x in data.items()}
        fixed = {name: x for name, x in arrays.items() if name not in leaves}

        def summed(given: dict[str, Any]) -> tuple[Any, Any]:
            values = loss(**given, **fixed)
            return values.sum(), values

        (_, values), gradients = jax.jit(jax.value_and_grad(summed, has_aux=True))(
            {name: arrays[name] for name in leaves}
        )
        back = functools.partial(torch.tensor, dtype=torch.double)
        return back(values.tolist()), [back(gradients[name].tolist()) for name in leaves]


def each(name: str, **own: Any) -> Loss:
    """A loss of rax by name, a value a list."""

    def loss(**data: Any) -> Any:
        import rax

        return getattr(rax, name)(**data, **own, reduce_fn=None)

    return loss


def list_by_list(name: str, **own: Any) -> Loss:
    """A loss of rax by name, its mean over the batch taken of one list at a time."""

    def loss(**data: Any) -> Any:
        import jax
        import rax

        return jax.vmap(lambda row: getattr(rax, name)(**row, **own))(data)

    return loss


def lambda_sums(weight: str, **own: Any) -> Loss:
    """The pairwise logistic loss under the lambda weights of that name, summed over a list's pairs."""

    def loss(**data: Any) -> Any:
        import rax

        weights = functools.partial(getattr(rax, weight), **own)
        return rax.pairwise_logistic_loss(**data, lambdaweight_fn=weights, reduce_fn=None).sum(-1)

    return loss


def of_metric(transformation: str, metric: str, **own: Any) -> Loss:
    """One more than a metric that rax made a loss."""

    def loss(**data: Any) -> Any:
        import rax

        return 1 + getattr(rax, transformation)(getattr(rax, metric), **own)(**data, reduce_fn=None)

    return loss


def listnet(**data: Any) -> Any:
    """Softmax loss over labels that are a softmax."""
    import jax
    import rax

    return rax.softmax_loss(
        **data, reduce_fn=None, label_fn=lambda x, where: jax.nn.softmax(jax.numpy.where(where, x, -jax.numpy.inf))
    )


def ndcg2pp(**data: Any) -> Any:
    """Both lambda weights, the second ten times."""
    return lambda_sums("dcg_lambdaweight", normalize=True)(**data) + 10 * lambda_sums(
        "dcg2_lambdaweight", normalize=True
    )(**data)


def per_list(loss: Any, **own: Any) -> Loss:
    """Ours, a value a list."""
    return lambda **data: loss(**data, **own, reduction="none")


def times(factor: Any, loss: Any, **own: Any) -> Loss:
    """Ours, times a number for each list."""
    return lambda **data: factor(**data) * loss(**data, **own, reduction="none")


def _size(scores: Tensor, **_: Tensor) -> int:
    return scores.shape[-1]


def _size_log2(scores: Tensor, **_: Tensor) -> float:
    return scores.shape[-1] * math.log(2)


def _share_apart(where: Tensor, **_: Tensor) -> Tensor:
    """Of all pairs, those that are not an item with itself."""
    return 1 - 1 / where.sum(-1).double()


COMPARISONS = [
    Comparison(*row, run=in_jax)
    for row in (
        ("softmax", "softmax_loss", masked, per_list(softmax_loss), each("softmax_loss"), PER_LIST),
        ("listnet", "softmax_loss(label_fn=softmax)", masked_only, per_list(listnet_loss), listnet, PER_LIST),
        ("poly1_softmax", "poly1_softmax_loss", one_relevant, per_list(poly1_softmax_loss, epsilon=2.0),
         each("poly1_softmax_loss", epsilon=2.0), PER_LIST + "; one relevant item"),
        ("unique_softmax", "unique_softmax_loss", masked, per_list(unique_softmax_loss),
         each("unique_softmax_loss"), PER_LIST),
        ("listmle", "listmle_loss", ordered, per_list(listmle_loss), each("listmle_loss"), PER_LIST + "; distinct labels"),
        ("hinge", "pairwise_hinge_loss", masked, per_list(hinge_loss), list_by_list("pairwise_hinge_loss"), PAIR_MEAN),
        ("logistic", "pairwise_logistic_loss", masked, per_list(logistic_loss),
         list_by_list("pairwise_logistic_loss"), PAIR_MEAN),
        ("soft_zero_one", "pairwise_soft_zero_one_loss", masked, per_list(soft_zero_one_loss),
         list_by_list("pairwise_soft_zero_one_loss"), PAIR_MEAN),
        ("pairwise_mse", "pairwise_mse_loss", masked, times(_share_apart, pairwise_mse_loss),
         list_by_list("pairwise_mse_loss"), PAIR_MEAN + "; there an item is paired with itself too"),
        ("sigmoid", "pointwise_sigmoid_loss", binary_masked, per_list(sigmoid_loss),
         list_by_list("pointwise_sigmoid_loss"), ITEM_MEAN),
        ("mse", "pointwise_mse_loss", masked, per_list(mse_loss), list_by_list("pointwise_mse_loss"), ITEM_MEAN),
        ("lambda_rank", "pairwise_logistic_loss(labeldiff)", masked_only, per_list(lambda_rank_loss, metric="arp"),
         lambda_sums("labeldiff_lambdaweight"), "metric arp; sum over a list's pairs"),
        ("lambda_rank", "pairwise_logistic_loss(dcg)", masked_only, times(_size, lambda_rank_loss),
         lambda_sums("dcg_lambdaweight", normalize=True), LAMBDA),
        ("ndcg_loss2", "pairwise_logistic_loss(dcg2)", masked_only, times(_size_log2, ndcg_loss2),
         lambda_sums("dcg2_lambdaweight", normalize=True), LAMBDA + LOG2),
        ("ndcg_loss2pp", "pairwise_logistic_loss(dcg + 10 dcg2)", masked_only, times(_size_log2, ndcg_loss2pp), ndcg2pp,
         LAMBDA + LOG2),
        ("lambda_loss", "pairwise_logistic_loss(dcg2, topn=3)", masked_only, times(_size_log2, lambda_loss, k=3),
         lambda_sums("dcg2_lambdaweight", normalize=True, topn=3), LAMBDA + LOG2),
        ("approx_ndcg", "approx_t12n(ndcg_metric)", masked, per_list(approx_ndcg_loss, temperature=0.5),
         of_metric("approx_t12n", "ndcg_metric", temperature=0.5), PER_LIST + "; one less, there the negative"),
        ("approx_mrr", "approx_t12n(mrr_metric)", one_relevant, per_list(approx_mrr_loss, temperature=0.5),
         of_metric("approx_t12n", "mrr_metric", temperature=0.5),
         PER_LIST + "; one less, there the negative; one relevant item"),
        ("smooth_ap", "approx_t12n(ap_metric)", one_relevant, per_list(smooth_ap_loss, temperature=0.5),
         of_metric("approx_t12n", "ap_metric", temperature=0.5),
         PER_LIST + "; one less, there the negative; one relevant item"),
        ("bound(ndcg)", "bound_t12n(ndcg_metric)", masked, per_list(bound("ndcg")),
         of_metric("bound_t12n", "ndcg_metric"), PER_LIST + "; one less, there the negative"),
        ("bound(mrr)", "bound_t12n(mrr_metric)", one_relevant, per_list(bound("mrr")),
         of_metric("bound_t12n", "mrr_metric"), PER_LIST + "; one less, there the negative; one relevant item"),
        ("bound(ap)", "bound_t12n(ap_metric)", binary, per_list(bound("ap")),
         of_metric("bound_t12n", "ap_metric"), PER_LIST + "; one less, there the negative"),
    )
]  # fmt: skip
