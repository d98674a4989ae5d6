"""Every loss at equal tuning: contrast losses on interactions, list losses on judged lists, losses of embeddings on texts.

    python bench/leaderboard.py plan
    python bench/leaderboard.py run ml mf [bpr mml …] [--minutes 60]
    python bench/leaderboard.py run mq2008 mlp
    python bench/leaderboard.py table

Boards: ``gowalla mf``, ``ml mf``, ``beauty mf``, ``ml lightgcn``, ``beauty lightgcn`` (contrast losses), ``mq2008 mlp`` (list
losses) and ``scifact adapter`` (losses of embeddings). Data are read from ``--root``, ``../shared/data``. A loss's row is made
by the command ``run`` with its name.

Equal tuning: each loss gets the same number of settings on a board. The first is what ``rankwell train`` takes; on interactions
the second is the same with the other similarity (cosine, inner product); the others are random over the ranges that the loss
registers, the learning rate, and the similarity, drawn by the loss's name and the number of the setting. The setting with the
best validation (NDCG@20, NDCG@10) of the first split is trained on every split, and the test part looked at once for each. In
each run validation chooses the epoch. A setting that diverges or cannot be is counted as a setting, and as failed.

Budgets, the same for all losses of a board:

- Interactions: 64 dimensions, spectral start, batches of 2,048, 256 uniform negatives shared by the batch. 20 % of each user's
  items are the test (Gowalla comes with its own), 10 % of the rest validation. Splits are seeds, of start and draws, too.
- MQ2008: the network of ``bench/mq2008.py``, 12 epochs of batches of 64 lists. Splits are the five folds, tuning is on the
  first. Measures are LETOR's, as there.
- SciFact: MiniLM's vectors, frozen, and one linear map of queries and documents (``--model adapter``): the encoder itself
  would take ten minutes a run. 20 epochs of batches of 128 pairs. A tenth of the training queries is validation; the
  whole corpus is ranked.

``bench/results/leaderboard.json`` keeps each run as it ends: those that are there are not repeated. ``--minutes`` ends the
list behind the run in progress. ``table`` writes ``docs/leaderboard.md`` and its picture; ``plan`` tells what is left and for
how long.
"""

import argparse
import functools
import math
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from boards import BOARDS, SIMILARITY, Board, why_not
from matplotlib.figure import Figure
from store import Store

from rankwell.atomic import write_atomically, write_text
from rankwell.config import Config
from rankwell.errors import RankwellError
from rankwell.experiments.dimensions import Dimension, applied, settings
from rankwell.experiments.search import space_of
from rankwell.losses import LOSSES
from rankwell.metrics import Measure
from rankwell.pictures import COLOURS
from rankwell.tasks import Data, task_of
from rankwell.training import fit

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "leaderboard.json"
PAGE = HERE.parent / "docs" / "leaderboard.md"
PICTURE = PAGE.with_suffix(".png")
ROOT = Path("../shared/data")

HEAD = """# Leaderboard of losses

Written by `python bench/leaderboard.py table` from stored runs. On a board each loss got the same number of settings, the same
budget and the same splits: the first setting is the default, on interactions the second is the same with the other similarity
(cosine, inner product), the others are random over what the loss registers for tuning. The epoch was chosen on the validation
data of each split, the setting on those of the first, some of which are test data of other splits; the test part was looked at
once a split. A row is made again by `python bench/leaderboard.py` and its last column; the head of that file tells budgets
and splits.

A few settings are no search: a loss with five parameters is tuned less well by them than one with one, and differences within
the spread of the splits say nothing. `warp` and `k_os_warp` are one loss where each row has one positive, as on these boards:
their distance is what the luck of a few settings is worth. The order is that of these data, these models and these budgets.
"""

Options = dict[str, Any]


# ----------------------------------------------------------------------------------------------------------------- tuning


def drawn(config: Config, board: Board, trial: int) -> Options:
    """The options of a setting: none, the other similarity, or random ones, the same at each call."""
    if trial == 0:
        return {}
    space = space_of(config, board.search)
    space.pop("sampler.n", None)
    if trial == 1 and SIMILARITY in space:
        return {SIMILARITY: "dot" if config.model["similarity"] == "cosine" else "cosine"}
    numbers = random.Random(f"{config.loss['name']} {trial}")
    return settings(space, {name: drawn_value(each, numbers) for name, each in space.items()})


