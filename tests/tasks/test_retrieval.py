"""Retrieval of texts: whole runs where it is known what answers what, its files, and what it refuses."""

import importlib
import json

import polars as pl
import pytest
import torch

from rankwell.config import resolve
from rankwell.data.retrieval import HardNegatives, Retrieval, Texts, joined, judgements
from rankwell.data.synthetic_texts import synthesise_texts, write_beir
from rankwell.errors import ConfigError, DataError
from rankwell.experiments import RunFolder, run
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.retrieval_data import RetrievalData, read
from rankwell.tasks.retrieval_ranking import best_of
from rankwell.training import fit
from rankwell.types import Ragged

PARTS = synthesise_texts(60, (120, 20, 30), concepts=12, seed=0)
MODEL = {"name": "bag_of_words", "dim": 16, "buckets": 512}
SMALL = {"epochs": 8, "learning_rate": 0.03, "batch_size": 16, "watch_every": 0}
NDCG = [Measure.parse("ndcg@10")]


class Given(torch.nn.Module):
    """Ranks documents by scores that are given, the same for all queries."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.num_items = torch.tensor(scores), len(scores)

    def ranker(self, *_):
        return self

    def score_all(self, queries, **_):
        return self.scores.expand(len(queries), -1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("beir")
    write_beir(made, dict(zip(("train", "dev", "test"), PARTS, strict=True)))
    return made


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """Drawing takes longer than training."""
    module = importlib.import_module("rankwell.experiments.run")
    monkeypatch.setattr(module, "draw_curve", lambda path, *_: path.write_bytes(b""))


def settings(folder, **sections):
    given = {"task": "retrieval", "data": {"path": str(folder)}, "model": MODEL, "training": SMALL}
    return resolve(given | {name: given.get(name, {}) | own for name, own in sections.items()})


def trained(config):
    """NDCG@10 on the test queries, before and after training."""
    task = task_of("retrieval")
    data = task.read(config)
    model = task.model(config, data)
    task.initialise(model, data.fit, seed=0)

    def judged():
        return task.judge(config, model, NDCG, data.fit, data.test).means()["ndcg@10"]

    before = judged()
    objective, batches = task.objective(config, model, data, data.fit, data.valid), task.batches(config, data, data.fit)
    fit(objective, batches, config.training, seed=0)
    return before, judged()


def test_a_run_beats_words_and_its_start_and_is_read_back(folder, tmp_path):
    config = settings(folder, training={"epochs": 10})
    result = run(config, RunFolder(tmp_path / "run"))
    assert result.users == 30 and result.test["ndcg@10"] > 0.6
    assert max(found["ndcg@10"] for found in result.baselines.values()) < result.test["ndcg@10"] - 0.3
    saved = RunFolder(tmp_path / "run").load()
    measures = [Measure.parse(text) for text in config.evaluation.measures]
    assert saved.task.judge(config, saved.model, measures, saved.data.train, saved.data.test).means() == result.test
    rows = pl.read_parquet(tmp_path / "run" / "per_query.parquet")
    assert len(rows) == 30 and rows["relevant"].min() >= 1 and rows["query"].dtype == pl.String


LOSSES = [
    {"loss": {"name": "info_nce"}, "model": {"micro_batch": 5}},
    {"loss": {"name": "sampled_softmax"}},
    {"loss": {"name": "soft_info_nce"}},
    {"loss": {"name": "soft_info_nce", "like": "encoder"}},
    {"loss": {"name": "mml", "margins": [0.1, 0.5], "margin_weights": [0.5, 0.5], "neg_weight": 20}},
    {"loss": {"name": "bpr"}, "training": {"learning_rate": 0.1}},
    {"loss": {"name": "bsl"}, "miner": {"name": "hardest", "k": 4}},
    {"loss": {"name": "hinge"}, "sampler": {"name": "uniform", "n": 8, "shared": False}},
    {"loss": {"name": "info_nce"}, "generator": {"name": "memory", "size": 32}},
    {"loss": {"name": "sampled_softmax"}, "generator": {"name": "memory", "size": 32}, "batches": {"name": "shuffled"}},
    {"loss": {"name": "triplet"}},
    {"loss": {"name": "sampled_softmax"}, "batches": {"name": "high_loss"}},
]


@pytest.mark.parametrize("sides", ["both", "query"])
def test_a_map_of_frozen_vectors_learns(folder, sides, write_transformer, tmp_path):
    words = " ".join(text for part in (PARTS[0].queries, PARTS[0].documents) for text in part.texts).split()
    encoder = write_transformer(tmp_path, words, hidden=64, length=64)
    model = {"name": "adapter", "encoder": str(encoder), "max_length": 32, "sides": sides}
    training = SMALL | {"epochs": 10, "learning_rate": 0.01}
    given = {"task": "retrieval", "data": {"path": str(folder)}, "model": model, "training": training}
    before, after = trained(resolve(given))
    assert after > before + 0.15


@pytest.mark.parametrize(
    "sections", LOSSES, ids=lambda given: "-".join(str(each["name"]) for each in given.values() if "name" in each)
)
def test_any_loss_learns(folder, sections):
    before, after = trained(settings(folder, **sections))
    assert after > before + 0.15


def test_mined_negatives_join_the_batch(folder, tmp_path):
    train = read(RetrievalData(path=str(folder)), 0).fit
    queries, documents = train.pairs()
    known = train.known()
    rows = []
    for query, document in zip(queries.tolist(), documents.tolist(), strict=True):
        own = set(known.values[known.offsets[query] : known.offsets[query + 1]].tolist())
        other = next(code for code in range(document + 1, document + 60) if code % 60 not in own) % 60
        texts = train.queries.texts[query], train.documents.texts[document], train.documents.texts[other]
        rows.append(dict(zip(("anchor", "positive", "negative"), texts, strict=True)))
    pl.DataFrame(rows).write_parquet(tmp_path / "mined.parquet")
    data = {"negatives": str(tmp_path / "mined.parquet")}
    for loss in ("info_nce", "sampled_softmax"):
        config = settings(folder, data=data, loss={"name": loss})
        task = task_of("retrieval")
        read_back = task.read(config)
        assert read_back.fit.negatives.lists.offsets.diff().tolist() == [1] * len(read_back.fit)
        assert len(read_back.train.negatives.lists.offsets) - 1 == len(read_back.train)
        before, after = trained(config)
        assert after > before + 0.3
    pl.DataFrame(rows).with_columns(negative=pl.lit("unheard of")).write_parquet(tmp_path / "mined.parquet")
    with pytest.raises(
        DataError, match=r"mined.parquet, row 1: a negative must be a document of the corpus: 'unheard of'"
    ):
        task.read(config)
    pl.DataFrame(rows[:3]).rename({"negative": "worse"}).write_parquet(tmp_path / "mined.parquet")
    with pytest.raises(DataError, match="must have the texts anchor, positive and negative"):
        task.read(config)


def small(tmp_path, *, corpus=None, queries=None, train=None, test=None):
    """A folder of four documents and three queries, one part of it changed."""
    given = {
        "corpus": corpus or [{"_id": f"00{n}", "text": f"text {n} about {'abcd'[n]}"} for n in range(4)],
        "queries": queries or [{"_id": f"0{n}", "text": f"what is {'abc'[n]}"} for n in range(3)],
    }
    for name, rows in given.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "qrels").mkdir()
    for name, pairs in (("train", train or [("00", "000", 1), ("01", "001", 1)]), ("test", test or [("02", "002", 2)])):
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, pair)) for pair in pairs)]
        (tmp_path / "qrels" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return RetrievalData(path=str(tmp_path), valid_fraction=0)


def test_ids_stay_as_they_are_written(tmp_path):
    data = read(small(tmp_path), 0)
    assert list(data.train.queries.ids) == ["00", "01", "02"] and data.train.documents.ids[1] == "001"
    assert [part.tolist() for part in data.train.pairs()] == [[0, 1], [0, 1]]


def test_qrels_with_a_header_alone_are_named(tmp_path):
    given = small(tmp_path)
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n")
    with pytest.raises(
        DataError, match=r"qrels.test\.tsv: the file must hold at least one pair of a query and a document"
    ):
        read(given, 0)


def test_qrels_without_a_header_are_told_of_their_first_line(tmp_path):
    given = small(tmp_path)
    (tmp_path / "qrels" / "train.tsv").write_text("00 0 000 1\n01 0 001 1\n")
    with pytest.raises(DataError, match=r"'query-id' must be there: .*\. A table's first line names its columns\."):
        read(given, 0)


def test_grades_are_kept_and_the_ideal_has_all_of_them(tmp_path):
    given = small(tmp_path, test=[("02", "000", 1), ("02", "001", 0), ("02", "002", 3), ("02", "003", -1)])
    data = read(given, 0)
    assert data.test.grades.tolist() == [1, 0, 3, 0] and len(data.test) == 2 and data.test.gains().tolist() == [1, 3]

    config = resolve({"task": "retrieval", "data": given.model_dump(exclude_none=True), "model": MODEL})
    task = task_of("retrieval")
    found = task.judge(
        config, Given([3.0, 2.0, 1.0, 0.0]), [*NDCG, Measure.parse("ap"), Measure.parse("mrr@2")], data.fit, data.test
    ).means()
    gain, low = 2.0**3 - 1, 2.0**1 - 1
    second, third = 1 / torch.tensor(3.0).log2(), 0.5
    assert found["ndcg@10"] == pytest.approx(float((low + gain * third) / (gain + low * second)), abs=1e-6)
    assert found["ap"] == pytest.approx((1 + 2 / 3) / 2) and found["mrr@2"] == 1


def test_a_query_with_the_text_of_a_document(tmp_path):
    corpus = [{"_id": f"d{n}", "text": "what is a" if n == 3 else f"text {n}"} for n in range(4)]
    data = read(small(tmp_path, corpus=corpus, train=[("00", "d0", 1), ("01", "d1", 1)], test=[("02", "d2", 1)]), 0)
    assert data.fit.known().values.tolist() == [0, 3, 1]  # no negative of its query
    assert any("1 document with a query's own text left out" in note for note in data.notes)

    assert best_of(Given([0.0, 1.0, 2.0, 3.0]), data.fit, 4, block=2).ids.tolist() == [[2, 1, 0, -1], [3, 2, 1, 0]]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"train": [("00", "nine", 1)]}, r"train.tsv: every query .* 1 document \('nine'\) are not"),
        ({"train": [("zero", "000", 1)]}, r"1 query \('zero'\) are not, in 1 pair.*--data.unknown drop"),
        ({"train": [("00", "000", "high")]}, "line 2: a score must be a finite number: got 'high'"),
        ({"train": [("00", "000", 0)]}, "at least one training query must have a relevant document"),
        ({"corpus": [{"_id": "000", "text": " "}]}, "at least one document with a text"),
        ({"corpus": [{"_id": "000", "text": 3}]}, "corpus.jsonl, line 1: a text must be text: got 3"),
        ({"queries": [{"_id": "00"}]}, "queries.jsonl, line 1: the column 'text' must be there"),
    ],
    ids=["document", "query", "score", "irrelevant", "empty", "number", "column"],
)
def test_what_is_refused(tmp_path, changed, said):
    with pytest.raises(DataError, match=said):
        read(small(tmp_path, **changed), 0)


def test_what_is_left_out_is_counted(tmp_path):
    corpus = [{"_id": f"d{n}", "text": ["one", "", "one", "two"][n], "title": ""} for n in range(4)]
    train = [("00", "d0", 1), ("00", "gone", 1), ("01", "d1", 1), ("01", "d3", 1), ("02", "d3", 1)]
    given = small(tmp_path, corpus=corpus, train=train, test=[("02", "d3", 1)])
    data = read(given.model_copy(update={"unknown": "drop"}), 0)
    said = "; ".join(data.notes)
    for note in (
        "1 empty text left out",
        "1 document with the text of an earlier one merged",
        "1 pair with 1 document ('gone') unknown left out",
        "1 pair with an empty text left out",
        "1 query of training judged for test too: left out of training",
    ):
        assert note in said
    assert data.train.asked().tolist() == [0, 1] and len(data.train.documents) == 2


def test_queries_without_a_relevant_document_are_counted(tmp_path):
    train, test = [("00", "000", 1), ("01", "000", 0)], [("02", "000", 1), ("03", "000", 0), ("04", "000", 0)]
    queries = [{"_id": f"0{n}", "text": f"number {n}"} for n in range(5)]
    said = read(small(tmp_path, queries=queries, train=train, test=test), 0).notes
    assert "1 of 2 training queries without a relevant document: training passes over them" in said
    assert "2 of 3 test queries without a relevant document: measures skip them" in said


def test_texts_longer_than_the_model_reads_are_counted(folder):
    config = settings(folder, model={"max_length": 5})
    assert any(
        "60 documents of 60 longer than the model reads" in note for note in task_of("retrieval").read(config).notes
    )


def test_parts_share_no_query_and_are_the_same_for_a_seed(tmp_path):
    write_beir(tmp_path, {"train": PARTS[0]})
    given = RetrievalData(path=str(tmp_path), valid_documents=40)
    first, again, other = (read(given, seed) for seed in (0, 0, 1))
    parts = [set(part.asked().tolist()) for part in (first.fit, first.valid, first.test)]
    assert [len(part) for part in parts] == [86, 10, 24] and len(set.union(*parts)) == 120
    assert first.train.asked().tolist() == sorted(parts[0] | parts[1])
    assert again.test.fingerprint() == first.test.fingerprint() != other.test.fingerprint()
    assert len(first.valid.ranked) == 40 and set(first.valid.judged.values.tolist()) <= set(first.valid.ranked.tolist())


@pytest.mark.parametrize("name", ["valid", "test"])
def test_a_part_that_is_named_must_be_there(tmp_path, name):
    given = small(tmp_path)
    with pytest.raises(DataError, match=r"tset\.tsv"):
        read(given.model_copy(update={name: "tset"}), 0)
    with pytest.raises(DataError, match=r"dev\.tsv"):
        read(given.model_copy(update={"train": "dev"}), 0)
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.csv").write_text("anchor,positive\nwhy,so\nwho,she\n")
    with pytest.raises(DataError, match="a file of rows called tset"):
        read(RetrievalData(path=str(tmp_path / "rows"), **{name: "tset"}), 0)


def test_rows_leave_a_querys_own_text_out(tmp_path):
    (tmp_path / "train.csv").write_text("anchor,positive\nhow to sort,sorting\nsorting,how to sort\nme,me\n")
    (tmp_path / "test.csv").write_text("anchor,positive\nwhat else,sorting\n")
    data = read(RetrievalData(path=str(tmp_path), valid_fraction=0), 0)
    texts = data.fit.documents.texts
    known = data.fit.known()
    assert [sorted(texts[code] for code in known.values[a:b]) for a, b in known.offsets.unfold(0, 2, 1).tolist()] == [
        ["how to sort", "sorting"],
        ["how to sort", "sorting"],
        ["me"],
        [],
    ]
    assert len(data.fit) == 3
    assert any("3 documents with a query's own text left out" in note for note in data.notes)


def test_a_document_with_a_querys_own_text_goes_with_its_teachers_score():
    texts = Texts(["a", "b"], ["x", "y"]), Texts(["d", "e"], ["x", "z"])
    part = Retrieval(*texts, *judgements([{0: 0.0, 1: 1.0}, {0: 1.0}]), teacher=torch.tensor([9.0, 1.0, 2.0]))
    left = part.without_own_texts()
    assert left.judged.values.tolist() == [1, 0] and left.teacher.tolist() == [1, 2]
    assert left.excluded.values.tolist() == [0] and left.excluded.offsets.tolist() == [0, 1, 1]


def test_a_teachers_scores_are_in_the_fingerprint():
    texts = Texts(["a"], ["x"]), Texts(["d", "e"], ["u", "v"])
    judged, lists = judgements([{0: 1.0}]), Ragged(torch.tensor([0, 1]), torch.tensor([1]))
    parts = [
        Retrieval(*texts, *judged, teacher=teacher, negatives=HardNegatives(lists, scores, own))
        for teacher, scores, own in (
            (None, None, None),
            (torch.ones(1), None, None),
            (None, torch.ones(1), torch.ones(1)),
            (None, torch.zeros(1), torch.ones(1)),
        )
    ]
    assert len({part.fingerprint() for part in parts}) == 4


def test_joined_keeps_the_negatives_of_one_part_where_the_other_has_none():
    texts = Texts(["a", "b"], ["x", "y"]), Texts(["d", "e"], ["u", "v"])
    negatives = HardNegatives(Ragged(torch.tensor([0, 1]), torch.tensor([1])), torch.tensor([0.5]), torch.tensor([2.0]))
    second = Retrieval(*texts, *judgements([{}, {0: 1.0}]), negatives=negatives)
    first = Retrieval(*texts, *judgements([{1: 1.0}, {}]))
    for pair in ((first, second), (second, first)):
        found = joined(*pair).negatives
        assert found.lists.offsets.tolist() == [0, 0, 1] and found.lists.values.tolist() == [1]
        assert found.scores.tolist() == [0.5] and found.pair_scores.tolist() == [0, 2]


def test_joined_keeps_each_pair_with_its_negatives():
    texts = Texts(["a", "b", "c"], ["x", "y", "z"]), Texts(["d", "e"], ["u", "v"])
    whole = Retrieval(
        *texts,
        *judgements([{0: 1.0}, {1: 2.0, 0: 1.0}, {1: 1.0}]),
        negatives=HardNegatives(Ragged(torch.tensor([0, 1, 3, 3, 4]), torch.tensor([1, 0, 1, 0])), torch.arange(4.0)),
    )
    parts = whole.of_queries(torch.tensor([1])), whole.of_queries(torch.tensor([2, 0]))
    back = joined(*parts)
    assert back.fingerprint() == whole.fingerprint() and back.negatives.scores.tolist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="share no query"):
        joined(parts[0], whole)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"sampler": {"name": "dns"}}, "dns asks the model, which would encode the corpus at every step"),
        ({"loss": {"name": "info_nce"}, "sampler": {"name": "uniform"}}, "Leave the sampler out"),
        ({"model": {"name": "mf"}}, "mf is a model of interactions; task retrieval has"),
        ({"model": {"max_length": 1}}, "max_length must be at least 3"),
        ({"loss": {"name": "margin_mse"}}, "needs teacher"),
        ({"training": {"warmup": 1.0}}, "warmup must be a share"),
        ({"batches": {"name": "high_loss"}}, "high_loss learn from the loss of each row, which losses of embeddings"),
        ({"data": {"rows": "lists"}, "sampler": {"name": "uniform"}}, "sampler: data.rows lists takes whole lists"),
        ({"data": {"rows": "lists"}, "batches": {"name": "shuffled"}}, "batches: data.rows lists takes whole lists"),
        ({"data": {"rows": "lists"}, "training": {"watch_every": 7}}, "watch_every 7 .* data.rows lists has none"),
        ({"training": {"watch_every": 7}}, "watch_every 7 .* info_nce, a loss of embeddings, has none"),
        ({"data": {"hard": 2}}, "data.hard counts hard negatives: the data have none"),
        ({"data": {"form": "pairs"}}, "data.form is about files of rows"),
        (
            {"data": {"path": "synthetic", "columns": "a,b"}},
            "data.columns is about files of rows: synthetic has a corpus",
        ),
    ],
    ids=[
        "model sampler",
        "sampler",
        "model",
        "length",
        "teacher",
        "warmup",
        "batches",
        "sampler of lists",
        "batches of lists",
        "looks at lists",
        "looks at embeddings",
        "hard",
        "form",
        "columns",
    ],
)
def test_settings_that_do_not_fit(folder, sections, said):
    with pytest.raises(ConfigError, match=said):
        trained(settings(folder, **sections))


@pytest.mark.parametrize(
    ("loss", "model", "temperature"),
    [
        ({"name": "sampled_softmax"}, {}, 0.05),
        ({"name": "sampled_softmax"}, {"similarity": "dot"}, 1.0),
        ({"name": "sampled_softmax", "temperature": 0.2}, {"similarity": "dot"}, 0.2),
        ({"name": "info_nce"}, {"similarity": "dot"}, 0.05),
        ({"name": "info_nce", "similarity": "dot"}, {"similarity": "dot"}, 1.0),
    ],
    ids=["cosines", "products", "given", "cosines of the loss", "products of the loss"],
)
def test_temperatures_for_cosines_are_for_cosines(loss, model, temperature):
    made = resolve({"task": "retrieval", "loss": loss, "model": {"name": "bi_encoder", **model}})
    assert made.loss["temperature"] == temperature
    assert resolve(made.as_dict()) == made


def test_lists_have_no_sections_that_nothing_reads():
    made = resolve({"task": "retrieval", "data": {"rows": "lists"}, "loss": {"name": "listnet"}})
    assert not made.sampler and not made.batches and resolve(made.as_dict()) == made


def test_empty_queries_of_new_files_are_counted(tmp_path):
    from rankwell.tasks.retrieval import _asked

    (tmp_path / "new.jsonl").write_text('{"_id": "1", "text": " "}\n{"_id": "2", "text": "red"}\n')
    notes: list[str] = []
    assert len(_asked([tmp_path / "new.jsonl"], PARTS[0].documents, notes).queries) == 1
    assert notes == ["new.jsonl: 1 empty text left out"]


def test_the_learning_rate_rises_and_falls():
    from rankwell.training import TrainingSettings
    from rankwell.training.fit import _learning_rate

    given = TrainingSettings(epochs=2, learning_rate=1.0, schedule="linear", warmup=0.25)
    assert [_learning_rate(given, done) for done in (0, 0.25, 0.5, 1.25, 2)] == pytest.approx([0, 0.5, 1, 0.5, 0])
