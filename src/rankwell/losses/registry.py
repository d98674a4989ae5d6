"""The registry of losses, and the contract of each kind: its arguments are documented here, once."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Protocol, TypeAlias, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rankwell.registry import Input, Registry, Search
from rankwell.types import Kind, Labels, Mask, Offsets, Ragged, Reduction, Scores, Values, Weights

__all__ = [
    "LOSSES",
    "OVERWRITE",
    "ContrastLoss",
    "EmbeddingLoss",
    "GradedLoss",
    "GradedScores",
    "HeadLoss",
    "Hidden",
    "IdLists",
    "ItemWeight",
    "Items",
    "ListLoss",
    "Margin",
    "Neg",
    "Pos",
    "Positives",
    "Queries",
    "StatefulLoss",
    "Targets",
    "Temperature",
    "contrast_loss",
    "embedding_loss",
    "graded_loss",
    "head_loss",
    "list_loss",
    "stateful_loss",
]

GradedScores: TypeAlias = Float[Tensor, "*batch list grades"]
"""Several scores an item: dense ``[*batch, list, grades]``, or ragged ``[total, grades]`` beside ``offsets``."""

Pos: TypeAlias = Float[Tensor, "..."]
"""Scores of positives: ``[*batch]``, or ``[*batch, m]`` for several."""

Neg: TypeAlias = Float[Tensor, "*batch n"]
"""Scores of negatives."""

Queries: TypeAlias = Float[Tensor, "*batch q d"]
Items: TypeAlias = Float[Tensor, "*batch m d"]
Positives: TypeAlias = Bool[Tensor, "*batch q m"]

Hidden: TypeAlias = Float[Tensor, "*batch d"]
"""What the model makes of each row, to be held against the items."""

ItemWeight: TypeAlias = Float[Tensor, "m d"]
"""The table of items, shared by all rows."""

IdLists: TypeAlias = Ragged | tuple[Tensor, Tensor]
"""Ragged lists, one a row: offsets ``[rows + 1]`` and ids ``[total]``, by these names or as a plain pair."""

Targets: TypeAlias = Int[Tensor, "..."] | IdLists
"""Ids of right items: ``[*batch]``, ``[*batch, p]``, or ragged lists, one a row."""

OVERWRITE = {"overwrite": Input("scalar", "flag")}
"""The input of contrast losses that can work in the negatives' own memory: :class:`~rankwell.types.Overwrite` where ``neg`` is
theirs to write over. It is then minus infinity at absent negatives already, and is differentiated once. Giving a parameter is
an error."""

Temperature: TypeAlias = Annotated[float, Search(0.01, 1.0, log=True)]
"""What scores, most often cosines, are divided by."""

Margin: TypeAlias = Annotated[float, Search(0.05, 10.0, log=True)]
"""A gap, in units of the scores."""


class ListLoss(Protocol):
    """A loss of the scores and labels of whole lists."""

    def __call__(
        self,
        scores: Scores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a list, reduced.

        Args:
            scores: ``[*batch, list]``; flat ``[total]`` beside ``offsets``. Half precision is computed in float32. Valid
                scores must be finite: mask an item instead of scoring it minus infinity.
            labels: relevance, of the same shape; higher is more relevant. They are cast to the scores' type: float32 keeps
                whole numbers up to 2^24. Valid labels must be finite.
            where: true where an item is there. What is masked is as good as removed, NaN and inf included.
            weights: broadcast to ``scores``: one an item, or ``[*batch, 1]`` for one a list.
            offsets: ``[lists + 1]``, where each ragged list starts, and the total at the end; int64 or int32.
            reduction: ``"none"``, one value a list; ``"sum"``; ``"mean"``, over the lists that have a valid item.

        Raises:
            InputError: if shapes do not fit, scores are not floating point or the mask not boolean, the offsets do not cut
                the scores, or the reduction is unknown.
        """
        ...


