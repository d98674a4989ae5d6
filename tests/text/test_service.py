"""A writer against a local server that counts what it is asked."""

import json
import subprocess
import sys

import pytest

from rankwell.errors import ConfigError, DataError, InputError, RunError
from rankwell.text.replies import Replies
from rankwell.text.service import Budget, Patience, ServiceWriter
from rankwell.text.writer import Prompt, answer

PROMPTS = [Prompt(f"p{number}", "You write.", f"Task {number}") for number in range(5)]


def writer(service, folder, slept=None, **options):
    slept = [] if slept is None else slept
    patience = Patience(timeout=5, retries=3, sleep=slept.append, chance=lambda: 0.0, now=lambda: 784111777.0)
    options = {"patience": patience, "key_variable": "TEST_KEY", "concurrency": 1, **options}
    return ServiceWriter("tiny", base_url=service.url, cache=folder, **options)


def echo(number, body):
    return f"about {body['messages'][-1]['content']}"


def test_texts_come_in_the_order_of_the_prompts(service, tmp_path):
    service.reply = echo
    seen = []
    made = writer(service, tmp_path, concurrency=4, parameters={"temperature": 0.5})
    texts = made.write(PROMPTS, progress=lambda done, of: seen.append((done, of)))
    assert texts == [f"about Task {number}" for number in range(5)]
    assert seen == [(done, 5) for done in range(6)]
    assert made.budget.used_requests == 5 and made.budget.used_tokens == 50
    body = next(body for body in service.bodies if body["messages"][1]["content"] == "Task 3")
    assert body == {
        "model": "tiny",
        "temperature": 0.5,
        "messages": [{"role": "system", "content": "You write."}, {"role": "user", "content": "Task 3"}],
    }


def test_the_key_is_sent_and_kept_nowhere(service, tmp_path):
    made = writer(service, tmp_path)
    made.write(PROMPTS[:1])
    assert service.headers[0]["Authorization"] == "Bearer sk-secret-42"
    assert "secret" not in (tmp_path / "replies.jsonl").read_text() + repr(vars(made))


def test_no_key_is_sent_where_no_variable_is_named(service, tmp_path):
    writer(service, tmp_path, key_variable="").write(PROMPTS[:1])
    assert "Authorization" not in service.headers[0]


@pytest.mark.parametrize("value", ["", "schlüssel", "two\nlines"])
def test_a_key_that_cannot_be_sent_is_told_without_it(service, tmp_path, monkeypatch, value):
    monkeypatch.setenv("TEST_KEY", value)
    with pytest.raises(ConfigError, match="TEST_KEY") as error:
        writer(service, tmp_path).write(PROMPTS)
    assert not value or value not in str(error.value)
    assert service.bodies == []


def test_a_server_that_repeats_the_key_does_not_get_it_into_errors(service, tmp_path):
    service.reply = lambda *_: (401, {}, b"bad key sk-secret-42")
    with pytest.raises(RunError, match=r"refuses the key in TEST_KEY: 401 Unauthorized: bad key …") as error:
        writer(service, tmp_path).write(PROMPTS)
    assert "secret" not in str(error.value) and len(service.bodies) == 1


def test_what_is_refused_for_now_is_asked_again(service, tmp_path):
    slept = []
    service.reply = lambda number, _: "done" if number == 3 else (429 if number else 503, {}, b"later")
    assert writer(service, tmp_path, slept).write(PROMPTS[:1]) == ["done"]
    assert slept == [1, 2, 4]  # doubled each time; chance takes nothing off here


@pytest.mark.parametrize(
    ("said", "waited"),
    [("7", 7), ("Sun, 06 Nov 1994 08:49:57 GMT", 20), ("900", 60), ("-1", 0), ("soon", 1)],
    ids=["seconds", "date", "longest", "past", "nonsense"],
)
def test_retry_after_is_honoured(service, tmp_path, said, waited):
    slept = []  # it is 08:49:37 there
    service.reply = lambda number, _: "done" if number else (429, {"Retry-After": said}, b"")
    assert writer(service, tmp_path, slept).write(PROMPTS[:1]) == ["done"]
    assert slept == [waited]


