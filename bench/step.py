"""A training step of matrix factorisation against its three matrix products, side by side in one run.

    python bench/step.py [--steps 768]

Step: sample 1,024 shared negatives, mask known positives, look up, normalise, drop out, score, loss, backward, row-wise
Adam. Products: [1024, 64] x [64, 1024] and the two of its backward pass, into tensors that exist already. Batches come from
the shuffled pass that `fit` takes them from. Some work is done for many steps at once: what a step takes is the mean over 64
steps, of which the median is shown.
"""

import argparse
import itertools
import multiprocessing
import time
from collections.abc import Callable

import torch

from rankwell.data import batches
from rankwell.losses import LOSSES
from rankwell.losses.styles import as_contrast
from rankwell.models import MatrixFactorisation
from rankwell.samplers import UniformSampler
from rankwell.training import ContrastObjective, RowAdam
from rankwell.training.allocator import keep_freed_memory
from rankwell.types import Ragged

USERS, ITEMS, DIM, BATCH, NEGATIVES, DEGREE = 29_858, 40_981, 64, 1_024, 1_024, 27
TOGETHER = 64


def products() -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(n, DIM, generator=generator) for n in (BATCH, NEGATIVES))
    scores, grad = torch.empty(BATCH, NEGATIVES), torch.randn(BATCH, NEGATIVES, generator=generator)
    by_queries, by_items = torch.empty(BATCH, DIM), torch.empty(NEGATIVES, DIM)

    def once() -> None:
        torch.mm(queries, items.T, out=scores)
        torch.mm(grad, items, out=by_queries)
        torch.mm(grad.T, queries, out=by_items)

    return once


def step(loss: str, known: Ragged, *, cosine: bool) -> Callable[[], None]:
    entry = as_contrast(LOSSES[loss])
    model = MatrixFactorisation(
        USERS, ITEMS, dim=DIM, dropout=0.1 if cosine else 0.0, similarity="cosine" if cosine else "dot"
    )
    model.initialise(known, seed=0)
    sampler = UniformSampler(known, ITEMS, n=NEGATIVES, seed=0)
    objective = ContrastObjective(model, entry.function, sampler, seed=0, correct=entry.softmax, inputs=entry.inputs)
    optimiser = RowAdam(model.parameters(), lr=0.01)
    pairs = torch.repeat_interleave(known.offsets.diff()), known.values
    passes = (batches(pairs, batch_size=BATCH, seed=1, epoch=epoch) for epoch in itertools.count())
    steps = enumerate(itertools.chain.from_iterable(passes))

    def once() -> None:
        count, batch = next(steps)
        for play in objective.plays(batch, epoch=0, step=count):
            play.value.backward()
        optimiser.step()
        optimiser.zero_grad()

    return once


def typical(seconds: list[float]) -> float:
    """The median of the means over steps that share work."""
    return torch.tensor(seconds).view(-1, TOGETHER).mean(1).median().item()


def measure(loss: str, steps: int) -> None:
    """In a process of its own, as a training is."""
    keep_freed_memory()  # as fit does
    generator = torch.Generator().manual_seed(0)
    known = Ragged(
        torch.arange(USERS + 1) * DEGREE,
        torch.rand(USERS, ITEMS // 8, generator=generator).topk(DEGREE).indices.sort(1).values.flatten() * 8,
    )
    floor, once = products(), step(loss, known, cosine=loss != "bpr")
    seconds: dict[str, list[float]] = {"products": [], "step": []}
    for number in range(steps + TOGETHER):
        for name, run in (("products", floor), ("step", once)):
            started = time.perf_counter()
            run()
            if number >= TOGETHER:
                seconds[name].append(time.perf_counter() - started)
    products_ms, step_ms = (typical(values) * 1e3 for values in seconds.values())
    print(
        f"{loss:>18}  step {step_ms:6.2f} ms  products {products_ms:5.2f} ms  ratio {step_ms / products_ms:5.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=768)
    steps = parser.parse_args().steps // TOGETHER * TOGETHER
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads,"
        f" medians over {steps // TOGETHER} times {TOGETHER} steps interleaved with the products",
        flush=True,
    )
    for loss in ("bpr", "sampled_softmax", "decoupled_softmax", "bsl", "ccl", "mml"):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(loss, steps))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
