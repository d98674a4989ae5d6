"""Other libraries' losses on the data of ``bench/losses.py``, forward and backward. What is not installed is left out.

Each is called as its own documentation has it, on its own layout, which is made beforehand. That they compute the same as
ours, up to factors, is tested in tests/parity.
"""

import functools
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Run = Callable[[], Any]
Args = dict[str, Any]

if torch.get_num_threads() == 1:  # jax reads it when it starts; it would use all processors
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

TOO_LARGE = 4 * 2**30
"""Bytes of one tensor beyond which a neighbour is left out, and said."""


def neighbours(name: str, args: Args) -> dict[str, Run]:
    """For each library that has the loss, a function of no arguments that runs it forward and backward.

    Args:
        name: ours.
        args: our arguments; or ``queries`` with ``classes``, for embeddings that are compared among each other.
    """
    found: dict[str, Run] = {}
    for library, package, of in (
        ("torch", "torch", of_torch),
        ("rax", "rax", of_rax),
        ("allRank", "allrank", of_allrank),
        ("pytorch-metric-learning", "pytorch_metric_learning", of_metric_learning),
        ("sentence-transformers", "sentence_transformers", of_sentence_transformers),
    ):
        if importlib.util.find_spec(package) is not None and (run := of(name, args)) is not None:
            found[library] = run
    return found


def backward(loss: Callable[..., Tensor], *leaves: Tensor) -> Run:
    """Forward and backward of a loss of these."""
    return lambda: torch.autograd.grad(loss(*leaves), leaves)


# ----------------------------------------------------------------------------------------------------------------- torch


def of_torch(name: str, args: Args) -> Run | None:
    """What torch.nn.functional has in one call."""
    if "scores" in args and name in TORCH_LISTS:
        labels = args["labels"]
        return backward(functools.partial(TORCH_LISTS[name], labels=labels), args["scores"])
    if "pos" in args and name in TORCH_ROWS:
        return backward(TORCH_ROWS[name], args["pos"], args["neg"])
    if name == "linear_softmax":
        logits_of = functools.partial(cross_entropy_of_products, own=args["targets"])
        return backward(logits_of, args["hidden"], args["item_weight"])
    if name == "info_nce" and "positives" in args:
        own = args["positives"].int().argmax(-1)
        return backward(functools.partial(cross_entropy_of_cosines, own=own), args["queries"], args["items"])
    if name == "sigmoid_pairwise" and "positives" in args:
        own = args["positives"].float()
        return backward(functools.partial(sigmoids_of_cosines, own=own), args["queries"], args["items"])
    return None


def kl_div(scores: Tensor, labels: Tensor) -> Tensor:
    return functional.kl_div(scores.log_softmax(-1), labels.log_softmax(-1), log_target=True, reduction="batchmean")


