"""BPR, sampled softmax and SimCE on matrix factorisation and on LightGCN: the published comparison. And the other encoders.

    python bench/encoders.py run ml ../shared/data/ml-latest-small/ratings.csv [--models mf,lightgcn] [--losses bpr,simce]
    python bench/encoders.py run beauty ../shared/data/beauty/Beauty.txt
    python bench/encoders.py run gowalla ../shared/data/gowalla --models mf
    python bench/encoders.py run gowalla ../shared/data/gowalla --models lightgcn \\
        --rates 0.01 --epochs 2 --batch 16384 --seeds 1
    python bench/encoders.py run ml ../shared/data/ml-latest-small/ratings.csv \\
        --models simplex,simplex-user_attention,simplex-self_attention --losses ccl
    python bench/encoders.py run ml ../shared/data/ml-latest-small/ratings.csv \\
        --models lightgcn-edge_dropout,lightgcn-noise --losses sampled_softmax
    python bench/encoders.py run ml ../shared/data/ml-latest-small/ratings.csv --models neumf,ultragcn --losses sigmoid
    python bench/encoders.py table

64 dimensions (NeuMF twice 32), spectral start (NeuMF's is random), batches of 2,048; 1 negative a row for BPR, 4 for
``sigmoid``, a pool of 256 shared by the batch for the others. The split is random, 20 % of each user's items for the test
(Gowalla comes with its own) and 10 % of the rest for validation, which nothing is trained on, baselines neither; Beauty's
sequences are sets here. For every pair of model and loss, one of three learning rates and one of two values of another
parameter (the loss's own; for BPR and ``sigmoid``, which have none, weight decay) are chosen by NDCG@20 on the validation
pairs of seed 0: six runs for each. The epoch of each run is chosen by its own validation pairs. Three seeds of split, start
and draws are then trained with what was chosen, and the test pairs looked at once a run. The budget is a number of epochs for
each data set, the same for all models; five validations without a better one end a run. LightGCN on Gowalla, where a step
goes over 1.5 million edges six times, gets two epochs of large batches at one rate, and one seed.

``bench/results/encoders.json`` keeps each run as it ends: those that are there are not repeated. ``table`` writes
``bench/results/encoders.txt``.
"""

import argparse
import itertools
import statistics
import time
from collections import defaultdict
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

RESULTS = Path(__file__).parent / "results" / "encoders.json"
MEASURES = ("recall@20", "ndcg@20", "ndcg@10", "hit_rate@10")
MONITOR = "ndcg@20"
BATCH = 2_048

COLUMNS: dict[str, dict[str, str]] = {"ml": {"user": "userId", "item": "movieId"}, "beauty": {}, "gowalla": {}}
EPOCHS = {"ml": 40, "beauty": 40, "gowalla": 8}
ENCODERS: dict[str, dict[str, Any]] = {
    "mf": {},
    "lightgcn": {},
    "lightgcn-edge_dropout": {"augment": "edge_dropout"},
    "lightgcn-noise": {"augment": "noise"},
    "simplex": {},
    "simplex-user_attention": {"pooling": "user_attention"},
    "simplex-self_attention": {"pooling": "self_attention"},
    "neumf": {},
    "ultragcn": {},
}
"""Models, before a hyphen; and what differs from their defaults."""

MODELS_COMPARED = ("mf", "lightgcn")
LOSSES_COMPARED = ("bpr", "sampled_softmax", "simce")
BASELINES = ("popularity", "item_knn", "ease", "graph_filter", "als")
TOO_LARGE = {("gowalla", "ease")}
"""Baselines that do not take so many items."""

RATES = (0.001, 0.003, 0.01)
LOSSES: dict[str, tuple[str, dict[str, Any], str, tuple[float, ...]]] = {
    "bpr": ("dot", {"n": 1, "shared": False}, "weight_decay", (0.0, 0.1)),
    "sigmoid": ("dot", {"n": 4, "shared": False}, "weight_decay", (0.0, 0.1)),
    "sampled_softmax": ("cosine", {"n": 256, "shared": True}, "temperature", (0.1, 0.2)),
    "simce": ("dot", {"n": 256, "shared": True}, "margin", (1.0, 5.0)),
    "ccl": ("cosine", {"n": 256, "shared": True}, "margin", (0.5, 0.9)),
}
"""How vectors are compared, where the model leaves it open; negatives; the other parameter, and what is tried of it."""


def configuration(
    data: str,
    path: str,
    model: str,
    seed: int,
    loss: str | None = None,
    rate: float = RATES[0],
    own: float = 0.0,
    **how: int,
) -> Config:
    given: dict[str, Any] = {
        "data": {"path": path, **COLUMNS[data]},
        "model": {"name": model.partition("-")[0], **ENCODERS.get(model, {})},
        "evaluation": {"measures": list(MEASURES), "monitor": MONITOR},
        "training": {"epochs": EPOCHS[data], "batch_size": BATCH, "learning_rate": rate, "watch_every": 0, **how},
        "seed": seed,
    }
    if loss is not None:
        similarity, negatives, name, _ = LOSSES[loss]
        if "similarity" in MODELS[given["model"]["name"]].parameters:
            given["model"]["similarity"] = similarity
        given["loss"] = {"name": loss}
        given["training" if name == "weight_decay" else "loss"][name] = own
        given["sampler"] = {"name": "uniform", **negatives}
    return resolve(given)


