"""Which negatives? Every sampler on Gowalla with two losses; and the margin losses with few and with many negatives.

    python bench/negatives.py samplers ../shared/data/gowalla [--only dns,uniform] [--losses bpr] [--seeds 3]
    python bench/negatives.py losses ../shared/data/gowalla
    python bench/negatives.py seconds ../shared/data/gowalla
    python bench/negatives.py table

Matrix factorisation, 64 dimensions, spectral start, 10 negatives a positive (``in_batch``: the batch's other positives),
batches of 1,024, one pass over the training pairs: a short budget, the same for all. The learning rate of a loss is chosen with
uniform negatives by NDCG@20 on 10 % of the training pairs (seeded), once for all samplers, and with 10 negatives for 100, too.
Test pairs are looked at once a run. ``losses`` is cheaper: batches of 256 share a pool of 10 or 100 uniform negatives.
``bench/results/negatives.json`` keeps each run as it ends: those that are there are not repeated. ``seconds`` times steps one
sampler after the other, apart from the runs, which may share the machine. ``table`` writes ``bench/results/negatives.txt``.
"""

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from store import Store

from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.data import ItemColumns, batches
from rankwell.evaluation import evaluate
from rankwell.metrics import Measure
from rankwell.models import MatrixFactorisation
from rankwell.samplers import SAMPLERS
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_objective
from rankwell.training import RowAdam, fit

RESULTS = Path(__file__).parent / "results" / "negatives.json"
MEASURES = ("recall@20", "ndcg@20")
RATES = (0.001, 0.003, 0.01, 0.03)
EPOCHS, STEPS = 1, 60
BATCH = {"samplers": 1_024, "losses": 256}
NEGATIVES = {"samplers": (10,), "losses": (10, 100)}
LOSSES = {"samplers": ("bpr", "sampled_softmax"), "losses": ("ccl", "mml", "bsl", "sampled_softmax")}
COLUMNS = {"weighted": "root", "by_group": "decile"}
"""Samplers that need a column of items, which this data set lacks: roots and deciles of popularity are made."""


def configuration(what: str, data: str, loss: str, sampler: str, n: int, rate: float, seed: int) -> Config:
    own = SAMPLERS[sampler].parameters
    asked = {"n": n, "shared": what == "losses", **({"column": COLUMNS[sampler]} if sampler in COLUMNS else {})}
    return resolve(
        {
            "data": {"path": data},
            "loss": {"name": loss},
            "sampler": {"name": sampler}
            | {key: value for key, value in asked.items() if key in own or key == "column"},
            "training": {
                "epochs": EPOCHS,
                "batch_size": BATCH[what],
                "learning_rate": rate,
                "refit": False,
                "patience": 0,
            },
            "evaluation": {"measures": list(MEASURES), "monitor": "ndcg@20"},
            "seed": seed,
        }
    )


def judged(model: Any, known: Any, held_out: Any) -> dict[str, float]:
    measures = [Measure.parse(text) for text in MEASURES]
    return evaluate(model, measures, known=known, held_out=held_out).means()


def columns(data: Data[Any]) -> ItemColumns:
    """Roots and deciles of the items' training counts."""
    counts = data.fit.popularity()
    deciles = counts.argsort(kind="stable").argsort(kind="stable") * 10 // len(counts)
    made = pl.DataFrame({"root": counts**0.5, "decile": deciles})
    return ItemColumns("training counts", made, data.fit.item_ids)


def run(config: Config, data: Data[Any]) -> dict[str, Any]:
    model = MatrixFactorisation(data.train.num_users, data.train.num_items, **config.parameters("model"))
    model.initialise(data.fit.known(), seed=config.seed)
    history = fit(
        build_objective(config, model, data.fit, items=columns(data)),
        data.fit.tensors(),
        config.training,
        seed=config.seed,
        validate=lambda: judged(model, data.fit.known(), data.valid.known()),
        monitor="ndcg@20",
    )
    return {
        "validation": [epoch.validation for epoch in history.epochs],
        "loss": [epoch.loss for epoch in history.epochs],
        "test": judged(model, data.train.known(), data.test.known()),
    }


