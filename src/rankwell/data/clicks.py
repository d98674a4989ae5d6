"""Clicks on judged lists, simulated: which documents a user examines, clicks, and how likely it was that they were examined."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.data.judged import JudgedLists
from rankwell.errors import ConfigError, DataError, InputError
from rankwell.lists import blocks

__all__ = [
    "CascadeModel",
    "ClickModel",
    "PositionModel",
    "Sessions",
    "Shown",
    "clicks_by_query",
    "clicks_by_session",
    "estimate_examination",
    "inverse",
    "simulate_clicks",
]

QUERY, ORDER, ATTRACTED, EXAMINED, SHUFFLED = range(1, 6)
"""Keep the random numbers of one purpose apart from those of the others."""

BLOCK = 1 << 14
"""Sessions simulated at a time."""


class Shown(NamedTuple):
    """Documents as sessions show them, one session behind the other, and what a click model draws by."""

    sessions: Int[Tensor, " s"]
    """Their numbers."""
    offsets: Int[Tensor, " s_plus_1"]
    segment: Int[Tensor, " n"]
    """Each document's session, counted from 0."""
    positions: Int[Tensor, " n"]
    """From 1."""
    attraction: Float[Tensor, " n"]
    """The probability of a click on what is examined."""
    attracted: Bool[Tensor, " n"]
    """Whether it would be clicked, if it were examined."""
    seed: int

    def draw(self, purpose: int) -> Float[Tensor, " n"]:
        """A number in [0, 1) for each document, keyed by seed, purpose, session and position."""
        return _uniform(keyed.mix(self.seed, purpose), self.sessions[self.segment], self.positions)


class ClickModel(Protocol):
    """How users go through a list."""

    @property
    def noise(self) -> float:
        """The probability of a click on an irrelevant document that is examined."""
        ...

    def examination(self, shown: Shown) -> Float[Tensor, " n"]:
        """The probability that a document is examined, over all that happens above it."""
        ...

    def examined(self, shown: Shown) -> Bool[Tensor, " n"]:
        """Whether it is."""
        ...


@dataclass(frozen=True)
class PositionModel:
    r"""A document is examined with a probability of its position alone, whatever happens above it.

    .. math:: P(E_k = 1) = k^{-\eta}, \qquad P(C_k = 1) = P(E_k = 1)\, a(y_k), \qquad
        a(y) = \epsilon + (1 - \epsilon) \frac{2^y - 1}{2^{y_{\max}} - 1}

    Args:
        eta: how fast attention falls; 0 examines everything.
        noise: :math:`\epsilon`, the probability of a click on an irrelevant document that is examined.

    Raises:
        ConfigError: if ``eta`` is below 0, or ``noise`` not in [0, 1).

    Source: :cite:`joachims2017`, its synthetic clicks, for examination; :cite:`ai2018` for attraction by grades; equation
    numbers unchecked.
    """

    eta: float = 1.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.eta < np.inf:
            raise ConfigError(f"eta must be a finite number of 0 or more: got {self.eta}.")
        _check_noise(self.noise)

    def examination(self, shown: Shown) -> Float[Tensor, " n"]:
        """By position."""
        return shown.positions.double() ** -self.eta

    def examined(self, shown: Shown) -> Bool[Tensor, " n"]:
        """Each document by itself."""
        return shown.draw(EXAMINED) < self.examination(shown)


