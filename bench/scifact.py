"""SciFact with the offline MiniLM: before and after training, by pairs, from a teacher, and as a cross-encoder; BM25 and
sentence-transformers beside them.

    python bench/scifact.py run ../shared/data/scifact [--only bm25,InfoNCE] [--seeds 0,1]
    python bench/scifact.py table

Claims as queries, 5,183 abstracts as documents, at most 128 tokens. Training is on the published training queries without those
that the test asks too; a seeded tenth of the queries is held out and chooses the epoch, by NDCG@10 among their relevant and
other random abstracts, 600 in all. The test queries are ranked against the whole corpus, once a run.

Every run: MiniLM's weights, batches of 32 pairs in which no abstract stands twice, 2 epochs, AdamW at 5e-5 with a tenth of
linear warm-up and then linear decay, dropout as the model has it, float32, one thread. Nothing was tuned but MML: temperature
0.05 is sentence-transformers' scale of 20; MML has four settings, to be chosen among by validation. One hard
negative a pair is mined with the model before training: the nearest of 50 that is at least 5 % below the lowest positive. Each
run is a process of its own; its peak memory is that of data, model and training, before the corpus is encoded.

sentence-transformers' trainer gets the same pairs in the same batches and order, the same steps, rates, lengths and precision,
no clipping of gradients, and its MultipleNegativesRankingLoss.

Teacher: BM25, which ranks better than MiniLM does before training. Lists are a relevant abstract and the best three others by
BM25; KL learns the distribution of its scores over a list, margin-MSE its gaps, both of scores divided by 20, so that gaps
are of the size of cosines'; the softmax learns from the labels of the same lists. Cross-encoder: MiniLM's weights and a new
head, which rank BM25's best 50 again; a pair is told from four of what BM25 found, in batches of 8.

``bench/results/scifact.json`` keeps each run as it ends; ``table`` writes ``bench/results/scifact.txt``.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from store import Store

from rankwell.atomic import write_text
from rankwell.config import Config, resolve
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.training import fit

RESULTS = Path(__file__).parent / "results" / "scifact.json"
MEASURES = ("ndcg@10", "recall@100", "mrr@10", "ap")
BATCH, EPOCHS, RATE, WARMUP = 32, 2, 5e-5, 0.1

SOFT = {"temperature": 0.05}
MML = {"margins": [0.2, 0.4, 0.6], "margin_weights": [0.1, 0.2, 0.7], "neg_weight": 10.0}
LISTS = {"rows": "lists", "negatives": "taught"}
ROWS: dict[str, dict[str, Any]] = {
    "InfoNCE": {"loss": {"name": "info_nce", **SOFT}},
    "InfoNCE, 16 texts at a time": {"loss": {"name": "info_nce", **SOFT}, "model": {"micro_batch": 16}},
    "InfoNCE, mined negatives": {"loss": {"name": "info_nce", **SOFT}, "data": {"negatives": "mined"}},
    "MML": {"loss": {"name": "mml", **MML}},
    "MML, weight 1": {"loss": {"name": "mml", **MML, "neg_weight": 1.0}},
    "MML, weight 100": {"loss": {"name": "mml", **MML, "neg_weight": 100.0}},
    "MML, margins higher by .2": {"loss": {"name": "mml", **MML, "margins": [0.4, 0.6, 0.8]}},
    "Soft-InfoNCE by BM25": {"loss": {"name": "soft_info_nce", "like": "bm25", **SOFT}},
    "lists, softmax of labels": {"loss": {"name": "softmax", **SOFT}, "data": LISTS},
    "lists, KL to BM25": {
        "loss": {"name": "kl", **SOFT, "label_temperature": 0.05},
        "data": {**LISTS, "targets": "teacher"},
    },
    "lists, margin-MSE to BM25": {"loss": {"name": "margin_mse"}, "data": LISTS},
    "cross-encoder": {
        "task": "rerank",
        "model": {"name": "cross_encoder"},
        "loss": {"name": "softmax"},
        "data": {"candidates": 50},
        "training": {"batch_size": 8},
    },
}
"""What differs from the default run."""

OTHERS: dict[str, dict[str, Any]] = {
    "sentence-transformers": {},
    "sentence-transformers, mined negatives": {"data": {"negatives": "mined"}},
}
NAMES = ("before", "bm25", *ROWS, *OTHERS)


def configuration(path: str, name: str, work: Path, seed: int) -> Config:
    training = {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE, "warmup": WARMUP, "watch_every": 0}
    own = {**ROWS, **OTHERS}.get(name, {})
    given: dict[str, Any] = {"task": "retrieval", "model": {"name": "bi_encoder"}, "loss": {"name": "info_nce", **SOFT}}
    given |= {"data": {"path": path, "valid_documents": 600}, "training": training, "seed": seed}
    for section, values in own.items():
        given[section] = {**given[section], **values} if section in ("data", "model", "training") else values
    if "negatives" in given["data"]:
        given["data"]["negatives"] = str(work / f"{given['data']['negatives']}-{seed}.parquet")
    return resolve(given)


def one(path: str, name: str, seed: int, work: Path) -> dict[str, Any]:
    """One run, in a process of its own."""
    torch.set_num_threads(1)
    config = configuration(path, name, work, seed)
    task = task_of(config.task)
    data = task.read(config)
    model: Any = task.model(config, data)
    task.initialise(model, data.fit, seed=seed)
    found: dict[str, Any] = {"seed": seed, "pairs": len(data.fit)}
    started, busy = time.monotonic(), time.process_time()
    if name in ROWS:
        found |= trained(config, task, data, model)
    elif name in OTHERS:
        found |= theirs(config, task, data, model, work)
    found["training_seconds"] = time.monotonic() - started
    found["training_cpu_seconds"] = time.process_time() - busy
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ranked = task.baselines(config, data)["bm25"] if name == "bm25" else model
    started = time.monotonic()
    measures = [Measure.parse(text) for text in MEASURES]
    found["test"] = task.judge(config, ranked, measures, data.train, data.test).means()
    found["judging_seconds"] = time.monotonic() - started
    return found


def trained(config: Config, task: Any, data: Any, model: Any) -> dict[str, Any]:
    steps: list[float] = []

    class Watch:
        def on_step(self, *_: Any) -> None: ...

        def on_epoch(self, record: Any, best: bool) -> None:  # noqa: ARG002
            steps.append(record.seconds)
            print(json.dumps({"epoch": record.epoch, "loss": record.loss, **record.validation}), file=sys.stderr)

    history = fit(
        task.objective(config, model, data, data.fit, data.valid),
        task.batches(config, data, data.fit),
        config.training,
        seed=config.seed,
        validate=lambda: task.judge(config, model, [Measure.parse("ndcg@10")], data.fit, data.valid).means(),
        monitor="ndcg@10",
        watcher=Watch(),
    )
    seconds = {"step_seconds": sum(steps)}
    return {"epoch": history.best_epoch, "validation": history.best_value, **seconds}


def theirs(config: Config, task: Any, data: Any, model: Any, work: Path) -> dict[str, Any]:
    """sentence-transformers' trainer on the same rows, batch by batch."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import TrainerCallback

    batches = task.batches(config, data, data.fit)
    queries, documents = data.fit.pairs()
    texts = {
        "anchor": [data.fit.queries.texts[code] for code in queries.tolist()],
        "positive": [data.fit.documents.texts[code] for code in documents.tolist()],
    }
    if data.fit.negatives is not None:
        lists = data.fit.negatives.lists
        first = lists.values[lists.offsets[:-1].clamp(max=len(lists.values) - 1)]
        texts["negative"] = [data.fit.documents.texts[code] for code in first.tolist()]

    class Same(DefaultBatchSampler):
        """Our batches, epoch by epoch."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Any:
            return (batch.index.tolist() for batch in batches.of_epoch(self.epoch))

        def __len__(self) -> int:
            return int(batches.steps(0))

    network = model.encoder
    network.max_seq_length = model.max_length
    best: dict[str, Any] = {"value": -1.0}

    class Validate(TrainerCallback):
        def on_epoch_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            value = task.judge(config, model, [Measure.parse("ndcg@10")], data.fit, data.valid).means()["ndcg@10"]
            print(json.dumps({"epoch": state.epoch, "ndcg@10": value}), file=sys.stderr)
            if value > best["value"]:
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
                best.update(value=value, epoch=round(state.epoch), state=kept)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work / "theirs"),
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        warmup_steps=round(WARMUP * EPOCHS * batches.steps(0)),
        lr_scheduler_type="linear",
        weight_decay=0.0,
        max_grad_norm=0.0,
        batch_sampler=Same,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=config.seed,
    )
    trainer = SentenceTransformerTrainer(
        model=network,
        args=arguments,
        train_dataset=Dataset.from_dict(texts),
        loss=MultipleNegativesRankingLoss(network, scale=20.0),
        callbacks=[Validate()],
    )
    trainer.train()
    network.load_state_dict(best["state"])
    model.eval()
    return {"epoch": best["epoch"], "validation": best["value"], "steps": trainer.state.global_step}


def prepare(path: str, seed: int, work: Path) -> None:
    """The files of hard negatives, once for each seed."""
    mined, taught = (work / f"{kind}-{seed}.parquet" for kind in ("mined", "taught"))
    if mined.exists() and taught.exists():
        return
    config, task = configuration(path, "before", work, seed), task_of("retrieval")
    data = task.read(config)
    model: Any = task.model(config, data)
    task.initialise(model, data.fit, seed=seed)
    mine_with(model, data.fit, mined)
    teach_with(data.fit, taught)


def mine_with(model: Any, part: Any, file: Path) -> None:
    """Hard negatives by the model before training, as rows of texts."""
    from rankwell.mining import MiningSettings, mine
    from rankwell.mining.rows import rows_of, write_rows
    from rankwell.models.text_model import encode_tokens
    from rankwell.tasks.retrieval_ranking import tokens_of

    model.eval()
    vectors = [
        encode_tokens(model, tokens_of(model, texts, side).lists, side)  # type: ignore[arg-type]
        for texts, side in ((part.queries, "query"), (part.documents, "document"))
    ]
    settings = MiningSettings(num_negatives=1, range_max=50, relative_margin=0.05)
    found = mine(*vectors, part.relevant(), settings, excluded=part.excluded)
    rows = rows_of(found, list(part.queries.texts), list(part.documents.texts), "triplet", scores=False)
    write_rows(file, [rows])


def teach_with(part: Any, file: Path) -> None:
    """Each relevant abstract and BM25's best three others, with its scores."""
    from rankwell.mining.rows import write_rows
    from rankwell.tasks.reranking import with_found
    from rankwell.tasks.retrieval_ranking import ByWords, ranker_of

    words = ByWords(hashed=True)
    found, ranker = with_found(part, words, 3).negatives.lists, ranker_of(words, part)
    columns: dict[str, list[Any]] = {
        name: [] for name in ("anchor", "positive", "negative_1", "negative_2", "negative_3", "scores")
    }
    for query, positive, others in zip(*part.pairs(), found.values.view(-1, 3), strict=True):
        codes = [int(positive), *others.tolist()]
        texts = [part.queries.texts[int(query)], *(part.documents.texts[code] for code in codes)]
        scores = (ranker.score_all(query[None])[0, codes] / 20).tolist()
        for column, value in zip(columns.values(), [*texts, scores], strict=True):
            column.append(value)
    write_rows(file, [columns])


