"""What samplers cost, beside a whole training step of matrix factorisation with the same batch; and beside RecBole's.

    python bench/samplers.py [--runs 7] [--only model] [--recbole ../shared/data/gowalla]

Static ones in two shapes on data of Gowalla's size: 1,024 rows with a pool of 1,024, and 8,192 rows with 100 negatives each.
Those that ask the model with 1,024 rows: the step with each of them over the same step with uniform negatives, in turns. With
``--recbole``, 8,192 × 100 ids on these data, each library's sampler in turns (``pip install --no-deps recbole``: its
samplers need numpy and torch alone).
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from rankwell.data import Batch, read_dataset
from rankwell.errors import RankwellError
from rankwell.losses import sampled_softmax_loss
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS, PopularitySampler, Sampler, UniformSampler
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


def in_turns_ms(turns: list[Callable[[], object]], runs: int) -> list[float]:
    """Median milliseconds of each, in turns, so that a neighbour on the machine disturbs all alike."""
    taken: list[list[float]] = [[] for _ in turns]
    for number in range(runs + 1):
        for run, times in zip(turns, taken, strict=True):
            started = time.perf_counter()
            run()
            if number:  # the first is for warming up
                times.append((time.perf_counter() - started) * 1e3)
    return [statistics.median(times) for times in taken]


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
        whole = median_ms(step(known, sampler, batch), runs if shared else 3)
        took = median_ms(
            lambda sampler=sampler: sampler(batch.users, batch.index, epoch=0, step=0, positives=batch.items), runs
        )
        share = f"{took / whole:6.1%} of a step with it, {whole:.1f} ms"
        print(f"{entry.name:>12}  {took:7.2f} ms  {share}   built in {build:.0f} ms")


def measure_model(known: Ragged, n: int, runs: int) -> None:
    """Steps with what asks the model, each in turns with the plain step."""
    rows = 1_024
    index = torch.randint(len(known.values), (rows,), generator=torch.Generator().manual_seed(1))
    batch = Batch(torch.bucketize(index, known.offsets, right=True) - 1, known.values[index], index)
    print(f"{rows:,} rows, each {n}: the step with it over the step with uniform")
    plain = step(known, UniformSampler(known, ITEMS, seed=0, n=n, shared=False), batch)
    chosen: list[tuple[str, str, dict[str, Any]]] = [("dns, M = 32", "dns", {"candidates": 32})]
    chosen += [(entry.name, entry.name, {}) for entry in SAMPLERS if entry.kind == "model" and entry.name != "dns"]
    for said, name, own in chosen:
        try:
            sampler = SAMPLERS[name].function(known, ITEMS, seed=0, n=n, **own)
            with_it, without = in_turns_ms([step(known, sampler, batch), plain], runs)
        except RankwellError as error:  # an extra that is not installed
            print(f"{said:>12}  left out: {error}")
            continue
        print(f"{said:>12}  {with_it / without:5.2f} ×   {with_it:6.1f} ms over {without:.1f} ms")


def against_recbole(path: Path, runs: int) -> None:
    """Ids a second of its samplers and ours: both reject what the user knows."""
    try:
        from recbole.sampler import Sampler as Theirs
    except ImportError as error:
        raise SystemExit(f"--recbole needs it: {error}. pip install --no-deps recbole") from error
    data = read_dataset(path).train
    known, (rows, n) = data.known(), SHAPES[False]
    index = torch.randint(len(known.values), (rows,), generator=torch.Generator().manual_seed(1))
    users = torch.bucketize(index, known.offsets, right=True) - 1
    owners = torch.repeat_interleave(known.offsets.diff())
    # It counts users and items from 1: 0 is its padding.
    table = SimpleNamespace(
        uid_field="user", iid_field="item", user_num=data.num_users + 1, item_num=data.num_items + 1,
        inter_feat={"user": owners + 1, "item": known.values + 1},
    )  # fmt: skip
    print(f"{rows:,} rows, each {n}, on {path.name}: {data.num_users:,} users, {data.num_items:,} items")
    for name, ours in (("uniform", UniformSampler), ("popularity", PopularitySampler)):
        theirs = Theirs("train", table, distribution=name, alpha=0.75).set_phase("train")
        mine = ours(known, data.num_items, seed=0, n=n, shared=False)
        asked = (users + 1).numpy()
        took = in_turns_ms(
            [
                lambda mine=mine: mine(users, index, epoch=0, step=0),
                lambda theirs=theirs, asked=asked: theirs.sample_by_user_ids(asked, None, n),
            ],
            runs,
        )
        print(f"{name:>12}  {took[0]:7.2f} ms, RecBole {took[1]:8.2f} ms: {took[1] / took[0]:.1f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--recbole", type=Path, metavar="DATA", help="data to compare with RecBole's samplers on")
    parser.add_argument("--only", choices=("static", "model", "recbole"))
    args = parser.parse_args()
    runs = args.runs
    keep_freed_memory()  # as fit does
    known = data()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {runs} runs")
    for shared in SHAPES if args.only in (None, "static") else ():
        measure(known, shared, runs)
    for n in (1, 10) if args.only in (None, "model") else ():
        measure_model(known, n, runs)
    if args.recbole:
        against_recbole(args.recbole, runs)


if __name__ == "__main__":
    main()
