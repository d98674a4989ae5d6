"""Losses on MQ2008, five folds as its readme says, beside LightGBM's LambdaMART and the best single feature.

    python bench/mq2008.py run ../shared/data/mq2008 [--only softmax,hinge] [--epochs 12]
    python bench/mq2008.py table

A fold trains on three parts, chooses on the fourth and is judged on the fifth. For each loss the same network (64 and 32
hidden numbers, dropout .1; for the softmax also the set transformer, with its defaults), the same budget (12 epochs of batches
of 64 lists, AdamW, cosine schedule) and the same two learning rates; epoch and learning rate are chosen by the validation
part's NDCG@10. LambdaMART (15 leaves, .05 a tree) and its number of trees are chosen likewise; nothing is trained again on the
validation part. One seed, one thread; seconds are of all runs of a row, choosing included.

Measures are LETOR's (preset ``letor``): exponential gains, positions 1 and 2 without discount, a query without a relevant
document is 0 and counts. NDCG is LETOR's MeanNDCG: the mean of NDCG@k over k from 1 to the list's length. NDCG@10 of a list
shorter than 10 (more than half of them) is that of the whole list; LETOR's script writes 0 there: figures made by it are lower.
``bench/results/mq2008.json`` keeps each run as it ends: those that are there are not repeated.
"""

import argparse
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from store import Store, timed
from torch import nn

from rankwell.atomic import write_text
from rankwell.data.batching import ListBatches
from rankwell.data.judged import JudgedLists
from rankwell.data.judged_files import read_judged
from rankwell.evaluation import evaluate_lists
from rankwell.losses import LOSSES
from rankwell.metrics import Measure, evaluate_measures
from rankwell.models import BestFeature, LambdaMART, MLPRanker, SetTransformer
from rankwell.training import ListObjective, TrainingSettings, fit

RESULTS = Path(__file__).parent / "results" / "mq2008.json"
KINDS = {
    "pointwise": ("mse", "sigmoid"),
    "pairwise": ("logistic", "hinge"),
    "pairwise by metric": ("lambda_rank", "lambda_loss"),
    "listwise": ("softmax", "listnet", "listmle"),
    "smooth metric": ("approx_ndcg", "smooth_ap", "pirank", "fast_soft_rank", "neural_ndcg"),
}
BASELINES = ("lambdamart", "best_feature")
SET = "set_transformer"
"""Of the row whose model is another."""

RATES = (0.01, 0.003)
TREES = (25, 50, 100, 200, 400)
BATCH, SEED = 64, 0
MONITOR = Measure.parse("ndcg@10", preset="letor")
MAP = Measure.parse("ap", preset="letor")
COLUMNS = {"NDCG@10": "ndcg@10", "MAP": "map", "NDCG": "mean_ndcg"}

Fold = tuple[JudgedLists, JudgedLists, JudgedLists]


def folds(folder: Path) -> list[Fold]:
    """Training, validation and test lists: S1–S3, S4, S5, and so on round."""
    parts = [[folder / f"S{(fold + place) % 5 + 1}.txt" for place in range(5)] for fold in range(5)]
    return [(read_judged(files[:3]), read_judged(files[3:4]), read_judged(files[4:])) for files in parts]


def validation(model: nn.Module, lists: JudgedLists) -> float:
    return evaluate_lists(model, [MONITOR], *lists.tensors()).means()[str(MONITOR)]


def mean_ndcg(scores: torch.Tensor, labels: torch.Tensor, offsets: torch.Tensor) -> float:
    """The mean of NDCG@k over k from 1 to the list's length, then over lists; of what ``ndcg(preset letor)@k`` gives."""
    sizes = offsets.diff()
    lists = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    places = torch.arange(len(scores)) - offsets[lists]
    discounts = 1 / (places + 1.0).clamp(min=2).log2().double()

    def gained(by: torch.Tensor) -> torch.Tensor:
        order = by.argsort(descending=True, stable=True)
        gains = (2.0 ** labels[order[lists[order].argsort(stable=True)]] - 1) * discounts
        sums = torch.cat([gains.new_zeros(1), gains.cumsum(0)])
        return sums[1:] - sums[offsets[lists]]

    best = gained(labels)
    ratios = torch.where(best > 1e-9, gained(scores) / best, 0.0)
    return float(torch.zeros(len(sizes)).double().index_add(0, lists, ratios).div(sizes).mean())


def judged(model: nn.Module, lists: JudgedLists) -> dict[str, float]:
    features, labels, offsets = lists.tensors()
    with torch.no_grad():
        scores = model(features, offsets)
    values = evaluate_measures([MONITOR, MAP], scores, labels, offsets=offsets)
    ndcg, precision = (float(values[str(measure)].mean()) for measure in (MONITOR, MAP))
    return {"ndcg@10": ndcg, "map": precision, "mean_ndcg": mean_ndcg(scores, labels, offsets)}


