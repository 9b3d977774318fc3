"""`start_server.sh`: written for a config and read back."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agents.launcher import FILE, read_script, write_script
from engines.contract import Model
from engines.registry import engine


def test_a_written_launcher_is_read_back(model: Model, tmp_path: Path) -> None:
    config = {"max-num-seqs": 32, "enforce-eager": True}
    (tmp_path / FILE).write_text(write_script(engine("simulated"), config, model))
    script = read_script(tmp_path)
    assert (script.engine, script.config) == ("simulated", config)


def test_a_written_launcher_listens_where_it_is_told(model: Model, tmp_path: Path) -> None:
    text = write_script(engine("simulated"), {}, model)
    (tmp_path / FILE).write_text(text.replace("exec ", "exec echo "))
    said = subprocess.run(
        ["bash", FILE],
        cwd=tmp_path,
        env={**os.environ, "PORT": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--port 4711" in said.stdout
    assert str(model.path) in said.stdout


@pytest.mark.parametrize(
    "text",
    ["", "exec server", "# CEILING_CONFIG {broken", '# CEILING_CONFIG {"engine": 3}',
     '# CEILING_CONFIG {"engine": "vllm", "config": {"flag": [1]}}',
     '# CEILING_CONFIG {"engine": "vllm", "config": {"flag": NaN}}',
     '# CEILING_CONFIG {"engine": "vllm", "config": {"flag": 1e999}}',
     '# CEILING_CONFIG {"engine": "vllm", "config": {"flag": "\\ud800"}}',
     '# CEILING_CONFIG {"engine": "\\ud800", "config": {}}',
     '# CEILING_CONFIG {"engine": "vllm", "config": {"flag": ' + "9" * 5000 + "}}",
     '# CEILING_CONFIG {"engine": ' + "[" * 200_000 + "]" * 200_000 + "}"],
    ids=str.__len__,
)  # fmt: skip
def test_a_launcher_without_a_hint_is_told_by_its_hash(text: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text)
    script = read_script(tmp_path)
    assert (script.engine, script.config) == ("launcher", {"script": script.sha256[:12]})


def test_a_launcher_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("held out")
    (tmp_path / FILE).symlink_to(tmp_path / "secret")
    assert read_script(tmp_path).text == ""
