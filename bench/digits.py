"""Metric learning on scikit-learn's digits (1,797 images of 8 x 8): new classes, and new images of known classes.

    python bench/digits.py run [--seeds 3] [--rows "triplet,circle"]
    python bench/digits.py table

``classes``: 0 to 4 train, 5 to 9 are asked for. Folds for choosing: fit on 0, 1, 2 and hold out 3, 4; fit on 2, 3, 4 and hold
out 0, 1. ``images``: 20 images of each class train, 300 others are held out for choosing, the other 1,297 are asked for; the
split is the same for all. A query is every test image against all others; hit_rate@1 is what the field calls recall@1,
ap_at_r its MAP@R. The network: two 3 x 3 convolutions of 16 and 32 channels, embeddings of 64 numbers. Batches have 60 images,
as many of each class. One of two learning rates and the epoch, at a constant rate, are chosen for each row by MAP@R on what is
held out, the mean over folds, with seed 0; then all that may train is trained on with what was chosen, and the test looked at
once a run. Rows of pytorch-metric-learning have the same batches, start, optimiser, selection and parameters, where these mean
the same; its distances and reducers are its own defaults. Seconds are processor time of a step, of one thread: forward, loss,
backward, update.

``bench/results/digits.json`` keeps each run as it ends: those that are there are not repeated. ``table`` writes
``bench/results/digits.txt``.
"""

import argparse
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from store import Store

from rankwell.atomic import write_text
from rankwell.data.batching import ClassBalancedBatches, ExampleBatches
from rankwell.data.examples import Examples
from rankwell.evaluation import evaluate_examples
from rankwell.generators import GENERATORS
from rankwell.losses import LOSSES, CrossBatchMemoryLoss
from rankwell.metrics import Measure
from rankwell.miners import parse
from rankwell.models import Encoder, RawFeatures
from rankwell.training import ClassObjective, Play, TrainingSettings, fit
from rankwell.types import Ragged

RESULTS = Path(__file__).parent / "results" / "digits.json"
MEASURES = [Measure.parse(text) for text in ("hit_rate@1", "r_precision", "ap_at_r")]
MONITOR = "ap_at_r"
BATCH, DIM = 60, 64
RATES = {"classes": (0.0003, 0.001), "images": (0.001, 0.003)}
EPOCHS = {"classes": 5, "images": 40}
MEMORY = 512


@dataclass(frozen=True)
class Method:
    """A loss by name, with its parameters; a miner, a generator, or a memory around it; and theirs, if they have it."""

    loss: str
    own: dict[str, Any]
    miner: str = "none"
    generator: str = "none"
    parameters: tuple[tuple[str, Any], ...] = ()
    memory: bool = False
    similarity: str = "cosine"
    theirs: str = ""


