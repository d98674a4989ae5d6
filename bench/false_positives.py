"""How often ``compare`` finds a difference where there is none: a loss against itself under other seeds.

    python bench/false_positives.py run --repetitions 100
    python bench/false_positives.py simulate
    python bench/false_positives.py table

Each repetition has data of its own (300 users with 15 interactions, 150 items, drawn by ``rankwell.data.synthesise``), a
split of its own for validation, and six runs of one loss that differ in their seed alone: start, order, negatives and dropout.
The first three are called A, the others B. Whatever is found between A and B is a false positive. A run is what
``rankwell compare`` runs in a cell, without its process and its files: matrix factorisation, 8 dimensions, cosines, BSL,
32 uniform negatives, 3 epochs of 15 steps, the epoch chosen by validation; NDCG@10 of each user on the test pairs.

Of each repetition one, two and three seeds of A are compared with as many of B, by the test that knows the variance over
seeds (which one seed does not tell) and by the two that know the users alone. The table says how often p is below .05, with
Clopper and Pearson's 95 % interval of the rate. ``over seeds`` is the standard deviation over the six seeds of the mean over
users, ``over users`` the standard error of the difference of two runs as the test over users sees it: means over repetitions.

``simulate`` draws values of 300 users instead of training, 2,000 times, with each source of variance by itself and together: a
taste of users for a contender (``users``), a shift of all users by a seed (``seeds``; its number is the standard deviation of
the difference that seeds make, over the one that users make), noise of a user under a seed (``both``).

``bench/results/false_positives.json`` keeps each repetition as it ends.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.data import synthesise
from rankwell.evaluation.significance import _with_seeds as with_seeds
from rankwell.evaluation.significance import difference
from rankwell.metrics import Measure
from rankwell.tasks import Data, task_of
from rankwell.training import fit

RESULTS = Path(__file__).parent / "results" / "false_positives.json"
MEASURE = "ndcg@10"
RUNS, SEEDS = 6, (1, 2, 3)
TESTS = {"p": "users and seeds", "p_permutation": "users, permutation", "p_t": "users, t"}
LEVEL = 0.05
SOURCES = {
    "users": (1.0, 0.0, 0.0),
    "both": (0.0, 0.0, 1.0),
    "seeds": (0.0, 1.0, 0.0),
    "users, and seeds 0.5": (1.0, 0.5, 0.0),
    "users, and seeds 1": (1.0, 1.0, 0.0),
    "users, and seeds 2": (1.0, 2.0, 0.0),
    "users, seeds 1 and both": (1.0, 1.0, 1.0),
}
"""Standard deviations: of users, of seeds as a share of what users make of the difference, of both."""


def configuration(path: Path, split_seed: int, seed: int) -> Config:
    """One run."""
    return resolve(
        {
            "data": {"path": str(path)},
            "model": {"name": "mf", "dim": 8},
            "loss": {"name": "bsl"},
            "sampler": {"name": "uniform", "n": 32},
            "training": {"epochs": 3, "batch_size": 256, "learning_rate": 0.03, "refit": False, "watch_every": 0},
            "evaluation": {"measures": [MEASURE], "monitor": MEASURE},
            "seed": seed,
            "split_seed": split_seed,
        }
    )


def trained(config: Config, data: Data[Any]) -> NDArray[np.float64]:
    """The measure of each user on the test, of the epoch that validation chose."""
    task, monitor = task_of(config.task), [Measure.parse(MEASURE)]
    model = task.model(config, data)
    task.initialise(model, data.fit, seed=config.seed)
    fit(
        task.objective(config, model, data, data.fit, None),
        task.batches(config, data, data.fit),
        config.training,
        seed=config.seed,
        validate=lambda: task.judge(config, model, monitor, data.fit, data.valid).means(),
        monitor=MEASURE,
    )
    return task.judge(config, model, monitor, data.train, data.test).values[MEASURE].double().numpy()


def repetition(number: int) -> dict[str, Any]:
    """Six runs on data of their own, compared."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        synthesise(300, 150, 15, seed=number).write(Path(folder))
        configs = [configuration(Path(folder), number, RUNS * number + seed) for seed in range(RUNS)]
        data = task_of("interactions").read(configs[0].splitting())
        values = np.stack([trained(config, data) for config in configs])
    first, second = values[: RUNS // 2], values[RUNS // 2 :]
    gap = first[0] - second[0]
    found: dict[str, Any] = {
        "over_seeds": float(values.mean(1).std(ddof=1)),
        "over_users": float(gap.std(ddof=1) / math.sqrt(len(gap))),
        "mean": float(values.mean()),
    }
    for seeds in SEEDS:
        result = difference(first[:seeds], second[:seeds])
        told = {test: getattr(result, test) for test in TESTS}
        found[str(seeds)] = {test: None if math.isnan(p) else p for test, p in told.items()}
    return {**found, "seconds": time.monotonic() - started}


def read_results() -> dict[str, Any]:
    """Repetitions by their number, and what was simulated."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"repetitions": {}}


def keep(results: dict[str, Any]) -> None:
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    write_text(RESULTS, json.dumps({**results, **facts}, indent=1) + "\n")


def run(repetitions: int) -> None:
    """Every repetition that is not there yet."""
    for number in range(repetitions):
        kept = read_results()
        if str(number) not in kept["repetitions"]:
            kept["repetitions"][str(number)] = repetition(number)
            keep(kept)


def simulate(repetitions: int = 2_000, units: int = 300) -> dict[str, dict[str, float]]:
    """Rates of the test that knows the variance over seeds, by what varies and the number of seeds."""
    generator = np.random.default_rng(0)
    rates: dict[str, dict[str, float]] = {}
    for name, (users, seeds, both) in SOURCES.items():
        rates[name] = {}
        for number in (2, 3, 5):
            found = 0
            spread = seeds * (users or 1.0) * math.sqrt(number / units)
            for _ in range(repetitions):
                first, second = (
                    users * generator.normal(size=units)
                    + spread * generator.normal(size=(number, 1))
                    + both * generator.normal(size=(number, units))
                    for _ in "AB"
                )
                found += with_seeds(first, second, first.mean(0) - second.mean(0))[2] < LEVEL
            rates[name][str(number)] = found / repetitions
    return rates


def interval(found: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson's."""
    low = float(stats.beta.ppf(0.025, found, of - found + 1)) if found else 0.0
    high = float(stats.beta.ppf(0.975, found + 1, of - found)) if found < of else 1.0
    return low, high


def table() -> str:
    """Rates of p below the level, by seeds and test."""
    results = read_results()
    rows = list(results["repetitions"].values())
    means = {name: statistics.mean(row[name] for row in rows) for name in ("mean", "over_seeds", "over_users")}
    lines = [
        f"{len(rows)} repetitions, {sum(row['seconds'] for row in rows):,.0f} s; {MEASURE} {means['mean']:.4f}, over seeds"
        f" {means['over_seeds']:.4f}, over users {means['over_users']:.4f}",
        f"{'the test knows':<20}" + "".join(f"{f'seeds: {seeds}':>24}" for seeds in SEEDS),
    ]
    for test, words in TESTS.items():
        cells = []
        for seeds in SEEDS:
            known = [row[str(seeds)][test] for row in rows if row[str(seeds)][test] is not None]
            found = sum(p < LEVEL for p in known)
            low, high = interval(found, len(known)) if known else (0.0, 1.0)
            cells.append(f"{found / len(known):.2f} ({low:.3f} to {high:.3f})" if known else "not tested")
        lines.append(f"{words:<20}" + "".join(f"{cell:>24}" for cell in cells))
    if "simulated" in results:
        lines += ["", "simulated; what varies          " + "".join(f"{f'seeds: {seeds}':>10}" for seeds in (2, 3, 5))]
        for name, rates in results["simulated"].items():
            lines.append(f"{name:<32}" + "".join(f"{rate:>10.3f}" for rate in rates.values()))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "simulate", "table"))
    parser.add_argument("--repetitions", type=int, default=100)
    given = parser.parse_args()
    if given.what == "run":
        run(given.repetitions)
    if given.what == "simulate":
        keep({**read_results(), "simulated": simulate()})
    write_text(RESULTS.with_suffix(".txt"), table())
    print(table())
