"""The claim of the Multi-Margin Loss: up to 20 % over CCL with few negatives? And is it the margins, or the larger weight?

    python bench/mml_claim.py plan
    python bench/mml_claim.py run gowalla ../shared/data/gowalla [--only few,shared] [--negatives 10] [--seeds 0]
    python bench/mml_claim.py run ml ../shared/data/ml-latest-small/ratings.csv
    python bench/mml_claim.py run beauty ../shared/data/beauty/Beauty.txt
    python bench/mml_claim.py table

Slopes. MML pushes a negative that is above all margins with the slope q Σ v_k: 700 with the parameters published for Gowalla,
where CCL has w = 150. So the two differ in two things. CCL at w = q Σ v_k has MML's slope above the last margin; MML at
q = 150 / Σ v_k has CCL's. The four together tell margins from weight. CCL at w = 700 and the margin Σ v_k m_k / Σ v_k (.865) is
MML with one margin: its push equals MML's above .9, value and slope, and differs below alone.

Parts, in the order in which they are run, so that an interrupted list is a table already; 64 dimensions everywhere:

- ``few``: 10 negatives a positive. Our recipe: spectral start, row-wise Adam at the rate of ``rankwell train`` (.02 for CCL and
  MML, .01 for the others), cosine schedule, batches of 1,024, 8 epochs, user dropout .1. ``shared``: the same with 800
  negatives that the batch shares. ``many``: 100 a positive, last.
- ``paper``: CCL and MML with 10 a positive as the official configurations have it: Adam at 1e-4, constant, batches of 256, 100
  epochs, start N(0, .0001²), dropout .1, known positives not excluded; one seed. Differs from them: row-wise Adam, no L2 of
  1e-8, no clipping, trained without the validation pairs.
- ``tune``: with 10 a positive, seven settings each of CCL, MML, BSL and the sampled softmax: the published one (of ``few``) and
  six random ones (the rate, and the loss's own), chosen by the validation pairs of seed 0. ``tuned``: the chosen ones with
  other seeds.
- ``small``: SimpleX and LightGCN on ml-latest-small and Beauty, 10 a positive, rate .01 for all losses, 8 epochs
  (LightGCN on ml-latest-small, whose epochs are short, 24).

Every run is trained on the training pairs less 10 % of each user's, for validation. Two figures are stored. ``held_out``: the
test figure of the epoch that validation chose. ``test_selected``: that of the epoch with the best test figure, which is how
published figures on this split were made; it is shown beside, and decides nothing. Both choose by NDCG@20, among epochs
2, 4, 6, 8 (``paper``: every fifth).

``bench/results/mml_claim.json`` keeps each run as it ends, and does not repeat it. One that was interrupted goes on
from its last checkpoint (``runs/mml_claim``). ``table`` writes ``bench/results/mml_claim.txt``, and the tables and the picture
of ``docs/multi-margin-loss.md``. ``plan`` tells what is left and about how many minutes of one core it takes: from stored runs,
or from timed steps (a core of a shared Xeon, one thread): an epoch with 10 negatives takes 20 s, with 100 130 s, with 800
shared 12 s, in batches of 256 32 s, an evaluation of validation and test pairs 9 s.
"""

import argparse
import itertools
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from encoders import COLUMNS, judged
from matplotlib.figure import Figure
from mml_runs import CONTENDERS, MEASURES, MONITOR, PARTS, Own, Run, best_trial, configuration, ordered, trial_name
from store import Store

from rankwell.atomic import write_atomically, write_text
from rankwell.errors import RankwellError
from rankwell.models import MODELS
from rankwell.tasks import Data
from rankwell.tasks.interaction_data import read
from rankwell.tasks.interaction_objective import build_objective
from rankwell.training import History, fit

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mml_claim.json"
PAGE = HERE.parent / "docs" / "multi-margin-loss.md"
WORK = HERE.parent / "runs" / "mml_claim"
PICTURE = HERE.parent / "docs" / "multi-margin-loss.png"
MARKS = "<!-- begin: bench/mml_claim.py table -->", "<!-- end -->"

TEST = "test "
"""Marks the figures that are written down at each validation, and that training does not look at."""

EFFECTS = {
    "MML over CCL": ("mml", "ccl"),
    "weight alone: CCL 700 over CCL 150": ("ccl_slope", "ccl"),
    "weight, with three margins: MML over MML at slope 150": ("mml", "mml_slope"),
    "margins alone: MML at slope 150 over CCL 150": ("mml_slope", "ccl"),
    "margins, at slope 700: MML over CCL 700": ("mml", "ccl_slope"),
    "three margins over one, at the same push above .9": ("mml", "mml_one"),
}
TUNED_SHOWN = ("margin", "margins", "neg_weight", "temperature", "ratio")


# --------------------------------------------------------------------------------------------------------------- training


def carried_out(run: Run, path: str, trial: int | None) -> Own:
    """One run; one that diverges says so."""
    try:
        return trained(run, path, trial)
    except RankwellError as error:
        return {"error": str(error)}


