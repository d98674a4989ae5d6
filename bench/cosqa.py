"""Code search on CoSQA: BM25, the offline MiniLM before training, and after InfoNCE and Soft-InfoNCE, same pairs and steps.

    python bench/cosqa.py run ../shared/data/cosqa [--seeds 0,1]
    python bench/cosqa.py table

CoSQA's large training file is not here. Trained on are the positive pairs of ``cosqa-dev.json`` that share neither query nor
code with the 500 validation or the 500 test queries, and ``--described`` seeded pairs that nobody labelled: the first
sentence of a docstring and the code without it, of codes that answer no query of validation or test and are in no labelled
pair. One epoch in batches of 32, 128 tokens, cosine over .05, AdamW, linear decay, in-batch negatives, what a query knows
masked. The learning rate is chosen for InfoNCE with seed 0, on the validation queries among their answers and random other
codes, 1,000 in all; every loss takes it. The test asks the 500 test queries of the whole code base, once a run: MRR as CoSQA
has it, one answer a query.

Soft-InfoNCE weighs negatives with alpha = beta = 1: by BM25 between queries, as the paper's code does (sharpness 1, its
default), and by cosines of query and code of the MiniLM before training (sharpness 10, untuned). The linear map is
``rankwell train --model adapter`` with its defaults: InfoNCE, 20 epochs of batches of 128 at .001, the epoch chosen by the same
validation. ``bench/results/cosqa.json`` keeps each run as it ends: those that are there are not repeated. Seconds are of
processor time, one thread.
"""

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from store import Store, timed
from torch import Tensor, nn

from rankwell import keyed
from rankwell.atomic import write_text
from rankwell.data.cosqa import described, read_cosqa
from rankwell.data.retrieval import Retrieval, Texts, judgements
from rankwell.lists import take_lists
from rankwell.losses import LOSSES, sampled_softmax_loss, soft_info_nce_loss
from rankwell.metrics import Measure, evaluate_measures
from rankwell.models import Adapter
from rankwell.models.text_model import encode_tokens
from rankwell.samplers import InBatchSampler
from rankwell.tasks.retrieval_objective import build_encoded
from rankwell.tasks.retrieval_ranking import tokens_of
from rankwell.text.bm25 import BM25
from rankwell.text.encoder import SentenceEncoder, load_encoder
from rankwell.text.likeness import encoder_likeness, word_likeness
from rankwell.training import ContrastObjective, TrainingSettings, fit

RESULTS = Path(__file__).parent / "results" / "cosqa.json"
VECTORS = Path(__file__).parent.parent / "runs" / "cosqa"
RATES = (2e-5, 1e-4)
TEMPERATURE, BATCH, LENGTH, CHOICE = 0.05, 32, 128, 1000
METHODS = ("infonce", "soft_bm25", "soft_encoder")
SAID = {
    "bm25": "BM25 (k1 1.5, b .75)",
    "before": "MiniLM before training",
    "infonce": "InfoNCE",
    "soft_bm25": "Soft-InfoNCE, weights from BM25",
    "soft_encoder": "Soft-InfoNCE, weights from the encoder",
    "adapter": "InfoNCE, a linear map of frozen vectors",
}
MEASURES = [Measure.parse("mrr"), Measure.parse("recall@10")]