def drawn_value(each: Dimension, numbers: random.Random) -> Any:
    """Uniform, or uniform in the logarithm."""
    if each.choices:
        return numbers.choice(each.choices)
    if each.log:
        value = math.exp(numbers.uniform(math.log(each.low), math.log(each.high)))
    else:
        value = numbers.uniform(each.low, each.high)
    return round(value) if each.whole else float(f"{value:.4g}")


@functools.lru_cache(maxsize=5)
def read(at: tuple[str, str], split: int, root: Path) -> Data[Any]:
    """The data of a split; the loss does not matter."""
    config = BOARDS[at].configuration(BOARDS[at].losses()[0], split, root)
    return task_of(config.task).read(config)


def carried_out(at: tuple[str, str], loss: str, split: int, options: Options, root: Path, *, test: bool) -> Options:
    """One run; the test part is looked at where ``test`` says so. What fails says why."""
    board = BOARDS[at]
    started = time.monotonic()
    try:
        config = applied(board.configuration(loss, split, root), options)
        data = read(at, split, root)
        task = task_of(config.task)
        model = task.model(config, data)
        task.initialise(model, data.fit, seed=config.seed)
        measures = [Measure.parse(text, preset=board.preset) for text in board.measures]

        def judged(measures: list[Measure], known: Any, held_out: Any) -> dict[str, float]:
            means = task.judge(config, model, measures, known, held_out).means()
            return {text: means[str(measure)] for text, measure in zip(board.measures, measures, strict=False)}

        history = fit(
            task.objective(config, model, data, data.fit, None),
            task.batches(config, data, data.fit),
            config.training,
            seed=config.seed,
            validate=lambda: judged(measures[:1], data.fit, data.valid),
            monitor=board.measures[0],
        )
        tested = {"test": judged(measures, data.train, data.test)} if test else {}
    except (RankwellError, RuntimeError, ValueError) as error:
        return {"options": options, "error": f"{type(error).__name__}: {error}", "seconds": time.monotonic() - started}
    facts = {"validation": history.best_value, "epoch": history.best_epoch, "epochs": history.epoch}
    return {"options": options, **facts, **tested, "seconds": time.monotonic() - started}


def of_loss(at: tuple[str, str], loss: str) -> Iterator[tuple[str, int, int | None]]:
    """Names of runs with their splits, and the numbers of settings; None is the chosen one."""
    board, words = BOARDS[at], f"{' '.join(at)} {loss}"
    for trial in range(board.trials):
        yield f"trial {words} {trial}", 0, trial
    for split in range(board.splits):
        yield f"test {words} {split}", split, None


def chosen(runs: Mapping[str, Any], at: tuple[str, str], loss: str) -> Options | None:
    """The setting with the best validation; None where all failed, or some are missing."""
    trials = [runs.get(name) for name, _, trial in of_loss(at, loss) if trial is not None]
    ended = [run for run in trials if run is not None and "error" not in run]
    return max(ended, key=lambda run: run["validation"]) if ended and None not in trials else None


def run(store: Store, at: tuple[str, str], losses: list[str], root: Path, minutes: float) -> None:
    """Every run that is not stored, loss by loss."""
    until = time.monotonic() + 60 * minutes
    for loss in losses:
        for name, split, trial in of_loss(at, loss):
            if time.monotonic() > until:
                print(f"{minutes:g} minutes are over; the same command goes on.")
                return
            if trial is None:
                best = chosen(store.runs, at, loss)
                if best is None:
                    break
                options = best["options"]
            else:
                options = drawn(BOARDS[at].configuration(loss, 0, root), BOARDS[at], trial)
            store.get(name, partial(carried_out, at, loss, split, options, root, test=trial is None))


# ------------------------------------------------------------------------------------------------------------------ tables


def plan(runs: Mapping[str, Any]) -> str:
    """What is left, and minutes of one core: as stored runs of the board took, or as estimated."""
    lines = [f"{'board':<16} {'losses':>6} {'runs':>5} {'left':>5} {'seconds each':>12} {'minutes left':>12}"]
    for at, board in BOARDS.items():
        words = " ".join(at)
        names = [name for loss in board.losses() for name, *_ in of_loss(at, loss)]
        taken = [done["seconds"] for name, done in runs.items() if f" {words} " in name]
        each, left = statistics.mean(taken) if taken else board.seconds, sum(name not in runs for name in names)
        lines.append(
            f"{words:<16} {len(board.losses()):>6} {len(names):>5} {left:>5} {each:>12.1f} {left * each / 60:>12.0f}"
        )
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Row:
    """A loss on a board."""

    loss: str
    tests: dict[int, dict[str, float]]
    """By split."""
    options: Options = field(default_factory=dict)
    failed: int = 0
    seconds: float = 0.0


