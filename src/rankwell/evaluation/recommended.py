"""What is recommended, measured as a whole: how much of the catalogue it shows, how popular it is, how varied."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell.errors import ConfigError, InputError
from rankwell.evaluation.top import top_items
from rankwell.lists import take_lists
from rankwell.metrics import METRICS, Measure
from rankwell.metrics.registry import RESULTS, filled_by_column
from rankwell.types import Ragged

__all__ = ["Background", "check_recommended", "measure_recommended"]


@dataclass(frozen=True, eq=False)
class Background:
    """What the data tell beside the recommended items. It does not depend on the model, so that figures compare."""

    history: Ragged
    """Items that each user has, by the codes of users."""
    counts: Int[Tensor, " m"]
    """How many users have each item of the catalogue in training."""
    num_users: int
    """Users that they were counted among."""
    columns: Mapping[str, Float[Tensor, "m c"]] = field(default_factory=dict)
    """Vectors of the catalogue's items, or weights of their categories, by the names that measures have for them."""

    @classmethod
    def of(
        cls, history: Ragged, num_items: int, columns: Mapping[str, Float[Tensor, "m c"]] | None = None
    ) -> "Background":
        """Where users have what they had in training, each item once."""
        counts = torch.bincount(history.values, minlength=num_items)
        return cls(history, counts, history.offsets.numel() - 1, columns or {})


def measure_recommended(
    measures: Iterable[Measure],
    items: Int[Tensor, "u k"],
    *,
    users: Int[Tensor, " u"],
    known: Ragged,
    held_out: Ragged,
    background: Background,
) -> dict[str, Tensor]:
    """Measures of the items that were recommended to users, each of as many of the first ones as its cut-off says.

    One value a user, NaN for users that do not count, or one number for all of them together (``coverage``, ``gini``). What a
    metric has to know is named by its inputs: counts and histories are the background's, ``relevant`` is what is held out,
    and ``expected`` what :class:`~rankwell.models.Popularity` would recommend: as many of the items that most users have,
    without those that are ``known``, which are not recommended either.

    Raises:
        ConfigError: where the background lacks what a metric must know, or a parameter is out of range.

    >>> history, items = Ragged(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 0])), torch.tensor([[2, 3], [1, 2]])
    >>> of = {"users": torch.arange(2), "known": history, "held_out": history, "background": Background.of(history, 4)}
    >>> measure_recommended([Measure.parse("coverage@1"), Measure.parse("novelty@2")], items, **of)
    {'coverage@1': tensor(0.5000), 'novelty@2': tensor([1., 1.])}
    """
    given: Mapping[str, Callable[[int], Any]] = {
        "num_items": lambda _: background.counts.numel(),
        "num_users": lambda _: background.num_users,
        "counts": lambda _: background.counts,
        "history": lambda _: take_lists(background.history, users),
        "relevant": lambda _: take_lists(held_out, users),
        "expected": lambda k: top_items(_MostUsed(background.counts), users, k, known=known).ids,
    }
    values = {}
    for measure in measures:
        entry, k = METRICS[measure.name], measure.k or 0  # which it has
        own = {name: value for name, value in measure.parameters if name in entry.parameters}
        inputs = {name: given[name](k) for name in entry.inputs if name in given}
        if filled := filled_by_column(entry):
            inputs[filled] = _column(measure, filled, background)
        if lacking := [name for name, each in entry.inputs.items() if each.required and name not in inputs]:
            raise ConfigError(f"{measure} needs {', '.join(lacking)}, which these data do not tell. Leave it out.")
        each = {"reduction": "none", "uncounted": torch.nan} if entry.kind == "user" else {}
        try:
            values[str(measure)] = entry(items[:, :k], **own, **inputs, **each)
        except InputError as error:
            raise ConfigError(f"{measure}: {error}") from error
    return values


def check_recommended(measures: Sequence[Measure], background: Background) -> None:
    """Raise what :func:`measure_recommended` would, before there is anything to measure: it measures nobody."""
    chosen, nobody = [measure for measure in measures if measure.kind in RESULTS], torch.zeros(0, dtype=torch.int64)
    lists = background.history
    measure_recommended(
        chosen, nobody.new_zeros(0, 1), users=nobody, known=lists, held_out=lists, background=background
    )


def _column(measure: Measure, filled: str, background: Background) -> Tensor:
    """What the column that the measure names holds."""
    if measure.column is None:
        raise ConfigError(
            f"{measure} needs {filled} of items: name the column of --data.items FILE that holds them, as"
            f" {measure.name}(column=NAME)@{measure.k}."
        )
    if measure.column not in background.columns:
        raise ConfigError(
            f"{measure} names a column of items, which are not there: give their file, --data.items FILE."
        )
    return background.columns[measure.column]


class _MostUsed:
    """The same items for everybody: those that most users have."""

    def __init__(self, counts: Tensor) -> None:
        self.counts, self.num_items = counts.float(), counts.numel()

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        rows = self.counts.expand(queries.numel(), -1)
        return rows if out is None else out.copy_(rows)
