"""Labels in Python: which of many labels fit a row, by two losses, beside popularity and the best possible order; a new row.

python examples/labels.py
"""

import polars as pl

from rankwell.data.batching import LabelBatches
from rankwell.data.labelled_rows import LabelledRows, indicators
from rankwell.evaluation import evaluate_labels, score_labels
from rankwell.losses import sigmoid_loss, soft_dice_loss
from rankwell.metrics import Measure
from rankwell.models import LabelMLP, LabelPopularity
from rankwell.tasks import task_of
from rankwell.tasks.label_data import LabelData, read
from rankwell.training import ListObjective, TrainingSettings, fit

NDCG = Measure.parse("ndcg@10")


def measured(model, rows: LabelledRows) -> float:
    """Mean NDCG@10 over the rows, of all labels ranked."""
    return evaluate_labels(model, [NDCG], rows.features, rows.labels, len(rows.label_ids)).means()["ndcg@10"]


def trained(loss, train: LabelledRows, valid: LabelledRows) -> LabelMLP:
    """A linear model, from the epoch that ranks the labels of the validation rows best."""
    model = LabelMLP(train.features.numbers.shape[1], train.features.num_categories, len(train.label_ids), widths=())
    model.initialise(train.features, train.labels, seed=0)  # numbers on one scale, biases at the labels' log odds
    fit(
        ListObjective(model, loss, seed=0),
        LabelBatches(train.features, train.labels, len(train.label_ids), batch_size=64, seed=0),
        TrainingSettings(epochs=12, learning_rate=0.05),
        seed=0,
        validate=lambda: {"ndcg@10": measured(model, valid)},
        monitor="ndcg@10",
    )
    return model


def overlap(model, rows: LabelledRows) -> float:
    """Mean F1 of the labels that are scored above 0 and those that the row has."""
    ((_, scores),) = score_labels(model, rows.features, block=len(rows))
    found = (scores > 0).float()
    truth = indicators(rows.labels, len(rows.label_ids))
    return float((2 * (found * truth).sum(1) / (found.sum(1) + truth.sum(1))).mean())


def main() -> dict[str, dict[str, float]]:
    """Both measures on test rows, whose labels were drawn with known chances."""
    data = read(LabelData(path="synthetic"), seed=0)  # a file of your own goes the same way
    sizes = task_of("labels").sizes(data)
    popularity = LabelPopularity(*sizes)
    popularity.initialise(data.train.features, data.train.labels, seed=0)
    models = {
        "popularity": popularity,
        "cross-entropy": trained(sigmoid_loss, data.fit, data.valid),
        "soft Dice": trained(soft_dice_loss, data.fit, data.valid),
        "ideal": task_of("labels").baselines(None, data)["ideal"],
    }
    new = pl.DataFrame({f"x{place}": [0.5 * place] for place in range(6)} | {"kind": ["kind 1|kind 4"]})
    ((_, scores),) = score_labels(models["soft Dice"], data.train.encoder(new))
    best = scores[0].argsort(descending=True)[:3]
    print("a new row:", ", ".join(f"{data.train.label_ids[int(code)]} ({scores[0, code]:.1f})" for code in best))
    return {name: {"ndcg@10": measured(of, data.test), "F1": overlap(of, data.test)} for name, of in models.items()}


if __name__ == "__main__":
    for name, figures in main().items():
        print(f"{name:<14} ndcg@10 {figures['ndcg@10']:.3f}   F1 of the labels above 0 {figures['F1']:.3f}")
