"""Templates: the parts that the papers name, filled in."""

import pytest

from rankwell.errors import ConfigError
from rankwell.text.prompts import Template, load_template
from rankwell.text.writer import answer


@pytest.mark.parametrize("name", ["syneg", "hnlmrec", "user_profile", "item_profile"])
def test_packaged_templates_leave_nothing_blank(name):
    template = load_template(name)
    prompt = template.prompt("p", positive="A {kettle}.", query="likes tea", domain="kitchens", turn=4, about="i1")
    assert (prompt.id, prompt.about) == ("p", "i1") and prompt.field and "kitchens" in prompt.system
    assert "A {kettle}." in prompt.user  # what is filled in is not read as a template
    shown = prompt.user[prompt.user.index('{"') : prompt.user.index('"}') + 2]
    assert answer(shown, prompt.field)  # the reply that it asks for is one that is understood


def test_syneg_has_its_parts():
    user = load_template("syneg").prompt("p", positive="the document", query="the query", domain="law").user
    order = [
        user.index(part)
        for part in (
            "Task:",
            "hard negative shares",
            "domain: law",
            "difficulty",
            "length",
            "reflect",
            "JSON",
            "Query: the query",
        )
    ]
    assert order == sorted(order)


def test_turns_go_through_difficulties_and_lengths():
    template = Template("", "{difficulty} {length}", difficulties=("a", "b"), lengths=("x", "y"))
    texts = [template.prompt("p", positive="", turn=turn).user for turn in range(5)]
    assert texts == ["a x", "b x", "a y", "b y", "a x"]


def test_a_template_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('system = "S"\ntask = "T {positive}"\nexample = "E {{}}"\nlengths = ["short"]\n')
    template = load_template(str(file))
    prompt = template.prompt("p", positive="x")
    assert (prompt.system, prompt.user, prompt.field) == ("S", "T x\n\nE {}", "")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("task = ", "is not TOML"),
        ('tasks = "x"', "no part 'tasks'. Did you mean 'task'"),
        ('system = "x"', "must have one of the parts"),
        ('task = "{item}"', "blank {item}"),
        ('task = "{"', "write braces"),
        ('task = "x"\nlengths = []', "at least one"),
    ],
    ids=["toml", "part", "none", "blank", "brace", "lengths"],
)
def test_bad_templates(tmp_path, content, says):
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=says):
        load_template(str(file))


def test_no_such_template():
    with pytest.raises(ConfigError, match=r"no template 'syneq'.*Did you mean 'syneg'"):
        load_template("syneq")