@dataclass(frozen=True)
class CascadeModel:
    r"""A user goes down the list; behind a click the session goes on with some probability, else it ends.

    .. math:: P(E_1 = 1) = 1, \qquad P(E_{k+1} = 1 \mid E_k, C_k) = E_k \left( 1 - C_k (1 - \lambda) \right), \qquad
        P(E_k = 1) = \prod_{j<k} \left( 1 - a(y_j) (1 - \lambda) \right)

    with the attraction a of :class:`PositionModel`. At :math:`\lambda = 0` it is the cascade model: the first click ends the
    session. Above, it is the dependent click model, with the same :math:`\lambda` at every position (the source has one for
    each).

    Args:
        continuation: :math:`\lambda`, the probability to go on behind a click.
        noise: :math:`\epsilon`, as there.

    Raises:
        ConfigError: if ``continuation`` is not in [0, 1], or ``noise`` not in [0, 1).

    Source: :cite:`craswell2008` for the cascade, :cite:`guo2009` for the dependent click model; equation numbers unchecked.
    """

    continuation: float = 0.5
    noise: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.continuation <= 1:
            raise ConfigError(f"continuation must be in [0, 1]: got {self.continuation}.")
        _check_noise(self.noise)

    def examination(self, shown: Shown) -> Float[Tensor, " n"]:
        """By what stands above: a product down each list."""
        goes_on = 1 - (1 - self.continuation) * shown.attraction
        found = torch.ones_like(goes_on)
        for _, items, valid in blocks(shown.offsets):
            above = torch.where(valid, goes_on[items], 1.0).cumprod(1).roll(1, 1)
            above[:, 0] = 1
            found[items[valid]] = above[valid]
        return found

    def examined(self, shown: Shown) -> Bool[Tensor, " n"]:
        """As long as no click above has ended the session."""
        ends = shown.attracted & (shown.draw(EXAMINED) >= self.continuation)
        before = torch.cat([ends.new_zeros(1, dtype=torch.int64), ends.cumsum(0)])
        return before[:-1] == before[shown.offsets[shown.segment]]


class Sessions(NamedTuple):
    """What was shown and clicked in some sessions, one session behind the other, by position."""

    first: int
    """The number of the first session."""
    queries: Int[Tensor, " s"]
    offsets: Int[Tensor, " s_plus_1"]
    documents: Int[Tensor, " n"]
    """Rows of the judged lists."""
    positions: Int[Tensor, " n"]
    """From 1."""
    clicks: Bool[Tensor, " n"]
    examination: Float[Tensor, " n"]
    """The probability that the document was examined, where it was shown."""
    shuffled: Bool[Tensor, " s"]
    """Whether the list was in random order."""


def simulate_clicks(
    lists: JudgedLists,
    scores: Float[Tensor, " n"],
    model: ClickModel,
    sessions: int,
    *,
    seed: int,
    shuffled: float = 0.0,
) -> Iterator[Sessions]:
    """Show lists by falling scores, or, a share ``shuffled`` of the sessions, in random order, and draw clicks by the model.

    Each session takes a query at random, all queries alike. Every number is a function of seed, session and position: neither
    the order of the blocks nor their size changes one, and more sessions begin as fewer do. Time O(documents shown).

    Raises :class:`InputError` where scores are not one a document or not finite, or a number is out of its range;
    :class:`DataError` where no document is relevant, so that nothing would tell relevance from noise.
    """
    if scores.shape != (len(lists.labels),) or not bool(scores.isfinite().all()):
        raise InputError(f"scores must be a finite number a document, {len(lists.labels)}: got {tuple(scores.shape)}.")
    if sessions < 1 or not 0 <= shuffled <= 1:
        raise InputError(f"sessions must be at least 1, shuffled in [0, 1]: got {sessions} and {shuffled}.")
    highest = float(lists.labels.max(initial=0))
    if not highest > 0:
        raise DataError("clicks are drawn by relevance: no document has a label above 0. Give judged lists.")
    gains = (2.0 ** torch.from_numpy(lists.labels).double() - 1) / (2.0**highest - 1)
    attraction = model.noise + (1 - model.noise) * gains
    offsets = torch.from_numpy(lists.offsets)
    of_list = torch.repeat_interleave(torch.arange(len(lists)), offsets.diff())
    order = scores.argsort(descending=True, stable=True)
    order = order[of_list[order].argsort(stable=True)]
    for first in range(0, sessions, BLOCK):
        numbers = torch.arange(first, min(first + BLOCK, sessions))
        yield _simulated(numbers, offsets, order, attraction, model, seed, shuffled)