def test_a_server_that_never_recovers_is_given_up(service, tmp_path):
    service.reply = lambda *_: (500, {}, b"broken")
    with pytest.raises(RunError, match=r"did not write 'p0' in 4 attempts: 500 Internal Server Error: broken\. 0 of 1"):
        writer(service, tmp_path).write(PROMPTS[:1])
    assert len(service.bodies) == 4


def test_no_server_at_all(service, tmp_path):
    service.close()
    with pytest.raises(RunError, match="in 4 attempts: ConnectError"):
        writer(service, tmp_path).write(PROMPTS[:1])


def test_a_reply_that_cannot_be_unpacked(service, tmp_path):
    service.reply = lambda *_: (200, {"Content-Encoding": "gzip"}, b"junk")
    with pytest.raises(RunError, match="in 4 attempts: DecodingError"):
        writer(service, tmp_path).write(PROMPTS[:1])


def test_a_request_that_will_never_do_is_not_repeated(service, tmp_path):
    service.reply = lambda *_: (400, {}, b"no such model")
    with pytest.raises(RunError, match=r"400 Bad Request: no such model\. Check address, model"):
        writer(service, tmp_path).write(PROMPTS[:1])
    service.reply = lambda *_: (429, {}, b'{"error": {"code": "insufficient_quota"}}')
    with pytest.raises(RunError, match="insufficient_quota"):
        writer(service, tmp_path).write(PROMPTS[:1])
    assert len(service.bodies) == 2


def test_the_second_run_asks_only_for_what_is_missing(service, tmp_path):
    service.reply = lambda number, body: echo(number, body) if number < 3 else (400, {}, b"no more")
    with pytest.raises(RunError, match=r"3 of 5 texts were written and are kept in .*replies.jsonl: .* the other 2\."):
        writer(service, tmp_path).write(PROMPTS)
    service.bodies.clear()
    service.reply = echo
    assert writer(service, tmp_path).write(PROMPTS) == [f"about Task {number}" for number in range(5)]
    assert [body["messages"][1]["content"] for body in service.bodies] == ["Task 3", "Task 4"]
    assert writer(service, tmp_path).write(PROMPTS[::-1])[0] == "about Task 4"
    assert len(service.bodies) == 2
    writer(service, tmp_path, parameters={"temperature": 1}).write(PROMPTS[:1])
    assert len(service.bodies) == 3  # other parameters are another question


def test_the_same_question_is_asked_once(service, tmp_path):
    same = [Prompt("a", "", "Task"), Prompt("b", "", "Task")]
    assert writer(service, tmp_path).write(same) == ["text 0", "text 0"]
    assert len(service.bodies) == 1


@pytest.mark.parametrize(("budget", "says"), [(Budget(requests=2), "2 requests"), (Budget(tokens=20), "20 tokens")])
def test_the_budget_ends_a_run_and_keeps_what_it_bought(service, tmp_path, budget, says):
    with pytest.raises(RunError, match=rf"budget of {says} is spent.*2 of 5 texts were written"):
        writer(service, tmp_path, budget=budget).write(PROMPTS)
    assert len(service.bodies) == 2 == len(Replies(tmp_path / "replies.jsonl"))
    assert len(writer(service, tmp_path, budget=Budget(requests=3)).write(PROMPTS)) == 5


def test_refused_requests_count(service, tmp_path):
    service.reply = lambda *_: (500, {}, b"")
    with pytest.raises(RunError, match="budget of 2 requests"):
        writer(service, tmp_path, budget=Budget(requests=2)).write(PROMPTS)
    assert len(service.bodies) == 2


