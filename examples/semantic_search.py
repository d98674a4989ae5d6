"""Semantic search and question answering in Python: texts, an encoder trained on them, new queries answered.

The schema is the same for both: what is asked and what answers it. Here queries and documents have hardly a word in common, so
that BM25 finds next to nothing; training finds out which words mean the same.

python examples/semantic_search.py
"""

import torch

from rankwell.data.batching import NoDuplicatesBatches
from rankwell.data.retrieval import Retrieval, Texts
from rankwell.data.synthetic_texts import synthesise_texts
from rankwell.evaluation import evaluate
from rankwell.losses import info_nce_loss
from rankwell.metrics import Measure
from rankwell.models import BagOfWords  # BiEncoder("minilm") takes its place where texts are real
from rankwell.tasks.retrieval_ranking import ByWords, best_of, ranker_of
from rankwell.training import EmbeddingObjective, TrainingSettings, fit
from rankwell.training.encoded_texts import EncodedTexts
from rankwell.types import Ragged

NDCG = Measure.parse("ndcg@10")


def measured(model, part: Retrieval) -> float:
    """Mean NDCG@10 over the queries, against the whole corpus."""
    nothing = Ragged(torch.zeros(len(part.queries) + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    found = evaluate(ranker_of(model, part), [NDCG], known=nothing, held_out=part.relevant(), gains=part.gains())
    return found.means()["ndcg@10"]


def trained(train: Retrieval, valid: Retrieval) -> BagOfWords:
    """An encoder, from the epoch that answers the validation queries best."""
    model = BagOfWords(dim=32, buckets=2048, micro_batch=16)  # 16 texts at a time, whatever the batch: cached gradients
    model.initialise(seed=0)
    tokens = (model.tokens(texts.texts, "query").lists for texts in (train.queries, train.documents))
    fit(
        EmbeddingObjective(
            EncodedTexts(model, *tokens, micro_batch=model.micro_batch),
            lambda *given, **more: info_nce_loss(*given, temperature=0.05, **more),
            train.known(),  # what is known to answer a query is never its negative
            seed=0,
        ),
        NoDuplicatesBatches(train.pairs(), batch_size=64, seed=0),
        TrainingSettings(epochs=15, learning_rate=0.03, schedule="linear", warmup=0.1),
        seed=0,
        validate=lambda: {"ndcg@10": measured(model, valid)},
        monitor="ndcg@10",
    )
    return model


def main() -> dict[str, float]:
    """NDCG@10 on test queries."""
    train, valid, test = synthesise_texts(200, (300, 50, 50), concepts=25)
    before = BagOfWords(dim=32, buckets=2048)
    before.initialise(seed=0)
    model = trained(train, valid)

    new = " ".join(test.queries.texts[int(test.asked()[0])].split()[:2])
    nobody = Ragged(torch.tensor([0, 1]), torch.tensor([0]))
    asked = Retrieval(Texts(["new"], [new]), test.documents, nobody, torch.zeros(1))
    print(
        f"{new!r}: documents {[test.documents.ids[code] for code in best_of(model, asked, 3, block=1).ids[0].tolist()]}"
    )
    return {
        "BM25": measured(ByWords(), test),
        "before training": measured(before, test),
        "trained": measured(model, test),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<16} ndcg@10 {value:.3f}")