def trained(run: Run, path: str, trial: int | None) -> Own:
    """Train, and write down what validation chose and, beside it, what the test would have."""
    config = configuration(run, path, trial)
    data = read(config.data, run.seed)
    model: Any = MODELS[run.model].function(data.train.num_users, data.train.num_items, **config.parameters("model"))
    model.initialise(data.fit.known(), seed=run.seed)
    evaluating = [0.0]
    folder = WORK / run.name.replace(" ", "-")
    history = fit(
        build_objective(config, model, data.fit),
        data.fit.tensors(),
        config.training,
        seed=run.seed,
        validate=lambda: both(model, data, evaluating),
        monitor=MONITOR,  # of the validation pairs: all that training looks at
        folder=folder,
    )
    shutil.rmtree(folder, ignore_errors=True)
    return {
        **figures(history),
        "epochs": history.epoch,
        "negatives_a_second": len(data.fit) * config.sampler["n"] * history.epoch / seconds_of(history),
        "seconds": seconds_of(history),
        "evaluation_seconds": evaluating[0],  # less those before an interruption
        "rate": config.training.learning_rate,
        "loss": config.loss,
    }


def both(model: Any, data: Data[Any], evaluating: list[float]) -> dict[str, float]:
    """The validation figures, by which the epoch is chosen; and the test figures, to be written down."""
    assert data.valid is not None
    started = time.monotonic()
    chooses = judged(model, data.fit.known(), data.valid.known(), MEASURES)
    written_down = judged(model, data.train.known(), data.test.known(), MEASURES)
    evaluating[0] += time.monotonic() - started
    return {**chooses, **{TEST + name: value for name, value in written_down.items()}}


def figures(history: History) -> Own:
    """Test figures of the epoch that the validation pairs chose, and of the one that the test pairs would have chosen."""
    validated = [epoch for epoch in history.epochs if epoch.validation is not None]
    curve = [{"epoch": each.epoch, "loss": each.loss, **(each.validation or {})} for each in validated]
    return {"held_out": at_best(curve, MONITOR), "test_selected": at_best(curve, TEST + MONITOR), "curve": curve}


def at_best(curve: list[Own], chooser: str) -> Own:
    """The test figures of the first epoch with the best value of ``chooser``."""
    best = max(curve, key=lambda at: at[chooser])
    return {"epoch": best["epoch"], "validation": best[MONITOR], **{name: best[TEST + name] for name in MEASURES}}


def seconds_of(history: History) -> float:
    return sum(epoch.seconds for epoch in history.epochs)


def run_all(store: Store, path: str, stages: Iterator[list[Run]], jobs: int) -> None:
    """Every run that is not stored; ``jobs`` processes at a time, within a stage."""
    for stage in stages:
        work = []
        for run in stage:
            trial = run.trial
            if run.part == "tuned":
                trial = best_trial(store.runs, run.contender, run.data, run.model)
                if trial is None:
                    print(f"{run.name}: the tuning has not ended; run the part tune.")
                    continue
            if run.name not in store.runs:
                work.append((run, trial))
        if jobs == 1:
            for run, trial in work:
                store.get(run.name, partial(carried_out, run, path, trial))
            continue
        with ProcessPoolExecutor(jobs) as pool:
            started = [(run, pool.submit(carried_out, run, path, trial)) for run, trial in work]
            for run, ending in started:
                store.get(run.name, ending.result)


# ------------------------------------------------------------------------------------------------------------------ tables


def plan(runs: Mapping[str, Any], stages: Iterator[list[Run]]) -> str:
    """What is left, in order, and minutes of one core: as stored runs of the part took, or as estimated."""
    lines = [f"{'part':<8} {'seeds':<8} {'runs':>4} {'left':>4} {'minutes each':>12} {'minutes left':>12}"]
    total = 0.0
    for stage in stages:
        part = stage[0].part
        taken = [
            done["seconds"] + done["evaluation_seconds"]
            for name, done in runs.items()
            if name.startswith(f"{part} ") and "error" not in done
        ]
        each = (statistics.mean(taken) if taken else PARTS[part].seconds) / 60
        left = sum(run.name not in runs for run in stage)
        total += left * each
        seeds = ",".join(str(seed) for seed in sorted({run.seed for run in stage}))
        lines.append(f"{part:<8} {seeds:<8} {len(stage):>4} {left:>4} {each:>12.1f} {left * each:>12.0f}")
    return "\n".join([*lines, f"{total:.0f} minutes of one core in all"]) + "\n"


def found(runs: Mapping[str, Any], part: str, data: str, model: str, contender: str) -> dict[int, Own]:
    """Stored runs by seed."""
    start = f"{part} {data} {model} {contender} "
    by_seed = {int(name.split(" seed ")[1]): run for name, run in runs.items() if name.startswith(start)}
    if part == "tuned" and (trial := best_trial(runs, contender, data, model)) is not None:
        by_seed[0] = runs[trial_name(contender, data, model, trial)]
    return {seed: run for seed, run in sorted(by_seed.items()) if "error" not in run}


