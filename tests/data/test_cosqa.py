import json
from pathlib import Path

import pytest

from rankwell.data.cosqa import described, read_cosqa
from rankwell.data.synthetic_texts import write_beir
from rankwell.errors import DataError
from rankwell.tasks.retrieval_data import RetrievalData, read

REAL = Path(__file__).parents[3] / "shared" / "data" / "cosqa"
CODES = ["def a(): 0", "def b(): 1", "def c(): 2", "def d(): 3"]


def row(doc, code, label=1):
    return {"idx": "x", "doc": doc, "code": CODES[code], "label": label}


def write(folder, **changed):
    files = {
        "code_idx_map.txt": {code: number for number, code in reversed(list(enumerate(CODES)))},
        "cosqa-dev.json": [row("one", 3), row("two", 3, 0), row("asked", 2), row("near", 0)],
        "cosqa-retrieval-dev-500.json": [row("asked", 1)],
        "cosqa-retrieval-test-500.json": [row("other", 0)],
    }
    for name, content in {**files, **changed}.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def judged(part):
    counts = part.judged.offsets.diff().tolist()
    queries = [text for text, count in zip(part.queries.texts, counts, strict=True) for _ in range(count)]
    codes = [part.documents.texts[code] for code in part.judged.values.tolist()]
    return dict(zip(zip(queries, codes, strict=True), part.grades.tolist(), strict=True))


def test_parts_share_texts_and_nothing_that_is_asked_of_them(tmp_path):
    train, valid, test = read_cosqa(write(tmp_path))
    assert list(train.documents.texts) == CODES and list(train.documents.ids) == ["0", "1", "2", "3"]
    assert train.queries is test.queries and train.documents is valid.documents
    assert judged(train) == {("one", CODES[3]): 1, ("two", CODES[3]): 0}
    assert judged(valid) == {("asked", CODES[1]): 1} and judged(test) == {("other", CODES[0]): 1}
    assert train.notes == (
        "cosqa-dev.json: 1 of 4 pairs left out, whose query is one of validation or test",
        "cosqa-dev.json: 1 of 4 pairs left out, whose code answers a query of validation or test",
    )


def test_codes_of_answers_stay_if_asked_for(tmp_path):
    train = read_cosqa(write(tmp_path), apart=False).train
    assert ("near", CODES[0]) in judged(train) and len(train.notes) == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cosqa-dev.json", "{", "cosqa-dev.json: the file must be JSON"),
        ("cosqa-dev.json", {}, "must be a list of pairs: got dict"),
        ("cosqa-dev.json", [row("one", 3), {"doc": "two"}], "pair 2: doc and code must be texts"),
        ("cosqa-dev.json", [row("one", 3, 2)], "pair 1: label must be 0 or 1: got 2"),
        ("cosqa-dev.json", [{**row("one", 3), "code": "def z(): 9"}], "pair 1: the code must be in code_idx_map.txt"),
        ("code_idx_map.txt", {"a": 0, "b": 0}, "must number its codes from 0"),
    ],
    ids=["no JSON", "no list", "no code", "label", "stranger", "numbers"],
)
def test_files_of_another_form_are_refused(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        read_cosqa(write(tmp_path, **{name: content}))


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(DataError, match=r"code_idx_map\.txt: there is no such file"):
        read_cosqa(tmp_path)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ('def f():\n    r"""Sort. Then\n    print."""\n    return 1', "Sort"),
        ("def f():\n    '''\n    Sort a\n    list\n\n    More.\n    '''\n    return 1", "Sort a list"),
        ('def f(x):\n    """Sort\n    :param x: it\n    """\n    return 1', "Sort"),
    ],
    ids=["sentence", "paragraph", "parameters"],
)
def test_a_docstring_is_one_half_of_a_pair(code, says):
    half = described(code)
    assert half.says == says and "Sort" not in half.does and half.does.endswith("\n    return 1")


@pytest.mark.parametrize("code", ["def f(): return 1", 'def f():\n    """  """\n    return 1', '"""Sort."""'])
def test_without_two_halves_there_is_no_pair(code):
    assert described(code) is None


@pytest.mark.skipif(not REAL.is_dir(), reason="needs CoSQA in ../shared/data/cosqa")
def test_the_published_files():
    train, valid, test = read_cosqa(REAL)
    assert [len(part) for part in (train, valid, test)] == [223, 500, 500] and len(test.documents) == 6267
    assert not set(train.asked().tolist()) & set(test.asked().tolist())
    assert not set(train.judged.values.tolist()) & set(test.judged.values.tolist() + valid.judged.values.tolist())


def test_as_beir_has_it_the_command_trains_on_it(tmp_path):
    parts = read_cosqa(write(tmp_path))
    folder = tmp_path / "beir"
    write_beir(folder, dict(zip(("train", "dev", "test"), parts, strict=True)))
    data = read(RetrievalData(path=str(folder)), seed=0)
    assert judged(data.fit) == judged(parts.train) and judged(data.valid) == judged(parts.valid)
    assert judged(data.test) == judged(parts.test) and list(data.test.documents.ids) == ["0", "1", "2", "3"]