def rows_of(runs: Mapping[str, Any], at: tuple[str, str]) -> list[Row]:
    """Losses that have been tested, the best first."""
    board, rows = BOARDS[at], []
    for loss in board.losses():
        named = {name: (runs[name], trial) for name, _, trial in of_loss(at, loss) if name in runs}
        tested = {split: runs[name] for name, split, trial in of_loss(at, loss) if trial is None and name in runs}
        tests = {split: run["test"] for split, run in tested.items() if "test" in run}
        if not tests:
            continue
        failed = sum("error" in run for run, _ in named.values())
        seconds = statistics.median(run["seconds"] for run, _ in named.values())  # some were paused
        best = chosen(runs, at, loss)
        rows.append(Row(loss, tests, best["options"] if best else {}, failed, seconds))
    return sorted(rows, key=lambda row: -mean_of(row, board))


def mean_of(row: Row, board: Board) -> float:
    """Of the first measure, over splits."""
    return statistics.mean(test[board.measures[0]] for test in row.tests.values())


def waiting_of(runs: Mapping[str, Any], at: tuple[str, str], rows: list[Row]) -> tuple[list[str], list[str]]:
    """Losses without a row: those whose settings all failed, and those that are not run yet."""
    board, ranked = BOARDS[at], {row.loss for row in rows}
    waiting = [loss for loss in board.losses() if loss not in ranked]
    tried = [loss for loss in waiting if f"trial {' '.join(at)} {loss} {board.trials - 1}" in runs]
    failing = [loss for loss in tried if chosen(runs, at, loss) is None]
    return failing, [loss for loss in waiting if loss not in failing]


def of_board(runs: Mapping[str, Any], at: tuple[str, str]) -> list[str]:
    """A section of the page."""
    board, rows = BOARDS[at], rows_of(runs, at)
    lines = [f"## {board.said}", ""]
    if not rows:
        return [*lines, f"Not run yet: `python bench/leaderboard.py run {' '.join(at)}`.", ""]
    spread = (
        f"± is the standard deviation over {board.splits} splits; of differences, split by split, the standard error"
    )
    of = f"{board.trials} settings a loss; {spread if board.splits > 1 else 'one split'}."
    lines += [of, "", *markdown(board, at, rows), ""]
    for said, names in zip(("Every setting failed", "Not run yet"), waiting_of(runs, at, rows), strict=True):
        if names:
            lines += [f"{said}: {', '.join(names)}.", ""]
    return lines


