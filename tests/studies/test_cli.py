"""The command line from outside: help, exit codes, one-line errors, results on stdout."""

from __future__ import annotations

import hashlib
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engines import registry
from engines.server import Server
from scenarios import noise
from scenarios.models import open_model
from studies import cli
from studies.errors import EXPECTED
from tests.scenarios.plain_text import write_jsonl
from tests.studies.conftest import HOST, MODEL, MakeRun
from tests.tiny_model import make_tiny_model

COMMANDS = [
    ("demo",),
    ("doctor",),
    ("engines", "list"),
    ("engines", "add"),
    ("engines", "install"),
    ("engines", "check"),
    ("models", "fetch"),
    ("score",),
    ("baseline",),
    ("search",),
    ("agent",),
    ("agents", "list"),
    ("study",),
    ("compare",),
    ("report",),
    ("bundle",),
]


class Here:
    """Runs a command line in this process, which is quicker where only what it says matters."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        status = cli.run([str(argument) for argument in arguments])
        said = self._capsys.readouterr()
        return subprocess.CompletedProcess([], status, said.out, said.err)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.chdir(tmp_path)
    return Here(capsys)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    make_tiny_model(path)
    return path


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(here: Here, command: tuple[str, ...]) -> None:
    done = here(*command, "--help")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Example: ceiling {' '.join(command)}" in done.stdout


def test_it_says_its_version(here: Here) -> None:
    assert here("--version").stdout.startswith("ceiling 0.")


def test_help_is_instant() -> None:
    """Nothing heavy may be imported: the modules are counted, since a clock depends on the machine."""
    code = (
        "import sys; from studies.cli import run; run(['--help']);"
        "print(sorted({'ray', 'pandas', 'optuna', 'numpy', 'pyarrow', 'httpx'} & set(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frobnicate",), "Choose one of demo, doctor"),
        (("search", "--frob"), "See `ceiling search --help`"),
        (("engines", "remove"), "Choose one of list, add, install"),
        (("score",), "URL is missing"),
        (("models", "fetch", "gpt-9"), "fetch one of smollm2-135m"),
        (("engines", "install", "frob"), "one of"),
        (("engines", "install", "tgi"), "put text-generation-launcher on PATH"),
        (("engines", "add", "torch", "--container", "x"), "does not run in a container"),
        (("bundle", "out", "--part-size", "huge"), "write it as 60M"),
        (("compare", "nowhere"), "nowhere holds no run"),
        (("compare", "nowhere", "--focus", "E"), "'A', 'B', 'C', 'D'"),
        (("report", "nowhere", "--html", "x.html"), "nowhere holds no run"),
        (("study", "nowhere.yaml"), "studies/cpu_agents_vs_search.yaml"),
        (("study", sys.executable), "cannot be read as text"),
        (("score", "http://127.0.0.1:1", "--out", "/proc/nowhere"), "/proc/nowhere takes no files"),
        (("score", "http://127.0.0.1:1", "--out", sys.executable), "name another folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(here: Here, arguments: tuple[str, ...], said: str) -> None:
    done = here(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    assert said in lines[0]


SEARCH = ("search", "--engine", "simulated", "--scenario", "C", "--profile", "smoke", "--budget", "60s")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"--engine": "frob"}, "no engine 'frob': one of torch"),
        ({"--engine": ","}, "say --engine vllm"),
        ({"--scenario": "E"}, "profile smoke has A, B, C, D"),
        ({"--profile": "huge"}, "choose cpu"),
        ({"--budget": "soon"}, "90s, 30m or 2h"),
        ({"--planner": "magic"}, "one of random, tpe, gp, smac"),
        ({"--strategy": "magic"}, "one of ceiling"),
        ({"--fix": "=8"}, "FLAG=VALUE"),
        ({"--fix": "frob=1"}, "no flag 'frob'"),
        ({"--fix": "frob"}, "no flag 'frob'"),
        ({"--set": "max-num-seqs"}, "FLAG=VALUE"),
        ({"--set": "max-num-seq=8"}, "did you mean max-num-seqs?"),
        ({"--space": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ({"--space": "/etc/passwd"}, "/etc/passwd: no space"),
        ({"--space": sys.executable}, "cannot be read as text"),
        ({"--set": "max-num-seqs=8", "--fix": "max-num-seqs=16"}, "both pin it: drop one"),
        ({"--text": "frob"}, "sotu, longbench-v2 or jsonl:FILE"),
        ({"--resume": None}, "add --run DIR"),
        ({"--model": "nowhere"}, "ceiling models fetch smollm2-135m"),
        ({"--quality": "sums"}, "say past-tense, recall or mmlu-pro:FILE"),
        ({"--quality": "mmlu-pro:nowhere.jsonl"}, "nowhere.jsonl cannot be read"),
        ({"--quality": "past-tense"}, "the text of simulated comes from no model"),
    ],
)
def test_a_search_refuses_bad_input(
    here: Here, model: Path, changed: dict[str, str | None], said: str
) -> None:
    options = dict(zip(SEARCH[1::2], SEARCH[2::2], strict=True)) | {"--model": str(model)} | changed
    done = here("search", *(part for pair in options.items() for part in pair if part is not None))
    assert (done.returncode, done.stdout) == (2, "")
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ") and said in line
    assert "Traceback" not in done.stderr


def test_a_model_without_a_tokenizer(here: Here, model: Path) -> None:
    (model / "tokenizer.json").unlink()
    done = here(*SEARCH, "--model", model)
    assert done.returncode == 2 and "tokenizer.json" in done.stderr


def test_an_address_where_nothing_answers(here: Here, model: Path) -> None:
    done = here("score", "http://127.0.0.1:9", "--scenario", "C", "--profile", "smoke", "--model", model)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "127.0.0.1:9" in done.stderr.splitlines()[-1]


def test_another_searchs_directory_is_refused(here: Here, model: Path, make_run: MakeRun) -> None:
    path = make_run("other", header={"spec": {"scenario": "A"}})
    new = here(*SEARCH, "--model", model, "--run", path)
    assert new.returncode == 2 and "add --resume" in new.stderr
    resumed = here(*SEARCH, "--model", model, "--run", path, "--resume")
    assert resumed.returncode == 2 and "belongs to another search" in resumed.stderr


@pytest.mark.parametrize("option", ["--json", "--csv", "--html"])
def test_a_result_s_file_is_tried_before_the_work(
    here: Here, make_run: MakeRun, tmp_path: Path, option: str
) -> None:
    path = make_run("a", submitted=2.9)
    for place in (tmp_path, "/proc/nowhere.out"):
        done = here("compare", path, option, place)
        assert done.returncode == 2
        assert "cannot be written" in done.stderr and "Traceback" not in done.stderr
        assert done.stdout == ""


def test_what_is_not_there_is_said_in_one_line(here: Here, make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a", submitted=2.9)
    focus = here("compare", path, "--focus", "A")
    assert focus.returncode == 2 and "no finished run of scenario A here: --focus one of C" in focus.stderr
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "ledger.jsonl").touch()
    empty = here("compare", tmp_path / "empty")
    assert empty.returncode == 2 and f"{tmp_path / 'empty'}: the ledger has no header" in empty.stderr
    file = here(
        "search", "--engine", "simulated", "--scenario", "C", "--run", tmp_path / "empty" / "ledger.jsonl"
    )
    assert file.returncode == 2 and "Traceback" not in file.stderr


def test_compare_writes_all_its_forms(here: Here, make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("a", submitted=2.9)
    done = here("compare", path, "--json", "c.json", "--csv", "c.csv", "--html", "c.html", "--published")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2.90x" in done.stdout and "43.46x" in done.stdout and "tpe (vllm)" in done.stdout
    assert done.stderr.splitlines() == ["wrote c.json", "wrote c.csv", "wrote c.html"]
    data = json.loads((tmp_path / "c.json").read_text())
    assert data["tables"][0]["leaderboard"][0]["method"] == "tpe (vllm)"
    assert (tmp_path / "c.csv").read_text().startswith("table,simulation")
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")


def test_json_on_stdout_is_only_json(here: Here, make_run: MakeRun) -> None:
    done = here("compare", make_run("a"), "--json", "-")
    assert json.loads(done.stdout)["tables"][0]["scenarios"] == ["C"]


def test_a_dry_run_prints_the_matrix_and_its_cost_and_runs_nothing(here: Here, tmp_path: Path) -> None:
    study = Path(__file__).parents[2] / "studies" / "cpu_agents_vs_search.yaml"
    done = here("study", study, "--dry-run", "--json", "plan.json")
    assert done.returncode == 0, done.stdout + done.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["runs"] == 25
    assert plan["gpu_hours"] == pytest.approx((20 * 60 + 5 * 600) / 3600)
    assert "25 runs, at most 1.17 GPU-hours" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_names_what_is_not_here(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    for name in ("VLLM", "TORCH", "SGLANG", "TGI"):
        monkeypatch.delenv(f"CEILING_{name}_PYTHON", raising=False)
    study = Path(__file__).parents[2] / "studies" / "agents_vs_search.yaml"
    (tmp_path / "mine.yaml").write_text(
        study.read_text().replace("model: models/Mistral-7B-Instruct-v0.3", "model: nowhere")
    )
    done = here("study", "mine.yaml", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not here: vllm is not installed: ceiling engines install vllm" in done.stdout
    assert "not here: model nowhere: neither a directory here nor one of smollm2-135m" in done.stdout


def test_doctor_names_what_is_missing_and_what_mends_it(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CEILING_CACHE", str(tmp_path / "cache"))
    done = here("doctor", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    checks = {(check["group"], check["name"]): check for check in json.loads(done.stdout)}
    assert checks["engines", "vllm"]["state"] == "missing"
    assert checks["engines", "vllm"]["fix"].startswith("ceiling engines install vllm")
    assert checks["models", "smollm2-135m"]["fix"] == "ceiling models fetch smollm2-135m"
    assert checks["machine", "device 0"]["state"] == "ok"


def test_doctor_measures_the_load_client_and_keeps_it(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    done = here("doctor", "--load", "--json", "-")
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(done.stdout)
    assert 0 < made["token_seconds"] < 1e-3
    assert made["bias_p50"] <= made["bias_p99"]
    assert json.loads((tmp_path / "home" / "calibration.json").read_text()) == made


def _learn(home: Path, profile: str, host: dict[str, object], spread: float) -> None:
    """What three repeats of a server would have left on this machine."""
    under = noise.key(host, str(MODEL["digest"]), "C", profile)
    name = hashlib.sha256(json.dumps(under, sort_keys=True).encode()).hexdigest()[:16]
    (home / "noise").mkdir(parents=True)
    kept = {"key": under, "servers": [{"engine": "vllm", "scores": [1.0, 1.0 + spread, 1.0 - spread]}]}
    (home / "noise" / f"C-{name}.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(("spread", "said"), [(0.0001, "leads with"), (0.02, "no difference")])
def test_compare_calls_a_difference_under_the_noise_floor_none(
    here: Here, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: float, said: str
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    _learn(tmp_path / "home", "cpu", HOST, spread)
    make_run("a", submitted=2.9)
    make_run("b", method="random", submitted=2.8)
    done = here("compare", tmp_path / "runs", "--json", "c.json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = next(line for line in done.stdout.splitlines() if line.startswith("C: tpe"))
    assert said in verdict
    (told,) = json.loads((tmp_path / "c.json").read_text())["tables"][0]["verdicts"]
    assert told["lead"] == pytest.approx(2.9 / 2.8)
    assert told["sure"].startswith("no difference") == (said == "no difference")


@pytest.mark.parametrize("ci", ["0%", "wide", "100%", "-3%"])
def test_a_bad_interval_is_one_line(here: Here, model: Path, ci: str) -> None:
    done = here("score", "http://127.0.0.1:9", "--scenario", "C", "--model", model, "--ci", ci)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: --ci {ci}: write it as 3% (of the mean, to either side)"]


def test_score_repeats_until_the_interval_is_narrow(
    here: Here, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CEILING_HOME", str(tmp_path / "home"))
    text = write_jsonl(tmp_path / "text.jsonl", documents=40)
    with Server(registry.engine("simulated"), {}, open_model(model), log=tmp_path / "log") as server:
        options = ("--scenario", "B", "--profile", "smoke", "--model", model, "--text", text)
        done = here("score", server.url, *options, "--ci", "50%", "--repeats", 5, "--json", "made.json")
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads((tmp_path / "made.json").read_text())
    assert 3 <= made["count"] == len(made["measurements"]) <= 5
    assert made["interval"][0] < made["mean"] < made["interval"][1]
    assert len({one["request_set"] for one in made["measurements"]}) == made["count"]
    assert made["noise_floor"]["floor"] > 0
    assert "noise floor of this machine" in done.stdout


def test_agents_are_listed(here: Here) -> None:
    done = here("agents", "list", "--json", "-")
    listed = {row["name"]: row for row in json.loads(done.stdout)}
    assert {"default", "one-shot", "greedy", "regressor", "command"} <= set(listed)
    assert listed["greedy"]["scripted"] and listed["greedy"]["here"]


@pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in EXPECTED.items() for name in names])
def test_every_expected_error_exists(module: str, name: str) -> None:
    assert issubclass(getattr(importlib.import_module(module), name), Exception)
