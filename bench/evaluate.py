"""Full evaluation against a plain product and top-k: ``python bench/evaluate.py ../shared/data/gowalla``.

The plain way multiplies 1,024 users by all items and takes ``topk``; it masks nothing and measures nothing. Evaluation masks
the known items, ranks, and computes five measures. The aim is a ratio of at most 0.6, and 500 MB above the model.
"""

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rankwell.data import read_dataset
from rankwell.evaluation import evaluate, top_items
from rankwell.lists import take_lists
from rankwell.metrics import Measure
from rankwell.types import Ragged

K = 20
PLAIN_BLOCK = 1024
MEASURES = [Measure.parse(f"{name}@{K}") for name in ("recall", "ndcg", "precision", "hit_rate", "mrr")]


class Dot:
    """Inner products of given vectors."""

    def __init__(self, users: Tensor, items: Tensor) -> None:
        self.users, self.items, self.num_items = users, items, items.shape[0]

    def score_all(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        """One matrix product."""
        return torch.mm(self.users[queries], self.items.T, out=out)


def plain(model: Dot, known: Ragged | None = None) -> Tensor:
    """The best items of all users by product and ``topk``."""
    found = []
    for queries in torch.arange(model.users.shape[0]).split(PLAIN_BLOCK):
        scores = model.score_all(queries)
        if known is not None:
            offsets, items = take_lists(known, queries)
            scores[torch.repeat_interleave(offsets.diff()), items] = -torch.inf
        found.append(scores.topk(K).indices)
    return torch.cat(found)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def resident_megabytes() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main(folder: str, repeats: int = 5) -> None:
    data = read_dataset(folder)
    assert data.test is not None
    known, held_out = data.train.known(), data.test.known()
    generator = torch.Generator().manual_seed(0)
    sizes = (data.train.num_users, data.train.num_items)
    model = Dot(*(torch.randn(size, 64, generator=generator) for size in sizes))

    def full() -> object:
        return evaluate(model, MEASURES, known=known, held_out=held_out)

    before = resident_megabytes()
    full()
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    pairs = [(seconds(full), seconds(lambda: plain(model))) for _ in range(repeats)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    ids = top_items(model, torch.arange(sizes[0]), K, known=known).ids
    same = bool((ids.sort(1).values == plain(model, known).sort(1).values).all())
    print(f"{sizes[0]:,} users, {sizes[1]:,} items, {len(MEASURES)} measures, {torch.get_num_threads()} threads")
    print(f"evaluation {ours:.2f} s, plain product and topk {theirs:.2f} s, ratio {ratio:.2f}, same items: {same}")
    print(f"peak at most {above:.0f} MB above the model and the data")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python bench/evaluate.py FOLDER")
    main(sys.argv[1])
