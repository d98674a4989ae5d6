"""Every loss, forward and backward: time and peak memory; the aims of the large ones; other libraries beside them.

    python bench/losses.py [--only hinge,softmax | --large] [--skip-large] [--out bench/results]

Prints two tables and writes losses.json, losses.txt and losses.png: ratios count, for they are measured side by side in one
run. Memory is what tensors took at once above the inputs, and the largest of them. Libraries that are not installed are left
out.
"""

import argparse
import datetime
import importlib.metadata
import json
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from neighbours import neighbours, pairs_of
from store import processor
from torch import Tensor

from rankwell.lists import offsets_from_sizes
from rankwell.losses import (
    LOSSES,
    hinge_loss,
    lambda_loss,
    lambda_rank_loss,
    listmle_loss,
    logistic_loss,
    same_class,
    softmax_loss,
)
from rankwell.losses import squared_hinge_loss as squared_loss
from rankwell.losses.cases import cases, scalars
from rankwell.losses.laws import allocated, peak_bytes
from rankwell.registry import Entry
from rankwell.training.allocator import keep_freed_memory

SHAPES = ((256, 100), (64, 1_000))
IN_BATCH = ("info_nce", "multi_similarity", "supervised_contrastive")
TOO_LONG = 5_000
"""Milliseconds at the first shape, above which the second one is left out."""

DIM = 64