class GradedLoss(Protocol):
    """A loss of whole lists with several scores an item: one a grade, or one a step between grades."""

    def __call__(
        self,
        scores: GradedScores,
        labels: Labels,
        *,
        where: Mask | None = None,
        weights: Weights | None = None,
        offsets: Offsets | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a list, reduced. To rank by such scores take :func:`~rankwell.losses.expected_grade` of them.

        Args:
            scores: ``[*batch, list, grades]``; ``[total, grades]`` beside ``offsets``. Half precision is computed in
                float32.
            labels: grades 0, 1, …, of the shape of ``scores`` less its last axis.
            where: true where an item is there, broadcast to ``labels``. What is masked is as good as removed.
            weights: broadcast to ``labels``: one an item, or ``[*batch, 1]`` for one a list.
            offsets: ``[lists + 1]``, where each ragged list starts, and the total at the end.
            reduction: ``"none"``, one value a list; ``"sum"``; ``"mean"``, over the lists that have a valid item.

        Raises:
            InputError: if shapes do not fit, scores are not floating point or the mask not boolean, the offsets do not cut
                the scores, or the reduction is unknown.
        """
        ...


class ContrastLoss(Protocol):
    """A loss of the scores of positives against those of negatives."""

    def __call__(
        self,
        pos: Pos,
        neg: Neg,
        *,
        pos_where: Mask | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a row, reduced.

        Args:
            pos: ``[*batch]``, or ``[*batch, m]`` for several positives a row.
            neg: ``[*batch, n]``.
            pos_where: true where a positive is there; broadcasts to ``pos``.
            where: true where a negative is there; broadcasts to ``neg``. A row without negatives keeps its other terms.
            weights: of the positives; broadcast to ``pos``. A term of the negatives alone is weighed by their mean.
            reduction: ``"none"``, one value a row; ``"sum"``; ``"mean"``, over the rows that have a valid positive.

        Raises:
            InputError: if shapes do not fit, scores are not floating point or masks not boolean, or the reduction is
                unknown.
        """
        ...


class EmbeddingLoss(Protocol):
    """A loss of embeddings: every query against every item."""

    def __call__(
        self,
        queries: Queries,
        items: Items,
        *,
        positives: Positives | None = None,
        where: Mask | None = None,
        weights: Weights | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a query, reduced.

        Args:
            queries: ``[*batch, q, d]``.
            items: ``[*batch, m, d]``.
            positives: ``[*batch, q, m]``, true where the item is right for the query; None for the diagonal.
            where: true where the pair counts, broadcastable to ``[*batch, q, m]``; leave out self-pairs here.
            weights: broadcast to ``[*batch, q, m]``; ``[*batch, q, 1]`` for one a query.
            reduction: ``"none"``, one value a query; ``"sum"``; ``"mean"``, over the queries that have a valid item.

        Raises:
            InputError: if shapes do not fit or an option is unknown.
        """
        ...


class HeadLoss(Protocol):
    """A loss of hidden states against the item table, that makes the scores itself."""

    def __call__(
        self,
        hidden: Hidden,
        item_weight: ItemWeight,
        targets: Targets,
        *,
        known: IdLists | None = None,
        weights: Weights | None = None,
        log_q: Float[Tensor, " m"] | None = None,
        chunk: int | None = None,
        reduction: Reduction = "mean",
        **own: Any,
    ) -> Values:
        """One value a row, reduced.

        Args:
            hidden: ``[*batch, d]``. Half precision is computed in float32.
            item_weight: ``[m, d]``; ids are its rows.
            targets: the right items: ``[*batch]``; ``[*batch, p]`` or ragged lists for several a row, the rows of the batch
                one behind the other. -1 is none.
            known: ragged lists, ``(offsets, ids)``, of items that a row has already, which are left out of its denominator;
                its targets are not.
            weights: one a row; broadcast to ``[*batch]``.
            log_q: ``[m]``, where the table is a sample of the catalogue: the log-probability of one draw of the item.
            chunk: items whose logits are made at once, None for a good number; it changes memory and speed, no value.
            reduction: ``"none"``, one value a row; ``"sum"``; ``"mean"``, over the rows that have a target.

        Raises:
            InputError: if shapes or types do not fit, ids are no rows of the table, or the reduction is unknown.
        """
        ...


class StatefulLoss(Protocol):
    """A loss that remembers: a module, built first and then called.

    Numbers that the data knows (``num_ids``, ``dim``) come first in its constructor, and are declared as inputs; what may be
    set is keyword-only. All state is in buffers and parameters, and so in ``state_dict``. Calls change nothing, however many
    there are (recomputation makes two); :meth:`update`, once a step and behind its backward pass, does.
    """

    call: ClassVar[Kind]
    """The kind of loss that it is called as. An embedding loss takes ``ids``, and ``item_ids``, in place of ``positives``."""
    inputs: ClassVar[Mapping[str, Input]]
    """What calls take besides, as the ids that it remembers something of."""

    def __call__(self, *args: Any, reduction: Reduction = "mean", **named: Any) -> Values:
        """One value a list, row or query, reduced."""
        ...

    def update(self, *args: Any, **named: Any) -> None:
        """Remember this step: the ids, and what the loss was called with."""
        ...


_ELSEWHERE = MappingProxyType(
    {
        "bce": "sigmoid",
        "binary_cross_entropy": "sigmoid",
        "clip": "info_nce",
        "cross_entropy": "softmax",
        "dice": "soft_dice",
        "huber": "smooth_l1",
        "irgan": "irgan_generator",
        "kl_div": "kl",
        "lambdamart": "lambda_rank",
        "lambdarank": "lambda_rank",
        "margin_ranking": "hinge",
        "mnrl": "info_nce",
        "multiple_negatives_ranking": "info_nce",
        "nt_xent": "info_nce",
        "pairwise_hinge": "hinge",
        "pairwise_logistic": "logistic",
        "rank_net": "logistic",
        "rankboost": "exponential",
        "ranknet": "logistic",
        "ranksvm": "hinge",
        "siglip": "sigmoid_pairwise",
        "ssm": "sampled_softmax",
        "supcon": "supervised_contrastive",
    }
)
"""Names of papers and other libraries, with ours. None of them works here: the error says what to write."""

LOSSES: Registry[Callable[..., Tensor]] = Registry(
    "loss",
    {
        "list": ("scores", "labels", "where", "weights", "offsets", "reduction"),
        "contrast": ("pos", "neg", "pos_where", "where", "weights", "reduction"),
        "embedding": ("queries", "items", "positives", "where", "weights", "reduction"),
        "graded": ("scores", "labels", "where", "weights", "offsets", "reduction"),
        "head": ("hidden", "item_weight", "targets", "known", "weights", "log_q", "chunk", "reduction"),
        "stateful": (),
    },
    suffix="_loss",
    elsewhere=_ELSEWHERE,
)
"""Every loss by its name: the function's, less ``_loss``."""

list_loss = partial(LOSSES.register, "list")
graded_loss = partial(LOSSES.register, "graded")
contrast_loss = partial(LOSSES.register, "contrast")
embedding_loss = partial(LOSSES.register, "embedding")
head_loss = partial(LOSSES.register, "head")

_Class = TypeVar("_Class", bound=type[nn.Module])


def stateful_loss(name: str | None = None, **facts: Any) -> Callable[[_Class], _Class]:
    """Register a class of modules, a :class:`StatefulLoss`."""
    return LOSSES.register("stateful", name=name, **facts)  # type: ignore[return-value]