def judged(model: Any, known: Any, held_out: Any, measures: tuple[str, ...] = MEASURES) -> dict[str, float]:
    return evaluate(model, [Measure.parse(text) for text in measures], known=known, held_out=held_out).means()


def trained(config: Config, data: Data[Any]) -> tuple[Any, dict[str, Any]]:
    """The model as its best validated epoch left it, and how it came there."""
    started = time.monotonic()
    build = MODELS[config.model["name"]].function
    model: Any = build(data.train.num_users, data.train.num_items, **config.parameters("model"))
    known, held_out = data.fit.known(), data.valid.known()
    model.initialise(known, seed=config.seed)
    history = fit(
        build_objective(config, model, data.fit),
        data.fit.tensors(),
        config.training,
        seed=config.seed,
        validate=lambda: judged(model, known, held_out, (MONITOR,)),
        monitor=MONITOR,
    )
    seconds = time.monotonic() - started
    return model, {
        "validation": history.best_value,
        "epoch": history.best_epoch,
        "epochs": history.epoch,
        "seconds": seconds,
        "training_seconds": sum(epoch.seconds for epoch in history.epochs),
    }


def chosen(
    store: Store, data: str, path: str, at: Data[Any], model: str, loss: str, rates: tuple[float, ...], **how: int
) -> tuple[float, float]:
    """Learning rate and other parameter of the best validation with seed 0; the test pairs are not looked at."""
    reached = {}
    for rate, own in itertools.product(rates, LOSSES[loss][3]):
        config = configuration(data, path, model, 0, loss, rate, own, **how)
        result = store.get(f"choose {data} {model} {loss} {rate} {own}", lambda config=config: trained(config, at)[1])
        reached[rate, own] = result["validation"]
    return max(reached, key=reached.__getitem__)


def compare(
    store: Store,
    data: str,
    path: str,
    models: list[str],
    losses: list[str],
    seeds: int,
    rates: tuple[float, ...],
    **how: int,
) -> None:
    """Every model with every loss, and the baselines."""
    splits: dict[int, Data[Any]] = {}

    def split(seed: int) -> Data[Any]:
        if seed not in splits:
            splits[seed] = read(configuration(data, path, "mf", seed).data, seed)
        return splits[seed]

    def baseline(name: str, seed: int) -> dict[str, Any]:
        started, at = time.monotonic(), split(seed)
        model = MODELS[name].function(at.train.num_users, at.train.num_items)
        model.initialise(at.fit.known(), seed=seed)
        seconds = time.monotonic() - started
        return {"seconds": seconds, "test": judged(model, at.train.known(), at.test.known())}

    def run(config: Config, seed: int, own: float) -> dict[str, Any]:
        model, facts = trained(config, split(seed))
        test = judged(model, split(seed).train.known(), split(seed).test.known())
        return {"rate": config.training.learning_rate, "own": own, **facts, "test": test}

    for seed in range(seeds):
        for name in (name for name in BASELINES if (data, name) not in TOO_LARGE):
            store.get(f"test {data} {name} - {seed}", lambda name=name, seed=seed: baseline(name, seed))
        for model, loss in itertools.product(models, losses):
            best = chosen(store, data, path, split(0), model, loss, rates, **how)
            config = configuration(data, path, model, seed, loss, *best, **how)
            store.get(
                f"test {data} {model} {loss} {seed}",
                lambda config=config, seed=seed, own=best[1]: run(config, seed, own),
            )


def table(runs: dict[str, Any]) -> str:
    """Means over seeds with their standard deviation."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for key, result in runs.items():
        what, *rest = key.split()
        if what == "test":
            groups[tuple(rest[:-1])].append(result)
    lines = [
        f"{'data':<8} {'model':<23} {'loss':<16}"
        + "".join(f"{name:>17}" for name in MEASURES)
        + "   rate other epochs seconds seeds"
    ]
    for (data, model, loss), results in sorted(groups.items()):
        cells = []
        for measure in MEASURES:
            values = [result["test"][measure] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}".rjust(17))
        first = results[0]
        rate, own, epochs = (
            (f"{first['rate']:g}", f"{first['own']:g}", f"{statistics.mean(each['epoch'] for each in results):.0f}")
            if "rate" in first
            else ("", "", "")
        )
        seconds = statistics.mean(result["seconds"] for result in results)
        lines.append(
            f"{data:<8} {model:<23} {loss:<16}{''.join(cells)} {rate:>6} {own:>5} {epochs:>6} {seconds:>7.0f} {len(results):>5}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("data", nargs="?", choices=tuple(COLUMNS))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--models", default=",".join(MODELS_COMPARED))
    parser.add_argument("--losses", default=",".join(LOSSES_COMPARED))
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="of every run; the default is the data set's budget")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    store = Store(options.results)
    if options.what == "run":
        if options.path is None:
            parser.error("run needs a data set's name and its path")
        how = {"batch_size": options.batch, **({"epochs": options.epochs} if options.epochs else {})}
        rates = tuple(float(rate) for rate in options.rates.split(","))
        compare(
            store,
            options.data,
            options.path,
            options.models.split(","),
            options.losses.split(","),
            options.seeds,
            rates,
            **how,
        )
    write_text(options.results.with_suffix(".txt"), table(store.runs))
    print(table(store.runs))


if __name__ == "__main__":
    main()
