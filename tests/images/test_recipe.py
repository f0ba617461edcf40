import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import RecipeError
from testbed.images import recipe
from testbed.images.recipe import parse_recipe, read_recipe, substitute

FROM = "FROM debian:trixie-slim\n"


def one(text):
    return parse_recipe(FROM + text).instructions[1]


def test_every_known_instruction_is_read():
    found = parse_recipe(
        """
# escape stays what it is
ARG TAG=trixie-slim
FROM debian:$TAG AS only
RUN apt-get update \\
  # a comment between
    && apt-get install \\

    python3
RUN ["echo", "a b"]
COPY a.py "b c.py" /app/
COPY ["x y", "/app/z"]
ENV A=1 B="two words"
ENV OLD the whole rest
WORKDIR /app
EXPOSE 8000 53/udp
USER nobody:nogroup
LABEL about="this one"
ENTRYPOINT ["python3"]
CMD server.py --port 1
"""
    )
    said = "Arg From Run Run Copy Copy Env Env Workdir Expose User Label Entrypoint Cmd"
    assert " ".join(type(i).__name__ for i in found.instructions) == said
    run, exec_run, copy, json_copy, env, old_env = found.instructions[2:8]
    assert run.shell
    assert run.line == 5
    assert run.command[0].split() == ["apt-get", "update", "&&", "apt-get", "install", "python3"]
    assert (exec_run.command, exec_run.shell) == (("echo", "a b"), False)
    assert (copy.sources, copy.destination) == (("a.py", "b c.py"), "/app/")
    assert (json_copy.sources, json_copy.destination) == (("x y",), "/app/z")
    assert env.variables == (("A", "1"), ("B", "two words"))
    assert old_env.variables == (("OLD", "the whole rest"),)
    assert found.instructions[9].ports == ("8000/tcp", "53/udp")
    assert found.base == "debian:trixie-slim"


def test_a_continued_word_is_one_word():
    assert one("RUN ec\\\nho hi").command == ("echo hi",)


def test_a_shell_test_in_brackets_is_a_shell_command():
    assert one("RUN [ -d /x ] || mkdir /x").shell


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "starts with FROM"),
        ("RUN true", "Dockerfile:1: a recipe starts with FROM"),
        (FROM + "ADD a /b", "Dockerfile:2: unknown instruction 'ADD'.*Use COPY"),
        (FROM + "RNU true", "unknown instruction 'RNU'; this builder knows FROM, RUN"),
        (FROM + "RUN", "says nothing"),
        (FROM + FROM, "Dockerfile:2: a second FROM"),
        (FROM + "COPY --from=x a /b", "--from is not supported"),
        (FROM + "RUN --mount=type=cache x", "--mount is not supported; remove it"),
        (FROM + "COPY a", "needs a source and a destination"),
        (FROM + "COPY a b /app", "needs a folder: write '/app/'"),
        (FROM + "COPY ../a /app/", "leads out of the recipe's folder"),
        (FROM + "COPY 'a /app/", "Close the quotation mark"),
        (FROM + "RUN cat <<EOF > x", "here-documents"),
        (FROM + "CMD ['a']", "double quotes"),
        (FROM + "ENV A=1 B", "every word is NAME=value"),
        (FROM + "ENV A", "has no value"),
        (FROM + "EXPOSE web", "write a number"),
        (FROM + "ARG A=1 B=2", "one variable"),
        (FROM + "USER a b", "names one user"),
        ("FROM a b", "names one image"),
    ],
)
def test_what_is_not_known_is_refused_with_line_and_remedy(text, says):
    with pytest.raises(RecipeError, match=says):
        parse_recipe(text)


def test_an_unreadable_recipe_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        read_recipe(tmp_path / "Dockerfile")
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff\xfe")
    with pytest.raises(RecipeError, match="A recipe is a text file"):
        read_recipe(tmp_path / "Dockerfile")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A/${B}", "1/2"),
        ("${NO:-else}$NO", "else"),
        ("${A:+instead}${NO:+never}", "instead"),
        (r"\$A", "$A"),
        ("$5 costs $", "$5 costs $"),
    ],
)
def test_variables_are_filled_in(text, filled):
    assert substitute(text, {"A": "1", "B": "2"}) == filled


def refusal(text):
    """What is said against a text; a mere name where nothing is."""
    try:
        parse_recipe(text)
    except RecipeError as error:
        return str(error)
    return "Dockerfile: nothing"


@given(st.text())
def test_any_text_is_read_or_refused(text):
    assert refusal(text).startswith("Dockerfile")


@given(st.lists(st.sampled_from([*recipe._READERS, "NONSENSE"]), max_size=5), st.text(max_size=40))
def test_any_arguments_are_read_or_refused(words, rest):
    text = FROM + "".join(f"{word} {rest}\n" for word in words)
    assert refusal(text).startswith("Dockerfile:")


words = st.text(st.characters(categories=["L", "N"], include_characters=" $\"'\\"), min_size=1)


@given(st.lists(words, min_size=1, max_size=5))
def test_the_exec_form_keeps_every_word(argv):
    assert one(f"CMD {json.dumps(argv)}").command == tuple(argv)


@given(st.text(st.characters(exclude_characters="$\\")), st.dictionaries(st.text(), st.text()))
def test_text_without_a_dollar_stays(text, variables):
    assert substitute(text, variables) == text


@given(
    st.lists(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_continuing_lines_changes_nothing(parts):
    assert one("RUN " + " \\\n".join(parts)).command == one("RUN " + " ".join(parts)).command


def test_the_path_is_in_the_message():
    with pytest.raises(RecipeError, match=r"^x/Dockerfile:2: "):
        parse_recipe(FROM + "VOLUME /x", Path("x/Dockerfile"))
