"""A model of pairs that ranks again what BM25 found; and an encoder, which can search, taught by its scores.

Queries and documents have hardly a word in common. The pairs' model sees which words of both go together; it cannot search, so
that an encoder learns its scores of lists: the teacher's distribution (KL), and its gaps (margin-MSE).

python examples/rerank.py
"""

from dataclasses import replace

import torch

from rankwell.data.batching import ShuffledBatches
from rankwell.data.retrieval import HardNegatives, Retrieval
from rankwell.data.synthetic_texts import synthesise_texts
from rankwell.evaluation import evaluate
from rankwell.losses import LOSSES, sampled_softmax_loss
from rankwell.metrics import Measure
from rankwell.models import BagOfWords, MaxSim  # CrossEncoder("minilm") and BiEncoder("minilm") where texts are real
from rankwell.samplers.mined import MinedNegatives
from rankwell.tasks.reranking import Reranker, with_found
from rankwell.tasks.retrieval_lists import lists_of
from rankwell.tasks.retrieval_ranking import ByWords, ranker_of
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.training.encoded_texts import EncodedTexts
from rankwell.training.paired_texts import PairedTexts
from rankwell.training.text_lists import TextListBatches, TextListObjective
from rankwell.types import Ragged

NDCG = Measure.parse("ndcg@10")
CANDIDATES = 100
TRAIN, _, TEST = synthesise_texts(200, (300, 50, 50), concepts=25)


def measured(model) -> float:
    """Mean NDCG@10 over the test queries."""
    nothing = Ragged(torch.zeros(len(TEST.queries) + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    found = evaluate(ranker_of(model, TEST), [NDCG], known=nothing, held_out=TEST.relevant(), gains=TEST.gains())
    return found.means()["ndcg@10"]


def teacher(part: Retrieval) -> MaxSim:
    """A model of pairs that tells what is relevant from what else BM25 found."""
    assert part.negatives is not None
    model = MaxSim()
    model.initialise(seed=0)
    pairs = PairedTexts(model, part.queries.texts, part.documents.texts)
    sampler = MinedNegatives(part.negatives.lists, part.known(), part.num_items, seed=0, n=4)
    settings = TrainingSettings(epochs=10, learning_rate=0.03)
    fit(
        ContrastObjective(pairs, sampled_softmax_loss, sampler, seed=0),
        ShuffledBatches(part.pairs(), 16, seed=0),
        settings,
        seed=0,
    )
    return model.eval()


@torch.no_grad()
def taught(part: Retrieval, model: MaxSim) -> Retrieval:
    """The part with the teacher's scores of each pair and of what it is to be told from."""
    scorer, lists = PairedTexts(model, part.queries.texts, part.documents.texts), part.negatives.lists
    asked, right = part.pairs()
    scores = scorer.pair_scores(torch.repeat_interleave(asked, lists.offsets.diff()), lists.values)
    return replace(part, negatives=HardNegatives(lists, scores, scorer.pair_scores(asked, right)))


def student(part: Retrieval, loss: str, *, targets: str) -> BagOfWords:
    """An encoder that learns whole lists; its cosines are divided by .05, so that they can reach the teacher's gaps."""
    model = BagOfWords(dim=32, buckets=2048)
    model.initialise(seed=0)
    tokens = (
        model.tokens(texts.texts, side).lists for texts, side in ((part.queries, "query"), (part.documents, "document"))
    )
    entry = LOSSES[loss]
    objective = TextListObjective(EncodedTexts(model, *tokens), entry.function, 0, entry.inputs, 0.05, taught=True)
    lists = TextListBatches(lists_of(part, targets=targets), 16, seed=0)
    fit(objective, lists, TrainingSettings(epochs=10, learning_rate=0.03), seed=0)
    return model


def main() -> dict[str, float]:
    """NDCG@10 of BM25, of its best hundred in the teacher's order, and of two students that search all documents."""
    found = with_found(TRAIN, ByWords(hashed=True), 20)
    model = teacher(found)
    lists = taught(found, model)
    return {
        "BM25": measured(ByWords(hashed=True)),
        "ranked again": measured(Reranker(model, "bm25", CANDIDATES)),
        "student, KL": measured(student(lists, "kl", targets="teacher")),
        "student, margin-MSE": measured(student(lists, "margin_mse", targets="grades")),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<20} ndcg@10 {value:.3f}")