SUPCON = {"temperature": 0.1}
TRIPLET = {"margin": 0.2}
METHODS = {
    "info_nce": Method("info_nce", {"temperature": 0.1}, theirs="NTXentLoss"),
    "supervised_contrastive": Method("supervised_contrastive", SUPCON, theirs="SupConLoss"),
    "n_pair": Method("n_pair", {}, similarity="dot", theirs="NPairsLoss"),
    "triplet": Method("triplet", TRIPLET, theirs="TripletMarginLoss"),
    "triplet semi_hard": Method("triplet", {**TRIPLET, "mining": "semi_hard"}, theirs="TripletMarginLoss semihard"),
    "triplet batch_hard": Method("triplet", {**TRIPLET, "mining": "batch_hard"}, theirs="TripletMarginLoss batch hard"),
    "contrastive_margin": Method("contrastive_margin", {"margin": 1.0}, theirs="ContrastiveLoss"),
    "lifted_structure": Method("lifted_structure", {"margin": 1.0}, theirs="LiftedStructureLoss"),
    "multi_similarity": Method("multi_similarity", {}, theirs="MultiSimilarityLoss"),
    "multi_similarity mined": Method("multi_similarity", {"epsilon": 0.1}, theirs="MultiSimilarityLoss mined"),
    "circle": Method("circle", {"margin": 0.25, "scale": 80.0}, theirs="CircleLoss"),
    "sigmoid_pairwise": Method("sigmoid_pairwise", {}),
    "direct_au": Method("direct_au", {}),
    "mawu": Method("mawu", {}),
    "loop": Method("loop", {}),
    "supcon + hardest(10)": Method("supervised_contrastive", SUPCON, miner="hardest(10)"),
    "supcon + semi_hard": Method("supervised_contrastive", SUPCON, miner="semi_hard"),
    "supcon + top_fraction(.2)": Method("supervised_contrastive", SUPCON, miner="top_fraction(0.2)"),
    "supcon + margin_band": Method("supervised_contrastive", SUPCON, miner="margin_band(low=0.3,high=0.9)"),
    "supcon + easy_positive": Method("supervised_contrastive", SUPCON, miner="easy_positive"),
    "supcon + multi_similarity": Method("supervised_contrastive", SUPCON, miner="multi_similarity"),
    "supcon + false_negative_filter": Method("supervised_contrastive", SUPCON, miner="false_negative_filter"),
    "triplet + hard": Method("triplet", TRIPLET, miner="hard"),
    "triplet + distance_weighted": Method("triplet", TRIPLET, miner=f"distance_weighted(k=5,dim={DIM})"),
    "supcon + memory": Method("supervised_contrastive", SUPCON, generator="memory", parameters=(("size", MEMORY),)),
    "supcon + cross_batch_memory": Method(
        "supervised_contrastive", SUPCON, memory=True, theirs="CrossBatchMemory(SupConLoss)"
    ),
    "supcon + loop_negatives": Method(
        "supervised_contrastive", SUPCON, generator="loop_negatives", parameters=(("k", 4),)
    ),
    "supcon + hard_mixing": Method(
        "supervised_contrastive", SUPCON, generator="hard_mixing", parameters=(("hardest", 10), ("pairs", 4), ("with_query", 4))
    ),
}  # fmt: skip


class Theirs:
    """One of pytorch-metric-learning's losses as an objective."""

    def __init__(self, model: Encoder, name: str) -> None:
        from pytorch_metric_learning import distances, losses, miners

        squared = distances.LpDistance(power=2)
        made: dict[str, tuple[Any, Any]] = {
            "NTXentLoss": (lambda: losses.NTXentLoss(temperature=0.1), None),
            "SupConLoss": (lambda: losses.SupConLoss(temperature=0.1), None),
            "NPairsLoss": (lambda: losses.NPairsLoss(), None),
            "TripletMarginLoss": (lambda: losses.TripletMarginLoss(margin=0.2, distance=squared), None),
            "TripletMarginLoss semihard": (
                lambda: losses.TripletMarginLoss(margin=0.2, distance=squared),
                lambda: miners.TripletMarginMiner(margin=0.2, type_of_triplets="semihard", distance=squared),
            ),
            "TripletMarginLoss batch hard": (
                lambda: losses.TripletMarginLoss(margin=0.2, distance=squared),
                lambda: miners.BatchHardMiner(distance=squared),
            ),
            "ContrastiveLoss": (lambda: losses.ContrastiveLoss(pos_margin=0, neg_margin=1), None),
            "LiftedStructureLoss": (lambda: losses.LiftedStructureLoss(neg_margin=1, pos_margin=0), None),
            "MultiSimilarityLoss": (lambda: losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5), None),
            "MultiSimilarityLoss mined": (
                lambda: losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5),
                lambda: miners.MultiSimilarityMiner(epsilon=0.1),
            ),
            "CircleLoss": (lambda: losses.CircleLoss(m=0.25, gamma=80), None),
            "CrossBatchMemory(SupConLoss)": (
                lambda: losses.CrossBatchMemory(losses.SupConLoss(temperature=0.1), DIM, memory_size=MEMORY),
                None,
            ),
        }
        loss, miner = made[name]
        self.model, self.groups = model, {"model": model}
        self.loss, self.miner = loss(), None if miner is None else miner()

    def plays(self, batch: Any, *, epoch: int, step: int) -> Any:  # noqa: ARG002
        """One play, as of ours."""
        vectors = self.model(batch.features)
        found = None if self.miner is None else self.miner(vectors, batch.classes)
        yield Play(self.loss(vectors, batch.classes, found))