class Encoded(nn.Module):
    """An encoder over texts by code, as objectives ask for a model."""

    def __init__(self, encoder: SentenceEncoder, data: Retrieval) -> None:
        super().__init__()
        self.model, self.data, self.num_items = encoder.model, data, len(data.documents)

    def vectors(self, texts: list[str]) -> Tensor:
        """Of length one, with gradient."""
        made = self.model(self.model.preprocess(texts))["sentence_embedding"]
        return nn.functional.normalize(made, dim=1)

    def contrast_scores(
        self, queries: Tensor, positives: Tensor, negatives: Tensor, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Of a pool of negatives, which holds the positives: each text is encoded once."""
        pool, place = torch.cat([positives, negatives]).unique(return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())  # dropout takes no generator
            asked = self.vectors([self.data.queries.texts[code] for code in queries.tolist()])
            told = self.vectors([self.data.documents.texts[code] for code in pool.tolist()])
        scores = asked @ told.T
        return scores.gather(1, place[: len(positives), None])[:, 0], scores[:, place[len(positives) :]]


def pairs(folder: Path, count: int, seed: int) -> Retrieval:
    """What is trained on: labelled pairs, and pairs of docstrings and code."""
    data = read_cosqa(folder)
    texts = data.train.documents.texts
    held = torch.cat([part.judged.values for part in data]).unique()
    free = torch.ones(len(texts), dtype=torch.bool).index_fill(0, held, False).nonzero().squeeze(1)
    order = free[torch.randperm(len(free), generator=keyed.generator(seed, 1))].tolist()
    halves = [half for code in order if (half := described(texts[code])) and len(half.says.split()) > 2][:count]
    asked, told = data.train.pairs()
    found = [(data.train.queries.texts[q], texts[d]) for q, d in zip(asked.tolist(), told.tolist(), strict=True)]
    found += [(half.says, half.does) for half in halves]
    queries, documents = (list(dict.fromkeys(pair[side] for pair in found)) for side in (0, 1))
    numbers = [{text: number for number, text in enumerate(side)} for side in (queries, documents)]
    lists: list[dict[int, float]] = [{} for _ in queries]
    for query, document in found:
        lists[numbers[0][query]][numbers[1][document]] = 1.0
    ids = ([f"q{n}" for n in range(len(queries))], [f"d{n}" for n in range(len(documents))])
    return Retrieval(Texts(ids[0], queries), Texts(ids[1], documents), *judgements(lists))


def encoder() -> SentenceEncoder:
    loaded = load_encoder("minilm", device="cpu")
    loaded.model.max_seq_length = LENGTH
    return loaded


def measured(scores: Tensor, part: Retrieval, codes: Tensor) -> dict[str, Any]:
    """Reciprocal ranks of the answers among the codes, a row of scores for each query of the part."""
    asked, told = part.pairs()
    labels = (codes == told[:, None]).float()
    assert len(asked) == len(scores) and bool((labels.sum(1) == 1).all())
    found = evaluate_measures(MEASURES, scores, labels)
    means = {name: float(values.mean()) for name, values in found.items()}
    return {**means, "reciprocal_ranks": [round(float(value), 5) for value in found["mrr"]]}


def judged(model: SentenceEncoder, part: Retrieval, codes: Tensor) -> dict[str, Any]:
    model.model.eval()
    with torch.no_grad():
        queries = model.encode([part.queries.texts[code] for code in part.asked().tolist()])
        documents = model.encode([part.documents.texts[code] for code in codes.tolist()], batch_size=32)
    return measured(queries @ documents.T, part, codes)


def choice(valid: Retrieval) -> Tensor:
    """The codes that validation looks among: the answers, and others by chance."""
    answers = valid.judged.values.unique()
    others = torch.randperm(len(valid.documents), generator=keyed.generator(0, 2))
    return torch.cat([answers, others[~torch.isin(others, answers)]])[:CHOICE]


def likeness(method: str, train: Retrieval) -> Any:
    texts = (train.queries.texts, train.documents.texts)
    if method == "soft_bm25":
        return word_likeness(*texts, train.relevant(), between="queries")
    return encoder_likeness(*(encoder().encode(list(side)) for side in texts), train.relevant())


def trained(method: str, rate: float, seed: int, train: Retrieval) -> tuple[SentenceEncoder, dict[str, Any]]:
    started = time.process_time()
    model = encoder()
    adapter = Encoded(model, train)
    how: dict[str, Any] = {"loss": partial(sampled_softmax_loss, temperature=TEMPERATURE)}
    if method != "infonce":
        sharpness = 1.0 if method == "soft_bm25" else 10.0
        how = {
            "loss": partial(soft_info_nce_loss, temperature=TEMPERATURE, sharpness=sharpness),
            "inputs": LOSSES["soft_info_nce"].inputs,
            "fills": {"similarities": likeness(method, train)},
        }
    sampler = InBatchSampler(train.relevant(), len(train.documents), seed=seed, repeats="mask")
    settings = TrainingSettings(epochs=1, batch_size=BATCH, learning_rate=rate, schedule="linear", patience=0)
    history = fit(ContrastObjective(adapter, sampler=sampler, seed=seed, **how), train.pairs(), settings, seed=seed)
    seconds = time.process_time() - started
    return model, {"loss": history.epochs[0].loss, "pairs": len(train), "training": seconds}


def mapped(seed: int, train: Retrieval, valid: Retrieval, few: Tensor) -> tuple[Adapter, dict[str, Any]]:
    """A map of vectors that stay as they are, of the epoch that validation chose."""
    model = Adapter(max_length=LENGTH, cache=str(VECTORS))
    encoded, loss = build_encoded(model, train), partial(sampled_softmax_loss, temperature=TEMPERATURE)
    sampler = InBatchSampler(train.relevant(), len(train.documents), seed=seed, repeats="mask")
    settings = TrainingSettings(epochs=20, batch_size=128, learning_rate=0.001, patience=0)
    started = time.process_time()
    history = fit(
        ContrastObjective(encoded, sampler=sampler, seed=seed, loss=loss),
        train.pairs(),
        settings,
        seed=seed,
        validate=lambda: {"mrr": judged_map(model, valid, few)["mrr"]},
        monitor="mrr",
    )
    found = {"pairs": len(train), "training": time.process_time() - started, "epoch": history.best_epoch}
    return model, {**found, "validation": judged_map(model, valid, few)}


def judged_map(model: Adapter, part: Retrieval, codes: Tensor) -> dict[str, Any]:
    training = model.training
    model.eval()
    queries = encode_tokens(model, take_lists(tokens_of(model, part.queries, "query").lists, part.asked()), "query")
    documents = encode_tokens(model, take_lists(tokens_of(model, part.documents, "document").lists, codes), "document")
    model.train(training)
    return measured(queries @ documents.T, part, codes)


def run(folder: Path, seeds: list[int], count: int) -> None:
    torch.set_num_threads(1)
    store, data = Store(RESULTS), read_cosqa(folder)
    whole = torch.arange(len(data.test.documents))
    few = choice(data.valid)

    def words() -> dict[str, Any]:
        index = BM25(data.test.documents.texts)
        scores = {
            name: torch.stack([index.scores(part.queries.texts[code]) for code in part.asked().tolist()])
            for name, part in (("valid", data.valid), ("test", data.test))
        }
        valid = measured(scores["valid"][:, few], data.valid, few)
        return {"validation": valid, "test": measured(scores["test"], data.test, whole)}

    def before() -> dict[str, Any]:
        model = encoder()
        return {"validation": judged(model, data.valid, few), "test": judged(model, data.test, whole)}

    kept: dict[tuple[str, float, int], tuple[SentenceEncoder, dict[str, Any]]] = {}

    def chosen_by(method: str, rate: float, seed: int) -> dict[str, Any]:
        model, found = trained(method, rate, seed, pairs(folder, count, seed))
        found["validation"] = judged(model, data.valid, few)
        kept[method, rate, seed] = model, found
        return found

    def after(method: str, rate: float, seed: int) -> dict[str, Any]:
        if (method, rate, seed) not in kept:
            chosen_by(method, rate, seed)
        model, found = kept.pop((method, rate, seed))
        return {**found, "test": judged(model, data.test, whole)}

    store.get("bm25", timed(words))
    store.get("before", timed(before))
    for rate in RATES:
        store.get(f"rate {rate:g}", timed(lambda rate=rate: chosen_by("infonce", rate, 0)))
    best = max(RATES, key=lambda rate: store.runs[f"rate {rate:g}"]["validation"]["mrr"])
    for seed in seeds:
        for method in METHODS:
            store.get(f"{method} {best:g} {seed}", timed(lambda m=method, s=seed: after(m, best, s)))

    def adapted(seed: int) -> dict[str, Any]:
        model, found = mapped(seed, pairs(folder, count, seed), data.valid, few)
        return {**found, "test": judged_map(model, data.test, whole)}

    for seed in seeds:
        store.get(f"adapter {seed}", timed(lambda s=seed: adapted(s)))


def table() -> str:
    """Means over seeds, and the difference to InfoNCE query by query: its mean, and its standard error over queries."""
    by: dict[str, dict[str, Any]] = {}
    for name, result in Store(RESULTS).runs.items():
        method, *rest = name.split()
        if "test" in result:
            by.setdefault(method, {})[rest[-1] if rest else "-"] = result
    lines = [f"{'':<40}{'MRR':>8}{'recall@10':>11}{'validation':>12}{'training s':>12}  MRR less InfoNCE's, same seed"]
    for method, said in SAID.items():
        if method not in by:
            continue
        runs = by[method]
        mean = {key: statistics.mean(one["test"][key] for one in runs.values()) for key in ("mrr", "recall@10")}
        valid = statistics.mean(one["validation"]["mrr"] for one in runs.values())
        seconds = statistics.mean(one.get("training", 0.0) for one in runs.values())
        cells = f"{mean['mrr']:>8.4f}{mean['recall@10']:>11.4f}{valid:>12.4f}{seconds:>12.0f}"
        lines.append(f"{said:<40}{cells}  {against(runs, by.get('infonce', {}))}")
    return "\n".join(lines) + "\n"


def against(runs: dict[str, Any], other: dict[str, Any]) -> str:
    """Each seed's difference with its standard error; of what has no seed, to InfoNCE's first one."""
    cells = []
    for seed, one in runs.items():
        beside = other.get(seed) or next(iter(other.values()), None)
        if beside is None or beside is one:
            continue
        ranks = zip(one["test"]["reciprocal_ranks"], beside["test"]["reciprocal_ranks"], strict=True)
        gaps = [mine - theirs for mine, theirs in ranks]
        cells.append(f"{statistics.mean(gaps):+.4f} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.4f}")
    return ", ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data/cosqa"))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--described", type=int, default=800)
    options = parser.parse_args()
    if options.what == "run":
        run(options.data, [int(seed) for seed in options.seeds.split(",")], options.described)
    write_text(RESULTS.with_suffix(".txt"), table())
    print(table())


if __name__ == "__main__":
    main()
