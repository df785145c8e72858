"""The documents name only commands and options that exist, and the files they link to are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p2pfl.cli import SUBCOMMANDS, app, load
from tests.support.source import PACKAGE, ROOT

DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        *(path for place in ("p2pfl", "tui", "certs", "tests") for path in (ROOT / place).rglob("*.md")),
    ]
)

OF_COMMANDS = [path for path in DOCUMENTS if path.parent.name != "bench"]
"""The benches are a program of their own, with options of their own."""

FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "sh", "bash")
"""What a block of commands is marked with; what programs print is marked otherwise."""
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|[\s/(])p2pfl\s+([^#&|\n]+)")
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
SECTION = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
SOURCE = re.compile(r"(?:[a-z_]+/)+[a-z_]+\.py")


def options(command: Any) -> set[str]:
    """Return every option of *command*."""
    return {"--help"} | {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def commands() -> dict[str, set[str]]:
    """Return the options of every command there is, by its words after `p2pfl`."""
    found = {"": {"--version", "--help"}}
    for name in SUBCOMMANDS:
        command = load(name)
        found[name] = options(command)
        for inner, subcommand in getattr(command, "commands", {}).items():
            found[f"{name} {inner}"] = options(subcommand)
    for starts_a_node in ("continue", "up"):  # they hand on every option they do not know
        found[starts_a_node] |= found["node"]
    return found


def unknown(text: str, known: dict[str, set[str]]) -> Iterator[str]:
    """Yield what a document's *text* calls commands or options of p2pfl that are none."""
    code = [line for mark, block in FENCED.findall(text) if mark in SHELL for line in block.splitlines()]
    spans = INLINE.findall(FENCED.sub("", text))
    every = set().union(*known.values())
    for line in [*code, *spans]:
        for words in COMMAND.findall(line):
            bare = [word for word in words.split() if re.fullmatch("[a-z]+", word)]
            is_group = any(name.startswith(f"{bare[0]} ") for name in known) if bare else False
            name = " ".join(bare[: 2 if is_group else 1])
            if name not in known:
                yield f"p2pfl {words}"
                continue
            yield from (
                f"p2pfl {name} {option}" for option in OPTION.findall(words) if option not in known[name]
            )
    for span in spans:
        if span.startswith("-") and (option := OPTION.match(span)) and option[0] not in every:
            yield span


@pytest.mark.parametrize("path", OF_COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_and_option_in_a_document_exists(path: Path) -> None:
    assert list(unknown(path.read_text(encoding="utf-8"), commands())) == []


@pytest.mark.parametrize(
    "text",
    [
        "```console\np2pfl nod --peers x\n```",
        "```console\n$ .venv/bin/p2pfl node --pears x:1\n```",
        "Run `p2pfl certs make`.",
        "Add `--no-such-option`.",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(text: str) -> None:
    known = {"": {"--help"}, "node": {"--peers"}, "certs": {"--help"}, "certs init": {"--help"}}
    assert list(unknown(text, known))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_a_document_links_to_is_there(path: Path) -> None:
    links = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (Path(path).parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_section_a_document_links_to_is_there(path: Path) -> None:
    missing = []
    for file, anchor in SECTION.findall(path.read_text(encoding="utf-8")):
        if "://" in file:
            continue
        headings = HEADING.findall(((path.parent / file) if file else path).read_text(encoding="utf-8"))
        anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        if anchor not in anchors:
            missing.append(f"{file}#{anchor}")
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_source_a_document_names_is_there(path: Path) -> None:
    """A source is named from the top, from the package, or from the document's own folder."""
    places = (ROOT, PACKAGE, path.parent)
    spans = INLINE.findall(FENCED.sub("", path.read_text(encoding="utf-8")))
    named = [span for span in spans if SOURCE.fullmatch(span)]
    assert [span for span in named if not any((place / span).is_file() for place in places)] == []


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_line_about_a_subcommand_is_its_own_first_line(name: str) -> None:
    first = load(name).help.strip().split("\n\n")[0]
    assert SUBCOMMANDS[name].help == " ".join(first.split())


def test_the_main_help_shows_the_description_of_the_package() -> None:
    described = re.search(
        r'^description = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert described is not None
    assert app.registered_callback is not None
    assert app.registered_callback.callback is not None
    assert app.registered_callback.callback.__doc__ == described[1]