def _simulated(
    numbers: Tensor, of_lists: Tensor, order: Tensor, attraction: Tensor, model: ClickModel, seed: int, share: float
) -> Sessions:
    """These sessions."""
    once = torch.zeros_like(numbers)
    queries = keyed.high(keyed.words(keyed.mix(seed, QUERY), numbers, once), len(of_lists) - 1)
    shuffled = _uniform(keyed.mix(seed, SHUFFLED), numbers, once) < share
    sizes = of_lists.diff()[queries]
    offsets = torch.cat([once[:1], sizes.cumsum(0)])
    segment = torch.repeat_interleave(torch.arange(len(numbers)), sizes)
    places = torch.arange(len(segment)) - offsets[segment]
    if bool(shuffled.any()):
        drawn = keyed.words(keyed.mix(seed, ORDER), numbers[segment], places)
        by_draw = torch.where(shuffled[segment], drawn, places).argsort(stable=True)
        places = (by_draw - offsets[segment[by_draw]])[segment[by_draw].argsort(stable=True)]
    documents = order[of_lists[queries][segment] + places]
    positions = torch.arange(len(segment)) - offsets[segment] + 1
    attractive = attraction[documents]
    attracted = _uniform(keyed.mix(seed, ATTRACTED), numbers[segment], positions) < attractive
    shown = Shown(numbers, offsets, segment, positions, attractive, attracted, seed)
    clicks = attracted & model.examined(shown)
    return Sessions(int(numbers[0]), queries, offsets, documents, positions, clicks, model.examination(shown), shuffled)


def estimate_examination(blocks: Iterable[Sessions], *, least: int = 100) -> Float[Tensor, " longest"]:
    r"""How likely each position is examined, over the first one, from clicks on lists in random order.

    .. math:: \hat p_k = \frac{\sum_{s: n_s \geq k} c_{s,k}}{\sum_{s: n_s \geq k} c_{s,1}}

    over sessions s that showed :math:`n_s` documents in random order, so that every position had documents of the same
    relevance, and click rates differ by examination alone. Positions with few clicks are taken together with those behind
    them until there are ``least``. Right for :class:`PositionModel`; for others it is the mean over what stood above, in
    random lists.

    Raises :class:`DataError` where there are not so many clicks on the first position, or beyond.

    Source: the randomisation of :cite:`wang2016selection` and the ratios of :cite:`joachims2017`, section 5, over whole lists
    in random order instead of swaps of single pairs; taking positions together is ours.
    """
    clicks, first = (torch.zeros(0, dtype=torch.float64) for _ in range(2))
    for block in blocks:
        segment = torch.repeat_interleave(torch.arange(len(block.queries)), block.offsets.diff())
        chosen = block.shuffled[segment]
        segment, places, clicked = (x[chosen] for x in (segment, block.positions - 1, block.clicks.double()))
        on_first = torch.zeros(len(block.queries), dtype=torch.float64)
        on_first[segment[places == 0]] = clicked[places == 0]
        clicks = _summed(clicks, places, clicked)
        first = _summed(first, places, on_first[segment])
    if not len(clicks) or clicks[0] < least or clicks[1:].sum() < least:
        found = [int(clicks[:1].sum()), int(clicks[1:].sum())]
        raise DataError(
            f"estimating examination needs {least} clicks on the first position and as many beyond, in lists of random order:"
            f" got {found[0]} and {found[1]}. Simulate more sessions, or show more of them in random order."
        )
    return _pooled(clicks, first, least)


def _pooled(clicks: Tensor, first: Tensor, least: int) -> Tensor:
    """Ratios of sums, over runs of positions with enough clicks; the last positions join the run before them."""
    starts, reached = [0, 1], 0.0
    for place, count in enumerate(clicks[1:].tolist(), start=1):
        reached += count
        if reached >= least and float(clicks[place + 1 :].sum()) >= least:
            starts.append(place + 1)
            reached = 0.0
    ends = [*starts[1:], len(clicks)]
    found = [clicks[a:b].sum() / first[a:b].sum() for a, b in zip(starts, ends, strict=True)]
    return torch.repeat_interleave(torch.stack(found), torch.tensor(ends) - torch.tensor(starts))