def spread(values: list[float], form: str = ".4f") -> str:
    deviation = f" ± {statistics.stdev(values):{form.lstrip('+')}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{deviation}"


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def of_part(runs: Mapping[str, Any], name: str, data: str, model: str) -> list[str]:
    """A row a contender: held-out figures, test-selected ones beside them, and what a run took."""
    head = ["", "Recall@20", "NDCG@20", "test-selected Recall@20", "NDCG@20"]
    head += ["epoch", "s an epoch", "M negatives a s", "seeds"]
    rows = []
    for contender in PARTS[name].contenders:
        by_seed = found(runs, name, data, model, contender)
        if not by_seed:
            continue
        of = list(by_seed.values())
        cells = [
            spread([run[kind][measure] for run in of]) for kind in ("held_out", "test_selected") for measure in MEASURES
        ]
        cells.append(f"{statistics.mean(run['held_out']['epoch'] for run in of):.0f} of {of[0]['epochs']}")
        cells.append(f"{statistics.mean(run['seconds'] / run['epochs'] for run in of):.1f}")
        cells.append(f"{statistics.mean(run['negatives_a_second'] for run in of) / 1e6:.2f}")
        said = CONTENDERS[contender][0]
        if name == "tuned":
            own = ", ".join(f"{key} {value}" for key, value in of[0]["loss"].items() if key in TUNED_SHOWN)
            said = f"{contender} (rate {of[0]['rate']:g}, {own})"
        rows.append([said, *cells, str(len(of))])
    return markdown(head, rows) if rows else ["Not run yet."]


def effects(runs: Mapping[str, Any], name: str, data: str, model: str) -> list[str]:
    """Gains in percent, seed by seed, of the figures that validation chose."""
    rows = []
    for said, (better, base) in EFFECTS.items():
        a, b = (found(runs, name, data, model, contender) for contender in (better, base))
        shared = sorted(a.keys() & b.keys())
        if shared:
            gains = [
                [100 * (a[seed]["held_out"][measure] / b[seed]["held_out"][measure] - 1) for seed in shared]
                for measure in MEASURES
            ]
            rows.append([said, *(f"{spread(of, '+.1f')} %" for of in gains), str(len(shared))])
    return ["", *markdown(["gain", "Recall@20", "NDCG@20", "seeds"], rows)] if rows else []


def table(runs: Mapping[str, Any]) -> str:
    """All parts; those that have not run say so."""
    lines: list[str] = []
    for name, part in PARTS.items():
        if name == "tune":
            continue
        for data, model in itertools.product(part.data, part.models):
            said = part.said if part.data == ("gowalla",) else f"{part.said}: {model}, {data}"
            lines += [f"**{said[0].upper()}{said[1:]}**", "", *of_part(runs, name, data, model)]
            lines += [*effects(runs, name, data, model), ""]
    return "\n".join(lines)


def draw(runs: Mapping[str, Any]) -> None:
    """The paper's recipe by epoch: test figures of both losses, and the gain."""
    curves = [found(runs, "paper", "gowalla", "mf", contender)[0]["curve"] for contender in ("ccl", "mml")]
    epochs = [each["epoch"] for each in curves[0]]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for measure, style in zip(MEASURES, ("-", "--"), strict=True):
        ccl, mml = ([each[TEST + measure] for each in curve] for curve in curves)
        left.plot(epochs, mml, f"C0{style}", label=f"MML, {measure}")
        left.plot(epochs, ccl, f"C1{style}", label=f"CCL, {measure}")
        gains = [100 * (a / b - 1) for a, b in zip(mml, ccl, strict=True)]
        right.plot(epochs, gains, f"C0{style}", label=measure)
    left.set(xlabel="epoch", ylabel="of test pairs", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="gain of MML over CCL, %", ylim=(0, None))
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
    with write_atomically(PICTURE) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plan", "run", "table"))
    parser.add_argument("data", nargs="?", choices=tuple(COLUMNS))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--only", default="", help=f"parts: {','.join(PARTS)}")
    parser.add_argument("--negatives", default="", help="numbers of negatives, such as 10,100")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    if unknown := [name for name in only if name not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}: {', '.join(PARTS)}")
    negatives, seeds = ([int(n) for n in text.split(",") if n] for text in (options.negatives, options.seeds))
    store, stages = Store(options.results), ordered(options.data, only, negatives, seeds)
    if options.what == "run":
        if options.path is None:
            parser.error("run needs a data set's name and its path")
        run_all(store, options.path, stages, options.jobs)
    if options.what == "plan":
        print(plan(store.runs, stages))
        return
    text = table(store.runs)
    write_text(options.results.with_suffix(".txt"), text)
    if options.results == RESULTS:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
        write_text(PAGE, f"{before}{MARKS[0]}\n\n{text}\n{MARKS[1]}{rest.partition(MARKS[1])[2]}")
        draw(store.runs)
    print(text)


if __name__ == "__main__":
    main()
