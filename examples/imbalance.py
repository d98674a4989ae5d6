"""Imbalance in Python: the same model on a random and on a balanced test, with plain, weighted and popular negatives.

python examples/imbalance.py
"""

from functools import partial

import numpy as np

from rankwell.data import Interactions, split_balanced, split_random, synthesise
from rankwell.data.batching import ShuffledBatches, WeightedBatches
from rankwell.evaluation import evaluate
from rankwell.losses import sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import MatrixFactorisation
from rankwell.samplers import PopularitySampler, UniformSampler
from rankwell.training import ContrastObjective, TrainingSettings, fit

NDCG = Measure.parse("ndcg@20")
LOSS = partial(sampled_softmax_loss, temperature=0.2)


def every_pair() -> Interactions:
    """Generated interactions of a catalogue with a long tail, not yet split."""
    data = synthesise(300, 150, interactions_per_user=20, popularity_exponent=1.2, affinity=3.0, noise=0.2, seed=1)
    parts = data.train, data.test
    users, items = (np.concatenate([getattr(part, name) for part in parts]) for name in ("users", "items"))
    return Interactions(users, items, data.train.user_ids, data.train.item_ids)


def trained(train: Interactions, batches, sampler, correct: bool) -> MatrixFactorisation:
    """A factorisation after ten epochs."""
    model = MatrixFactorisation(train.num_users, train.num_items, dim=8)
    model.initialise(train.known(), seed=0)
    objective = ContrastObjective(model, LOSS, sampler, seed=0, correct=correct, temperature=0.2)
    fit(objective, batches, TrainingSettings(epochs=10, learning_rate=0.01), seed=0)
    return model


def main() -> dict[str, dict[str, float]]:
    """NDCG@20 by split and by way of training."""
    data = every_pair()
    found: dict[str, dict[str, float]] = {}
    for name, split in (("random", split_random(data, 0.2, seed=0)), ("balanced", split_balanced(data, 0.2, seed=0))):
        train = split.train
        known, pairs = train.known(), train.tensors()
        uniform = UniformSampler(known, train.num_items, seed=0, n=64)
        popular = PopularitySampler(known, train.num_items, seed=0, n=64, exponent=1.0)
        shuffled = ShuffledBatches(pairs, 256, seed=0)
        weighted = WeightedBatches(pairs, 256, seed=0, exponent=0.5)
        models = {
            "plain": trained(train, shuffled, uniform, correct=True),
            "weighted rows": trained(train, weighted, uniform, correct=True),
            "popular negatives": trained(train, shuffled, popular, correct=False),  # scores of taste, less popularity
        }
        found[name] = {
            way: evaluate(model, [NDCG], known=known, held_out=split.held_out.known()).means()["ndcg@20"]
            for way, model in models.items()
        }
    return found


if __name__ == "__main__":
    for split, figures in main().items():
        print(f"{split:<9}" + "  ".join(f"{way} {value:.3f}" for way, value in figures.items()))
