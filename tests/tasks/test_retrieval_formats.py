"""Pairs, triplets and labelled lists: what becomes of rows, and what is said of bad ones."""

import json

import polars as pl
import pytest
import torch

from rankwell.data.text_rows import read_text_rows
from rankwell.errors import ConfigError, DataError
from rankwell.mining.rows import write_rows
from rankwell.tasks.retrieval_data import with_negatives


def jsonl(folder, *rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, **how):
    (data,) = read_text_rows([path], **how)
    return data


def graded(data):
    """Grades by the texts of query and document."""
    queries = torch.repeat_interleave(data.judged.offsets.diff()).tolist()
    return {
        (data.queries.texts[query], data.documents.texts[document]): grade
        for query, document, grade in zip(queries, data.judged.values.tolist(), data.grades.tolist(), strict=True)
    }


def negatives(data):
    """Texts of what each pair is to be told from."""
    lists, found = data.negatives.lists, {}
    for row, (query, document) in enumerate(zip(*(side.tolist() for side in data.pairs()), strict=True)):
        codes = lists.values[lists.offsets[row] : lists.offsets[row + 1]].tolist()
        found[data.queries.texts[query], data.documents.texts[document]] = [
            data.documents.texts[code] for code in codes
        ]
    return found


@pytest.mark.parametrize(
    ("query", "positive"),
    [("anchor", "positive"), ("query", "answer"), ("question", "document"), ("sentence1", "sentence2")],
)
def test_pairs_under_their_usual_names(tmp_path, query, positive):
    data = read(jsonl(tmp_path, {query: "why", positive: "so"}, {query: "who", positive: "she"}))
    assert graded(data) == {("why", "so"): 1, ("who", "she"): 1} and data.negatives is None and data.teacher is None
    assert list(data.queries.ids) == ["q0", "q1"] and list(data.documents.ids) == ["d0", "d1"]


def test_texts_that_are_equal_are_one(tmp_path):
    rows = [("why", "so"), ("why", "because"), ("who", "so"), ("why", " so ")]
    data = read(jsonl(tmp_path, *({"anchor": query, "positive": text} for query, text in rows)))
    assert len(data.queries) == 2 and len(data.documents) == 2 and len(data) == 3
    assert data.notes == ("rows.jsonl: 1 repeated judgement merged",)


@pytest.mark.parametrize("column", ["label", "score"])
def test_labels_or_scores_of_pairs_are_grades(tmp_path, column):
    rows = [("why", "so", 1), ("why", "no", 0), ("who", "she", 0.5)]
    data = read(jsonl(tmp_path, *({"sentence1": one, "sentence2": two, column: value} for one, two, value in rows)))
    assert graded(data) == {("why", "so"): 1, ("why", "no"): 0, ("who", "she"): 0.5}
    assert len(data) == 2 and data.teacher is None


def test_labels_and_scores_of_pairs_are_grades_and_a_teacher(tmp_path):
    rows = [("why", "no", 0, -2.5), ("why", "so", 1, 3.0)]
    data = read(jsonl(tmp_path, *({"query": q, "document": d, "label": y, "score": s} for q, d, y, s in rows)))
    assert graded(data) == {("why", "no"): 0, ("why", "so"): 1} and data.teacher.tolist() == [-2.5, 3.0]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_triplets_in_every_format(tmp_path, suffix):
    table = pl.DataFrame({"anchor": ["why", "why"], "positive": ["so", "so"], "negative": ["no", "not"]})
    path = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        table.write_parquet(path)
    elif suffix == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="," if suffix == "csv" else "\t")
    assert negatives(read(path)) == {("why", "so"): ["no", "not"]}


def test_tuples_with_a_teachers_scores(tmp_path):
    row = {"anchor": "why", "positive": "so", "negative_1": "no", "negative_2": "not", "scores": [3.0, 1.0, 2.0]}
    data = read(jsonl(tmp_path, row))
    assert negatives(data) == {("why", "so"): ["no", "not"]}
    assert data.negatives.pair_scores.tolist() == [3.0] and data.negatives.scores.tolist() == [1.0, 2.0]


def test_lists_with_labels_and_a_teachers_scores(tmp_path):
    row = {"query": "why", "docs": ["no", "so", "maybe"], "labels": [0, 2, 1], "scores": [-1.0, 5.0, 2.0]}
    data = read(jsonl(tmp_path, row))
    assert graded(data) == {("why", "no"): 0, ("why", "so"): 2, ("why", "maybe"): 1}
    assert data.teacher.tolist() == [-1.0, 5.0, 2.0] and len(data) == 2


def test_lists_with_scores_alone_have_the_positive_first(tmp_path):
    data = read(jsonl(tmp_path, {"anchor": "why", "documents": ["so", "no"], "scores": [0.25, 0.5]}))
    assert graded(data) == {("why", "so"): 1, ("why", "no"): 0} and data.teacher.tolist() == [0.25, 0.5]


