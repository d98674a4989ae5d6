"""Cross-encoders behind a first stage, and retrieval data as whole lists."""

import json
from dataclasses import replace

import pytest
import torch

from rankwell.config import resolve
from rankwell.data.retrieval import HardNegatives, Retrieval, Texts, judgements
from rankwell.data.synthetic_texts import synthesise_texts, write_beir
from rankwell.errors import ConfigError, DataError
from rankwell.metrics import Measure
from rankwell.tasks import task_of
from rankwell.tasks.reranking import Reranker, found_for, with_found
from rankwell.tasks.retrieval import _asked
from rankwell.tasks.retrieval_lists import lists_of
from rankwell.tasks.retrieval_ranking import ByWords, best_of
from rankwell.tasks.task import Data
from rankwell.training import fit
from rankwell.types import Ragged

WORDS = ["red", "blue", "green", "pot", "lamp", "chair", "old", "new"]
DOCUMENTS = ["red pot", "blue pot", "green pot old", "red lamp", "blue lamp new", "green chair"]
QUERIES = ["red", "blue", "green", "pot"]
LISTS = [{0: 1.0}, {4: 1.0}, {5: 2.0, 2: 1.0}, {1: 1.0, 3: 0.0}]


def data(**more):
    texts = Texts([f"q{at}" for at in range(4)], QUERIES), Texts([f"d{at}" for at in range(6)], DOCUMENTS)
    return Retrieval(*texts, *judgements(LISTS), **more)


def negatives(**more):
    return HardNegatives(Ragged(torch.tensor([0, 2, 3, 3, 4, 6]), torch.tensor([1, 2, 0, 0, 2, 4])), **more)


class Longest(torch.nn.Module):
    """Scores pairs by the document's length, and remembers them."""

    trainable = True

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def forward(self, queries, documents):
        self.seen += list(zip(queries, documents, strict=True))
        return self.weight * torch.tensor([float(len(text)) for text in documents])


def test_the_candidates_of_the_first_stage_are_ordered_anew():
    part, model = data(), Longest()
    found = best_of(Reranker(model, "bm25", 2), part, 6, block=8)
    for row, query in enumerate(QUERIES):
        first = best_of(ByWords(), part, 2, block=8).ids[row].tolist()
        again = sorted(first, key=lambda code: -len(DOCUMENTS[code]))
        assert found.ids[row].tolist() == [*again, -1, -1, -1, -1]
        assert {pair for pair in model.seen if pair[0] == query} == {(query, DOCUMENTS[code]) for code in first}
    assert len(model.seen) == 8


def test_documents_that_compete_and_what_is_excluded_bound_the_candidates():
    own = Ragged(torch.tensor([0, 1, 1, 1, 1]), torch.tensor([0]))
    part = data(excluded=own, ranked=torch.tensor([0, 2, 3]))
    found = best_of(Reranker(Longest(), "bm25", 3), part, 3, block=8)
    competing = [[{0: 0, 1: 2, 2: 3}[place] for place in row if place >= 0] for row in found.ids.tolist()]
    assert 0 not in competing[0] and set(competing[0]) == {2, 3}


def test_candidates_of_a_part_are_found_once():
    part = data()
    assert found_for(part, "bm25", 2) is found_for(part, "bm25", 2) is not found_for(part, "bm25", 3)


def test_what_the_first_stage_finds_is_told_from_the_positives():
    part = with_found(data(), ByWords(), 3)
    asked, right = (side.tolist() for side in part.pairs())
    lists = part.negatives.lists
    for row, query in enumerate(asked):
        codes = lists.values[lists.offsets[row] : lists.offsets[row + 1]].tolist()
        relevant = {code for code, grade in LISTS[query].items() if grade > 0}
        assert codes and not set(codes) & relevant and right[row] in relevant
    assert part.negatives.lists.values[:1].tolist() == [3]  # the other document with "red"


