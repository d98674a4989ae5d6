"""Learning to rank from clicks on MQ2008: naive, weighted by inverse propensities, and what judgements would give.

    OMP_NUM_THREADS=1 python bench/clicks.py run ../shared/data/mq2008 [--seeds 0,1,2]
    python bench/clicks.py table

A seed has its fold (seed 0 the first), its own production ranker and its own clicks. The production ranker is linear, trained
on the judgements of 2 % of the training queries, seven; it ranks all of them, and users click on them by the position-based
model (examination 1 / k, or ``steep``, 1 / k²; clicks on 10 % of the irrelevant documents that are examined) or by the
dependent click model (``cascade``, going on behind half of the clicks). From the clicks, a list a query, the same network as in
``bench/mq2008.py`` (64 and 32, dropout .1) learns by the softmax loss for 12 epochs of batches of 64 lists, AdamW .003, cosine:

    naive      every click weighs 1
    ips        by the inverse of the examination that the click model knows
    clipped    the same, of .1 at least
    estimated  by the inverse of an examination by position, estimated from a tenth of the sessions in random order, clipped at
               .1; the other methods see none of these sessions
    skyline    judgements of all training queries instead of clicks

The epoch is chosen by NDCG@10 on the judgements of the fold's validation part, for all alike; the test part is looked at once a
run. NDCG@10 is LETOR's (preset ``letor``). ``bench/results/clicks.json`` keeps each run as it ends: those that are there are
not repeated. One thread.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from store import Store, timed

from rankwell.atomic import write_atomically, write_text
from rankwell.data.batching import ListBatches
from rankwell.data.clicks import CascadeModel, PositionModel
from rankwell.data.judged import JudgedLists
from rankwell.data.judged_files import read_judged
from rankwell.evaluation import evaluate_lists
from rankwell.experiments.clicks import ClickLog, production_ranker
from rankwell.losses import softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MLPRanker
from rankwell.training import ListObjective, TrainingSettings, fit

RESULTS = Path(__file__).parent / "results" / "clicks.json"
PICTURE = Path(__file__).parents[1] / "docs" / "clicks.png"
USERS = {"position": PositionModel(), "steep": PositionModel(eta=2.0), "cascade": CascadeModel()}
METHODS: dict[str, dict[str, Any]] = {
    "naive": {"propensity": "none"},
    "ips": {"propensity": "known"},
    "clipped": {"propensity": "known", "clip": 0.1},
    "estimated": {"propensity": "estimated", "clip": 0.1},
}
SESSIONS = (300, 3_000, 30_000, 300_000)
ESTIMATED_FROM = 30_000
"""Sessions from which on a tenth in random order is enough for an estimate."""
SHARE, SHUFFLED, RATE, BATCH, EPOCHS = 0.02, 0.1, 0.003, 64, 12
NDCG = Measure.parse("ndcg@10", preset="letor")

Fold = tuple[JudgedLists, JudgedLists, JudgedLists]


def fold(folder: Path, number: int) -> Fold:
    """Training, validation and test lists of a fold, from 0, as the readme of MQ2008 has them."""
    files = [folder / f"S{(number + place) % 5 + 1}.txt" for place in range(5)]
    return read_judged(files[:3]), read_judged(files[3:4]), read_judged(files[4:])


def measured(model: Any, lists: JudgedLists) -> float:
    return evaluate_lists(model, [NDCG], *lists.tensors()).means()[str(NDCG)]


def trained(lists: JudgedLists, of: Fold, seed: int) -> dict[str, Any]:
    """The network on these labels and weights, its epoch chosen on the validation part."""
    _, valid, test = of
    model = MLPRanker(lists.features.shape[1], widths=(64, 32), dropout=0.1)
    model.initialise(*lists.tensors(), seed=seed)
    history = fit(
        ListObjective(model, softmax_loss, seed),
        ListBatches(*lists.tensors(), BATCH, seed=seed, weights=lists.weight_tensor()),
        TrainingSettings(epochs=EPOCHS, learning_rate=RATE, patience=0),
        seed=seed,
        validate=lambda: {"ndcg@10": measured(model, valid)},
        monitor="ndcg@10",
    )
    return {"validation": history.best_value, "epoch": history.best_epoch, "test": measured(model, test)}


def produced(ranker: MLPRanker, of: Fold) -> dict[str, Any]:
    """What the clicks were collected with."""
    return {"validation": measured(ranker, of[1]), "test": measured(ranker, of[2])}


def run(folder: Path, seeds: list[int]) -> None:
    torch.set_num_threads(1)
    store = Store(RESULTS)
    for seed in seeds:
        of = fold(folder, seed % 5)
        ranker = production_ranker(of[0], SHARE, seed=seed)
        store.get(f"production - - {seed}", timed(lambda ranker=ranker, of=of: produced(ranker, of)))
        store.get(f"skyline - - {seed}", timed(lambda of=of, seed=seed: trained(of[0], of, seed)))
        for sessions, users, method in itertools.product(SESSIONS, USERS, METHODS):
            if method == "estimated" and sessions < ESTIMATED_FROM:
                continue
            shuffled = SHUFFLED if method == "estimated" else 0.0
            log = ClickLog(of[0], ranker, USERS[users], sessions, seed, shuffled)
            make: Callable[[], dict[str, Any]] = lambda log=log, of=of, seed=seed, method=method: trained(  # noqa: E731
                log.judged(**METHODS[method]), of, seed
            )
            store.get(f"{method} {users} {sessions} {seed}", timed(make))


def figures() -> dict[tuple[str, str, str], list[float]]:
    """Test figures by method, users and sessions, over the seeds that all of them have."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, result in Store(RESULTS).runs.items():
        method, users, sessions, seed = name.split()
        found.setdefault((method, users, sessions), {})[seed] = result["test"]
    common = set.intersection(*(set(of) for of in found.values()))
    return {key: [of[seed] for seed in sorted(common)] for key, of in found.items()}