@pytest.mark.parametrize("docs", [[], ["", None]])
def test_queries_without_a_document_are_counted(tmp_path, docs):
    rows = [{"query": "why", "docs": ["so"], "labels": [1]}]
    rows += [{"query": f"who {n}", "docs": docs, "labels": [0] * len(docs)} for n in range(2)]
    assert "rows.jsonl: 2 queries without a document left out" in read(jsonl(tmp_path, *rows)).notes


def test_lists_in_csv_are_written_as_json(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('query,docs,labels\nwhy,"[""so"", ""no""]","[1, 0]"\n')
    assert graded(read(path)) == {("why", "so"): 1, ("why", "no"): 0}


@pytest.mark.parametrize("form", ["triplet", "n-tuple", "labeled-list"])
def test_what_mining_writes_is_read(tmp_path, form):
    texts = {"triplet": {"negative": ["no"]}, "n-tuple": {"negative_1": ["no"], "negative_2": ["not"]}}
    table = {"anchor": ["why"], "positive": ["so"], **texts.get(form, {})}
    if form == "labeled-list":
        table = {"anchor": ["why"], "documents": [["so", "no"]], "labels": [[1, 0]]}
    write_rows(tmp_path / "mined.parquet", [table])
    data = read(tmp_path / "mined.parquet")
    wrong = {"triplet": ["no"], "n-tuple": ["no", "not"]}
    if form == "labeled-list":
        assert graded(data) == {("why", "so"): 1, ("why", "no"): 0}
    else:
        assert negatives(data) == {("why", "so"): wrong[form]}


def test_files_share_their_vocabularies(tmp_path):
    one = jsonl(tmp_path, {"anchor": "why", "positive": "so"}, name="train.jsonl")
    two = jsonl(tmp_path, {"anchor": "who", "positive": "she"}, {"anchor": "when", "positive": "so"}, name="test.jsonl")
    train, test = read_text_rows([one, two])
    assert train.queries is test.queries and train.documents is test.documents and len(train.documents) == 2
    assert graded(train) == {("why", "so"): 1} and graded(test) == {("who", "she"): 1, ("when", "so"): 1}


def test_columns_of_other_names_go_in_order(tmp_path):
    path = jsonl(tmp_path, {"note": "x", "ask": "why", "wrong": "no", "right": "so"})
    assert negatives(read(path, form="triplets", columns=["ask", "right", "wrong"])) == {("why", "so"): ["no"]}
    row = {"ask": "why", "all": ["so", "no"], "grade": [2, 0], "told": [1.0, 0.5]}
    data = read(jsonl(tmp_path, row), form="lists", columns=["ask", "all", "grade", "told"])
    assert graded(data) == {("why", "so"): 2, ("why", "no"): 0} and data.teacher.tolist() == [1.0, 0.5]


def test_what_is_left_out_is_counted(tmp_path):
    rows = [
        {"anchor": "why", "positive": "so", "negative": "no"},
        {"anchor": "  ", "positive": "so", "negative": "no"},
        {"anchor": "who", "positive": "", "negative": "no"},
        {"anchor": "why", "positive": "because", "negative": "so"},
        {"anchor": "why", "positive": "because", "negative": "why"},
        {"anchor": "why", "positive": "because", "negative": ""},
        {"anchor": "why", "positive": "because", "negative": None},
    ]
    data = read(jsonl(tmp_path, *rows))
    assert negatives(data) == {("why", "so"): ["no"], ("why", "because"): []}
    assert data.notes == (
        "rows.jsonl: 1 row with an empty query left out",
        "rows.jsonl: 1 row with an empty positive left out",
        "rows.jsonl: 3 repeated judgements merged",
        "rows.jsonl: 2 empty negatives left out",
        "rows.jsonl: 1 negative that is relevant to the query left out",
        "rows.jsonl: 1 negative with the query's own text left out",
    )


def test_of_repeated_judgements_the_highest_grade_and_the_first_score_count(tmp_path):
    rows = [{"query": "why", "docs": ["so", ""], "labels": [low, 0], "scores": [low, 9]} for low in (1, 3, 2)]
    data = read(jsonl(tmp_path, *rows))
    assert graded(data) == {("why", "so"): 3} and data.teacher.tolist() == [1.0]
    assert "rows.jsonl: 3 empty documents of a list left out" in data.notes


def test_ids_that_look_like_numbers_are_texts(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("anchor,positive\n007,42\n7,42\n")
    assert graded(read(path)) == {("007", "42"): 1, ("7", "42"): 1}


BAD = {
    "no query": ({"text": "why", "positive": "so"}, r"line 2: one column must hold the query, called anchor, query"),
    "no positive": ({"anchor": "why", "text": "so"}, "line 2: one column must hold the positive"),
    "no labels": ({"query": "why", "docs": ["so"]}, "line 2: lists must have a column 'labels' or 'scores'"),
    "text is a number": ({"anchor": 7, "positive": "so"}, "line 2: anchor must be text: got 7"),
    "document is a number": (
        {"query": "why", "docs": ["so", 7], "labels": [1, 0]},
        "document 2 of docs must be text: got 7",
    ),
    "documents are text": ({"query": "why", "docs": "so", "labels": [1]}, "docs must be a list: got 'so'"),
    "too few labels": (
        {"query": "why", "docs": ["so", "no"], "labels": [1]},
        "labels must be one a document, 2: got 1",
    ),
    "label below 0": ({"query": "why", "docs": ["so", "no"], "labels": [1, -1]}, "labels must be at least 0: got -1"),
    "label is NaN": ({"anchor": "why", "positive": "so", "label": "nan"}, "label must hold finite numbers: got 'nan'"),
    "score is true": ({"anchor": "why", "positive": "so", "score": True}, "score must hold finite numbers: got True"),
    "score is missing": ({"query": "why", "docs": ["so"], "scores": [None]}, "scores must hold finite numbers"),
    "too many scores": (
        {"anchor": "why", "positive": "so", "negative": "no", "scores": [1, 2, 3]},
        "scores must be one a document, 2: got 3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_refused_by_file_and_line(tmp_path, name):
    row, said = BAD[name]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=said) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"anchor": "why \\ud83d", "positive": "so \\ud83d\\ude00"}'),
        ("a.csv", 'anchor,docs,labels\nwhy,"[""so"", ""\\ud83d""]","[1, 0]"'),
    ],
    ids=["JSON lines", "JSON in CSV"],
)
def test_half_a_surrogate_pair_is_refused(tmp_path, name, text):
    (tmp_path / name).write_text(text + "\n")
    with pytest.raises(
        DataError, match=r"a\.\w+, line [12]: texts must be Unicode: got half of a pair of surrogates, .ud83d"
    ):
        read(tmp_path / name)


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"anchor": "why", "positive": "so \\ud83d\\ude00"}\n')
    assert graded(read(tmp_path / "a.jsonl")) == {("why", "so \U0001f600"): 1}