@pytest.mark.parametrize(
    "data",
    [b"<html>", b"[]", b'{"choices": []}', b'{"choices": [{}]}', b'{"choices": [{"message": {"content": 7}}]}'],
    ids=["html", "list", "no_choices", "no_message", "number"],
)
def test_replies_outside_the_protocol_end_the_run(service, tmp_path, data):
    service.reply = lambda *_: (200, {}, data)
    with pytest.raises(RunError, match=r"Check the (address|model)\. 0 of 1 texts"):
        writer(service, tmp_path).write(PROMPTS[:1])
    assert len(service.bodies) == 1


def test_texts_that_cannot_be_read_are_asked_for_again(service, tmp_path):
    replies = ["", "no JSON", '{"other": "x"}', '```json\n{"text": "A pot."}\n```']
    service.reply = lambda number, _: replies[number]
    assert writer(service, tmp_path).write([Prompt("p", "", "Task", field="text")]) == ["A pot."]
    service.reply = lambda *_: None
    with pytest.raises(RunError, match="must hold a text"):
        writer(service, tmp_path).write(PROMPTS[:1])


@pytest.mark.parametrize("reply", ["", "{}", '{"a": 1}', '{"a": " "}', "} {", "[1]"])
def test_no_answer_in_a_reply(reply):
    with pytest.raises(DataError, match="the reply must hold"):
        answer(reply, "a")


def test_a_corrupt_line_is_told_with_its_number(tmp_path):
    file = tmp_path / "replies.jsonl"
    kept = Replies(file)
    kept.add("a", "first", {})
    kept.add("b", "zwei\n…", {"id": "x"})
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"key": "c", "te')  # what a killed process may leave
    again = Replies(file)
    assert (again.get("a"), again.get("b"), again.get("c"), len(again)) == ("first", "zwei\n…", None, 2)
    assert file.read_bytes() == whole
    again.add("c", "third", {})
    assert Replies(file).get("c") == "third"
    file.write_bytes(whole.replace(b'"b"', b"b"))
    with pytest.raises(DataError, match=r"replies.jsonl, line 2: .*Remove the line"):
        Replies(file)
    file.write_text('{"key": 1, "text": "x"}\n')
    with pytest.raises(DataError, match="line 1"):
        Replies(file)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be read"):
        Replies(tmp_path / "file" / "replies.jsonl")


CHILD = """
import sys
from pathlib import Path
from rankwell.text.service import ServiceWriter
from rankwell.text.writer import Prompt
writer = ServiceWriter("tiny", base_url=sys.argv[1], cache=Path(sys.argv[2]), key_variable="", concurrency=1)
writer.write([Prompt(str(number), "You write.", f"Task {number}") for number in range(5)])
"""


def test_a_killed_run_keeps_what_was_written(service, tmp_path):
    running = []

    def reply(number, body):
        if number == 3:
            running[0].kill()  # SIGKILL, with one request open
        return echo(number, body)

    service.reply = reply
    with service.lock:  # no answer before the process is known
        process = subprocess.Popen([sys.executable, "-c", CHILD, service.url, str(tmp_path)])
        running.append(process)
    assert process.wait(60) == -9
    lines = [json.loads(line) for line in (tmp_path / "replies.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["about Task 0", "about Task 1", "about Task 2"]
    service.bodies.clear()
    service.reply = echo
    assert len(writer(service, tmp_path, key_variable="").write(PROMPTS)) == 5
    assert len(service.bodies) == 2


def test_arguments():
    with pytest.raises(ConfigError, match="http://"):
        ServiceWriter("m", cache=None, base_url="localhost:80")
    with pytest.raises(InputError, match="concurrency"):
        ServiceWriter("m", cache=None, concurrency=0)
    with pytest.raises(InputError, match="retries -1"):
        Patience(retries=-1)
    assert Patience(chance=lambda: 1.0).seconds(0) == 0.5 and Patience(chance=lambda: 0.0).seconds(9) == 60
