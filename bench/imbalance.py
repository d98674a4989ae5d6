"""Imbalance on ml-latest-small: weights by popularity and by genre, balanced batches, and ranking on two levels.

    python bench/imbalance.py weights ../shared/data/ml-latest-small
    python bench/imbalance.py levels ../shared/data/ml-latest-small
    python bench/imbalance.py table

Matrix factorisation, 64 dimensions, cosines, spectral start, batches of 2,048, a pool of uniform negatives (256; 64 for
``levels``, whose loss sorts), 8 epochs, temperature .1, learning rate .01. A movie's genre is the rarest of its own.

``weights`` has two splits: ``random`` (test pairs are as unequal as training pairs) and ``balanced`` (each movie gives as
many test pairs as any other, or half of its own; 20 %). The strength of the weighting by item is chosen on the validation
pairs of seed 0, which are held out in the same way, by NDCG@20. Head, middle and tail are the movies of the first, second
and last third of the training pairs, most popular first: recall@20 of the test pairs of each alone. ``genres`` is the mean
recall@20 over genres.

``levels``: ``hierarchical`` with softmax on both levels against the plain softmax, random split. Within: NDCG@10 of a
user's unknown movies of one genre, mean over users and genres with a test movie. Among: NDCG@5 of the genres, each by the
mean score of its five best unknown movies; those with a test movie are relevant. The weight of the upper level is chosen by
the sum of both on validation pairs.

Three seeds of split, start and draws; test pairs are looked at once a run, with the epoch that validation chose.
``bench/results/imbalance.json`` keeps each run as it ends.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from store import Store

from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.data import Interactions
from rankwell.evaluation import evaluate, top_items
from rankwell.metrics import Measure, ndcg
from rankwell.models import MODELS, Popularity
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_batches, build_objective
from rankwell.training import fit

RESULTS = Path(__file__).parent / "results" / "imbalance.json"
EPOCHS, MONITOR = 8, "ndcg@20"

GROUPED = {"column": "genre"}
Choices = tuple[dict[str, Any], ...]
WEIGHTS: dict[str, Choices] = {
    "plain": ({},),
    "by item": tuple({"batches": {"name": "weighted", "exponent": e}} for e in (0.25, 0.5, 1.0)),
    "effective number": ({"batches": {"name": "weighted", "exponent": 1.0, "beta": 0.99}},),
    "by genre": ({"batches": {"name": "weighted", "exponent": 1.0, **GROUPED}},),
    "class_balanced": ({"batches": {"name": "class_balanced", "per_class": 4}},),
    "uncorrected": ({"loss": {"name": "info_nce"}},),
}
"""What differs from the sampled softmax of shuffled batches. The last is its in-batch form, whose negatives come as popular as
positives are, and which nothing corrects: scores are then those of taste less popularity."""

LEVELS: dict[str, Choices] = {
    "softmax": ({"loss": {"name": "softmax"}},),
    "hierarchical": tuple({"loss": {"name": "hierarchical", "among_weight": w, **GROUPED}} for w in (0.1, 0.3, 1.0)),
}


def with_genres(folder: Path) -> Path:
    """A file of movies and the rarest genre of each."""
    movies = pl.read_csv(folder / "movies.csv").select("movieId", pl.col("genres").str.split("|"))
    counts = movies.explode("genres").group_by("genres").len()
    rarest = movies.explode("genres").join(counts, on="genres").sort("len").unique("movieId", keep="first")
    file = Path(tempfile.mkdtemp()) / "movies.csv"
    rarest.select("movieId", genre="genres").sort("movieId").write_csv(file)
    return file


def configuration(folder: Path, items: Path, split: str, seed: int, **sections: Any) -> Config:
    given: dict[str, Any] = {
        "data": {
            "path": str(folder / "ratings.csv"),
            "user": "userId",
            "item": "movieId",
            "items": str(items),
            "items_id": "movieId",
            "split": split,
        },
        "loss": {"name": "sampled_softmax"},
        "sampler": {"name": "uniform", "n": 256},
        "training": {"epochs": EPOCHS, "batch_size": 2_048, "learning_rate": 0.01, "patience": 0, "watch_every": 0},
        "evaluation": {"measures": [MONITOR], "monitor": MONITOR},
        "seed": seed,
    }
    given |= sections
    given["loss"] = {"temperature": 0.1, **given["loss"]}
    if given["loss"]["name"] == "info_nce":
        del given["sampler"]
    return resolve(given)


def judged(model: Any, known: Interactions, held_out: Interactions, *measures: str) -> dict[str, float]:
    parsed = [Measure.parse(text) for text in measures]
    return evaluate(model, parsed, known=known.known(), held_out=held_out.known()).means()


def of_parts(model: Any, data: Data[Any]) -> dict[str, float]:
    """Test measures: of all pairs, of head, middle and tail, and the mean over genres."""
    test = data.test
    counts = data.train.popularity()
    order = np.argsort(-counts, kind="stable")
    before = np.empty(len(counts))
    before[order] = np.cumsum(counts[order]) - counts[order]
    third = np.minimum(3 * before // counts.sum(), 2).astype(int)
    best = top_items(model, torch.arange(test.num_users), 20, known=data.train.known()).ids
    keys = (torch.arange(test.num_users)[:, None] * test.num_items + best)[best >= 0].numpy()
    hit = np.isin(test.keys, keys)

    def recall(rows: NDArray[np.bool_]) -> float:
        """Mean over the users with such a test pair."""
        wanted = np.bincount(test.users[rows], minlength=test.num_users)
        found = np.bincount(test.users[rows & hit], minlength=test.num_users)
        return float((found[wanted > 0] / wanted[wanted > 0]).mean())

    genre = data.items.groups("genre").numpy()[test.items]
    return {
        **judged(model, data.train, test, MONITOR, "recall@20"),
        **{name: recall(third[test.items] == n) for n, name in enumerate(("head", "middle", "tail"))},
        "genres": statistics.mean(recall(genre == g) for g in np.unique(genre)),
    }


def of_levels(model: Any, data: Data[Any], known: Interactions, held_out: Interactions) -> dict[str, float]:
    """NDCG of movies within genres, and of genres among themselves, by one list of scores a user."""
    genre, num = data.items.groups("genre"), int(data.items.groups("genre").max()) + 1
    users = torch.from_numpy(np.unique(held_out.users))
    rows = torch.full((known.num_users,), -1)
    rows[users] = torch.arange(len(users))
    scores = model.score_all(users)
    there, labels = torch.ones_like(scores, dtype=torch.bool), torch.zeros_like(scores)
    for part, table, value in ((known, there, False), (held_out, labels, 1.0)):
        at, items = rows[part.tensors()[0]], part.tensors()[1]
        table[at[at >= 0], items[at >= 0]] = value
    within, best, right = [], [], []
    for g in range(num):
        columns = (genre == g).nonzero().squeeze(1)
        s, y, w = (table[:, columns] for table in (scores, labels, there))
        some = (y * w).any(1)
        within.append(ndcg(s[some], y[some], where=w[some], k=10, reduction="none"))
        masked = torch.where(w, s, -torch.inf).topk(min(5, len(columns)), 1).values
        finite = masked.isfinite()
        best.append(torch.where(finite, masked, 0).sum(1) / finite.sum(1).clamp(min=1))
        right.append(some)
    among = ndcg(torch.stack(best, 1), torch.stack(right, 1).float(), k=5)
    return {"within": float(torch.cat(within).mean()), "among": float(among)}


def run(what: str, config: Config, data: Data[Any], test: bool) -> dict[str, Any]:
    started = time.process_time()
    model: Any = MODELS["mf"].function(data.train.num_users, data.train.num_items, **config.parameters("model"))
    model.initialise(data.fit.known(), seed=config.seed)
    history = fit(
        build_objective(config, model, data.fit, items=data.items),
        build_batches(config, data.fit, data.items),
        config.training,
        seed=config.seed,
        validate=lambda: judged(model, data.fit, data.valid, MONITOR),
        monitor=MONITOR,
    )
    facts = {"epoch": history.best_epoch, "validation": judged(model, data.fit, data.valid, MONITOR)[MONITOR]}
    if what == "levels":
        levels = of_levels(model, data, data.fit, data.valid)
        facts |= {"validation": levels["within"] + levels["among"], "valid_levels": levels}
    facts["cpu_seconds"] = time.process_time() - started
    if not test:
        return facts
    found = of_parts(model, data)
    return {**facts, "test": found | (of_levels(model, data, data.train, data.test) if what == "levels" else {})}


def compare(store: Store, what: str, folder: Path, splits: list[str], seeds: int) -> None:
    items = with_genres(folder)
    ways = WEIGHTS if what == "weights" else LEVELS
    more = {} if what == "weights" else {"sampler": {"name": "uniform", "n": 64}}
    once: dict[tuple[str, int], Data[Any]] = {}

    def at(split: str, seed: int) -> Data[Any]:
        if (split, seed) not in once:
            once[split, seed] = read(configuration(folder, items, split, seed).data, seed)
        return once[split, seed]

    def popularity(split: str, seed: int) -> dict[str, Any]:
        data = at(split, seed)
        model = Popularity(data.train.num_users, data.train.num_items)
        model.initialise(data.fit.known(), seed=0)
        return {"test": of_parts(model, data) | of_levels(model, data, data.train, data.test)}

    for seed, split in itertools.product(range(seeds), splits):
        store.get(f"test {what}/{split}/popularity/{seed}", lambda split=split, seed=seed: popularity(split, seed))
        for name, choices in ways.items():
            reached = {}
            for number, own in enumerate(choices if len(choices) > 1 else ()):
                config = configuration(folder, items, split, 0, **{**more, **own})
                key = f"choose {what}/{split}/{name}/{number}"
                result = store.get(key, lambda config=config, split=split: run(what, config, at(split, 0), test=False))
                reached[number] = result["validation"]
            own = choices[max(reached, key=reached.__getitem__)] if reached else choices[0]
            config = configuration(folder, items, split, seed, **{**more, **own})
            store.get(
                f"test {what}/{split}/{name}/{seed}",
                lambda config=config, split=split, seed=seed, own=own: {
                    "chosen": own,
                    **run(what, config, at(split, seed), test=True),
                },
            )


COLUMNS = {
    "weights": ("ndcg@20", "recall@20", "head", "middle", "tail", "genres"),
    "levels": ("ndcg@20", "recall@20", "within", "among", "genres"),
}


def table(runs: dict[str, Any]) -> str:
    """Means over seeds with their standard deviation."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for key, result in runs.items():
        if key.startswith("test "):
            groups.setdefault(tuple(key[5:].split("/")[:3]), []).append(result)
    lines, last = [], ""
    for (what, split, name), results in sorted(groups.items(), key=lambda each: each[0][:2]):
        if what + split != last:
            lines.append(
                f"{what:<9}{split:<10}{'':<18}"
                + "".join(f"{column:>16}" for column in COLUMNS[what])
                + "  seeds  CPU s  chosen"
            )
            last = what + split
        cells = ""
        for column in COLUMNS[what]:
            values = [result["test"][column] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells += f"{statistics.mean(values):.4f}{spread}".rjust(16)
        own = [each for section in results[0].get("chosen", {}).values() for each in section.items()]
        chosen = ", ".join(f"{key} {value}" for key, value in own if key != "name")
        spent = [result["cpu_seconds"] for result in results if "cpu_seconds" in result]
        took = f"{statistics.mean(spent):.1f}" if spent else ""
        lines.append(f"{'':<19}{name:<18}{cells} {len(results):>6} {took:>6}  {chosen}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "levels", "table"))
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data/ml-latest-small"))
    parser.add_argument("--splits", default="")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    store = Store(RESULTS)
    if options.what != "table":
        splits = options.splits.split(",") if options.splits else ["balanced", "random"]
        compare(store, options.what, options.folder, splits if options.what == "weights" else ["random"], options.seeds)
    write_text(RESULTS.with_suffix(".txt"), table(store.runs))
    print(table(store.runs))


if __name__ == "__main__":
    main()
