"""What static samplers cost, beside a whole training step of matrix factorisation with the same batch.

    python bench/samplers.py [--runs 7]

Two shapes on data of Gowalla's size: 1,024 rows with a pool of 1,024, and 8,192 rows with 100 negatives each.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from rankwell.data import Batch
from rankwell.losses import sampled_softmax_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS, Sampler
from rankwell.training import ContrastObjective, RowAdam
from rankwell.training.allocator import keep_freed_memory
from rankwell.types import Ragged

USERS, ITEMS, DEGREE = 29_858, 40_981, 27
SHAPES = {True: (1_024, 1_024), False: (8_192, 100)}


def data() -> Ragged:
    """As many users, items and pairs as Gowalla; items fall off in popularity as one over the rank."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(USERS, ITEMS // 4).exponential_(generator=generator)
    codes = torch.randperm(ITEMS, generator=generator)[: ITEMS // 4]
    first = (noise * torch.arange(100, ITEMS // 4 + 100)).topk(DEGREE, largest=False).indices
    return Ragged(torch.arange(USERS + 1) * DEGREE, codes[first].sort(1).values.flatten())


def median_ms(run: Callable[[], object], runs: int) -> float:
    run()
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1e3


def step(known: Ragged, sampler: Sampler, batch: Batch) -> Callable[[], None]:
    model = MatrixFactorisation(USERS, ITEMS, dim=64, init="normal")
    model.initialise(known, seed=0)
    objective = ContrastObjective(model, sampled_softmax_loss, sampler, seed=0, correct=True)
    optimiser = RowAdam(model.parameters(), lr=0.01)

    def once() -> None:
        for play in objective.plays(batch, epoch=0, step=0):
            play.value.backward()
        optimiser.step()
        optimiser.zero_grad()

    return once


def measure(known: Ragged, shared: bool, runs: int) -> None:
    rows, n = SHAPES[shared]
    index = torch.randint(len(known.values), (rows,), generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.bucketize(index, known.offsets, right=True) - 1, known.values[index], index)
    inputs = {"item_weights": torch.arange(1, ITEMS + 1), "item_groups": torch.arange(ITEMS) % 100}
    whole = None
    print(f"{rows:,} rows, {'a pool of' if shared else 'each'} {n:,}")
    for entry in SAMPLERS:
        if (
            entry.kind != "static"
            or ("shared" not in entry.parameters and not shared)
            or (entry.name == "by_group" and shared)
        ):
            continue
        own = {name: value for name, value in (("n", n), ("shared", shared)) if name in entry.parameters}
        started = time.perf_counter()
        sampler = entry.function(known, ITEMS, seed=0, **own, **{name: inputs[name] for name in entry.inputs})
        build = (time.perf_counter() - started) * 1e3
        whole = whole or median_ms(step(known, sampler, batch), max(runs // 3, 3))
        took = median_ms(
            lambda sampler=sampler: sampler(batch.users, batch.index, epoch=0, step=0, positives=batch.items), runs
        )
        share = f"{took / whole:6.1%} of a step with the first, {whole:.1f} ms"
        print(f"{entry.name:>12}  {took:7.2f} ms  {share}   built in {build:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    keep_freed_memory()  # as fit does
    known = data()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {runs} runs")
    for shared in SHAPES:
        measure(known, shared, runs)


if __name__ == "__main__":
    main()