def trained(row: str, rate: float, epochs: int, fold: Fold) -> dict[str, Any]:
    train, valid, test = fold
    width = train.features.shape[1]
    model = SetTransformer(width) if row == SET else MLPRanker(width, widths=(64, 32), dropout=0.1)
    loss = "softmax" if row == SET else row
    model.initialise(*train.tensors(), seed=SEED)
    entry = LOSSES[loss]
    scale = 1 / float(train.labels.max()) if loss == "sigmoid" else 1.0
    history = fit(
        ListObjective(model, entry.function, SEED, entry.inputs, scale),
        ListBatches(*train.tensors(), BATCH, seed=SEED),
        TrainingSettings(epochs=epochs, batch_size=BATCH, learning_rate=rate, patience=0),
        seed=SEED,
        validate=lambda: {"ndcg@10": validation(model, valid)},
        monitor="ndcg@10",
    )
    return {"validation": history.best_value, "epoch": history.best_epoch, "test": judged(model, test)}


def grown(trees: int, fold: Fold) -> dict[str, Any]:
    train, valid, test = fold
    model = LambdaMART(train.features.shape[1], trees=trees)
    model.initialise(*train.tensors(), seed=SEED)
    return {"validation": validation(model, valid), "test": judged(model, test)}


def best_feature(fold: Fold) -> dict[str, Any]:
    train, valid, test = fold
    model = BestFeature(train.features.shape[1])
    model.initialise(*train.tensors(), seed=SEED)
    return {"validation": validation(model, valid), "test": judged(model, test)}


def run(folder: Path, only: list[str], epochs: int) -> None:
    torch.set_num_threads(1)
    store = Store(RESULTS)
    data = list(enumerate(folds(folder), start=1))
    for number, fold in data:
        if "best_feature" in only:
            store.get(f"best_feature - {number}", timed(lambda fold=fold: best_feature(fold)))
        for trees in TREES if "lambdamart" in only else ():
            store.get(f"lambdamart {trees} {number}", timed(lambda fold=fold, trees=trees: grown(trees, fold)))
    losses = [loss for loss in (*itertools.chain(*KINDS.values()), SET) if loss in only]
    for rate, loss, (number, fold) in itertools.product(RATES, losses, data):
        make: Callable[[], dict[str, Any]] = lambda loss=loss, rate=rate, fold=fold: trained(loss, rate, epochs, fold)  # noqa: E731
        store.get(f"{loss} {rate:g} {number}", timed(make))


def chosen() -> dict[str, list[dict[str, Any]]]:
    """By loss, the run of each fold that validation chose, among settings that were run on all five folds."""
    settings: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, result in Store(RESULTS).runs.items():
        loss, setting, fold = name.split()
        settings.setdefault((loss, setting), {})[fold] = {**result, "setting": setting}
    whole: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for (loss, _), of in settings.items():
        if len(of) == 5:
            whole.setdefault(loss, []).append(of)
    return {
        loss: [max((of[fold] for of in found), key=lambda run: run["validation"]) for fold in sorted(found[0])]
        for loss, found in whole.items()
    }


def said(values: list[float], sign: str = "") -> str:
    return f"{statistics.mean(values):{sign}.4f} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def table() -> str:
    """Means over folds and their standard errors, and the difference to LambdaMART fold by fold."""
    runs, spent = chosen(), defaultdict[str, float](float)
    for key, result in Store(RESULTS).runs.items():
        spent[key.split()[0]] += result["seconds"]
    figures = {name: {key: [each["test"][key] for each in of] for key in COLUMNS.values()} for name, of in runs.items()}
    lines = [
        f"{'':<20}{'loss':<16}"
        + "".join(f"{head:>18}" for head in COLUMNS)
        + f"{'NDCG@10 - trees':>20} {'seconds':>8}   chosen"
    ]
    for kind, names in {**KINDS, "listwise, softmax": (SET,), "beside": BASELINES}.items():
        for name in names:
            if name not in runs:
                continue
            cells = "".join(f"{said(figures[name][key]):>18}" for key in COLUMNS.values())
            trees = figures["lambdamart"]["ndcg@10"]
            paired = [mine - theirs for mine, theirs in zip(figures[name]["ndcg@10"], trees, strict=True)]
            settings = " ".join(each["setting"] for each in runs[name])
            lines.append(f"{kind:<20}{name:<16}{cells}{said(paired, '+'):>20} {spent[name]:>8.0f}   {settings}")
    return "\n".join([*lines, "", *compared(figures)]) + "\n"


def compared(figures: dict[str, dict[str, list[float]]]) -> list[str]:
    """Kinds of losses against the pairwise ones, fold by fold."""
    means = {
        kind: {
            key: [statistics.mean(values) for values in zip(*(figures[name][key] for name in names), strict=True)]
            for key in COLUMNS.values()
        }
        for kind, names in KINDS.items()
        if all(name in figures for name in names)
    }
    if "pairwise" not in means:
        return []
    lines = ["Mean of each kind's losses, less that of the pairwise ones, fold by fold:"]
    for kind, of in means.items():
        if kind != "pairwise":
            cells = "".join(
                f"{said([a - b for a, b in zip(of[key], means['pairwise'][key], strict=True)], '+'):>18}"
                for key in COLUMNS.values()
            )
            lines.append(f"{kind:<36}{cells}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data/mq2008"))
    parser.add_argument("--only", default=",".join(itertools.chain(BASELINES, *KINDS.values(), [SET])))
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    if options.what == "run":
        run(options.data, options.only.split(","), options.epochs)
    write_text(RESULTS.with_suffix(".txt"), table())
    print(table())


if __name__ == "__main__":
    main()