def test_lists_are_of_judgements_or_of_negatives():
    lists = lists_of(data())
    assert lists.documents.tolist() == [2, 5, 1, 3] and lists.queries.tolist() == [2, 2, 3, 3]
    assert lists.labels.tolist() == [1, 2, 1, 0] and lists.offsets.tolist() == [0, 2, 4] and lists.teacher is None
    lists = lists_of(data(negatives=negatives()))
    assert lists.documents.tolist() == [0, 1, 2, 4, 0, 5, 0, 1, 2, 4]
    assert lists.labels.tolist() == [1, 0, 0, 1, 0, 1, 0, 1, 0, 0]
    assert lists.queries.tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 3] and lists.offsets.tolist() == [0, 3, 5, 7, 10]


def test_a_teachers_scores_go_with_their_documents():
    grades = torch.arange(6.0)
    lists = lists_of(data(teacher=grades))
    assert lists.teacher.tolist() == [2, 3, 4, 5] and lists.labels.tolist() == [1, 2, 1, 0]
    assert lists_of(data(teacher=grades), targets="teacher").labels.tolist() == [2, 3, 4, 5]
    told = negatives(scores=torch.arange(6.0), pair_scores=10 + torch.arange(5.0))
    lists = lists_of(data(negatives=told))
    assert lists.teacher.tolist() == [10, 0, 1, 11, 2, 13, 3, 14, 4, 5]


def test_lists_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="there is no column 'scores'"):
        lists_of(data(), targets="teacher")
    for judged in ({0: 1.0}, {0: 1.0, 1: 1.0}):
        alone = Retrieval(Texts(["q"], ["red"]), Texts(["d", "e"], ["red pot", "red lamp"]), *judgements([judged]))
        with pytest.raises(ConfigError, match="at least one query must have two documents of different grades"):
            lists_of(alone)


def test_lists_of_one_grade_tell_nothing_but_a_teachers_scores():
    rows = [{0: 1.0, 1: 1.0}, {4: 1.0}, {5: 2.0, 2: 1.0}, {}]
    texts = Texts([f"q{at}" for at in range(4)], QUERIES), Texts([f"d{at}" for at in range(6)], DOCUMENTS)
    part = Retrieval(*texts, *judgements(rows))
    assert lists_of(part).queries.tolist() == [2, 2] and lists_of(part).labels.tolist() == [1, 2]
    taught = replace(part, teacher=torch.arange(5.0))
    assert lists_of(taught).queries.tolist() == [0, 0, 2, 2]


def test_documents_without_a_word_of_the_query_are_candidates_in_any_order_of_the_file():
    found = []
    for order in (list(range(6)), [5, 3, 1, 0, 2, 4]):
        documents = Texts([f"d{at}" for at in range(6)], [DOCUMENTS[at] for at in order])
        part = Retrieval(Texts(["q"], ["red"]), documents, *judgements([{0: 1.0}]))
        ids = found_for(part, "bm25", 4).ids[0].tolist()
        found.append([documents.texts[code] for code in ids])
    assert set(found[0]) == set(found[1]) and set(found[0][:2]) == {"red pot", "red lamp"} and len(set(found[0])) == 4


def test_relevant_documents_that_the_first_stage_misses_are_missed(tiny, rows):
    """One of two relevant documents is a candidate, and stands first."""
    texts = Texts(["q"], ["red lamp"]), Texts([f"d{at}" for at in range(6)], DOCUMENTS)
    part = Retrieval(*texts, *judgements([{3: 1.0, 5: 1.0}]))
    measures = [Measure.parse(name) for name in ("ap", "mrr", "recall")]
    settings = config(tiny, rows, data={"candidates": 1})
    found = task_of("rerank").judge(settings, Longest(), measures, part, part).means()
    assert found == {"ap": 0.5, "mrr": 1.0, "recall": 0.5}


def test_pairs_that_are_cut_or_have_no_rival_are_counted(tiny, rows):
    notes = task_of("rerank").read(config(tiny, rows, model={"max_length": 6})).notes
    assert any("relevant pairs of" in note and "longer than the model reads" in note for note in notes)
    assert not any("longer than" in note for note in task_of("rerank").read(config(tiny, rows)).notes)