def test_a_column_that_a_later_line_lacks(tmp_path):
    path = jsonl(tmp_path, {"anchor": "why", "positive": "so"}, {"anchor": "who"})
    with pytest.raises(DataError, match="line 2: the column 'positive' must be there, as in the first line"):
        read(path)


@pytest.mark.parametrize(
    "rows",
    [[], [{"anchor": "", "positive": "so"}], [{"anchor": "why", "positive": "so", "label": 0}]],
    ids=["empty", "empty texts", "no relevant"],
)
def test_a_file_without_a_relevant_pair_is_refused(tmp_path, rows):
    with pytest.raises(DataError, match="at least one query must have a relevant document"):
        read(jsonl(tmp_path, *rows))


def test_triplets_must_have_negatives(tmp_path):
    path = jsonl(tmp_path, {"anchor": "why", "positive": "so"})
    with pytest.raises(DataError, match="line 1: triplets must have a column 'negative'"):
        read(path, form="triplets")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"columns": ["a", "b"]}, "need the form"),
        ({"form": "pairs", "columns": ["a"]}, "pairs need 2 or 3 names of columns"),
        ({"form": "triplets", "columns": ["a", "b"]}, "triplets need 3 or more names"),
    ],
    ids=["form", "too few", "no negative"],
)
def test_names_of_columns_must_fit_the_form(tmp_path, how, said):
    with pytest.raises(ConfigError, match=said):
        read(jsonl(tmp_path, {"a": "why", "b": "so"}), **how)


def test_a_named_column_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="the column 'right' must be there: there are 'a', 'b'"):
        read(jsonl(tmp_path, {"a": "why", "b": "so"}), form="pairs", columns=["a", "right"])


def mined(folder, *rows):
    """A pair of data with a corpus of three documents, and what its mined negatives become."""
    part = read(jsonl(folder, {"query": "why", "docs": ["so", "no", "not"], "labels": [1, 0, 0]}))
    return with_negatives(part, jsonl(folder, *rows, name="mined.jsonl"), unknown="error", notes=[]).negatives


def test_mined_negatives_bring_a_teachers_scores(tmp_path):
    row = {"anchor": "why", "positive": "so"}
    found = mined(
        tmp_path, {**row, "negative": "not", "scores": [3.0, 1.0]}, {**row, "negative": "no", "scores": [3.0, 2]}
    )
    assert found.lists.values.tolist() == [2, 1] and found.scores.tolist() == [1.0, 2.0]
    assert found.pair_scores.tolist() == [3.0]


def test_scores_that_some_rows_lack_do_not_count(tmp_path):
    row = {"anchor": "why", "positive": "so"}
    found = mined(tmp_path, {**row, "negative": "not", "scores": [3.0, 1.0]}, {**row, "negative": "no"})
    assert len(found.lists.values) == 2 and found.scores is None and found.pair_scores is None


@pytest.mark.parametrize("scores", [[1.0], [1.0, "x"], 2.0, [1.0, float("nan")]])
def test_a_teachers_scores_of_another_form_are_refused(tmp_path, scores):
    with pytest.raises(DataError, match=r"mined\.jsonl, line 1: scores must be 2 finite numbers"):
        mined(tmp_path, {"anchor": "why", "positive": "so", "negative": "no", "scores": scores})