LIKE = {
    "min_max_llpauc": "llpauc",
    "sog_clr": "sampled_softmax",
    "song": "softmax",
    "k_song": "softmax",
    "learned_temperature": "info_nce",
    "cross_batch_memory": "info_nce",
}
"""What takes the arguments that a loss with state takes, but for ids."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of losses, separated by commas")
    parser.add_argument("--large", action="store_true", help="only the aims of large ones; prints, stores nothing")
    parser.add_argument("--skip-large", action="store_true", help="leave out what takes more than seconds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    keep_freed_memory()
    hardware = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    only = set(filter(None, args.only.split(",")))
    print(hardware)
    if args.large:
        large(args.skip_large)
        return
    rows = [row for entry in LOSSES if not only or entry.name in only for row in measured(entry)]
    aims = [] if only else list(large(args.skip_large))
    text = "\n".join(
        [hardware, datetime.date.today().isoformat(), HEAD, *map(line, rows), "", *(aim.said for aim in aims)]
    )
    if not only:
        store(args.out, hardware, rows, aims, text)


# ------------------------------------------------------------------------------------------------------------ every loss


def measured(entry: Entry[Any]) -> list[dict[str, Any]]:
    """A row a shape: milliseconds, megabytes, and the same of every neighbour that has the loss."""
    rows: list[dict[str, Any]] = []
    for lists, items in SHAPES:
        if rows and rows[-1]["ms"] > TOO_LONG:
            print(f"{entry.name}: {lists} × {items} left out, for it takes minutes")
            break
        loss, args, leaves = with_state(entry, lists, items) if entry.kind == "stateful" else plain(entry, lists, items)
        row: dict[str, Any] = {"loss": entry.name, "shape": f"{lists} × {items}"}
        rivals = neighbours(entry.name, {**args, "places": items} if entry.name == "cross_batch_memory" else args)
        ours = partial(step, loss, args, leaves)
        row["ms"], *others = (1e3 * seconds for seconds in interleaved([ours, *rivals.values()]))
        row["others"] = dict(zip(rivals, others, strict=True))
        taken = allocated(ours)
        row["peak_mb"], row["largest_mb"] = taken.peak / 2**20, taken.largest / 2**20
        rows.append(row)
        print(line(row), flush=True)
    return rows


Prepared: TypeAlias = tuple[Callable[..., Tensor], dict[str, Any], list[str]]
"""A loss, its arguments, and the names of what gradients are taken by."""


def plain(entry: Entry[Any], rows: int, items: int) -> Prepared:
    """Random arguments of that size without masks and weights."""
    *_, case = cases(entry, rows=rows, items=items)
    masks = {*case.items, "where", "weights"}
    args = {name: x for name, x in case.args.items() if name not in masks}
    draw = torch.Generator().manual_seed(0)
    if entry.kind == "embedding":  # one positive a query
        args |= {"queries": torch.randn(rows, DIM, generator=draw), "items": torch.randn(items, DIM, generator=draw)}
        args["positives"] = torch.arange(items) == (torch.arange(rows) % items)[:, None]
    if entry.kind == "head":  # a catalogue of so many items
        args |= {name: torch.randn(len(args[name]), DIM, generator=draw) for name in ("hidden", "item_weight")}
    for name in case.scores:
        args[name].requires_grad_()
    return entry.function, {**args, **scalars(entry)}, list(case.scores)


def with_state(entry: Entry[Any], rows: int, items: int) -> Prepared:
    """The same of a module: each step changes what it remembers. The memory of vectors has so many ``items``, and is full."""
    _, args, leaves = plain(LOSSES[LIKE[entry.name]], rows, items)
    if entry.name == "cross_batch_memory":
        loss = entry(dim=DIM, size=items, warm_up=0)
        ids = torch.arange(rows) % items
        loss.update(torch.arange(items), args["items"].detach())
        return loss, {"queries": args["queries"], "ids": ids}, ["queries"]
    ids = {"sog_clr": (rows,), "song": (rows, items), "k_song": (rows, items)}.get(entry.name)
    if ids is not None:
        args["ids"] = torch.arange(math.prod(ids)).reshape(ids)
    sizes = {"num_ids": rows * items, "num_queries": rows}
    if entry.name == "k_song":
        args["query_ids"] = torch.arange(rows)
    return entry(**{name: size for name, size in sizes.items() if name in entry.inputs}), args, leaves


def step(loss: Callable[..., Tensor], args: dict[str, Any], leaves: list[str]) -> None:
    torch.autograd.grad(loss(**args), [args[name] for name in leaves])


def interleaved(runs: list[Callable[[], Any]], seconds: float = 0.3) -> list[float]:
    """Median seconds of each, in turns, so that a neighbour on the machine disturbs all alike."""
    started = time.perf_counter()
    for run in runs:
        run()
    once = time.perf_counter() - started
    repeats = min(200, max(1 if once > 3 else 5, round(seconds / max(once, 1e-6))))
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats):
        for run, times in zip(runs, taken, strict=True):
            begun = time.perf_counter()
            run()
            times.append(time.perf_counter() - begun)
    return [statistics.median(times) for times in taken]


# --------------------------------------------------------------------------------------------------------- the large ones


class Aim(NamedTuple):
    """What was to be reached."""

    what: str
    said: str
    of_aim: dict[str, float]
    """What was measured, divided by what was aimed at; of what is to be large, the other way round."""


def large(skip: bool) -> list[Aim]:
    """The aims of the large ones, printed as they are measured."""
    return [*sorted_pairs(), *all_pairs(), *truncated(), *ragged(), *in_batch(), *([] if skip else catalogue())]


def aim(what: str, found: str, aims: str, **of_aim: float) -> Aim:
    row = Aim(what, f"{what:<58} {found}   (aim: {aims})", of_aim)
    print(row.said, flush=True)
    return row


def timed(
    what: str,
    run: Callable[[], Any],
    aims: str,
    *,
    ms: float = math.inf,
    mb: float = math.inf,
    per_item: tuple[int, float] | None = None,
    beside: Callable[[], Any] | None = None,
    faster: float = 0.0,
) -> Aim:
    """Time and memory against ``ms``, ``mb`` or bytes ``per_item``, and how many times ``faster`` than something beside."""
    ours, *other = interleaved([run] if beside is None else [run, beside], seconds=2.0)
    peak, largest = allocated(run)
    unit, size = ("B an item", per_item[0]) if per_item else ("MB", 2**20)
    memory = f"{peak / size:7.1f} {unit} ({largest / size:.1f} the largest tensor)"
    ratio = f", {other[0] / ours:6.1f} × faster than beside" if other else ""
    of_aim = {"time": ours * 1e3 / ms, "memory": peak / 2**20 / mb}
    if per_item:
        of_aim["memory"] = peak / per_item[0] / per_item[1]
    if other:
        of_aim["time beside another way"] = faster * ours / other[0]
    return aim(what, f"{ours * 1e3:9.2f} ms {memory}{ratio}", aims, **{key: x for key, x in of_aim.items() if x})


def graded(n: int, levels: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(n, generator=draw).requires_grad_()
    if levels == n:
        return scores, torch.randperm(n, generator=draw).float()
    if levels == 2:
        return scores, (torch.rand(n, generator=draw) < 0.01).float()
    return scores, torch.randint(levels, (n,), generator=draw).float()


def unchunked(scores: Tensor, labels: Tensor, phi: Callable[[Tensor], Tensor]) -> None:
    """Positives × negatives, as it is usually written."""
    gaps = scores[labels > 0][:, None] - scores[labels == 0]
    torch.autograd.grad(phi(gaps).mean(), scores)


def sorted_pairs() -> list[Aim]:
    rows, n = [], 100_000
    for name, loss, phi in (
        ("hinge", hinge_loss, lambda gaps: (1 - gaps).relu()),
        ("squared_hinge", squared_loss, lambda gaps: (1 - gaps).relu().square()),
    ):
        for levels, ms in ((2, 10), (5, 25), (n, 150)):
            scores, labels = graded(n, levels)
            run = lambda s=scores, y=labels, f=loss: torch.autograd.grad(f(s, y), s)  # noqa: E731
            beside = (lambda s=scores, y=labels, f=phi: unchunked(s, y, f)) if levels == 2 else None
            what, aims = f"{name}, n = 100,000, {levels:,} levels", f"{ms} ms, 100 B{', 30 ×' if beside else ''}"
            rows.append(timed(what, run, aims, ms=ms, per_item=(n, 100), beside=beside, faster=30))
    return rows


def all_pairs() -> list[Aim]:
    rows = []
    for n, levels in ((100, 2), (1_000, 2), (20_000, 2), (20_000, 5)):
        scores, labels = graded(n, levels)
        if levels == 2:
            labels = (torch.arange(n) % 10 == 0).float()
        run = lambda s=scores, y=labels: torch.autograd.grad(logistic_loss(s, y), s)  # noqa: E731
        softplus = lambda s=scores, y=labels: unchunked(s, y, lambda gaps: torch.nn.functional.softplus(-gaps))  # noqa: E731
        what, beside = f"logistic, n = {n:,}, {levels} levels", softplus if levels == 2 else None
        rows.append(timed(what, run, "350 ms, 10 MB, no slower", ms=350, mb=10, beside=beside, faster=1))
    return rows


def truncated() -> list[Aim]:
    scores, labels = graded(10_000, 5)
    run = lambda: torch.autograd.grad(lambda_rank_loss(scores, labels, k=10), scores)  # noqa: E731
    whole = lambda: torch.autograd.grad(lambda_loss(scores, labels, k=10), scores)  # noqa: E731
    return [
        timed("lambda_rank, k = 10, n = 10,000", run, "2 ms", ms=2),
        timed("lambda_rank, k = 10, n = 10,000, in turn with all pairs", run, "100 ×", beside=whole, faster=100),
    ]


def ragged() -> list[Aim]:
    """Lists from a heavy tail between 1 and 10,000, a million items; beside equal lists of the same total."""
    draw = torch.Generator().manual_seed(0)
    sizes = (1 / torch.rand(200_000, generator=draw).clamp(min=1e-4)).long()
    sizes = sizes[: int((sizes.cumsum(0) <= 1_000_000).sum())]
    offsets, total = offsets_from_sizes(sizes), int(sizes.sum())
    scores = torch.randn(total, generator=draw).requires_grad_()
    labels = (torch.rand(total, generator=draw) < 0.1).float()
    width = 100
    dense, dense_labels = (x.detach()[: total // width * width].reshape(-1, width) for x in (scores, labels))
    dense.requires_grad_()
    print(f"ragged: {len(sizes):,} lists, {total:,} items, longest {int(sizes.max()):,}")
    rows = []
    for name, loss, most in (
        ("softmax", softmax_loss, 4.0),
        ("listmle", listmle_loss, 1.6),
        ("hinge", hinge_loss, 1.6),
    ):
        flat = lambda f=loss: torch.autograd.grad(f(scores, labels, offsets=offsets), scores)  # noqa: E731
        alike = lambda f=loss: torch.autograd.grad(f(dense, dense_labels), dense)  # noqa: E731
        ours, equal = interleaved([flat, alike], seconds=5.0)
        given = peak_bytes(flat) / (2 * scores.nbytes)
        padded = len(sizes) * int(sizes.max()) / total
        found = f"{ours * 1e3:9.2f} ms {ours / equal:6.2f} × dense, {given:4.2f} × scores and labels (padded {padded:.0f} ×)"
        rows.append(
            aim(
                f"{name}, ragged",
                found,
                f"{most} ×, 6 ×",
                **{"time beside dense": ours / equal / most, "memory": given / 6},
            )
        )
    return rows


def in_batch() -> list[Aim]:
    """Classes of four. The neighbour's NT-Xent holds positive times negative pairs."""
    rows = []
    for name, size in (("info_nce", 256), *((name, 2_048) for name in IN_BATCH)):
        draw = torch.Generator().manual_seed(0)
        vectors = torch.randn(size, 64, generator=draw).requires_grad_()
        classes = torch.arange(size) // 4
        positives, others = same_class(classes)
        run = lambda f=LOSSES[name], x=vectors, p=positives, o=others: torch.autograd.grad(  # noqa: E731
            f(x, x, positives=p, where=o), x
        )
        rivals = neighbours(name, {"queries": vectors, "classes": classes})
        floats = peak_bytes(run) / 4 / size**2
        times = [1e3 * seconds for seconds in interleaved([run, *rivals.values()], seconds=3.0)]
        beside = ", ".join(
            f"{library} {ms:.0f} ms, {peak_bytes(rivals[library]) / 4 / size**2:.0f} B² floats"
            for library, ms in zip(rivals, times[1:], strict=True)
        )
        if not rivals:
            beside = f"NT-Xent over pairs of pairs would take {4 * math.prod(pairs_of(classes)) / 2**30:.0f} GB"
        found = f"{times[0]:9.2f} ms {floats:5.1f} B² floats {beside}"
        rows.append(aim(f"{name}, batch {size:,}", found, "20 B² floats", memory=floats / 20))
    return rows