def test_refitting_on_lists_needs_a_teacher_for_both_parts(tiny, rows):
    settings = config(
        tiny, rows, data={"rows": "lists", "targets": "teacher"}, loss={"name": "kl"}, training={"refit": True}
    )
    fit_part = data(teacher=torch.arange(6.0))
    whole = Data(data(), fit_part, data(), data())
    with pytest.raises(ConfigError, match="refit trains on the validation part too"):
        task_of("rerank").objective(settings, Longest(), whole, fit_part, None)


@pytest.fixture(scope="module")
def tiny(write_transformer, tmp_path_factory):
    return write_transformer(tmp_path_factory.mktemp("tiny"), WORDS, hidden=32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Lists in which every query is answered by the documents that hold its word."""
    path = tmp_path_factory.mktemp("rows") / "lists.jsonl"
    documents = [f"{colour} {thing} {age}" for colour in WORDS[:3] for thing in WORDS[3:6] for age in WORDS[6:]]
    lines = []
    for at, query in enumerate([*WORDS, *(f"{left} {right}" for left in WORDS[:3] for right in WORDS[3:])]):
        scores = [float(len(set(query.split()) & set(text.split()))) for text in documents[at % 3 :: 3]]
        labels = [int(score == max(scores)) for score in scores]
        lines.append({"query": query, "docs": documents[at % 3 :: 3], "labels": labels, "scores": scores})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config(tiny, rows, task="rerank", **changed):
    raw = {
        "task": task,
        "data": {"path": str(rows), "test_fraction": 0.3, "valid_fraction": 0.0, "candidates": 6, "hard": 3},
        "model": {"encoder": tiny, "max_length": 12, "dropout": "none"},
        "training": {"epochs": 40, "batch_size": 8, "learning_rate": 0.003},
    }
    if task == "retrieval":
        raw["model"]["name"] = "bi_encoder"
        raw["data"] = {name: value for name, value in raw["data"].items() if name not in ("candidates", "hard")}
    for section, values in changed.items():
        raw.setdefault(section, {}).update(values)
    if raw["data"].get("rows") == "lists" and "hard" not in changed["data"]:
        raw["data"].pop("hard", None)
    return resolve(raw)


def run(settings):
    """The objective's model before and after training, judged on the queries that it was trained on, by NDCG@5."""
    task, data = task_of(settings.task), task_of(settings.task).read(settings)
    model = task.model(settings, data)
    task.initialise(model, data.fit, seed=0)
    measures = [Measure.parse("ndcg@5")]
    judge = lambda: task.judge(settings, model, measures, data.fit, data.fit).means()["ndcg@5"]  # noqa: E731
    before = judge()
    objective = task.objective(settings, model, data, data.fit, None)
    fit(objective, task.batches(settings, data, data.fit), settings.training, seed=0)
    return before, judge(), task, data


def test_a_cross_encoder_learns_to_tell_positives_from_what_words_find(tiny, rows):
    before, after, task, data = run(config(tiny, rows))
    (name, first), *others = task.baselines(config(tiny, rows), data).items()
    words = task.judge(config(tiny, rows), first, [Measure.parse("ndcg@5")], data.fit, data.fit).means()["ndcg@5"]
    assert name == "bm25" and not others and after > before + 0.1
    assert (
        0 < words <= 1
        and task.rows(data, task.judge(config(tiny, rows), first, [Measure.parse("mrr")], data.fit, data.test)).height
    )


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        ("rerank", {"data": {"rows": "lists"}, "loss": {"name": "listnet"}}),
        ("rerank", {"data": {"rows": "lists"}, "loss": {"name": "margin_mse"}}),
        ("retrieval", {"data": {"rows": "lists", "targets": "teacher"}, "loss": {"name": "kl", "temperature": 0.1}}),
    ],
    ids=["cross-encoder, list loss", "cross-encoder, margin-MSE", "encoder, KL"],
)
def test_whole_lists_train_either_model(tiny, rows, task, changed):
    before, after, *_ = run(config(tiny, rows, task, **changed))
    assert after > before + 0.1


