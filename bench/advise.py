"""``rankwell advise`` against our own results: is the best loss of each stored comparison among the three that it names?

    python bench/advise.py [../shared/data] [--only gowalla,mq2008]

Advice is made from the facts of the data alone, which its own code reads here. Winners are those of the stored tables in
``bench/results`` as they are now: the best loss by the measure that is named, whatever the model, miner or generator, with the
settings that its table chose; closed forms and baselines do not count, nor sums of losses. ``compare_*.json`` are reports of
``rankwell compare``.

**Seen** marks data sets whose result one of the named choices was written with: a hit there is no test of the rule. A winner
whose lead is within the deviation over seeds or folds tells little, hit or miss.

Writes ``bench/results/advise.json`` and ``advise.txt``.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from store import Store

from rankwell.atomic import write_text
from rankwell.data.cosqa import read_cosqa
from rankwell.data.synthetic_texts import write_beir
from rankwell.experiments.advise import advise, find_task
from rankwell.experiments.limits import Limits
from rankwell.losses import LOSSES

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, list[float]]
"""By loss, a value a seed or fold."""


def stored(name: str) -> dict[str, Any]:
    """The runs of a results file; none where it is not there."""
    return Store(RESULTS / f"{name}.json").runs


def of_models(figures: Iterable[tuple[str, str, float]]) -> Figures:
    """Each loss with the model that it is best with; losses that have none of the names are left out."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for model, loss, value in figures:
        found[model, loss].append(value)
    best: Figures = {}
    for (_, loss), values in found.items():
        if loss in LOSSES and statistics.mean(values) > statistics.mean(best.get(loss, [-1.0])):
            best[loss] = values
    return best


# ------------------------------------------------------------------------------------------------------- stored tables


def gowalla() -> Figures:
    file = RESULTS / "gowalla.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["results"] if file.is_file() else {}
    return of_models(("mf", name.replace(" ", "_"), run["test"]["ndcg@20"]) for name, run in runs.items())


def encoders(data: str) -> Figures:
    words = ((key.split(), run) for key, run in stored("encoders").items())
    return of_models((at[2], at[3], run["test"]["ndcg@20"]) for at, run in words if at[:2] == ["test", data])


def leaderboard(data: str, measure: str) -> Figures:
    words = ((key.split(), run) for key, run in stored("leaderboard").items())
    return of_models(
        (at[2], at[3], run["test"][measure])
        for at, run in words
        if at[:2] == ["test", data] and measure in run.get("test", {})
    )


def sequences() -> Figures:
    names = {"cross_entropy": "linear_softmax", "bce": "sigmoid", "genni": "sampled_softmax"}
    words = ((key.split(), run) for key, run in stored("sequences").items())
    return of_models((at[0], names.get(at[1], at[1]), run["test"]["ndcg@10"]) for at, run in words)


def mq2008() -> Figures:
    """Each fold with the rate that its validation chose."""
    tried: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for key, run in stored("mq2008").items():
        tried[key.split()[0], key.split()[-1]].append(run)
    best = ((at[0], max(runs, key=lambda run: run["validation"])) for at, runs in tried.items())
    return of_models(("mlp", loss, run["test"]["ndcg@10"]) for loss, run in best)


def scifact() -> Figures:
    names = {"InfoNCE": "info_nce", "MML": "mml", "Soft-InfoNCE by BM25": "soft_info_nce"}
    words = ((key.partition(" · ")[0], run) for key, run in stored("scifact").items())
    return of_models(("encoder", names.get(name, name), run["test"]["ndcg@10"]) for name, run in words)


def cosqa() -> Figures:
    names = {"infonce": "info_nce", "soft_bm25": "soft_info_nce", "soft_encoder": "soft_info_nce"}
    runs = [(key.split(), run) for key, run in stored("cosqa").items() if "test" in run]
    return of_models((at[0], names.get(at[0], at[0]), run["test"]["mrr"]) for at, run in runs)


def set_wise() -> Figures:
    """By the rate that validation chose with seed 0, as its table does; sums of losses are no loss of a name."""
    tried: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for key, run in stored("set_wise").items():
        if "test" in run:
            tried[key.split()[0]][key.split()[1]].append(run)
    best = ((loss, max(by.values(), key=lambda runs: runs[0]["validation"])) for loss, by in tried.items())
    return of_models(("mlp", loss, run["test"]["ndcg@10"]) for loss, runs in best for run in runs)