def catalogue() -> list[Aim]:
    """4,096 rows against a million items of 64 dimensions, beside the four products that it must do."""
    from rankwell.losses import linear_softmax_loss

    draw = torch.Generator().manual_seed(0)
    rows, items, dim, chunk = 4_096, 1_000_000, 64, 2_048
    hidden = torch.randn(rows, dim, generator=draw).requires_grad_()
    table = (torch.randn(items, dim, generator=draw) * 0.1).requires_grad_()
    targets = torch.randint(items, (rows,), generator=draw)
    logits, by_hidden = torch.empty(rows, chunk), torch.zeros(rows, dim)

    def products() -> None:
        h, t = hidden.detach(), table.detach()
        by_table = torch.empty_like(t)
        for start in range(0, items - chunk + 1, chunk):
            some = t[start : start + chunk]
            torch.mm(h, some.T, out=logits)
            torch.mm(h, some.T, out=logits)
            by_hidden.addmm_(logits, some)
            torch.mm(logits.T, h, out=by_table[start : start + chunk])

    def run() -> None:
        torch.autograd.grad(linear_softmax_loss(hidden, table, targets), (hidden, table))

    times: dict[str, list[float]] = {"run": [], "products": []}
    for _ in range(2):
        for name, once in (("run", run), ("products", products)):
            begun = time.perf_counter()
            once()
            times[name].append(time.perf_counter() - begun)
    ours, floor = (min(times[name]) for name in ("run", "products"))
    beyond = (peak_bytes(run) - hidden.nbytes - table.nbytes) / 2**20
    found = f"{ours:9.2f} s  {ours / floor:5.2f} × its products, {beyond:5.1f} MB"
    of_aim = {"time beside another way": ours / floor / 1.25, "memory": beyond / 64}
    return [aim("linear_softmax, 4,096 × 1,000,000 × 64", found, "1.25 ×, 64 MB", **of_aim)]


