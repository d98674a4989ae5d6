"""Items, and negatives made of their attributes."""

import pytest

from rankwell.errors import DataError, InputError
from rankwell.text.items import Items, read_attributes
from rankwell.text.offline import OfflineWriter
from rankwell.text.writer import Prompt


def parts(text):
    return dict(part.split(": ", 1) for part in text.removesuffix(".").split(". "))


def prompts(items, n=20):
    return [Prompt(f"{item}/{turn}", "", "", about=item) for item in items.attributes for turn in range(n)]


def test_some_attributes_stay_and_some_change(pots):
    asked = prompts(pots)
    for prompt, text in zip(asked, OfflineWriter(pots, seed=3).write(asked), strict=True):
        own = {name: value for name, value in pots.of(prompt.about).items() if value}
        made = parts(text)
        assert made.keys() == own.keys()
        assert all(value in pots.values[name] for name, value in made.items())
        assert made["title"] != own["title"]  # titles tell items apart
        kept = [name for name in own if made[name] == own[name]]
        assert len(kept) == len(own) // 2 and "title" not in kept  # half of the others, rounded up


def test_every_other_value_may_come(pots):
    texts = OfflineWriter(pots, seed=0, keep=0).write(prompts(pots, 60)[:60])
    assert {parts(text)["colour"] for text in texts} == {"blue", "green", "white"}
    assert {parts(text)["kind"] for text in texts} == {"lamp", "chair"}


def test_a_text_depends_on_seed_and_id_alone(pots):
    asked = prompts(pots, 3)
    writer = OfflineWriter(pots, seed=1)
    texts = writer.write(asked)
    assert texts == [writer.write([prompt])[0] for prompt in asked]
    assert texts == writer.write(asked[::-1])[::-1]
    assert texts != OfflineWriter(pots, seed=2).write(asked)
    assert len(set(texts)) > len(asked) // 2


def test_what_cannot_be_exchanged():
    same = Items({"a": {"kind": "pot"}, "b": {"kind": "pot"}})
    with pytest.raises(DataError, match="nothing can be exchanged"):
        OfflineWriter(same).write([Prompt("1", "", "", about="a")])
    alone = Items({"a": {"kind": "pot"}})
    with pytest.raises(DataError, match="nothing can be exchanged"):
        OfflineWriter(alone).write([Prompt("1", "", "", about="a")])
    with pytest.raises(DataError, match="Did you mean 'a'"):
        OfflineWriter(same).write([Prompt("1", "", "", about="aa")])
    with pytest.raises(InputError, match="keep"):
        OfflineWriter(same, keep=2)


def test_one_attribute_that_differs_is_enough():
    items = Items({"a": {"kind": "pot", "colour": "red"}, "b": {"kind": "pot", "colour": "blue"}})
    assert OfflineWriter(items, keep=1).write([Prompt("1", "", "", about="a")]) == ["kind: pot. colour: blue."]


def test_a_file_of_items(tmp_path):
    file = tmp_path / "items.csv"
    file.write_text('\ufeffitem,title,tags\n1,"A, b",x  y\n2,"two\nlines",\n', encoding="utf-8")
    items = read_attributes(file)
    assert items.names == ("title", "tags")
    assert items.text("1") == "title: A, b. tags: x y." and items.text("2") == "title: two lines."
    (tmp_path / "items.tsv").write_text("id\tname\tsize\n7\tPot\t3\n")
    assert read_attributes(tmp_path / "items.tsv", item="id", columns=["name"]).of("7") == {"name": "Pot"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id,title\n1,a\n", "line 1: there is no column 'item'"),
        ("item\n1\n", "line 1: there must be a column of attributes"),
        ("item,title\n", "there are none"),
        ("", "line 1"),
        ("item,title\n1,a\n1,b\n", "line 3: each item must come once"),
        ("item,title\n1,a,b\n", "line 2: each line must have the 2 fields"),
        ("item,title\n,a\n", "line 2: each item must have an id"),
        ('item,title\n1,"a\n', "must be valid CSV"),
    ],
    ids=["no_item", "no_attribute", "no_rows", "empty", "twice", "width", "no_id", "quote"],
)
def test_bad_files_of_items(tmp_path, content, says):
    file = tmp_path / "items.csv"
    file.write_text(content)
    with pytest.raises(DataError, match=says):
        read_attributes(file)
    with pytest.raises(DataError, match="cannot be read"):
        read_attributes(tmp_path / "none.csv")
