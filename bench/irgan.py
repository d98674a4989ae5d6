"""IRGAN on matrix factorisation against its supervised generator: same start, same budget, on ml-latest-small.

    python bench/irgan.py run ../shared/data/ml-latest-small/ratings.csv
    python bench/irgan.py table

64 dimensions, cosines, spectral start, batches of 2,048, a pool of 64 uniform negatives, temperature .1, 6 epochs under a
cosine schedule. The generator is supervised by the sampled softmax for 2 epochs and then learns from its critic's rewards;
``supervised`` goes on as it began, so that the first 2 epochs of both are the same bits. The split is random, 20 % of each
user's items for the test and 10 % of the rest for validation, which nothing is trained on. For every way to play one of two
learning rates is chosen by the best NDCG@20 on the validation pairs of seed 0; three seeds of split, start and draws; the
epoch is chosen by validation too, and the test pairs are looked at once a run. ``bench/results/irgan.json`` keeps each run.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from store import Store

from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.evaluation import evaluate
from rankwell.metrics import Measure
from rankwell.models import MODELS
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_objective
from rankwell.training import fit

RESULTS = Path(__file__).parent / "results" / "irgan.json"
MEASURES, MONITOR = ("recall@20", "ndcg@20"), "ndcg@20"
EPOCHS, WARM, RATES = 6, 2, (0.001, 0.01)
WAYS: dict[str, dict[str, Any]] = {
    "supervised": {"warm_epochs": EPOCHS},
    "bounded": {"warm_epochs": WARM},
    "log": {"warm_epochs": WARM, "reward": "log"},
    "wasserstein": {"warm_epochs": WARM, "reward": "score", "form": "wasserstein"},
    "discriminator": {"warm_epochs": WARM, "result": "discriminator"},
}


def configuration(path: str, way: str, rate: float, seed: int) -> Config:
    return resolve(
        {
            "data": {"path": path, "user": "userId", "item": "movieId"},
            "loss": {"name": "irgan_generator", "temperature": 0.1, "draws": 4, **WAYS[way]},
            "sampler": {"name": "uniform", "n": 64},
            "training": {
                "epochs": EPOCHS,
                "batch_size": 2_048,
                "learning_rate": rate,
                "patience": 0,
                "watch_every": 0,
            },
            "evaluation": {"measures": list(MEASURES), "monitor": MONITOR},
            "seed": seed,
        }
    )


def judged(model: Any, known: Any, held_out: Any, measures: tuple[str, ...]) -> dict[str, float]:
    return evaluate(model, [Measure.parse(text) for text in measures], known=known, held_out=held_out).means()


def run(config: Config, data: Data[Any]) -> tuple[Any, dict[str, Any]]:
    """The model as its best validated epoch left it, and how it came there."""
    started = time.process_time()
    model: Any = MODELS["mf"].function(data.train.num_users, data.train.num_items, **config.parameters("model"))
    known, held_out = data.fit.known(), data.valid.known()
    model.initialise(known, seed=config.seed)
    start = judged(model, known, held_out, (MONITOR,))[MONITOR]
    history = fit(
        build_objective(config, model, data.fit),
        data.fit.tensors(),
        config.training,
        seed=config.seed,
        validate=lambda: judged(model, known, held_out, (MONITOR,)),
        monitor=MONITOR,
    )
    return model, {
        "start": start,
        "validation": [epoch.validation[MONITOR] for epoch in history.epochs],
        "loss": [epoch.loss for epoch in history.epochs],
        "epoch": history.best_epoch,
        "cpu_seconds": time.process_time() - started,
    }


def compare(store: Store, path: str, ways: list[str], seeds: int) -> None:
    for way in ways:
        choose_and_test(store, path, way, seeds)


def choose_and_test(store: Store, path: str, way: str, seeds: int) -> None:
    """One way to play: the rate by the validation of seed 0, then every seed with it."""
    splits = {seed: read(configuration(path, way, RATES[0], seed).data, seed) for seed in range(seeds)}
    trained: dict[float, Any] = {}

    def choose(rate: float) -> dict[str, Any]:
        trained[rate], facts = run(configuration(path, way, rate, 0), splits[0])
        return facts

    reached = {rate: store.get(f"choose {way} {rate}", lambda rate=rate: choose(rate)) for rate in RATES}
    rate = max(RATES, key=lambda rate: max(reached[rate]["validation"]))

    def test(seed: int) -> dict[str, Any]:
        data = splits[seed]
        if seed == 0 and rate in trained:  # the same run
            model, facts = trained[rate], reached[rate]
        else:
            model, facts = run(configuration(path, way, rate, seed), data)
        return {"rate": rate, **facts, "test": judged(model, data.train.known(), data.test.known(), MEASURES)}

    for seed in range(seeds):
        store.get(f"test {way} {seed}", lambda seed=seed: test(seed))


def table(runs: dict[str, Any]) -> str:
    """Means over seeds with their standard deviation."""
    lines = [
        f"{'way':<14}{'rate':>6}{'recall@20':>17}{'ndcg@20':>17}   validation: start, warm, best, last   epoch  cpu s  seeds"
    ]
    for way in WAYS:
        results = [result for name, result in runs.items() if name.startswith(f"test {way} ")]
        if not results:
            continue
        cells = ""
        for measure in MEASURES:
            values = [result["test"][measure] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells += f"{statistics.mean(values):.4f}{spread}".rjust(17)
        curves = [[result["start"], *result["validation"]] for result in results]
        places = (
            (curve[0] for curve in curves),
            (curve[WARM] for curve in curves),
            map(max, curves),
            (c[-1] for c in curves),
        )
        said = "  ".join(f"{statistics.mean(values):.4f}" for values in places)
        epoch, seconds = (statistics.mean(result[name] for result in results) for name in ("epoch", "cpu_seconds"))
        lines.append(
            f"{way:<14}{results[0]['rate']:>6g}{cells}{said:>38}{epoch:>11.0f}{seconds:>7.0f}{len(results):>7}"
        )
    lines += ["", f"{'seed 0':<14}{'rate':>6}   validation ndcg@20 at the start and after each epoch"]
    for name, result in sorted(runs.items()):
        what, way, rate = name.split()
        if what == "choose":
            curve = " ".join(f"{value:.4f}" for value in (result["start"], *result["validation"]))
            lines.append(f"{way:<14}{float(rate):>6g}   {curve}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("path", nargs="?", default="../shared/data/ml-latest-small/ratings.csv")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    store = Store(RESULTS)
    if options.what == "run":
        compare(store, options.path, options.ways.split(","), options.seeds)
    write_text(RESULTS.with_suffix(".txt"), table(store.runs))
    print(table(store.runs))


if __name__ == "__main__":
    main()
