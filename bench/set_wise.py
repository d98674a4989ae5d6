"""Set-wise losses on "which genres and tags fit": ml-latest-small, movies held out.

    python bench/set_wise.py features ../shared/data/ml-latest-small movies.parquet
    python bench/set_wise.py run ../shared/data/ml-latest-small movies.parquet [--only sigmoid,soft_dice] [--seeds 3]
    python bench/set_wise.py table

``features`` writes a row a movie: year and common words of the title, the number and the mean of its ratings, and 64 numbers
of the ratings' singular value decomposition (who rated it, not how); none of them holds a genre or a tag. Labels are genres,
and tags that at least ten movies have. 20 % of the movies are the test, 20 % of the others choose.

One network for every loss (128 hidden numbers, dropout .2, batches of 128, AdamW, cosine schedule, 30 epochs, five validations
without a better one end a run). Learning rate (three), and then where the biases start (at the labels' log odds, or at 0), are
chosen by NDCG@10 on the validation movies of seed 0, the epoch of each run by its own validation movies. Three seeds of split,
start and order are then trained with what was chosen; the table has the test of these. The ridge regression's penalty is
chosen likewise.
One thread.

Beside the rankings there are two sets: the labels scored above 0, and above the threshold that gives the best mean F1 on the
validation movies. ``bench/results/set_wise.json`` keeps each run as it ends: those that are there are not repeated.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from store import Store, timed
from torch import Tensor, nn

from rankwell.atomic import write_text
from rankwell.data.batching import LabelBatches
from rankwell.data.labelled_rows import LabelledRows, indicators
from rankwell.evaluation.labelled import evaluate_labels, score_labels
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.models import LabelMLP, LabelPopularity, LabelRidge
from rankwell.models.spectral import truncated_svd
from rankwell.tasks import Data
from rankwell.tasks.label_data import LabelData, read
from rankwell.training import ListObjective, TrainingSettings, fit
from rankwell.types import Ragged

RESULTS = Path(__file__).parent / "results" / "set_wise.json"
SUMS = {"sigmoid+soft_dice": ("sigmoid", "soft_dice"), "sigmoid+excessiveness": ("sigmoid", "excessiveness")}
SINGLE = ("sigmoid", "focal", "soft_dice", "tversky", "excessiveness", "softmax", "logistic")
BATCH_WIDE = "soft_dice:batch"
"""As MINet has it: one Dice coefficient over all pairs of the batch, not one a row."""
COMPARED = (*SINGLE, BATCH_WIDE, *SUMS)
NO_ZERO = {"ridge", "softmax", "logistic"}
"""Whose scores may all be shifted, or are no log odds: what is above 0 says nothing."""
RATES, PENALTIES = (0.001, 0.003, 0.01), (0.001, 0.01, 0.1)
EPOCHS, BATCH, DIM = 30, 128, 64
MEASURES = {"NDCG@10": "ndcg@10", "MAP": "ap", "recall@5": "recall@5", "F1 at R": "r_precision"}
TIERS = {"common": 500, "middle": 50, "rare": 0}
"""Labels by their training rows, at least so many."""


def write_features(folder: Path, file: Path) -> None:
    """A row a movie, from titles and ratings alone."""
    movies = pl.read_csv(folder / "movies.csv", schema_overrides={"movieId": pl.String})
    ratings = pl.read_csv(folder / "ratings.csv", schema_overrides={"movieId": pl.String}).sort("userId")
    codes = ratings["movieId"].replace_strict(movies["movieId"], range(len(movies)), return_dtype=pl.Int64)
    counts = ratings.group_by("userId", maintain_order=True).len()["len"]
    offsets = torch.tensor([0, *counts.cum_sum().to_list()])
    _, values, right = truncated_svd(Ragged(offsets, torch.tensor(codes.to_list())), len(movies), DIM, seed=0)
    told = ratings.group_by("movieId").agg(pl.len().log().alias("log_ratings"), pl.col("rating").mean())
    title = pl.col("title").str.replace(r"\s*\((\d{4})\)\s*$", "")
    words = title.str.to_lowercase().str.extract_all(r"[a-z]{3,}").list.unique().list.sort()
    made = movies.with_columns(
        pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32).alias("year"), words.alias("words")
    )
    common = made["words"].explode().value_counts().filter(pl.col("count") >= 10)["words"]
    kept = pl.col("words").list.eval(pl.element().filter(pl.element().is_in(common.to_list()))).list.join("|")
    vectors = pl.Series("vector", (right * values.sqrt()).tolist(), dtype=pl.List(pl.Float32))
    made = made.with_columns(kept, vectors).join(told, on="movieId", how="left", maintain_order="left")
    made.select("movieId", "genres", "year", "words", "log_ratings", "rating", "vector").write_parquet(file)
    print(f"{len(made):,} movies, {len(common):,} words: {file}")


def rows(folder: Path, file: Path, seed: int) -> Data[LabelledRows]:
    how: dict[str, Any] = {"id": "movieId", "labels": "genres", "not_labels": ["(no genres listed)"], "min_rows": 10}
    return read(LabelData(path=str(file), pairs=str(folder / "tags.csv"), pairs_label="tag", **how), seed)


def loss_of(name: str) -> Callable[..., Tensor]:
    if name == BATCH_WIDE:
        whole = LOSSES["soft_dice"].function
        return lambda scores, labels, **_: whole(scores.flatten(), labels.flatten())
    parts = [LOSSES[part].function for part in SUMS.get(name, (name,))]
    return lambda scores, labels, **rest: sum(part(scores, labels, **rest) for part in parts)


def trained(name: str, rate: float, prior: bool, seed: int, data: Data[LabelledRows]) -> dict[str, Any]:
    part, valid = data.fit, data.valid
    of = (part.features.numbers.shape[1], part.features.num_categories, len(part.label_ids))
    model = LabelMLP(*of, prior=prior)
    model.initialise(part.features, part.labels, seed=seed)
    history = fit(
        ListObjective(model, loss_of(name), seed),
        LabelBatches(part.features, part.labels, of[2], BATCH, seed=seed),
        TrainingSettings(epochs=EPOCHS, batch_size=BATCH, learning_rate=rate),
        seed=seed,
        validate=lambda: ranked(model, valid, ("ndcg@10",)),
        monitor="ndcg@10",
    )
    facts = {"validation": history.best_value, "epoch": history.best_epoch, "epochs": history.epoch}
    training = sum(epoch.seconds for epoch in history.epochs)
    return {**facts, "training_seconds": training, "rate": rate, "prior": prior, "test": judged(model, data)}


def fitted(model: Any, data: Data[LabelledRows], **facts: Any) -> dict[str, Any]:
    model.initialise(data.fit.features, data.fit.labels, seed=0)
    validation = ranked(model, data.valid, ("ndcg@10",))["ndcg@10"]
    return {"validation": validation, **facts, "test": judged(model, data)}


def ranked(model: nn.Module, part: LabelledRows, measures: tuple[str, ...]) -> dict[str, float]:
    chosen = [Measure.parse(text) for text in measures]
    model.eval()
    return evaluate_labels(model, chosen, part.features, part.labels, len(part.label_ids)).means()


def scored(model: nn.Module, part: LabelledRows) -> tuple[Tensor, Tensor]:
    scores = torch.cat([each for _, each in score_labels(model, part.features)])
    return scores, indicators(part.labels, len(part.label_ids))


def f1(scores: Tensor, labels: Tensor, threshold: float) -> float:
    """Of the labels scored above the threshold and those of the row; the mean over rows."""
    above = (scores > threshold).float()
    return float((2 * (above * labels).sum(1) / (above.sum(1) + labels.sum(1))).mean())


def judged(model: nn.Module, data: Data[LabelledRows]) -> dict[str, Any]:
    model.eval()
    figures: dict[str, Any] = ranked(model, data.test, tuple(MEASURES.values()))
    (held, truth), (scores, labels) = scored(model, data.valid), scored(model, data.test)
    cuts = torch.quantile(held.flatten()[:: max(1, held.numel() // 100_000)], torch.linspace(0.8, 0.999, 60)).tolist()
    threshold = max(cuts, key=lambda cut: f1(held, truth, cut))
    figures |= {"set_zero": f1(scores, labels, 0.0), "set_chosen": f1(scores, labels, threshold)}
    figures |= {"size_zero": float((scores > 0).sum(1).float().mean()), "size": float(labels.sum(1).mean())}
    places = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    counts, most = data.fit.counts(), float("inf")
    for tier, least in TIERS.items():
        of_tier = labels.bool() & ((counts >= least) & (counts < most))
        figures[f"top10_{tier}"] = float((places[of_tier] < 10).float().mean())
        most = least
    return figures


def run(folder: Path, file: Path, only: list[str], seeds: int) -> None:
    torch.set_num_threads(1)
    store, splits = Store(RESULTS), {seed: rows(folder, file, seed) for seed in range(seeds)}
    for note in splits[0].notes:
        print("note:", note)
    sizes = [
        (*part.features.numbers.shape, part.features.num_categories, len(part.label_ids)) for part in [splits[0].fit]
    ]
    print(
        "fit rows, numbers, categories, labels:", *sizes[0], "valid, test:", len(splits[0].valid), len(splits[0].test)
    )
    for seed, data in splits.items():
        store.get(f"popularity - {seed}", timed(lambda data=data: fitted(LabelPopularity(*sizes[0][1:]), data)))
        for penalty in PENALTIES:
            make = lambda data=data, own=penalty: fitted(LabelRidge(*sizes[0][1:], penalty=own), data, own=own)  # noqa: E731
            store.get(f"ridge {penalty:g} {seed}", timed(make))
    for name in only:
        reached: dict[tuple[float, bool], float] = {}

        def first(
            rate: float, prior: bool, name: str = name, reached: dict[tuple[float, bool], float] = reached
        ) -> None:
            make = lambda: trained(name, rate, prior, 0, splits[0])  # noqa: E731
            reached[rate, prior] = store.get(f"{name} {rate:g},{prior} 0", timed(make))["validation"]

        for rate in RATES:
            first(rate, True)
        first(max(reached, key=reached.__getitem__)[0], False)
        at = max(reached, key=reached.__getitem__)
        for seed in range(1, seeds):
            make = lambda name=name, at=at, seed=seed: trained(name, *at, seed, splits[seed])  # noqa: E731
            store.get(f"{name} {at[0]:g},{at[1]} {seed}", timed(make))


def chosen() -> dict[str, tuple[str, list[dict[str, Any]]]]:
    """By loss, the setting that seed 0's validation chose, and its runs."""
    settings: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for key, result in Store(RESULTS).runs.items():
        name, setting, seed = key.split()
        settings.setdefault(name, {}).setdefault(setting, {})[seed] = result
    found = {}
    for name, of in settings.items():
        best = max((s for s in of if "0" in of[s]), key=lambda s: of[s]["0"]["validation"])
        found[name] = (best, [of[best][seed] for seed in sorted(of[best])])
    return found