def test_new_queries_are_ranked_by_both_stages(tiny, rows, tmp_path):
    settings = config(tiny, rows)
    task = task_of("rerank")
    data = task.read(settings)
    model = task.model(settings, data)
    (tmp_path / "new.jsonl").write_text('{"_id": "a", "text": "red chair"}\n')
    table = task.score(settings, model, data, [tmp_path / "new.jsonl"])
    assert (
        table.height == 6
        and table["rank"].to_list() == [1, 2, 3, 4, 5, 6]
        and table["query"].unique().to_list() == ["a"]
    )
    assert table["score"].to_list() == sorted(table["score"].to_list(), reverse=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"loss": {"name": "info_nce"}}, "cannot train a model of pairs"),
        ({"loss": {"name": "soft_info_nce"}}, "cannot train a model of pairs"),
        ({"sampler": {"name": "in_batch"}}, "task rerank has no sampler"),
        ({"data": {"candidates": 0}}, "candidates"),
        ({"data": {"rows": "lists", "hard": 3}}, "hard counts the negatives of a pair"),
        ({"data": {"targets": "teacher"}}, "targets teacher are labels of whole lists"),
        ({"training": {"watch_every": 10}}, "training.watch_every 10 looks at sampled negatives: task rerank has none"),
    ],
    ids=["embedding loss", "similarities", "sampler", "candidates", "hard", "targets", "looks"],
)
def test_what_cannot_be_configured_is_refused(tiny, rows, changed, said):
    with pytest.raises(ConfigError, match=said):
        config(tiny, rows, **changed)


def test_a_first_stage_that_is_not_there_is_told_before_training(tiny, rows):
    settings = config(tiny, rows, data={"rows": "lists", "first": "nowhere/at-all"}, loss={"name": "listnet"})
    with pytest.raises(ConfigError, match="nowhere/at-all"):
        task_of("rerank").read(settings)


def test_new_queries_of_several_files_must_have_ids_of_their_own(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"_id": "1", "text": f"red {name}"}) + "\n")
    with pytest.raises(DataError, match=r"b\.jsonl: queries must have ids of their own: '1'"):
        _asked([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], Texts(["d"], ["red"]), [])


@pytest.mark.parametrize("loss", ["softmax", "sampled_softmax"])
def test_scores_of_pairs_are_not_divided_by_a_temperature_for_cosines(loss):
    assert resolve({"task": "rerank", "loss": {"name": loss}}).loss["temperature"] == 1


def test_contrast_losses_take_no_lists(tiny, rows):
    settings = config(tiny, rows, data={"rows": "lists"}, loss={"name": "bpr"})
    data = task_of("rerank").read(settings)
    with pytest.raises(ConfigError, match="takes list losses"):
        task_of("rerank").objective(settings, task_of("rerank").model(settings, data), data, data.fit, None)


def test_known_answers_are_found_where_words_do_not_tell(tmp_path):
    """Queries and documents call concepts by different words; which means which is in the training queries."""
    parts = synthesise_texts(60, (250, 1, 40), concepts=12)
    write_beir(tmp_path, dict(zip(("train", "dev", "test"), parts, strict=True)))
    settings = resolve(
        {
            "task": "rerank",
            "data": {"path": str(tmp_path), "candidates": 60, "hard": 16},
            "model": {"name": "max_sim"},
            "training": {"epochs": 8, "learning_rate": 0.03},
        }
    )
    task, data = task_of("rerank"), task_of("rerank").read(settings)
    model = task.model(settings, data)
    task.initialise(model, data.fit, seed=0)
    fit(
        task.objective(settings, model, data, data.fit, None),
        task.batches(settings, data, data.fit),
        settings.training,
        seed=0,
    )
    measures = [Measure.parse("ndcg@10")]
    (words,) = task.baselines(settings, data).values()
    found, first = (
        task.judge(settings, one, measures, data.fit, data.test).means()["ndcg@10"] for one in (model, words)
    )
    assert found > first + 0.2
