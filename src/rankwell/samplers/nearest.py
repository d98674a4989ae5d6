"""Hard negatives: items whose vectors are nearest to the user's, found in an index."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rankwell import keyed
from rankwell.errors import InputError, UnknownName, require
from rankwell.lists import check_count
from rankwell.registry import Search
from rankwell.samplers.candidates import refuse_full
from rankwell.samplers.catalogue import AGAIN, ROWS
from rankwell.samplers.collisions import KnownItems, UnknownItems
from rankwell.samplers.held import HoldsModel, needed_scorer
from rankwell.samplers.registry import sampler
from rankwell.types import Negatives, Ragged, Scorer

__all__ = ["NearestSampler"]

INDEXES, CHOICES = ("flat", "ivf", "hnsw"), ("random", "top")

SPARE = 256
"""Neighbours beyond the window that are asked for at most, to make up for known positives among them."""

TRAINING = 11
"""Keeps the random numbers of an index apart."""


@sampler(name="nearest", kind="model", paper="xiong2021")
class NearestSampler(HoldsModel):
    r"""Negatives from a window of the items that the model would recommend.

    .. math:: j_1, \dots, j_n \in \{j \text{ unknown to } u : \text{skip} \le \operatorname{rank}_u(j) <
        \text{skip} + \text{window}\}

    by the inner product of the user's vector, as it is now, and the items' vectors, as they were at the last refresh. These
    are in a FAISS index: ``flat`` compares with all items, ``ivf`` with those of the nearest sixteenth, and at least 8, of
    :math:`\sqrt{|I|}` clusters, ``hnsw`` walks through a graph; the latter two miss some. Ranks are among what the user does
    not know: as many neighbours are asked for as skip and window say, and as many more as any user knows, but 256 at most.
    Where that, or an approximate index, leaves fewer than n, the rest is drawn uniformly from what the user does not know.

    Nearest unknown items are the likeliest false negatives: ``skip`` leaves out the first. No log q is stated. A row depends on
    no other row but for ties: FAISS sums in another order for large batches. Vectors of the last refresh are in a buffer; a
    loaded state builds the same index of them, by one thread and from the sampler's seed. Time of a draw: O(items dim) for
    flat; of a refresh: a copy for flat, seconds for :math:`10^5` items for the others. Needs the extra ``index``.

    Args:
        n: negatives of a row.
        index: ``flat``, ``ivf`` or ``hnsw``.
        skip: unknown neighbours that are left out, nearest first.
        window: unknown neighbours after them that are drawn from.
        choice: n of them at ``random``, without replacement, or the ``top`` n.
        refresh: steps between two indexes.

    Raises:
        InputError: if there is no scorer, a row knows everything, ``n`` is below 1 or above ``window``, ``skip`` is below 0, or
            ``refresh`` below 1.
        MissingExtra: without FAISS.

    >>> from rankwell.models import MatrixFactorisation
    >>> model = MatrixFactorisation(1, 5, dim=1, similarity="dot")
    >>> _ = model.users.data.fill_(1), model.items.data.copy_(torch.tensor([[5.0], [4.0], [3.0], [2.0], [1.0]]))
    >>> known = Ragged(torch.tensor([0, 1]), torch.tensor([1]))
    >>> draw = NearestSampler(known, 5, n=2, skip=1, window=2, choice="top", seed=0)
    >>> draw(torch.tensor([0]), torch.tensor([0]), epoch=0, step=0, scorer=model).ids  # item 0 is skipped, 1 known
    tensor([[2, 3]])

    Source: :cite:`xiong2021`, ANCE: negatives from an index of the model's own vectors that is refreshed as training goes on,
    of the first 200 (from memory; equation numbers unchecked). Differs from it: one process, which waits for the
    refresh; any window; an approximate index by default.
    """

    vectors: Tensor
    """``[items, dim]``, at the last refresh."""
    steps: Tensor
    """Steps since then."""

    def __init__(
        self,
        known: Ragged,
        num_items: int,
        *,
        seed: int,
        n: Annotated[int, Search(1, 100, log=True)] = 10,
        index: Literal["flat", "ivf", "hnsw"] = "ivf",
        skip: int = 0,
        window: int = 200,
        choice: Literal["random", "top"] = "random",
        refresh: int = 500,
    ) -> None:
        super().__init__()
        for name, count in (("n", n), ("window", window), ("refresh", refresh)):
            check_count(count, name)
        check_count(skip, "skip", least=0)
        if n > window:
            raise InputError(f"nearest draws n items of the window, at most all: got n = {n} and a window of {window}.")
        refuse_full(known, num_items)
        for what, value, ways in (("index", index, INDEXES), ("choice", choice, CHOICES)):
            if value not in ways:
                raise UnknownName(f"value of {what}", value, ways)
        self._faiss: Any = require("faiss", "index")
        self.num_items, self.seed, self.n, self.index = num_items, seed, n, index
        self.skip, self.window, self.choice, self.refresh = skip, window, choice, refresh
        device = known.values.device
        self._known = KnownItems(known, num_items)
        self._unknown = UnknownItems(self._known, torch.ones(num_items, dtype=torch.int64, device=device))
        spare = min(int(self._known.sizes.max()), SPARE) if len(self._known.sizes) else 0
        self._asked = min(num_items, skip + window + spare)
        self.hold("vectors", num_items, 0, dtype=torch.float32, device=device)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=device))
        self.forget()

    def forget(self) -> None:
        """Drop the index."""
        self._index: Any = None

    @torch.no_grad()
    def forward(
        self,
        queries: Int[Tensor, " b"],
        samples: Int[Tensor, " b"],
        *,
        epoch: int,
        step: int,  # noqa: ARG002
        positives: Int[Tensor, "b *m"] | None = None,  # noqa: ARG002
        scorer: Scorer | None = None,
    ) -> Negatives:
        """Negatives for the rows of a batch, near their users' vectors; positives are not looked at."""
        model = needed_scorer(scorer, "nearest")
        self._keep_up(model)
        near = self._neighbours(model.query_vectors(queries))
        unknown = (near >= 0) & ~self._known.contains(queries, near.clamp(min=0))
        rank = unknown.cumsum(1) - 1 - self.skip
        wanted = unknown & (rank >= 0) & (rank < self.window)
        if self.choice == "top":
            order = torch.arange(near.shape[1], device=near.device).expand_as(near)
        else:
            key = keyed.mix(self.seed, epoch, ROWS)
            order = keyed.high(keyed.words(key, samples[:, None], rank.clamp(min=0)), 1 << 31)
        chosen = torch.where(wanted, order, 1 << 31).argsort(dim=1, stable=True)[:, : self.n]
        there = torch.arange(self.n, device=near.device) < wanted.sum(1, keepdim=True)
        ids = keyed.draws(keyed.mix(self.seed, epoch, AGAIN), samples, self.n, self._unknown.left[queries])
        ids = self._unknown.find(queries[:, None].expand_as(ids), ids)
        ids[:, : chosen.shape[1]] = torch.where(
            there[:, : chosen.shape[1]], near.gather(1, chosen), ids[:, : chosen.shape[1]]
        )
        return Negatives(ids, None, None)

    def _keep_up(self, model: Scorer) -> None:
        """Take the items' vectors where it is time to, and count the step."""
        if not self.vectors.shape[1] or int(self.steps) >= self.refresh:
            self.vectors = model.item_vectors().float().clone()
            self.steps.zero_()
            self.forget()
        self.steps += 1
        if self._index is None:
            self._index = self._built()

    def _neighbours(self, users: Float[Tensor, "b d"]) -> Int[Tensor, "b k"]:
        """Items by inner product, best first; −1 where the index finds no more."""
        found = self._index.search(users.float().cpu().contiguous().numpy(), self._asked)[1]
        return torch.from_numpy(found).to(users.device)

    def _built(self) -> Any:
        """An index of the vectors, the same each time."""
        # FAISS refuses what is not finite: a model that has diverged is for the loss to say.
        vectors = self.vectors.nan_to_num(0, 0, 0).cpu().contiguous().numpy()
        with _one_thread(self._faiss):
            index = self._empty(vectors.shape[1])
            index.train(vectors)
            index.add(vectors)
        return index

    def _empty(self, dim: int) -> Any:
        faiss = self._faiss
        if self.index == "flat":
            return faiss.IndexFlatIP(dim)
        if self.index == "hnsw":
            graph = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efSearch = max(64, self._asked)
            return graph
        clusters = max(round(self.num_items**0.5), 1)
        lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, clusters, faiss.METRIC_INNER_PRODUCT)
        lists.nprobe = min(clusters, max(8, clusters // 16))
        lists.cp.seed = keyed.mix(self.seed, TRAINING) >> 32
        lists.cp.min_points_per_centroid = 1  # silences advice on how many items there should be
        return lists


@contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """Several threads would put items into a graph in an order of their own."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
