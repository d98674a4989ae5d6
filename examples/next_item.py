"""The next item in Python: sequences, a loss over the whole catalogue and one on sampled negatives, what comes next.

python examples/next_item.py
"""

import torch

from rankwell.data.batching import SequenceBatches
from rankwell.data.sequence_splits import NextItems, split_last
from rankwell.data.sequences import Sequences, synthesise_sequences
from rankwell.evaluation.next_item import evaluate_next
from rankwell.losses import LOSSES, linear_softmax_loss
from rankwell.losses.styles import as_contrast
from rankwell.metrics import Measure
from rankwell.models import ItemMean, SASRec
from rankwell.samplers import UniformSampler
from rankwell.training import TrainingSettings, fit
from rankwell.training.sequence_objective import SequenceHeadObjective, SequenceObjective
from rankwell.types import Ragged

NDCG = Measure.parse("ndcg@10")
LENGTH = 12
"""Events that a model looks back on."""


def measured(model, asked: NextItems) -> float:
    """Mean NDCG@10 over the questions; every item competes."""
    return evaluate_next(model, [NDCG], asked.histories(LENGTH), asked.targets).means()["ndcg@10"]


def objective_of(loss: str, model, train: Sequences):
    """The loss at every event: over the catalogue, or on negatives that a sampler draws."""
    if loss == "cross-entropy":
        return SequenceHeadObjective(model, linear_softmax_loss, seed=0)
    entry = as_contrast(LOSSES[loss])
    sampler = UniformSampler(train.known(), train.num_items, seed=0, n=8, shared=False)
    return SequenceObjective(model, entry.function, sampler, seed=0, correct=entry.softmax, inputs=entry.inputs)


def trained(model, loss: str, train: Sequences, valid: NextItems):
    """The model, from the epoch that ranks the events of the validation best."""
    model.initialise(train.lists(), seed=0)
    fit(
        objective_of(loss, model, train),
        SequenceBatches(train.lists(), 64, seed=0, max_length=LENGTH, windows="all"),
        TrainingSettings(epochs=15, learning_rate=0.01, schedule="constant"),
        seed=0,
        validate=lambda: {"ndcg@10": measured(model, valid)},
        monitor="ndcg@10",
    )
    return model.eval()


def main() -> dict[str, float]:
    """NDCG@10 on the last event of each user; four of five steps go to the next item in one hidden order."""
    data = synthesise_sequences(num_users=200, num_items=40)
    split = split_last(data)  # the last event is the test, the one before chooses

    def sasrec():
        return SASRec(data.num_items, dim=32, layers=1, max_length=LENGTH, dropout=0.2)

    models = {
        "item mean, BPR": trained(ItemMean(data.num_items, dim=32, max_length=LENGTH), "bpr", split.fit, split.valid),
        "SASRec, BPR": trained(sasrec(), "bpr", split.fit, split.valid),
        "SASRec, cross-entropy": trained(sasrec(), "cross-entropy", split.fit, split.valid),
    }
    begun = torch.from_numpy(data.items[:4])  # somebody new, who begins as the first user did
    with torch.no_grad():
        scores = models["SASRec, cross-entropy"].score_next(Ragged(torch.tensor([0, 4]), begun))[0]
    best = scores.argsort(descending=True)[:3].numpy()
    begun, best, came = (", ".join(data.item_ids[codes]) for codes in (begun.numpy(), best, data.items[4:5]))
    print(f"after {begun}: {best}; the first user went on to {came}")
    return {name: measured(model, split.test) for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<22} ndcg@10 {value:.3f}")
