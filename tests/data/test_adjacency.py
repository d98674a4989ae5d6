import re

import pytest

from rankwell.data import read_dataset, read_interactions
from rankwell.errors import ConfigError, DataError


def write(folder, text, name="train.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def listed(data):
    return list(zip(data.user_ids.gather(data.users), data.item_ids.gather(data.items), strict=True))


def test_lines_become_pairs_in_order_and_ids_stay_text(tmp_path):
    data = read_interactions(write(tmp_path, "007 5 3\n7 3 05\n007 9\n"))
    assert listed(data) == [("007", "5"), ("007", "3"), ("7", "3"), ("7", "05"), ("007", "9")]
    assert data.user_ids.to_list() == ["007", "7"]
    assert data.item_ids.to_list() == ["5", "3", "05", "9"]
    assert data.weights is None and data.timestamps is None


@pytest.mark.parametrize(
    "text", ["a x y\nb x\n", "a x y\r\nb x\r\n", "a x y \nb x  \n\n\n", "a x y\nb x", "\ufeffa x y\nb x"]
)
def test_ends_of_lines_and_files_as_they_occur(tmp_path, text):
    assert listed(read_interactions(write(tmp_path, text))) == [("a", "x"), ("a", "y"), ("b", "x")]


def test_another_delimiter(tmp_path):
    data = read_interactions(write(tmp_path, "ann lee\tgreen tea\tjam\n"), delimiter="\t")
    assert listed(data) == [("ann lee", "green tea"), ("ann lee", "jam")]


def test_a_user_without_items_is_noted_and_has_no_code(tmp_path):
    data = read_dataset(write(tmp_path, "a x\nb\nc x \n"))
    assert data.notes == ("train.txt: 1 user line has no items",)
    assert data.train.user_ids.to_list() == ["a", "c"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a x\nb x  y\n", 2, "field 3 of the line, an item, is empty"),
        ("a x\nb x\n y z\n", 3, "field 1 of the line, the user, is empty"),
        ("a x\n\nb x\n", 2, "this one is blank"),
        ("a x\n   \nb x\n", 2, "this one is blank"),
        ("a x\nb\tx\n", 2, "this line has tabs"),
        ("a x\nb x\x00\n", 2, "control character 0x00"),
        ("a x\nb x\nc \x1b[0m\n", 3, "control character 0x1b"),
        (b"a x\nb caf\xe9\n", 2, "must be UTF-8: got the byte 0xe9"),
        (b"\xff\xfea\x00", 1, "must be UTF-8"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, line, says):
    path = write(tmp_path, text)
    with pytest.raises(DataError, match=re.escape(f"{path}, line {line}: ") + ".*" + re.escape(says)):
        read_interactions(path)


@pytest.mark.parametrize(("text", "delimiter"), [("1,2,3\n4,5\n", ","), ("1;2\n", ";"), ("1::2::3\n", ":")])
def test_another_delimiter_is_recognised(tmp_path, text, delimiter):
    with pytest.raises(DataError, match=rf"train.txt.*no line has an item.*--data.delimiter '{delimiter}'"):
        read_interactions(write(tmp_path, text))


def test_no_items_at_all(tmp_path):
    with pytest.raises(DataError, match="no line has an item"):
        read_interactions(write(tmp_path, "a\nb\n"))


def test_options_that_adjacency_text_has_not(tmp_path):
    path = write(tmp_path, "a x\n")
    with pytest.raises(ConfigError, match=r"--data.weight stars cannot be read"):
        read_interactions(path, weight="stars")
    with pytest.raises(ConfigError, match=r"--data.delimiter must be one ASCII character: got '::'"):
        read_interactions(path, delimiter="::")
