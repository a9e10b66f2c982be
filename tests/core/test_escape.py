"""Names that would act on a terminal, in JSON, TOML or Markdown are shown and do nothing."""

from __future__ import annotations

import json
import tomllib
from html.parser import HTMLParser

import pytest

from semiseg_cli.core.config.toml import to_toml
from semiseg_cli.core.escape import code, fenced, markdown, one_line, printable, printable_json


def test_control_characters_are_seen_and_everything_else_stays() -> None:
    assert printable("a\x1b]0;title\x07b\x9b31m\r\x7f") == r"a\x1b]0;title\x07b\x9b31m\x0d\x7f"
    assert printable("evil\u202egpj.exe\u2066") == r"evil\u202egpj.exe\u2066"
    assert printable("not UTF-8: \udcff") == r"not UTF-8: \udcff"
    plain = "Straße\t[/] :cat: 猫 עברית 👩‍💻\n%s \\x1b"
    assert printable(plain) == plain
    assert one_line("a\nmethod.tau = 0") == r"a\nmethod.tau = 0"


@pytest.mark.parametrize("number", [*range(32), 127, *range(128, 160), 0x202E, 0x2069, 0xDCFF])
def test_json_is_as_visible_and_reads_back_the_same(number: int) -> None:
    name = f"a{chr(number)}b"
    text = printable_json(json.dumps({name: name}, ensure_ascii=False))
    assert json.loads(text) == {name: name}
    assert printable(text) == text
    assert "\n" not in text


def test_an_origin_cannot_end_its_comment() -> None:
    text = to_toml({"train.steps": 5}, {"train.steps": "settings\n[method]\ntau = 0\x1b.toml"})
    assert tomllib.loads(text) == {"train": {"steps": 5}}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("road", "road"),
        ("dinov2_s", "dinov2_s"),
        ("_x_", r"\_x\_"),
        ("a|b", r"a\|b"),
        ("[click](javascript:alert(1))", r"\[click\](javascript:alert(1))"),
        ("![](http://x)", r"!\[\](http://x)"),
        ("`code`", r"\`code\`"),
        ("**b** ~~s~~", r"\*\*b\*\* \~\~s\~\~"),
        ("two\nlines\x1b", r"two lines\\x1b"),
        (r"\|", r"\\\|"),
    ],
)
def test_markdown_shows_words(name: str, shown: str) -> None:
    assert markdown(name) == shown


def test_markdown_holds_no_element() -> None:
    found = list[str]()

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            found.append(tag)

        def handle_data(self, data: str) -> None:
            found.append(data)

    parser = Parser()
    parser.feed(markdown("<script>alert(1)</script><img src=x onerror=y>&lt;"))
    parser.close()
    assert "".join(found) == "<script>alert(1)</script><img src=x onerror=y>&lt;"


def test_code_cannot_be_left() -> None:
    assert code("a b") == "`a b`"
    assert code("a`b``c") == "```a`b``c```"
    assert code("`a") == "`` `a ``"
    text = fenced('x = "```"\n````', "python")
    assert text.splitlines()[0] == "`````python"
    assert text.splitlines()[-1] == "`````"
