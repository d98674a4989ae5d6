"""Item-based neighbours by features: what a model of features must beat, and a first answer for new items."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from rankwell.lists import take_lists
from rankwell.models.history import HistoryModel
from rankwell.models.registry import MODELS
from rankwell.models.spectral import compressed
from rankwell.models.tower import check_features
from rankwell.registry import Input
from rankwell.similarity import normalise
from rankwell.types import Features, Ragged

__all__ = ["FeatureKNN"]


@MODELS.register(
    "interactions",
    name="feature_knn",
    paper="pazzani2007",
    complexity="categories + items · numbers a query",
    inputs={"item_features": Input("catalogue")},
)
class FeatureKNN(HistoryModel):
    r"""Items by the likeness of their features to those of the items that the user knows.

    .. math:: s_{uj} = \sum_{i \in H_u} \frac{|C_i \cap C_j|}{\sqrt{|C_i|\,|C_j|}} + \cos(\tilde x_i, \tilde x_j)

    :math:`C_i` are the categories of item i, :math:`\tilde x_i` its numbers, standardised by the items that occur in training,
    missing ones 0: the entries of a text's vector, say. No interaction is looked at but the user's own, so that new items are
    as good as others. Fit: one pass. Scoring: two sparse products with the categories, two with the numbers; no item × item
    matrix. Without features all items score 0.

    Args:
        item_features: a row an item.
        columns: names of the columns of items that the trainer makes ``item_features`` of (see ``data.items``).

    Raises:
        InputError: if features do not have a row each.

    >>> features = Features(torch.zeros(3, 0), Ragged(torch.tensor([0, 1, 2, 4]), torch.tensor([0, 1, 0, 1])), 2)
    >>> model = FeatureKNN(1, 3, item_features=features)
    >>> model.initialise(Ragged(torch.tensor([0, 1]), torch.tensor([0])), seed=0)
    >>> model.score_all(torch.tensor([0]))  # of items with category 0, category 1, both
    tensor([[1.0000, 0.0000, 0.7071]])

    Source: content-based recommendation by nearest neighbours, :cite:`pazzani2007`, section 10.3; section unchecked. Differs
    from it: all items of the history are neighbours, none weighs by its distance in rank.
    """

    numbers: Tensor
    offsets: Tensor
    codes: Tensor
    scaled: Tensor
    category_rows: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        item_features: Features | None = None,
        columns: tuple[str, ...] = (),
    ) -> None:
        super().__init__(num_users, num_items)
        lists = Ragged(torch.zeros(num_items + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
        features = item_features or Features(torch.zeros(num_items, 0), lists, 0)
        check_features(features, num_items)
        self.columns = columns
        self.register_buffer("numbers", features.numbers.float())
        self.register_buffer("offsets", features.categories.offsets.long())
        self.register_buffer("codes", features.categories.values.long())
        for name in ("scaled", "category_rows"):
            self.register_buffer(name, None, persistent=False)
        self._rebuild()

    @torch.no_grad()
    def initialise(self, known: Ragged, *, seed: int) -> None:  # noqa: ARG002 - the contract's; nothing is drawn
        """Keep the histories, and scale the numbers."""
        self.remember(known)

    @torch.no_grad()
    def score_history(self, history: Ragged, out: Float[Tensor, "q m"] | None = None) -> Float[Tensor, "q m"]:
        """Scores of every item for each list of item codes (no code twice in a list)."""
        queries = len(history.offsets) - 1
        known = self.scaled.new_zeros(queries, 0)
        if self.scaled.shape[1]:  # bags of rows without columns are an error on more than one thread
            known = functional.embedding_bag(history.values, self.scaled, history.offsets[:-1], mode="sum")
        scores = torch.mm(known, self.scaled.T, out=out)
        if not len(self.codes) or not queries:
            return scores
        # What each history has of each category: categories are many, and an item has few.
        places = Ragged(self.offsets, torch.arange(len(self.codes), device=self.codes.device))
        reached = take_lists(places, history.values)
        lists = torch.repeat_interleave(history.offsets.diff(), output_size=len(history.values))
        rows = torch.repeat_interleave(lists, reached.offsets.diff(), output_size=len(reached.values))
        profiles = self.numbers.new_zeros(self.category_rows.shape[1], queries)
        cells = self.codes[reached.values], rows
        profiles.index_put_(cells, self.category_rows.values()[reached.values], accumulate=True)
        return scores.add_((self.category_rows @ profiles).T)

    def _rebuild(self) -> None:
        """Make what follows from features and histories: numbers as they are compared, and categories of length one."""
        seen = self.numbers[torch.bincount(self.history_items, minlength=self.num_items) > 0]
        mean = seen.nanmean(0)
        spread = (seen - mean).square().nanmean(0).sqrt()
        scaled = (self.numbers - mean) / torch.where(spread > 0, spread, 1)
        self.scaled = normalise(scaled.nan_to_num(0.0, 0.0, 0.0))
        sizes = self.offsets.diff()
        values = torch.repeat_interleave(sizes, output_size=len(self.codes))
        shares = sizes[values].to(self.numbers).rsqrt()
        count = int(self.codes.max()) + 1 if len(self.codes) else 1
        self.category_rows = compressed(self.offsets, self.codes, shares, (self.num_items, count))

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the compressed matrix, which torch cannot copy."""
        return self.__dict__ | {"_buffers": self._buffers | {"category_rows": None}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._rebuild()

    def _of_any_length(self) -> tuple[str, ...]:
        return ("history_items", "numbers", "codes")
