"""Metric learning in Python: embeddings of classes that training has not seen, by three losses, a miner and a memory.

python examples/metric_learning.py
"""

from functools import partial

import numpy as np
import torch

from rankwell.data.batching import ClassBalancedBatches, ExampleBatches
from rankwell.data.examples import Examples, synthesise_examples
from rankwell.evaluation import evaluate_examples, neighbours
from rankwell.losses import CrossBatchMemoryLoss, multi_similarity_loss, supervised_contrastive_loss, triplet_loss
from rankwell.metrics import Measure
from rankwell.miners import hardest, none
from rankwell.models import Encoder, RawFeatures
from rankwell.training import ClassObjective, TrainingSettings, fit

MEASURES = [Measure.parse("hit_rate@1"), Measure.parse("map@r")]  # the first is called recall@1 in metric learning


def measured(model, examples: Examples) -> dict[str, float]:
    """Each example asks for the others of its class."""
    return evaluate_examples(model, MEASURES, *examples.tensors()).means()


def trained(loss, train: Examples, miner=none) -> Encoder:
    """A network, from batches of eight classes with four examples of each."""
    features, classes = train.tensors()
    model = Encoder(train.shape, dim=16, widths=(32,))
    model.initialise(features, classes, seed=0)  # takes the features' scale from the training examples
    pairs = torch.arange(len(train)), classes
    fit(
        ClassObjective(model, loss, seed=0, miner=miner()),
        ExampleBatches(features, ClassBalancedBatches(pairs, 32, seed=0, per_class=4)),
        TrainingSettings(epochs=6, learning_rate=0.005),
        seed=0,
    )
    return model


def main() -> dict[str, float]:
    """MAP@R on classes 40 to 59; classes 0 to 39 train. What tells classes apart is 6 of 32 directions."""
    made = synthesise_examples(num_classes=60, per_class=20)
    known, new = (
        made.examples.take(np.flatnonzero(part)) for part in (made.examples.classes < 40, made.examples.classes >= 40)
    )

    supcon = partial(supervised_contrastive_loss, temperature=0.1)
    models = {
        "raw": RawFeatures(known.shape),
        "supervised contrastive": trained(supcon, known),
        "with a memory": trained(CrossBatchMemoryLoss(16, loss=supcon, size=256, warm_up=50, joined=True), known),
        "triplet, the 5 hardest": trained(partial(triplet_loss, margin=0.2), known, partial(hardest, 5)),
        "multi-similarity": trained(multi_similarity_loss, known),
    }

    places, _ = neighbours(models["with a memory"], new.tensors()[0][:1], known.tensors()[0], 3)
    print(f"the new example is most like known examples {places[0].tolist()}")
    return {name: measured(model, new)["ap_at_r"] for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<24} MAP@R {value:.3f}")
