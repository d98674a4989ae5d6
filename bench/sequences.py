"""What comes next: SASRec on Beauty with sampled losses and the full cross-entropy, two other models, and three in closed form.

    python bench/sequences.py run [../shared/data/beauty/Beauty.txt] [--only bce,cross_entropy] [--models sasrec]
                                  [--epochs 100] [--seeds 1] [--users 500]
    python bench/sequences.py seconds
    python bench/sequences.py table

Leave one out: the last event of a user is the test, the one before chooses the epoch by NDCG@10, every item competes that the
user did not have before. SASRec with 64 dimensions, 2 layers, 1 head, the last 50 events, dropout 0.5; batches of 256 windows,
AdamW at 0.001. ``bce`` and ``bpr`` draw one negative for each event, ``gbce`` 64; ``gbce_shared`` (256) and
``scaled_cross_entropy`` (500) share a pool among the events of a batch, ``genni`` draws 16 for each event from what the model
thinks of 100; ``cross_entropy`` is over the catalogue. Validation is every second epoch, patience 10 validations; ``gbce`` has
no early stop, for it stands still before it learns. Test events are looked at once a run. Popularity, item kNN and EASE see
sets: a user's events but the last two are what they are fitted on, and the 50 before the last what they score by.

``bench/results/sequences.json`` keeps each run as it ends: those that are there are not repeated. A run that was interrupted
goes on from its checkpoint in ``runs/bench-sequences``.

Published (SASRec on a 5-core Beauty, five seeds, full ranking; the logs of MTandHJ/CE-SCE-LLMRec): NDCG@10 .0353 (BCE), .0374
(BPR), .0587 (scaled cross-entropy), .0597 (cross-entropy); HR@10 .067, .069, .097, .0986.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from store import Store
from torch import Tensor, nn
from torch.optim import AdamW

from rankwell.atomic import write_text
from rankwell.data.batching.of_sequences import SequenceBatches
from rankwell.data.sequence_splits import NextItems, SequenceSplit, split_last
from rankwell.data.sequences import read_sequences
from rankwell.evaluation.next_item import distinct_items, evaluate_next
from rankwell.losses import LOSSES, as_contrast
from rankwell.metrics import Measure
from rankwell.models import MODELS as INTERACTIONS
from rankwell.models.gru4rec import GRU4Rec
from rankwell.models.item_mean import ItemMean
from rankwell.models.sasrec import SASRec
from rankwell.samplers import GenNiSampler, UniformSampler
from rankwell.training import TrainingSettings, fit
from rankwell.training.sequence_objective import SequenceHeadObjective, SequenceObjective
from rankwell.types import Ragged

RESULTS = Path(__file__).parent / "results" / "sequences.json"
CHECKPOINTS = Path("runs") / "bench-sequences"
MEASURES = ("ndcg@10", "recall@10")
BATCH, LENGTH, RATE, STEPS = 256, 50, 0.001, 30

Sampled = tuple[str, Callable[..., Any], dict[str, Any]]
LOSS: dict[str, Sampled] = {
    "bce": ("sigmoid", UniformSampler, {"n": 1, "shared": False}),
    "bpr": ("bpr", UniformSampler, {"n": 1, "shared": False}),
    "gbce": ("gbce", UniformSampler, {"n": 64, "shared": False}),
    "gbce_shared": ("gbce", UniformSampler, {"n": 256, "shared": True}),
    "scaled_cross_entropy": ("scaled_cross_entropy", UniformSampler, {"n": 500, "shared": True}),
    "genni": ("sampled_softmax", GenNiSampler, {"n": 16, "candidates": 100, "temperature": 1.0}),
}
HEADS = {"cross_entropy": "linear_softmax", "scalable": "scalable_cross_entropy", "reduced": "reduced_cross_entropy"}
MODELS = {
    "sasrec": lambda items: SASRec(items, dim=64, layers=2, heads=1, max_length=LENGTH, dropout=0.5),
    "gru4rec": lambda items: GRU4Rec(items, dim=64, width=128, max_length=LENGTH, dropout=0.25),
    "item_mean": lambda items: ItemMean(items, dim=64, max_length=LENGTH),
}
BASELINES = ("popularity", "item_knn", "ease")
"""In closed form, with their defaults."""

RUNS = [
    *((model, "-") for model in BASELINES),
    *(("sasrec", loss) for loss in (*LOSS, *HEADS)),
    *((model, "cross_entropy") for model in ("gru4rec", "item_mean")),
]


def objective(name: str, model: Any, split: SequenceSplit, seed: int) -> SequenceObjective | SequenceHeadObjective:
    if name in HEADS:
        entry = LOSSES[HEADS[name]]
        return SequenceHeadObjective(model, entry.function, seed=seed, inputs=entry.inputs)
    loss, kind, own = LOSS[name]
    entry = as_contrast(LOSSES[loss])
    sampler = kind(split.fit.known(), split.fit.num_items, seed=seed, **own)
    return SequenceObjective(model, entry.function, sampler, seed=seed, correct=entry.softmax, inputs=entry.inputs)


def judged(model: Any, asked: NextItems) -> dict[str, float]:
    measures = [Measure.parse(text) for text in MEASURES]
    return evaluate_next(model, measures, asked.histories(LENGTH), asked.targets, exclude_history=True).means()


class OfSets(nn.Module):
    """A model of sets that scores what comes next by the items so far."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.num_items = model, model.num_items

    def score_next(self, history: Ragged, out: Tensor | None = None) -> Tensor:
        """Whatever the order."""
        return self.model.score_history(distinct_items(history, self.num_items), out)