def table() -> str:
    """Means over seeds ± standard deviation; sets; shares of the pairs of common, middle and rare labels in the first ten."""
    columns = {
        **MEASURES,
        "F1 above 0": "set_zero",
        "F1 chosen": "set_chosen",
        **{f"{t} in 10": f"top10_{t}" for t in TIERS},
    }
    lines = [
        f"{'loss':<22}" + "".join(f"{head:>16}" for head in columns) + f"{'labels above 0':>16}{'CPU s':>7}  chosen"
    ]
    found = chosen()
    for name in ("popularity", "ridge", *COMPARED):
        if name not in found:
            continue
        setting, of = found[name]
        cells = []
        for key in columns.values():
            values = [each["test"][key] for each in of]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            means_nothing = key == "set_zero" and name in NO_ZERO
            cells.append("–" if means_nothing else f"{statistics.mean(values):.4f} ± {spread:.4f}")
        size = statistics.mean(each["test"]["size_zero"] for each in of)
        above = "–" if name in NO_ZERO else f"{size:.1f}"
        seconds = statistics.mean(each["cpu_seconds"] for each in of)
        lines.append(
            f"{name:<22}" + "".join(f"{cell:>16}" for cell in cells) + f"{above:>16}{seconds:>7.1f}  {setting}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("features", "run", "table"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data/ml-latest-small"))
    parser.add_argument("file", nargs="?", type=Path, default=Path("movies.parquet"))
    parser.add_argument("--only", default=",".join(COMPARED))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.what == "features":
        write_features(options.data, options.file)
        return
    if options.what == "run":
        run(options.data, options.file, options.only.split(","), options.seeds)
    write_text(RESULTS.with_suffix(".txt"), table())
    print(table())


if __name__ == "__main__":
    main()
