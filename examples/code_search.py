"""Code search in Python: queries in words, functions that use other names, and Soft-InfoNCE weighed by BM25.

python examples/code_search.py
"""

from functools import partial

import torch

from rankwell.data.retrieval import Retrieval, Texts, judgements
from rankwell.evaluation import evaluate
from rankwell.losses import LOSSES, sampled_softmax_loss, soft_info_nce_loss
from rankwell.metrics import Measure
from rankwell.models import BagOfWords
from rankwell.samplers import InBatchSampler
from rankwell.tasks.retrieval_ranking import ByWords, ranker_of
from rankwell.text.likeness import word_likeness
from rankwell.training import ContrastObjective, TrainingSettings, fit
from rankwell.training.encoded_texts import EncodedTexts

VERBS = {
    "sort": "ordered", "reverse": "flip", "count": "size", "remove": "drop",
    "read": "load", "write": "dump", "merge": "concat", "split": "chunk",
}  # fmt: skip
NOUNS = {
    "list": "seq", "file": "path", "table": "frame", "string": "chars",
    "dictionary": "mapping", "image": "pixels", "number": "digits", "date": "stamp",
}  # fmt: skip
MRR = Measure.parse("mrr")


def code_base() -> tuple[Retrieval, Retrieval]:
    """Two functions for each verb and noun, which share no word with the queries; a third of the 64 needs is held out."""
    queries, codes, lists = [], [], []
    for verb, how in VERBS.items():
        for noun, what in NOUNS.items():
            both = range(len(codes), len(codes) + 2)
            codes += [
                f"def {how}{what.title()}(x):\n    return x",
                f"def {how}_{what}_again(x):\n    x = x\n    return x",
            ]
            queries += [f"python {verb} {noun}", f"how to {verb} a {noun}"]
            lists += [dict.fromkeys(both, 1.0)] * 2
    texts = (Texts([f"{kind}{at}" for at in range(len(of))], of) for kind, of in (("query", queries), ("code", codes)))
    whole = Retrieval(*texts, *judgements(lists))
    needs = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    train, test = (
        whole.of_queries((2 * part[:, None] + torch.arange(2)).flatten()) for part in (needs[21:], needs[:21])
    )
    return train, test


def measured(model, part: Retrieval) -> float:
    """The mean reciprocal rank of the first right function, over the whole code base."""
    nothing = Retrieval(part.queries, part.documents, *judgements([{}] * len(part.queries))).judged
    found = evaluate(ranker_of(model, part), [MRR], known=nothing, held_out=part.relevant(), users=part.asked())
    return found.means()["mrr"]


def trained(train: Retrieval, loss: str) -> BagOfWords:
    """Vectors of words and of the pieces of names, from pairs; other functions of the batch are the negatives."""
    model = BagOfWords(dim=32, buckets=2048, pieces=True)
    model.initialise(seed=0)
    tokens = (model.tokens(train.queries.texts, "query").lists, model.tokens(train.documents.texts, "document").lists)
    how = {"loss": partial(sampled_softmax_loss, temperature=0.1)}
    if loss == "soft_info_nce":  # a batch holds needs like one's own: these negatives weigh less
        like = word_likeness(train.queries.texts, train.documents.texts, train.relevant(), between="queries")
        how = {
            "loss": partial(soft_info_nce_loss, temperature=0.1),
            "inputs": LOSSES[loss].inputs,
            "fills": {"similarities": like},
        }
    sampler = InBatchSampler(train.known(), train.num_items, seed=0, repeats="mask")
    settings = TrainingSettings(epochs=20, batch_size=32, learning_rate=0.01)
    fit(
        ContrastObjective(EncodedTexts(model, *tokens), sampler=sampler, seed=0, **how), train.pairs(), settings, seed=0
    )
    return model


def main() -> dict[str, float]:
    """MRR of the queries whose need was never seen, though its verb and noun were."""
    train, test = code_base()
    models = {
        "BM25": ByWords(),
        "InfoNCE": trained(train, "sampled_softmax"),
        "Soft-InfoNCE": trained(train, "soft_info_nce"),
    }
    return {name: measured(model, test) for name, model in models.items()}


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:<13} mrr {value:.3f}")
