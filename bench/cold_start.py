"""Side features: fusion of a two-tower model's parts and dropout of ids, on known and new items; histories of new users.

    python bench/cold_start.py items ml ../shared/data/ml-latest-small
    python bench/cold_start.py items beauty ../shared/data/beauty
    python bench/cold_start.py users ml ../shared/data/ml-latest-small
    python bench/cold_start.py table

Items. Features of ml-latest-small: genres and tags as categories, the year of the title as a number; of Beauty: its attributes
as categories. Users have none. For concatenation with dropout of ids, ml-latest-small also with MiniLM's vector of title,
genres and tags as one text: alone, and beside the others. Tags are written by users of the data, those of test pairs too: they
tell what a film is like, and that somebody saw it. Two splits: ``random``, 20 % of each user's items for the test and 10 % of
the rest for validation; ``cold_items``, 20 % of the items with all their pairs for the test and 10 % of the rest for
validation, no negatives either. A user without a training pair is left out. On the second split figures are given among all
items, and among the new items of the test alone; validation's new items, which are not trained on either, stay among all.

64 dimensions, spectral start, sampled softmax at temperature .1 on cosines, 256 shared negatives, batches of 2,048, at most ten
epochs, two validations without a better one end a run. For every combination of split, fusion and dropout of ids the learning
rate (of two) is chosen by NDCG@20 on the validation pairs of seed 0, among all items; the epoch of each run by its own
validation pairs. Nothing is trained on validation pairs, baselines neither. The test is looked at once a run.

Users. A tenth of the users is new; half of the items of each, at random, is the history, the rest is looked for. Models are
trained on the other users and never again. Defaults everywhere, the epoch by validation pairs of the other users.

``bench/results/cold_start.json`` keeps each run as it ends: those that are there are not repeated. ``table`` writes
``bench/results/cold_start.txt``.
"""

import argparse
import csv
import itertools
import json
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from store import Store

from rankwell import keyed
from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.data import FeatureEncoder, Interactions, read_interactions, split_random
from rankwell.evaluation import Among, NewUsers, evaluate
from rankwell.lists import take_lists
from rankwell.metrics import Measure
from rankwell.models import MODELS
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_objective
from rankwell.training import fit
from rankwell.types import Ragged

RESULTS = Path(__file__).parent / "results" / "cold_start.json"
CACHE = Path("runs") / "bench-cold-start"
MEASURES = [Measure.parse(text) for text in ("recall@20", "ndcg@20")]
MONITOR = "ndcg@20"
SPLITS = ("cold_items", "random")
FUSIONS, DROPOUTS, RATES = ("concat", "add", "multiply"), (0.5, 0.0), (0.003, 0.01)
COLUMNS: dict[str, dict[str, str]] = {"ml": {"user": "userId", "item": "movieId"}, "beauty": {}}
FILES = {"ml": "ratings.csv", "beauty": "Beauty.txt"}
FEATURES = {"ml": ["genres", "year", "tags"], "beauty": ["attributes"]}
TEXTS = {"ml": ["text"], "beauty": []}
VALIDATED = 2_000
"""Users whose validation pairs choose, about: every eleventh of Beauty's, all of ml-latest-small's."""
BASELINES = {"random": ("popularity", "feature_knn", "item_knn"), "cold_items": ("popularity", "feature_knn")}
NEW_USERS = ("popularity", "item_knn", "ease", "graph_filter", "als", "simplex", "mf", "two_tower")