def said(values: list[float], sign: str = "") -> str:
    spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):{sign}.4f} ± {spread:.4f}"


def table() -> str:
    """Means over seeds and their standard errors, and the difference to the naive clicks, seed by seed."""
    of = figures()
    seconds = [result["cpu_seconds"] for result in Store(RESULTS).runs.values()]
    lines = [
        f"test NDCG@10 (letor), {len(next(iter(of.values())))} seeds, each with its fold; ± is the standard error",
        "",
    ]
    lines += [f"{name:<20}{said(of[name, '-', '-']):>18}" for name in ("production", "skyline")]
    for users in USERS:
        lines += ["", f"{users:<20}" + "".join(f"{sessions:>18,}" for sessions in SESSIONS)]
        for method in METHODS:
            cells = [said(of[key]) if (key := (method, users, str(n))) in of else "" for n in SESSIONS]
            lines.append(f"{method:<20}" + "".join(f"{cell:>18}" for cell in cells))
        for method in list(METHODS)[1:]:
            cells = []
            for n in SESSIONS:
                mine, naive = of.get((method, users, str(n)), []), of.get(("naive", users, str(n)), [])
                cells.append(said([a - b for a, b in zip(mine, naive, strict=True)], "+") if mine else "")
            lines.append(f"{method + ' - naive':<20}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join([*lines, "", f"{len(seconds)} runs, {sum(seconds) / 60:.1f} core-minutes"]) + "\n"


def draw() -> None:
    """The learning curves, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    of = figures()
    picture, axes = pyplot.subplots(1, 3, figsize=(11, 3.6), sharey=True)
    for panel, users in zip(axes, USERS, strict=True):
        for method in METHODS:
            points = [(n, of[key]) for n in SESSIONS if (key := (method, users, str(n))) in of]
            panel.plot([n for n, _ in points], [statistics.mean(values) for _, values in points], "o-", label=method)
        for name, style in (("skyline", "--"), ("production", ":")):
            panel.axhline(statistics.mean(of[name, "-", "-"]), color="grey", linestyle=style, label=name)
        panel.set_xscale("log")
        panel.set_xlabel("sessions")
        panel.set_title(users)
    axes[0].set_ylabel("test NDCG@10")
    axes[1].legend(fontsize=8)
    picture.tight_layout()
    with write_atomically(PICTURE) as temporary:
        picture.savefig(temporary, dpi=90, format="png")
    pyplot.close(picture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data/mq2008"))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    if options.what == "run":
        run(options.data, [int(seed) for seed in options.seeds.split(",")])
    write_text(RESULTS.with_suffix(".txt"), table())
    draw()
    print(table())


if __name__ == "__main__":
    main()