# --------------------------------------------------------------------------------------------------------------- results


HEAD = f"{'loss':<26} {'shape':>12} {'time':>12} {'peak':>11} {'largest':>11}   milliseconds of others"


def line(row: dict[str, Any]) -> str:
    others = ", ".join(f"{library} {ms:.2f}" for library, ms in row["others"].items())
    memory = f"{row['peak_mb']:8.2f} MB {row['largest_mb']:8.2f} MB"
    return f"{row['loss']:<26} {row['shape']:>12} {row['ms']:9.2f} ms {memory}   {others}"


def store(folder: Path, hardware: str, rows: list[dict[str, Any]], aims: list[Aim], text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "losses.txt").write_text(text + "\n", encoding="utf-8")
    losses: dict[str, Any] = {}
    for row in rows:
        losses.setdefault(row["loss"], {})[row["shape"]] = {
            "ms": round(row["ms"], 4),
            "peak_mb": round(row["peak_mb"], 4),
            "largest_mb": round(row["largest_mb"], 4),
            "others": {library: round(ms, 4) for library, ms in row["others"].items()},
        }
    libraries = ("torch", "rax", "jax", "allRank", "pytorch-metric-learning", "sentence-transformers")
    versions = {name: version for name in libraries if (version := installed(name))}
    facts = {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware,
        "versions": versions,
        "losses": losses,
        "aims": {one.what: one.of_aim for one in aims},
    }
    (folder / "losses.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(folder / "losses.png", rows, aims, hardware)


COLOURS = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw(path: Path, rows: list[dict[str, Any]], aims: list[Aim], hardware: str) -> None:
    """Milliseconds of every loss at both shapes, ours and others'; and how far the large ones are from their aims."""
    from matplotlib.figure import Figure

    first, *_ = shapes = list(dict.fromkeys(row["shape"] for row in rows))
    names = [row["loss"] for row in sorted((row for row in rows if row["shape"] == first), key=lambda row: row["ms"])]
    heights = [0.17 * len(names), 0.17 * len(aims)]
    figure = Figure(figsize=(11, sum(heights) + 2.2), layout="constrained")
    grid = figure.add_gridspec(2, len(shapes), height_ratios=heights)
    libraries = sorted({library for row in rows for library in row["others"]})
    for column, shape in enumerate(shapes):
        axes = figure.add_subplot(grid[0, column])
        mine = {row["loss"]: row for row in rows if row["shape"] == shape}
        there = [name for name in names if name in mine]
        axes.scatter([1] * len(names), names, alpha=0)  # all names, in one order
        axes.scatter([mine[name]["ms"] for name in there], there, color="#0072B2", s=16, label="Rankwell", zorder=3)
        for library, colour in zip(libraries, COLOURS, strict=False):
            of = [name for name in there if library in mine[name]["others"]]
            at = [mine[name]["others"][library] for name in of]
            axes.scatter(at, of, color=colour, s=16, marker="x", label=library)
        axes.set(xscale="log", xlabel=f"milliseconds, forward and backward, {shape}", ylim=(-1, len(names)))
        finish(axes, labels=not column)
        if not column:
            axes.legend(frameon=False, loc="lower right")
    axes = figure.add_subplot(grid[1, :])
    for what, colour in zip(dict.fromkeys(key for one in aims for key in one.of_aim), COLOURS, strict=False):
        of = [one for one in aims if math.isfinite(one.of_aim.get(what, math.inf))]
        axes.scatter([one.of_aim[what] for one in of], [one.what for one in of], color=colour, s=16, label=what)
    axes.axvline(1, color="0.5", linewidth=1)
    axes.set(xscale="log", xlabel="measured, divided by its aim: below 1 it is reached")
    finish(axes, labels=True)
    axes.legend(frameon=False)
    figure.suptitle(hardware, fontsize="small")
    figure.savefig(path, dpi=130)


def finish(axes: Any, *, labels: bool) -> None:
    axes.grid(axis="x", color="0.9")
    axes.tick_params(axis="y", labelsize=6, labelleft=labels)
    axes.spines[["top", "right"]].set_visible(False)


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
