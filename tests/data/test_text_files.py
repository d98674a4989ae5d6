import csv
import io

import pytest

from rankwell.data.text_files import line_of_record, read_text
from rankwell.errors import DataError


def test_line_of_record_counts_lines_as_an_editor_does():
    data = b'user,item\n"a\nb\nc",x\nd,y\n"e\n",z\nf,w'
    records = list(csv.reader(io.StringIO(data.decode())))
    # A record starts one line after the line ends of all records before it.
    expected, line = [], 1
    for record in records:
        expected.append(line)
        line += 1 + sum(field.count("\n") for field in record)
    assert [line_of_record(data, ",", number, quoting=True) for number in range(len(records))] == expected
    assert line_of_record(b"h\na\nb", ",", 2, quoting=False) == 3


def test_a_missing_file_says_what_is_there(tmp_path):
    (tmp_path / "train.txt").write_text("a x\n")
    with pytest.raises(DataError, match=r"trian.txt: there is no such file. In that folder: train.txt"):
        read_text(tmp_path / "trian.txt")


def test_a_folder_is_not_a_readable_file(tmp_path):
    with pytest.raises(DataError, match="must be readable"):
        read_text(tmp_path)


def test_old_line_ends_become_new_ones(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\rb\r\nc\n\n")
    assert read_text(tmp_path / "a.txt") == b"a\nb\nc"