def ours(model: Encoder, method: Method, part: Examples) -> ClassObjective:
    entry, classes = LOSSES[method.loss], part.tensors()[1]
    loss: Any = partial(entry.function, **method.own)
    inputs = entry.inputs
    if method.memory:
        loss, inputs = CrossBatchMemoryLoss(DIM, loss=loss, size=MEMORY, warm_up=0, joined=True), {}
    generator = None
    if method.generator != "none":
        known = Ragged(torch.arange(len(classes) + 1), classes)
        build = GENERATORS[method.generator].function
        generator = build(known, len(part.class_ids), DIM, seed=0, **dict(method.parameters))
    return ClassObjective(model, loss, seed=0, miner=parse(method.miner), generator=generator, inputs=inputs)


def digits() -> Examples:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.ascontiguousarray(data.images[:, None], dtype=np.float32)
    ids = pl.Series([str(digit) for digit in range(10)])
    return Examples(images, data.target.astype(np.int64), ids, np.arange(1, len(images) + 1))


@dataclass(frozen=True)
class Protocol:
    """What is trained on, what is asked for, and the folds for choosing: what to fit on, what to hold out."""

    train: Examples
    test: Examples
    folds: tuple[tuple[Examples, Examples], ...]


def protocol(name: str) -> Protocol:
    data = digits()

    def of(*classes: int) -> Examples:
        return data.take(np.flatnonzero(np.isin(data.classes, classes)))

    if name == "classes":
        folds = ((of(0, 1, 2), of(3, 4)), (of(2, 3, 4), of(0, 1)))
        return Protocol(of(0, 1, 2, 3, 4), of(5, 6, 7, 8, 9), folds)
    order = np.random.default_rng(0).permutation(len(data))
    ranks = (
        pl.DataFrame({"class": data.classes[order]}).select(pl.int_range(pl.len()).over("class")).to_series().to_numpy()
    )
    train, others = (data.take(order[where]) for where in (ranks < 20, ranks >= 20))
    held, test = others.take(np.arange(300)), others.take(np.arange(300, len(others)))
    return Protocol(train, test, ((train, held),))


def measured(model: Any, part: Examples) -> dict[str, float]:
    return evaluate_examples(model, MEASURES, *part.tensors(), block=512).means()


def network(method: Method, part: Examples, seed: int) -> Encoder:
    model = Encoder(part.shape, dim=DIM, widths=(16, 32), similarity=method.similarity)
    model.initialise(*part.tensors(), seed=seed)
    return model


def trained(
    method: Method, library: str, part: Examples, rate: float, epochs: int, seed: int, held_out: Examples | None = None
) -> tuple[Encoder, dict[str, Any]]:
    """The network after its last epoch, what held-out classes said after each, and processor seconds of a step."""
    model = network(method, part, seed)
    objective = ours(model, method, part) if library == "rankwell" else Theirs(model, method.theirs)
    features, classes = part.tensors()
    pairs = torch.arange(len(classes)), classes
    size = BATCH // len(part.sizes())
    batches = ExampleBatches(features, ClassBalancedBatches(pairs, BATCH, seed=seed, per_class=size))
    spent: list[float] = []

    def validate() -> dict[str, float]:
        started = time.process_time()
        found = measured(model, held_out)
        spent.append(time.process_time() - started)
        return found

    started = time.process_time()
    history = fit(
        objective,
        batches,
        TrainingSettings(epochs=epochs, learning_rate=rate, schedule="constant", patience=0),
        seed=seed,
        validate=validate if held_out is not None else None,
        monitor=MONITOR,
    )
    seconds = (time.process_time() - started - sum(spent)) / (epochs * batches.steps(0))
    curve = [record.validation[MONITOR] for record in history.epochs if record.validation]
    return model, {"curve": curve, "step": seconds}