def classification(scores: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(scores.flatten(0, 1), labels.long().flatten())


def ordinal(scores: Tensor, labels: Tensor) -> Tensor:
    above = (labels[..., None] > torch.arange(scores.shape[-1])).to(scores)
    return functional.binary_cross_entropy_with_logits(scores, above)


TORCH_LISTS: dict[str, Callable[..., Tensor]] = {
    "sigmoid": lambda scores, labels: functional.binary_cross_entropy_with_logits(scores, labels),
    "mse": lambda scores, labels: functional.mse_loss(scores, labels),
    "mae": lambda scores, labels: functional.l1_loss(scores, labels),
    "smooth_l1": lambda scores, labels: functional.smooth_l1_loss(scores, labels),
    "softmax": lambda scores, labels: functional.cross_entropy(scores, labels),
    "listnet": lambda scores, labels: functional.cross_entropy(scores, labels.softmax(-1)),
    "kl": kl_div,
    "classification": classification,
    "ordinal": ordinal,
}


def first_of_all(pos: Tensor, neg: Tensor) -> Tensor:
    scores = torch.cat([pos[:, None], neg], -1)
    return functional.cross_entropy(scores, torch.zeros(len(pos), dtype=torch.long))


def soft_margin(pos: Tensor, neg: Tensor) -> Tensor:
    gaps = pos[:, None] - neg
    return functional.soft_margin_loss(gaps, torch.ones_like(gaps))


def margin_ranking(pos: Tensor, neg: Tensor) -> Tensor:
    return functional.margin_ranking_loss(pos[:, None], neg, torch.ones_like(neg), margin=1.0)


TORCH_ROWS: dict[str, Callable[..., Tensor]] = {
    "sampled_softmax": first_of_all,
    "bpr": soft_margin,
    "contrast_hinge": margin_ranking,
}


def cosines(queries: Tensor, items: Tensor) -> Tensor:
    return functional.normalize(queries, dim=-1) @ functional.normalize(items, dim=-1).T


def cross_entropy_of_products(hidden: Tensor, table: Tensor, *, own: Tensor) -> Tensor:
    return functional.cross_entropy(hidden @ table.T, own)


def cross_entropy_of_cosines(queries: Tensor, items: Tensor, *, own: Tensor) -> Tensor:
    return functional.cross_entropy(cosines(queries, items) / 0.05, own)


def sigmoids_of_cosines(queries: Tensor, items: Tensor, *, own: Tensor) -> Tensor:
    scores = cosines(queries, items) / 0.1 - 10
    return functional.binary_cross_entropy_with_logits(scores, own, reduction="sum") / len(queries)


# ------------------------------------------------------------------------------------------------------------------- rax


def of_rax(name: str, args: Args) -> Run | None:
    """Compiled value and gradient, which are waited for."""
    if "scores" not in args or (loss := rax_losses().get(name)) is None:
        return None
    import jax

    scores, labels = (jax.numpy.asarray(args[key].detach().numpy()) for key in ("scores", "labels"))
    step = jax.jit(jax.value_and_grad(loss)).lower(scores, labels).compile()
    return lambda: jax.block_until_ready(step(scores, labels))


@functools.cache
def rax_losses() -> dict[str, Callable[..., Any]]:
    import jax
    import rax

    def weighed(*weights: Callable[..., Any]) -> Callable[..., Any]:
        def together(*args: Any, **rest: Any) -> Any:
            return sum(weight(*args, **rest, normalize=True) for weight in weights)

        return functools.partial(rax.pairwise_logistic_loss, lambdaweight_fn=together)

    losses = {
        "softmax": rax.softmax_loss,
        "listnet": functools.partial(rax.softmax_loss, label_fn=lambda x, where: jax.nn.softmax(x)),  # noqa: ARG005
        "poly1_softmax": rax.poly1_softmax_loss,
        "unique_softmax": rax.unique_softmax_loss,
        "listmle": rax.listmle_loss,
        "hinge": rax.pairwise_hinge_loss,
        "logistic": rax.pairwise_logistic_loss,
        "soft_zero_one": rax.pairwise_soft_zero_one_loss,
        "pairwise_mse": rax.pairwise_mse_loss,
        "sigmoid": rax.pointwise_sigmoid_loss,
        "mse": rax.pointwise_mse_loss,
        "lambda_rank": weighed(rax.dcg_lambdaweight),
        "ndcg_loss2": weighed(rax.dcg2_lambdaweight),
        "ndcg_loss2pp": weighed(rax.dcg_lambdaweight, rax.dcg2_lambdaweight),
        "lambda_loss": weighed(rax.dcg2_lambdaweight),
    }
    if hasattr(getattr(jax, "util", None), "wraps"):  # which rax's transformations need; gone from jax 0.7
        key = jax.random.PRNGKey(0)
        approximate = functools.partial(rax.approx_t12n, temperature=0.1)
        losses |= {
            "approx_ndcg": approximate(rax.ndcg_metric),
            "approx_mrr": approximate(rax.mrr_metric),
            "smooth_ap": approximate(rax.ap_metric),
            "gumbel_approx_ndcg": functools.partial(rax.gumbel_t12n(approximate(rax.ndcg_metric)), key=key),
        }
    return losses


# --------------------------------------------------------------------------------------------------------------- allRank


def of_allrank(name: str, args: Args) -> Run | None:
    """Over scores and labels."""
    if "scores" not in args or args["scores"].ndim != 2 or (loss := allrank_losses().get(name)) is None:
        return None
    lists, items = args["scores"].shape
    if name == "neural_ndcg" and (needed := 50 * 4 * 4 * lists * items**2) > TOO_LARGE:  # its Sinkhorn steps, kept
        print(f"allRank's loss for {name} would take {needed / 2**30:,.0f} GB: left out")
        return None
    return backward(functools.partial(loss, y_true=args["labels"].float()), args["scores"])


@functools.cache
def allrank_losses() -> dict[str, Callable[..., Tensor]]:
    """Of a release that asks for torch 1.8 at most: ``pip install --no-deps allRank``, and its readers of files left out."""
    for module, names in (
        ("allrank.data.dataset_loading", {"PADDED_Y_VALUE": -1}),
        ("allrank.utils.file_utils", {"is_gs_path": None, "copy_file_to_local": None}),
    ):
        sys.modules[module] = types.ModuleType(module)
        vars(sys.modules[module]).update(names)
    from allrank.models import losses

    def scheme(kind: str) -> Callable[..., Tensor]:
        return functools.partial(losses.lambdaLoss, weighing_scheme=f"{kind}_scheme")

    return {
        "listmle": losses.listMLE,
        "listnet": losses.listNet,
        "logistic": losses.rankNet,
        "approx_ndcg": functools.partial(losses.approxNDCGLoss, alpha=10.0),
        "neural_ndcg": losses.neuralNDCG,
        "lambda_rank": scheme("lambdaRank"),
        "ndcg_loss1": scheme("ndcgLoss1"),
        "ndcg_loss2": scheme("ndcgLoss2"),
        "ndcg_loss2pp": scheme("ndcgLoss2PP"),
    }


# ----------------------------------------------------------------------------------------------- pytorch-metric-learning


def of_metric_learning(name: str, args: Args) -> Run | None:
    """Over pairs of queries and items, or over a batch with class labels, beside a memory of as many as we were given."""
    if name == "cross_batch_memory":
        return metric_learning_memory(**args)
    if "queries" not in args or (make := metric_learning_losses().get(name)) is None:
        return None
    loss, queries = make(), args["queries"]
    if "classes" in args:
        if name == "n_pair" or too_large(name, pairs_of(args["classes"])):
            return None
        return backward(functools.partial(loss, labels=args["classes"]), queries)
    positives = args["positives"]
    indices = (*torch.nonzero(positives, as_tuple=True), *torch.nonzero(~positives, as_tuple=True))
    if too_large(name, (int(positives.sum()), int((~positives).sum()))):
        return None
    return backward(lambda x, y: loss(x, indices_tuple=indices, ref_emb=y), queries, args["items"])


@functools.cache
def metric_learning_losses() -> dict[str, Callable[[], Callable[..., Tensor]]]:
    from pytorch_metric_learning import distances, losses

    def euclidean(power: int = 1) -> Any:
        return distances.LpDistance(normalize_embeddings=False, power=power)

    return {
        "info_nce": lambda: losses.NTXentLoss(temperature=0.05),
        "n_pair": lambda: losses.NTXentLoss(temperature=1.0),
        "supervised_contrastive": losses.SupConLoss,
        "multi_similarity": losses.MultiSimilarityLoss,
        "circle": lambda: losses.CircleLoss(m=0.25, gamma=256),
        "triplet": lambda: losses.TripletMarginLoss(margin=1.0, distance=euclidean(2)),
        "contrastive_margin": lambda: losses.ContrastiveLoss(neg_margin=1.0, distance=euclidean()),
        "lifted_structure": lambda: losses.LiftedStructureLoss(neg_margin=1.0, distance=euclidean()),
    }


def metric_learning_memory(queries: Tensor, ids: Tensor, places: int) -> Run:
    """Its memory holds the batch too, and so many embeddings besides; it is full."""
    from pytorch_metric_learning import distances, losses

    distance = distances.LpDistance(normalize_embeddings=False, power=1)
    size = len(queries) + places
    memory = losses.CrossBatchMemory(
        losses.ContrastiveLoss(neg_margin=1.0, distance=distance), queries.shape[-1], memory_size=size
    )
    while not memory.has_been_filled:
        memory(queries.detach(), labels=ids)
    return backward(functools.partial(memory, labels=ids), queries)


def pairs_of(classes: Tensor) -> tuple[int, int]:
    """How many ordered positive pairs, and negative ones."""
    same = int(torch.unique(classes, return_counts=True)[1].square().sum())
    return same - len(classes), len(classes) ** 2 - same


def too_large(name: str, pairs: tuple[int, int]) -> bool:
    """Whether a loss that compares each positive pair with all negative pairs would not fit."""
    needed = 4 * pairs[0] * pairs[1]
    if name not in ("info_nce", "n_pair", "lifted_structure") or needed <= TOO_LARGE:
        return False
    print(f"pytorch-metric-learning's loss for {name} would take tensors of {needed / 2**30:,.0f} GB: left out")
    return True


# ------------------------------------------------------------------------------------------------- sentence-transformers


def of_sentence_transformers(name: str, args: Args) -> Run | None:
    """Its listwise losses around a model that only looks scores up, and its losses of embeddings."""
    if "scores" in args and name in CROSS_ENCODERS:
        return cross_encoder(*CROSS_ENCODERS[name], args["scores"], args["labels"])
    diagonal = "positives" in args and len(args["queries"]) <= len(args["items"])
    if name == "info_nce" and diagonal:
        from sentence_transformers.sentence_transformer import losses

        loss, own = losses.MultipleNegativesRankingLoss(None), len(args["queries"])

        def ranking(queries: Tensor, items: Tensor) -> Tensor:
            return loss.compute_loss_from_embeddings([queries, items[:own], items[own:]], items)

        return backward(ranking, args["queries"], args["items"])
    return None


CROSS_ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "listmle": ("ListMLELoss", {"respect_input_order": False}),
    "p_listmle": ("PListMLELoss", {"respect_input_order": False}),
    "listnet": ("ListNetLoss", {}),
    "logistic": ("RankNetLoss", {}),
    "lambda_rank": ("LambdaLoss", {"weighting_scheme": "LambdaRankScheme"}),
    "ndcg_loss1": ("LambdaLoss", {"weighting_scheme": "NDCGLoss1Scheme"}),
    "ndcg_loss2": ("LambdaLoss", {"weighting_scheme": "NDCGLoss2Scheme"}),
    "ndcg_loss2pp": ("LambdaLoss", {"weighting_scheme": "NDCGLoss2PPScheme"}),
}


class Lookup(torch.nn.Module):
    """In place of a cross-encoder: it has the scores already, and returns them all."""

    num_labels, device = 1, torch.device("cpu")

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def preprocess(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """Nothing to prepare."""
        return {}

    def forward(self, _: dict[str, Tensor]) -> dict[str, Tensor]:
        """All scores."""
        return {"scores": self.scores.flatten()}


def cross_encoder(kind: str, own: Args, scores: Tensor, labels: Tensor) -> Run:
    from sentence_transformers.cross_encoder import losses

    own = {key: getattr(losses, value)() if key == "weighting_scheme" else value for key, value in own.items()}
    texts: list[Any] = [["query"] * len(scores), [["document"] * scores.shape[-1]] * len(scores)]
    grades: list[Tensor] = list(labels)
    return backward(lambda x: getattr(losses, kind)(Lookup(x), mini_batch_size=-1, **own)(texts, grades), scores)