def chosen_rate(store: Store, what: str, path: str, data: Data, loss: str) -> float:
    """The learning rate of the best validation with uniform negatives and seed 0."""
    reached = {}
    for rate in RATES:
        config = configuration(what, path, loss, "uniform", 10, rate, seed=0)
        result = store.get(f"rate {what} {loss} {rate}", lambda config=config: run(config, data))
        reached[rate] = max(epoch["ndcg@20"] for epoch in result["validation"])
    return max(reached, key=reached.__getitem__)


def compare(what: str, path: str, only: list[str], losses: list[str], seeds: int) -> None:
    store = Store(RESULTS)
    read_once: dict[int, Data[Any]] = {}
    for seed in range(seeds):
        for loss in losses or LOSSES[what]:
            for n in NEGATIVES[what]:
                for name in only:
                    config = configuration(what, path, loss, name, n, RATES[0], seed)
                    for each in {0, seed} - read_once.keys():
                        read_once[each] = read(config.data, each)
                    rate = chosen_rate(store, what, path, read_once[0], loss)
                    config = configuration(what, path, loss, name, n, rate, seed)
                    key = f"{what} {loss} {name} {n} {seed}"
                    store.get(
                        key,
                        lambda config=config, seed=seed: {
                            "rate": config.training.learning_rate,
                            **run(config, read_once[seed]),
                        },
                    )


def seconds(path: str, only: list[str]) -> None:
    """Median milliseconds of a whole step, and what they make of an epoch, without the refreshes between."""
    store = Store(RESULTS)
    data = read(configuration("samplers", path, "bpr", "uniform", 10, RATES[0], 0).data, 0)
    for loss in LOSSES["samplers"]:
        for name in only:
            config = configuration("samplers", path, loss, name, 10, RATES[0], 0)
            store.get(f"seconds {loss} {name}", lambda config=config: timed(config, data))


def timed(config: Config, data: Data[Any]) -> dict[str, float]:
    model = MatrixFactorisation(data.train.num_users, data.train.num_items, **config.parameters("model"))
    model.initialise(data.fit.known(), seed=0)
    objective = build_objective(config, model, data.fit, items=columns(data))
    optimiser = RowAdam(model.parameters(), lr=config.training.learning_rate)
    taken = []
    for step, batch in enumerate(batches(data.fit.tensors(), batch_size=BATCH["samplers"], seed=0, epoch=0)):
        if step == STEPS:
            break
        started = time.perf_counter()
        for play in objective.plays(batch, epoch=0, step=step):
            play.value.backward()
        optimiser.step()
        optimiser.zero_grad()
        taken.append(time.perf_counter() - started)
    median = statistics.median(taken[10:])
    return {
        "step_ms": 1e3 * median,
        "epoch_s": median * len(data.fit) / BATCH["samplers"],
        "threads": torch.get_num_threads(),
    }


def table() -> str:
    """Means over seeds with their standard deviation."""
    runs = Store(RESULTS).runs
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for key, result in runs.items():
        what, *rest = key.split()
        if what in LOSSES:
            groups[(what, *rest[:-1])].append(result)
    lines = [
        f"{'table':<9} {'loss':<16} {'sampler':<12} {'n':>4} {'recall@20':>16} {'ndcg@20':>16} {'epoch s':>8} {'seeds':>5}"
    ]
    for (what, loss, sampler, n), results in sorted(groups.items()):
        cells = []
        for measure in MEASURES:
            values = [result["test"][measure] for result in results]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.4f} ± {spread:.4f}")
        timing = runs.get(f"seconds {loss} {sampler}", {}).get("epoch_s") if what == "samplers" else None
        lines.append(
            f"{what:<9} {loss:<16} {sampler:<12} {n:>4} {cells[0]:>16} {cells[1]:>16} "
            f"{'' if timing is None else f'{timing:.1f}':>8} {len(results):>5}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("samplers", "losses", "seconds", "table"))
    parser.add_argument("data", nargs="?", default="../shared/data/gowalla")
    parser.add_argument("--only", default="")
    parser.add_argument("--losses", default="")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    every = [entry.name for entry in SAMPLERS]
    only = options.only.split(",") if options.only else ["uniform"] if options.what == "losses" else every
    if options.what == "table":
        write_text(RESULTS.with_suffix(".txt"), table())
        print(table())
    elif options.what == "seconds":
        seconds(options.data, only)
    else:
        compare(options.what, options.data, only, [name for name in options.losses.split(",") if name], options.seeds)


if __name__ == "__main__":
    main()