def baseline(name: str, split: SequenceSplit) -> dict[str, Any]:
    started, known = time.perf_counter(), split.fit.known()
    model: Any = INTERACTIONS[name].function(len(known.offsets) - 1, split.fit.num_items)
    model.initialise(known, seed=0)
    return {"seconds": time.perf_counter() - started, "test": judged(OfSets(model), split.test)}


class Spoken:
    """Says how an epoch went."""

    def on_step(self, *_: object) -> None:
        """Nothing."""

    def on_epoch(self, record: Any, best: bool) -> None:
        """A line."""
        print(record.epoch, f"{record.loss:.4f}", record.validation, f"{record.seconds:.1f} s", "*" * best, flush=True)


def run(
    kind: str, loss: str, split: SequenceSplit, epochs: int, seed: int, *, folder: Path | None = None
) -> dict[str, Any]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    model = MODELS[kind](split.fit.num_items)
    model.initialise(seed=seed)
    patience = 0 if loss == "gbce" else 10
    settings = TrainingSettings(
        epochs=epochs, batch_size=BATCH, learning_rate=RATE, schedule="constant", patience=patience, validate_every=2
    )
    history = fit(
        objective(loss, model, split, seed),
        SequenceBatches(split.fit.lists(), BATCH, seed=seed, max_length=LENGTH),
        settings,
        seed=seed,
        validate=lambda: judged(model, split.valid),
        monitor="ndcg@10",
        folder=folder,
        watcher=Spoken(),
    )
    return {
        "epoch": history.best_epoch,
        "epochs": history.epoch,
        "validation": history.best_value,
        "seconds": sum(record.seconds for record in history.epochs),
        "epoch_s": statistics.median(record.seconds for record in history.epochs),
        "test": judged(model, split.test),
    }


def seconds(split: SequenceSplit, only: list[str]) -> None:
    """Median milliseconds of a step, and what they make of an epoch; nothing is stored."""
    for kind, loss in RUNS:
        if loss not in only or kind in BASELINES:
            continue
        model = MODELS[kind](split.fit.num_items)
        model.initialise(seed=0)
        passes = SequenceBatches(split.fit.lists(), BATCH, seed=0, max_length=LENGTH)
        one = objective(loss, model, split, 0)
        optimiser = AdamW(model.parameters(), lr=RATE)
        taken, events = [], 0
        for step, batch in enumerate(passes.of_epoch(0)):
            if step == STEPS:
                break
            started = time.perf_counter()
            for play in one.plays(batch, epoch=0, step=step):
                play.value.backward()
            optimiser.step()
            optimiser.zero_grad()
            taken.append(time.perf_counter() - started)
            events += len(batch.items)
        median = statistics.median(taken[3:])
        epoch = median * passes.steps(0)
        each = f"{1e3 * median:7.0f} ms a step of {events // STEPS} events, {epoch:6.1f} s an epoch"
        print(f"{kind:<10} {loss:<22} {each}", flush=True)


def table() -> str:
    """Means over seeds with their standard deviation."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    for key, result in Store(RESULTS).runs.items():
        groups[tuple(key.split()[:2])].append(result)
    lines = [f"{'model':<10} {'loss':<22} {'NDCG@10':>16} {'HR@10':>16} {'epoch':>6} {'epoch s':>8} {'seeds':>5}"]
    for (model, loss), results in sorted(groups.items()):
        cells = []
        for measure in MEASURES:
            values = [result["test"][measure] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        epoch, slow = (statistics.mean(result.get(name, 0) for result in results) for name in ("epoch", "epoch_s"))
        cells += [f"{epoch:.0f}", f"{slow:.1f}"] if epoch else ["", ""]
        lines.append(
            f"{model:<10} {loss:<22} {cells[0]:>16} {cells[1]:>16} {cells[2]:>6} {cells[3]:>8} {len(results):>5}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "seconds", "table"))
    parser.add_argument("data", nargs="?", default="../shared/data/beauty/Beauty.txt")
    parser.add_argument("--only", default=",".join({loss: None for _, loss in RUNS}))
    parser.add_argument("--models", default=",".join((*BASELINES, *MODELS)))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--users", type=int, default=0, help="the first so many only, to try it out; nothing is stored")
    options = parser.parse_args()
    if options.what == "table":
        write_text(RESULTS.with_suffix(".txt"), table())
        print(table())
        return
    data = read_sequences(options.data)
    split = split_last(data.take(np.arange(options.users)) if options.users else data)
    only = options.only.split(",")
    if options.what == "seconds":
        seconds(split, only)
        return
    store = Store(RESULTS)
    for seed in range(options.seeds):
        for kind, loss in RUNS:
            if loss not in only or kind not in options.models.split(","):
                continue
            if kind in BASELINES:
                if not options.users:
                    store.get(f"{kind} - - 0", partial(baseline, kind, split))
                continue
            made = partial(run, kind, loss, split, options.epochs, seed)
            if options.users:
                print(kind, loss, json.dumps(made()), flush=True)
            else:
                name = f"{kind} {loss} {options.epochs} {seed}"
                store.get(name, partial(made, folder=CHECKPOINTS / name.replace(" ", "-")))


if __name__ == "__main__":
    main()