def chosen(store: Store, what: str, given: Protocol, name: str, library: str) -> tuple[float, int]:
    """Rate and number of epochs with the best mean of the folds; the test is not looked at."""
    reached = {}
    for rate in RATES[what]:
        curves = [
            store.get(
                f"choose|{what}|{library}|{name}|{rate}|{number}",
                lambda rate=rate, fold=fold: trained(
                    METHODS[name], library, fold[0], rate, EPOCHS[what], 0, held_out=fold[1]
                )[1],
            )["curve"]
            for number, fold in enumerate(given.folds)
        ]
        for epoch, values in enumerate(zip(*curves, strict=True), start=1):
            reached[rate, epoch] = statistics.mean(values)
    return max(reached, key=reached.__getitem__)


def run(store: Store, what: str, seeds: int, rows: list[str], libraries: list[str]) -> None:
    given = protocol(what)

    def final(name: str, library: str, seed: int) -> dict[str, Any]:
        rate, epochs = chosen(store, what, given, name, library)
        model, facts = trained(METHODS[name], library, given.train, rate, epochs, seed)
        return {"rate": rate, "epochs": epochs, "step": facts["step"], "test": measured(model, given.test)}

    for similarity in ("euclidean", "cosine"):
        raw = RawFeatures(given.train.shape, similarity=similarity)
        store.get(f"test|{what}|-|raw pixels, {similarity}|0", lambda raw=raw: {"test": measured(raw, given.test)})
    for seed in range(seeds):
        store.get(
            f"test|{what}|-|untrained network|{seed}",
            lambda seed=seed: {"test": measured(network(METHODS["info_nce"], given.train, seed), given.test)},
        )
    for name in rows:
        for library in (each for each in libraries if each == "rankwell" or METHODS[name].theirs):
            for seed in range(seeds):
                store.get(
                    f"test|{what}|{library}|{name}|{seed}",
                    lambda name=name, library=library, seed=seed: final(name, library, seed),
                )


def table(runs: dict[str, Any]) -> str:
    """Means over seeds with their standard deviation; what pytorch-metric-learning has below each of ours."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for key, result in runs.items():
        what, *rest = key.split("|")
        if what == "test":
            groups[rest[0], rest[2], rest[1]].append(result)
    order = {name: place for place, name in enumerate(METHODS)}
    heads = ("recall@1", "R-precision", "MAP@R")
    lines: list[str] = []
    told = ""
    for (what, name, library), results in sorted(
        groups.items(), key=lambda item: (item[0][0], order.get(item[0][1], -1), item[0][2] == "theirs")
    ):
        if what != told:
            told = what
            title = f"new {what}"
            lines.append(f"{title:<42}" + "".join(f"{head:>17}" for head in heads) + "   rate epochs  ms/step seeds")
        cells = []
        for measure in map(str, MEASURES):
            values = [result["test"][measure] for result in results]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}".rjust(17))
        first = results[0]
        title = f"  pml: {METHODS[name].theirs}" if library == "theirs" else name
        how = ""
        if "rate" in first:
            step = statistics.median(result["step"] for result in results)
            how = f"{first['rate']:>7g} {first['epochs']:>6} {1000 * step:>8.2f}"
        lines.append(f"{title:<42}{''.join(cells)}{how:>23} {len(results):>5}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--libraries", default="rankwell,theirs")
    parser.add_argument("--new", dest="what_is_new", default="classes,images")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    store = Store(options.results)
    if options.what == "run":
        for what in options.what_is_new.split(","):
            run(store, what, options.seeds, options.rows.split(","), options.libraries.split(","))
    write_text(options.results.with_suffix(".txt"), table(store.runs))
    print(table(store.runs))


if __name__ == "__main__":
    main()