def digits(part: str) -> Figures:
    names = {"supcon": "supervised_contrastive"}
    words = ((key.split("|"), run) for key, run in stored("digits").items())
    return of_models(
        (at[3], names.get(first := at[3].split()[0], first), run["test"]["ap_at_r"])
        for at, run in words
        if at[:3] == ["test", part, "rankwell"]
    )


def comparisons(data: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, Figures]]:
    """Reports of ``rankwell compare`` whose command names this folder or file."""
    if not path:  # data that come with a library
        return
    for file in sorted(RESULTS.glob("compare_*.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        command, measure = str(report["about"]["command"]), str(report["measure"])
        if Path(path).name not in command or ("--task" in command) != ("task" in data):
            continue
        figures = (
            (json.dumps(each["settings"].get("model")), name_of(each), value)
            for each in report["contenders"]
            for value in each["by_seed"].get(measure, [])
        )
        yield file.stem, measure, of_models(figures)


def name_of(contender: Mapping[str, Any]) -> str:
    """A contender's loss: its name begins with it where only losses are compared."""
    loss = contender["settings"].get("loss")
    told = loss.get("name") if isinstance(loss, Mapping) else loss
    return str(told or contender["name"].partition("(")[0].partition(",")[0])


# ----------------------------------------------------------------------------------------------------------- data sets


@dataclass(frozen=True)
class Case:
    """A data set: how it is read, what the rules call it, and the stored results of it by table and measure."""

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seen: str = ""
    tables: tuple[tuple[str, str, Callable[[], Figures]], ...] = ()
    make: Callable[[Path, Path], Path] | None = None
    """Writes what is read, from the data's folder into one for a while."""


def five_parts() -> dict[str, Any]:
    """MQ2008's first fold."""
    return {"data": {"train": ["S1.txt", "S2.txt", "S3.txt"], "valid": ["S4.txt"], "test": ["S5.txt"]}}


def code_search(folder: Path, out: Path) -> Path:
    """CoSQA as BEIR has it."""
    found = read_cosqa(folder)
    write_beir(out, {"train": found.train, "dev": found.valid, "test": found.test})
    return out


def images(_: Path, out: Path) -> Path:
    """scikit-learn's digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    np.savez(out / "digits.npz", images=found.images.astype(np.float32), labels=found.target.astype(str))
    return out / "digits.npz"


CASES: dict[str, Case] = {
    "gowalla": Case(
        "gowalla",
        seen="gowalla",
        tables=(
            ("gowalla.json", "ndcg@20", gowalla),
            ("encoders.json", "ndcg@20", partial(encoders, "gowalla")),
            ("leaderboard.json", "ndcg@20", partial(leaderboard, "gowalla", "ndcg@20")),
        ),
    ),
    "ml-latest-small": Case(
        "ml-latest-small/ratings.csv",
        {"data": {"user": "userId", "item": "movieId", "timestamp": "timestamp"}},
        "ml-latest-small",
        (
            ("encoders.json", "ndcg@20", partial(encoders, "ml")),
            ("leaderboard.json", "ndcg@20", partial(leaderboard, "ml", "ndcg@20")),
        ),
    ),
    "beauty": Case(
        "beauty/Beauty.txt",
        seen="beauty",
        tables=(
            ("encoders.json", "ndcg@20", partial(encoders, "beauty")),
            ("leaderboard.json", "ndcg@20", partial(leaderboard, "beauty", "ndcg@20")),
        ),
    ),
    "beauty sequences": Case(
        "beauty/Beauty.txt",
        {"task": "sequences"},
        "beauty sequences",
        (("sequences.json", "ndcg@10", sequences),),
    ),
    "mq2008": Case(
        "mq2008",
        five_parts(),
        "mq2008",
        (
            ("mq2008.json", "ndcg@10", mq2008),
            ("leaderboard.json", "ndcg@10", partial(leaderboard, "mq2008", "ndcg@10")),
        ),
    ),
    "ltr-sparse": Case("ltr-sparse"),
    "scifact": Case(
        "scifact",
        seen="scifact",
        tables=(
            ("scifact.json", "ndcg@10", scifact),
            ("leaderboard.json", "ndcg@10", partial(leaderboard, "scifact", "ndcg@10")),
        ),
    ),
    "cosqa": Case("cosqa", seen="cosqa", tables=(("cosqa.json", "mrr", cosqa),), make=code_search),
    "ml-latest-small labels": Case(
        "ml-latest-small/movies.csv",
        {"task": "labels", "data": {"id": "movieId", "labels": "genres"}},
        "ml-latest-small labels",
        (("set_wise.json", "ndcg@10", set_wise),),
    ),
    "digits": Case(
        "",
        seen="digits",
        tables=(
            ("digits.json, new classes", "ap_at_r", partial(digits, "classes")),
            ("digits.json, new images", "ap_at_r", partial(digits, "images")),
        ),
        make=images,
    ),
}


def main() -> None:
    """Advise on each data set, and hold it against what is stored."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(CASES))
    given = parser.parse_args()
    found = [each for name in given.only for each in held_against(name, CASES[name], given.folder)]
    if set(given.only) == set(CASES):
        write_text(RESULTS / "advise.json", json.dumps({"rows": found}, indent=1) + "\n")
        write_text(RESULTS / "advise.txt", table(found))
    print(table(found), end="")


def held_against(name: str, case: Case, root: Path) -> Iterator[dict[str, Any]]:
    """A row for each stored table of the data set, or one that says that there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = root / case.path
        path = case.make(path, Path(folder)) if case.make else path
        raw = {"task": find_task(str(path)) or "interactions", **case.options}
        advice = advise({**raw, "data": {"path": str(path), **case.options.get("data", {})}}, Limits())
    named = [each.choice.loss for each in advice.choices]
    seen = any(case.seen in evidence.seen for each in advice.choices for evidence in each.choice.evidence)
    row = {"data": name, "task": advice.task, "named": named, "seen": bool(case.seen) and seen}
    tables = [*((file, measure, read()) for file, measure, read in case.tables), *comparisons(case.options, case.path)]
    compared = [(file, measure, figures) for file, measure, figures in tables if len(figures) > 1]
    for file, measure, figures in compared:
        yield row | {"table": file, "measure": measure} | verdict(named, figures)
    if not compared:
        yield row


def verdict(named: list[str], figures: Figures) -> dict[str, Any]:
    """The winner and its lead, whether it is named, and the best of those that are."""
    shared = min(map(len, figures.values()))  # seeds that all have
    figures = {loss: values[:shared] for loss, values in figures.items()}
    means = {loss: statistics.mean(values) for loss, values in figures.items()}
    winner, second = sorted(means, key=lambda loss: -means[loss])[:2]
    leads = [one - other for one, other in zip(figures[winner], figures[second], strict=True)]
    there = [loss for loss in named if loss in means]
    best = max(there, key=lambda loss: means[loss], default=None)
    return {
        "losses": len(figures),
        "named_in_table": len(there),
        "winner": winner,
        "winner_mean": means[winner],
        "second": second,
        "lead": means[winner] - means[second],
        "lead_deviation": statistics.stdev(leads) if len(leads) > 1 else None,
        "best_named": best,
        "best_named_mean": None if best is None else means[best],
        "hit": winner in named,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, and the count."""
    lines = [
        f"{'data':<23} {'named':<54} {'table':<25} {'measure':<8} {'winner':<23} {'mean':>6} {'lead over the second':>20}"
        f"  {'best named':<17} {'mean':>6}  {'compared':<8}  verdict"
    ]
    for row in rows:
        start = f"{row['data']:<23} {', '.join(row['named']):<54}"
        if "table" not in row:
            lines.append(f"{start} no result stored")
            continue
        deviation = "" if row["lead_deviation"] is None else f" ± {row['lead_deviation']:.4f}"
        best = row["best_named"] or "–"
        mean = "–" if row["best_named"] is None else f"{row['best_named_mean']:.4f}"
        lead, compared = f"{row['lead']:.4f}{deviation}", f"{row['named_in_table']} of {row['losses']}"
        said = ("hit" if row["hit"] else "MISS") + (", seen" if row["seen"] else "")
        lines.append(
            f"{start} {row['table']:<25} {row['measure']:<8} {row['winner']:<23} {row['winner_mean']:>6.4f} {lead:>20}"
            f"  {best:<17} {mean:>6}  {compared:<8}  {said}"
        )
    judged = [row for row in rows if "table" in row]
    unseen = [row for row in judged if not row["seen"]]
    hits = [f"{sum(row['hit'] for row in of)} of {len(of)}" for of in (judged, unseen)]
    chance = sum(row["named_in_table"] / row["losses"] for row in judged)
    lines += [
        "",
        f"The winner is named in {hits[0]} tables, where as many losses drawn by chance would hit {chance:.1f};",
        f"in {hits[1]} of those whose result no named choice was written with.",
        "seen: a named choice was written with this data set's result in sight. Lead: ± is the standard deviation of the",
        "difference over seeds or folds; without one there is one seed. Compared: how many of the table's losses are named.",
    ]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