def markdown(board: Board, at: tuple[str, str], rows: list[Row]) -> list[str]:
    first = f"{board.measures[0]} less the first's"
    head = [
        "loss",
        *board.measures,
        first,
        "splits",
        "failed runs",
        "chosen, where not the default",
        "s a run",
        "command",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = []
        for measure in board.measures:
            values = [test[measure] for test in row.tests.values()]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        cells.append("" if row is rows[0] else paired(row.tests, rows[0].tests, board.measures[0]))
        setting = ", ".join(f"{path.split('.', 1)[1]} {said(value)}" for path, value in row.options.items())
        link = f"[{row.loss}](losses/{LOSSES[row.loss].family}/{row.loss}.md)"
        command = f"`run {' '.join(at)} {row.loss}`"
        lines.append(
            f"| {' | '.join([link, *cells, str(len(row.tests)), str(row.failed), setting, f'{row.seconds:.0f}', command])} |"
        )
    return lines


def paired(mine: dict[int, dict[str, float]], theirs: dict[int, dict[str, float]], measure: str) -> str:
    """Mean difference over the splits that both have, and its standard error."""
    gaps = [mine[split][measure] - theirs[split][measure] for split in mine.keys() & theirs.keys()]
    if not gaps:
        return ""
    error = f" ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.4f}" if len(gaps) > 1 else ""
    return f"{statistics.mean(gaps):+.4f}{error}"


def said(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(said(one) for one in value)}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


Shares = dict[str, dict[tuple[str, str], float]]


def shares_of(runs: Mapping[str, Any]) -> Shares:
    """Contrast losses by boards where all have been run: the share of the best loss's value. The best on average first."""
    shares: Shares = {}
    for at, board in BOARDS.items():
        rows = rows_of(runs, at) if board.kind == "contrast" else []
        if rows and not waiting_of(runs, at, rows)[1]:
            values = {row.loss: mean_of(row, board) for row in rows}
            for loss, value in values.items():
                shares.setdefault(loss, {})[at] = value / values[rows[0].loss]
    return dict(sorted(shares.items(), key=lambda item: -statistics.mean(item[1].values())))


def overview(shares: Shares) -> list[str]:
    """A section of the page: which contrast losses are good on all boards."""
    boards = [at for at in BOARDS if any(at in of for of in shares.values())]
    if not boards:
        return []
    lines = ["## Contrast losses on all boards", "", f"![The same as a picture]({PICTURE.name})", ""]
    lines += ["NDCG@20 in per cent of the best loss on that board, ordered by the mean. Each board counts once.", ""]
    lines += [
        "Budgets are short, Gowalla's above all: in four epochs of 256 negatives cosines have not come far. After nine of",
        "1,024, on validation's pairs, too, the order is another (the README's table).",
        "",
    ]
    head = ["loss", "mean", *(" ".join(at) for at in boards)]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for loss, of in shares.items():
        cells = [f"{100 * of[at]:.0f}" if at in of else "failed" for at in boards]
        lines.append(f"| {' | '.join([loss, f'{100 * statistics.mean(of.values()):.1f}', *cells])} |")
    return [*lines, ""]


def draw(shares: Shares) -> None:
    """The overview as a picture."""
    figure = Figure(figsize=(7.2, 0.24 * len(shares) + 1.2), layout="constrained")
    axes, losses = figure.subplots(), list(shares)[::-1]
    for place, at in enumerate(at for at in BOARDS if any(at in of for of in shares.values())):
        drawn_at = [(100 * shares[loss][at], height) for height, loss in enumerate(losses) if at in shares[loss]]
        look = {"color": COLOURS[place], "marker": "osD^v"[place]}
        axes.plot(*zip(*drawn_at, strict=True), linestyle="none", label=" ".join(at), **look)
    axes.set_yticks(range(len(losses)), losses)
    axes.set(xlabel="NDCG@20, % of the best loss on the board")
    axes.grid(visible=True, color="#dddddd")
    axes.set_axisbelow(True)
    figure.legend(frameon=False, loc="outside upper center", ncols=len(BOARDS))
    with write_atomically(PICTURE) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def page(runs: Mapping[str, Any]) -> str:
    """All boards."""
    beside = {
        name: why_not(name)
        for kind in ("contrast", "list", "embedding")
        for name in LOSSES.names(kind)
        if why_not(name)
    }
    lines = [HEAD, *overview(shares_of(runs))]
    for at in BOARDS:
        lines += of_board(runs, at)
    left_out = "; ".join(f"{name} ({why})" for name, why in beside.items())
    return "\n".join([*lines, f"On no board: {left_out}."]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    running = commands.add_parser("run")
    running.add_argument("data")
    running.add_argument("model")
    running.add_argument("losses", nargs="*")
    running.add_argument("--minutes", type=float, default=math.inf, help="begin no run behind so many")
    running.add_argument("--root", type=Path, default=ROOT)
    for name in ("plan", "table"):
        commands.add_parser(name)
    for each in commands.choices.values():
        each.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    store = Store(options.results)
    if options.what == "plan":
        print(plan(store.runs))
        return
    if options.what == "run":
        at = options.data, options.model
        if at not in BOARDS:
            parser.error(f"there is no board {' '.join(at)!r}: {'; '.join(' '.join(board) for board in BOARDS)}")
        losses = options.losses or BOARDS[at].losses()
        if unknown := [loss for loss in losses if loss not in BOARDS[at].losses()]:
            parser.error(f"{unknown[0]} is not on the board {' '.join(at)}: {', '.join(BOARDS[at].losses())}")
        run(store, at, losses, options.root, options.minutes)
    text = page(store.runs)
    print(text)
    if options.results == RESULTS:
        draw(shares_of(store.runs))
        write_text(PAGE, text)


if __name__ == "__main__":
    main()