def inverse(examination: Float[Tensor, " n"], clip: float = 0.0) -> Float[Tensor, " n"]:
    r"""Weights of clicks: :math:`1 / \max(p, \tau)`. Without the clip τ they are unbiased; with it less scattered.

    Source: :cite:`joachims2017` for the weights, :cite:`strehl2010` for the clip.

    >>> import torch
    >>> inverse(torch.tensor([1.0, 0.5, 0.01]), clip=0.1)
    tensor([ 1.,  2., 10.])
    """
    if not 0 <= clip <= 1:
        raise ConfigError(f"clip must be in [0, 1]: got {clip}.")
    return 1 / examination.clamp(min=max(clip, torch.finfo(torch.float32).tiny))


Weigh = Callable[[Sessions], Tensor]


def clicks_by_query(lists: JudgedLists, blocks: Iterable[Sessions], weigh: Weigh) -> JudgedLists:
    r"""One list a query, whose labels are clicks and whose weights are those of the clicks.

    .. math:: y_d = \frac{Q}{N} \sum_s c_{s,d}, \qquad w_d = \frac{\sum_s c_{s,d}\, w_{s,d}}{\sum_s c_{s,d}}

    over N sessions of Q queries; w is 1 where nothing was clicked. For a loss that is linear in its labels, and whose weights
    multiply them, as :func:`~rankwell.losses.softmax_loss`, the mean over these Q lists is that over all N sessions,
    :func:`clicks_by_session`, at the cost of the judged lists, however many sessions there were.
    """
    clicks, weights = (torch.zeros(len(lists.labels), dtype=torch.float64) for _ in range(2))
    sessions = 0
    for block in blocks:
        sessions += len(block.queries)
        rows = block.documents[block.clicks]
        clicks.index_add_(0, rows, clicks.new_ones(len(rows)))
        weights.index_add_(0, rows, weigh(block)[block.clicks].double())
    labels = clicks * (len(lists) / sessions)
    weights = torch.where(clicks > 0, weights / clicks, 1.0)
    return JudgedLists(
        lists.features, labels.float().numpy(), lists.offsets, lists.query_ids, lists.names, weights.float().numpy()
    )


def clicks_by_session(lists: JudgedLists, blocks: Iterable[Sessions], weigh: Weigh) -> JudgedLists:
    """One list a session, in the order shown, called ``query#session``; labels 1 for clicks, else 0; weights of clicks, else 1.

    For losses that compare the clicked with the others of its session. Features are repeated: memory O(sessions · list).
    """
    labels, weights, rows, sizes, ids = [], [], [], [], []
    for block in blocks:
        labels.append(block.clicks.float())
        weights.append(torch.where(block.clicks, weigh(block).float(), 1.0))
        rows.append(block.documents)
        sizes.append(block.offsets.diff())
        numbers = pl.Series(range(block.first, block.first + len(block.queries))).cast(pl.String)
        ids.append(lists.query_ids[block.queries.numpy()].cast(pl.String) + "#" + numbers)
    features = lists.features[torch.cat(rows).numpy()]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), torch.cat(sizes).numpy().cumsum()])
    joined = (torch.cat(parts).numpy() for parts in (labels, weights))
    return JudgedLists(features, next(joined), offsets, pl.concat(ids), lists.names, next(joined))


def _summed(sums: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Sums by place, of which there may be new ones."""
    more = torch.zeros(max(len(sums), int(places.max()) + 1 if len(places) else 0), dtype=sums.dtype)
    more[: len(sums)] = sums
    return more.index_add_(0, places, values)


def _uniform(key: int, samples: Tensor, places: Tensor) -> Tensor:
    """Numbers in [0, 1) of 53 random bits."""
    return ((keyed.words(key, samples, places) >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def _check_noise(noise: float) -> None:
    if not 0 <= noise < 1:
        raise ConfigError(f"noise must be in [0, 1): got {noise}.")