class Chance(torch.nn.Module):
    """Scores by chance, the same for every question."""

    def __init__(self, num_items: int, seed: int) -> None:
        super().__init__()
        self.num_items = num_items
        self.scores = torch.rand(num_items, generator=keyed.generator(seed))

    def score_all(self, queries: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Scores of every item."""
        rows = self.scores.expand(len(queries), -1)
        return rows if out is None else out.copy_(rows)


def table_of_items(data: str, folder: Path) -> pl.DataFrame:
    """A row an item, with what is known of it."""
    if data == "beauty":
        attributes = json.loads((folder / "Beauty_item2attributes.json").read_text())
        rows = {"item": list(attributes), "attributes": ["|".join(f"a{n}" for n in own) for own in attributes.values()]}
        return pl.DataFrame(rows)
    tags: dict[str, set[str]] = defaultdict(set)
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            tags[row["movieId"]].add(row["tag"].strip().lower().replace("|", " "))
    with (folder / "movies.csv").open(encoding="utf-8", newline="") as file:
        movies = list(csv.DictReader(file))
    years = [re.findall(r"\((\d{4})\)", row["title"]) for row in movies]
    return pl.DataFrame(
        {
            "item": [row["movieId"] for row in movies],
            "genres": [row["genres"].replace("(no genres listed)", "") for row in movies],
            "year": [own[-1] if own else "" for own in years],
            "tags": ["|".join(sorted(tags[row["movieId"]])) for row in movies],
            "text": [
                ". ".join([row["title"], row["genres"].replace("|", ", "), ", ".join(sorted(tags[row["movieId"]]))])
                for row in movies
            ],
        }
    )


class Bench:
    """One data set, its splits and its features."""

    def __init__(self, data: str, folder: Path) -> None:
        self.data, self.folder, self.scratch = data, folder, Path(tempfile.mkdtemp())
        table_of_items(data, folder).write_parquet(self.scratch / "items.parquet")
        self.splits: dict[tuple[str, int], Data[Any]] = {}

    def config(self, split: str, seed: int, model: Mapping[str, Any], rate: float = RATES[0]) -> Config:
        """One run."""
        given: dict[str, Any] = {
            "data": {
                "path": str(self.folder / FILES[self.data]),
                "items": str(self.scratch / "items.parquet"),
                "items_id": "item",
                "missing_items": "default",
                **({"texts": TEXTS[self.data], "cache": str(CACHE)} if TEXTS[self.data] else {}),
                "split": split,
                **COLUMNS[self.data],
            },
            "model": model,
            "loss": {"name": "sampled_softmax", "temperature": 0.1},
            "sampler": {"name": "uniform", "n": 256},
            "evaluation": {"measures": [str(measure) for measure in MEASURES], "monitor": MONITOR},
            "training": {
                "epochs": 10,
                "batch_size": 2_048,
                "learning_rate": rate,
                "patience": 2,
                "watch_every": 0,
            },
            "seed": seed,
        }
        return resolve(given)

    def split(self, name: str, seed: int) -> Data[Any]:
        """The data, split; the last one is kept."""
        if (name, seed) not in self.splits:
            self.splits = {(name, seed): read(self.config(name, seed, {"name": "popularity"}).data, seed)}
        return self.splits[name, seed]

    def build(self, config: Config, data: Data[Any]) -> Any:
        """The model, with the features of items where it takes any."""
        entry = MODELS[config.model["name"]]
        own = config.parameters("model")
        if "item_features" in entry.inputs:
            # Categories that none but new items have would never be trained: they are left out.
            seen = data.items.frame.filter(pl.Series(data.fit.popularity() > 0))
            columns = list(own.get("columns") or FEATURES[self.data])
            own["item_features"] = FeatureEncoder.fit(seen, columns)(data.items.frame)
        return entry.function(data.train.num_users, data.train.num_items, **own)


def judged(model: Any, data: Data[Any], new: bool) -> dict[str, dict[str, float]]:
    """Test figures among all items and, on a split by items, among those that are new."""
    known, held_out = data.train.known(), data.test.known()
    figures = {"all": evaluate(model, MEASURES, known=known, held_out=held_out).means()}
    if new:
        among = Among(model, torch.from_numpy(data.test.popularity() > 0))
        figures["new"] = evaluate(among, MEASURES, known=known, held_out=held_out).means()
    return figures


def trained(config: Config, model: Any, data: Data[Any]) -> dict[str, Any]:
    """The model as its best validated epoch left it, and how it came there."""
    started = time.monotonic()
    known, held_out = data.fit.known(), data.valid.known()
    model.initialise(known, seed=config.seed)
    monitor = [Measure.parse(MONITOR)]
    asked = torch.arange(0, data.fit.num_users, max(1, data.fit.num_users // VALIDATED))
    history = fit(
        build_objective(config, model, data.fit, items=data.items),
        data.fit.tensors(),
        config.training,
        seed=config.seed,
        validate=lambda: evaluate(model, monitor, known=known, held_out=held_out, users=asked).means(),
        monitor=MONITOR,
    )
    seconds = time.monotonic() - started
    return {"validation": history.best_value, "epoch": history.best_epoch, "epochs": history.epoch, "seconds": seconds}


def towers(fusion: str, dropout: float) -> dict[str, Any]:
    return {"name": "two_tower", "fusion": fusion, "id_dropout": dropout}


def compare_items(store: Store, bench: Bench, seeds: int, rates: tuple[float, ...]) -> None:
    """Every fusion with every dropout of ids, ids alone, and the baselines; on both splits."""

    def baseline(split: str, name: str, seed: int) -> dict[str, Any]:
        started, data = time.monotonic(), bench.split(split, seed)
        model: Any = Chance(data.train.num_items, seed)
        if name != "chance":
            model = bench.build(bench.config(split, seed, {"name": name}), data)
            model.initialise(data.fit.known(), seed=seed)
        seconds = time.monotonic() - started
        return {"seconds": seconds, "test": judged(model, data, split == "cold_items")}

    def run(split: str, own: dict[str, Any], seed: int, rate: float) -> dict[str, Any]:
        data, config = bench.split(split, seed), bench.config(split, seed, own, rate)
        model = bench.build(config, data)
        facts = trained(config, model, data)
        return {"rate": rate, **facts, "test": judged(model, data, split == "cold_items")}

    combinations = [(f"{of} {share:g}", towers(of, share)) for share, of in itertools.product(DROPOUTS, FUSIONS)]
    combinations.append(("ids alone", {"name": "mf", "dropout": 0.0}))
    if texts := TEXTS[bench.data]:
        combinations.append(("concat 0.5, text", {**towers("concat", 0.5), "columns": texts}))
        combinations.append(
            ("concat 0.5, text too", {**towers("concat", 0.5), "columns": [*FEATURES[bench.data], *texts]})
        )
    for seed, split in itertools.product(range(seeds), SPLITS):
        for name in ("chance", *BASELINES[split]):
            key = f"test {bench.data} {split} {seed} {name}"
            store.get(key, lambda split=split, name=name, seed=seed: baseline(split, name, seed))
        for name, own in combinations:
            # With seed 0 all rates are run; validation chooses, and only the chosen run's test figures go into the table.
            tried = {
                rate: store.get(
                    f"rate {bench.data} {split} 0 {name} {rate}",
                    lambda split=split, own=own, rate=rate: run(split, own, 0, rate),
                )["validation"]
                for rate in rates
            }
            best = max(tried, key=tried.__getitem__)
            store.get(
                f"test {bench.data} {split} {seed} {name}",
                lambda split=split, own=own, seed=seed, best=best, name=name: (
                    store.runs[f"rate {bench.data} {split} 0 {name} {best}"]
                    if seed == 0
                    else run(split, own, seed, best)
                ),
            )


def new_users(data: Interactions, seed: int) -> tuple[Interactions, Ragged, Ragged]:
    """What the other users did; the histories of new ones, and what is looked for."""
    rng = np.random.default_rng(seed)
    new = np.zeros(data.num_users, dtype=np.bool_)
    new[rng.permutation(data.num_users)[: data.num_users // 10]] = True
    rows = np.flatnonzero(new[data.users])
    half = rng.random(len(rows)) < 0.5
    lists = [data.take(part).known() for part in (rows[half], rows[~half])]
    both = np.flatnonzero(new & (lists[0].offsets.diff().numpy() > 0) & (lists[1].offsets.diff().numpy() > 0))
    known, wanted = (take_lists(each, torch.from_numpy(both)) for each in lists)
    return data.take(~new[data.users]), known, wanted


def compare_users(store: Store, bench: Bench, seeds: int, rates: tuple[float, ...]) -> None:
    """What models make of the histories of users that training did not see."""
    whole = read_interactions(bench.folder / FILES[bench.data], **COLUMNS[bench.data])

    def run(name: str, seed: int) -> dict[str, Any]:
        started = time.monotonic()
        others, known, wanted = new_users(whole, seed)
        own = {"name": name, **({"id_dropout": 0.5} if name == "two_tower" else {})}
        config = bench.config("random", seed, own, rates[-1])
        parts = split_random(others, 0.1, seed=seed)
        data = Data(others, parts.train, parts.held_out, others, items=bench.split("random", seed).items)
        model = bench.build(config, data)
        facts: dict[str, Any] = {}
        if model.trainable:
            facts = trained(config, model, data)
        else:
            model.initialise(parts.train.known(), seed=seed)
        found = evaluate(NewUsers(model, known), MEASURES, known=known, held_out=wanted)
        seconds = time.monotonic() - started
        return {**facts, "seconds": seconds, "users": len(found.users), "test": {"all": found.means()}}

    for seed, name in itertools.product(range(seeds), NEW_USERS):
        store.get(f"users {bench.data} - {seed} {name}", lambda name=name, seed=seed: run(name, seed))


def table(runs: dict[str, Any]) -> str:
    """Means over seeds with their standard deviation."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for key, result in runs.items():
        what, data, split, _, name = key.split(" ", 4)
        if what != "rate":
            for among in result["test"]:
                groups[what, data, "new users" if what == "users" else split, among, name].append(result)
    lines = [
        f"{'data':<7} {'split':<11} {'among':<6} {'model':<20}"
        + "".join(f"{measure!s:>17}" for measure in MEASURES)
        + "    rate epochs seconds seeds"
    ]
    for (_, data, split, among, name), results in groups.items():
        cells = []
        for measure in MEASURES:
            values = [result["test"][among][str(measure)] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}".rjust(17))
        rate = f"{results[0]['rate']:g}" if "rate" in results[0] else ""
        epochs = f"{statistics.mean(each['epoch'] for each in results):.0f}" if "epoch" in results[0] else ""
        seconds = statistics.mean(result["seconds"] for result in results)
        row = f"{data:<7} {split:<11} {among:<6} {name:<20}{''.join(cells)}"
        lines.append(f"{row} {rate:>7} {epochs:>6} {seconds:>7.1f} {len(results):>5}")
    head, *rows = lines
    return "\n".join([head, *sorted(rows, key=lambda row: row[:26])]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("items", "users", "table"))
    parser.add_argument("data", nargs="?", choices=tuple(COLUMNS))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", default=",".join(map(str, RATES)))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    store = Store(options.results)
    if options.what != "table":
        if options.folder is None:
            parser.error("a data set's name and its folder are needed")
        bench = Bench(options.data, options.folder)
        {"items": compare_items, "users": compare_users}[options.what](
            store, bench, options.seeds, tuple(map(float, options.rates.split(",")))
        )
    write_text(options.results.with_suffix(".txt"), table(store.runs))
    print(table(store.runs))


if __name__ == "__main__":
    main()