def run(path: str, names: list[str], seeds: list[int]) -> None:
    work = Path(tempfile.gettempdir()) / "scifact-bench"
    work.mkdir(exist_ok=True)
    store = Store(RESULTS)
    torch.set_num_threads(1)
    for seed in seeds:
        if any(f"{name} · seed {seed}" not in store.runs for name in names):
            prepare(path, seed, work)  # here, so that no run's memory is that of mining
        for name in names:
            command = [sys.executable, __file__, "one", path, name, "--seed", str(seed), "--work", str(work)]
            store.get(f"{name} · seed {seed}", partial(printed, command))


def printed(command: list[str]) -> Any:
    """The JSON in the last line that a command prints."""
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(made.stdout.splitlines()[-1])


def table() -> None:
    runs = Store(RESULTS).runs
    lines = [
        f"{'':<40} {'seed':>4} {'epoch':>5} {'valid':>6}"
        + "".join(f" {name:>10}" for name in MEASURES)
        + "   CPU s   peak MB"
    ]
    for key, found in sorted(runs.items(), key=lambda run: (NAMES.index(run[0].partition(" · ")[0]), run[0])):
        name = key.partition(" · ")[0]
        figures = "".join(f" {found['test'][measure]:>10.4f}" for measure in MEASURES)
        cost = f"{found['training_cpu_seconds']:>8.0f} {found['peak_mb']:>9.0f}" if "epoch" in found else ""
        valid = f"{found['validation']:.4f}" if "epoch" in found else ""
        lines.append(f"{name:<40} {found['seed']:>4} {found.get('epoch', '-'):>5} {valid:>6}{figures}{cost}")
    text = "\n".join(lines) + "\n"
    write_text(RESULTS.with_suffix(".txt"), text)
    print(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("path")
    running.add_argument("--only", default=",".join(NAMES).replace(", ", "; "))
    running.add_argument("--seeds", default="0")
    single = commands.add_parser("one")
    single.add_argument("path")
    single.add_argument("name")
    single.add_argument("--seed", type=int, default=0)
    single.add_argument("--work", type=Path, required=True)
    commands.add_parser("table")
    given = parser.parse_args()
    if given.command == "one":
        print(json.dumps(one(given.path, given.name, given.seed, given.work)))
    elif given.command == "run":
        names = [name.replace("; ", ", ") for name in given.only.split(",")]
        run(given.path, names, [int(seed) for seed in given.seeds.split(",")])
    else:
        table()


if __name__ == "__main__":
    main()
