"""The fetched model against transformers' own GGUF loader, tensor by tensor and text by text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import gguf
import pytest

from engines import runtime
from scenarios import smollm2
from scenarios.models import fetch, open_model
from scenarios.profiles import scenario
from scenarios.scenario import Plan
from scenarios.texts import documents
from scenarios.tokenizer import Tokenizer
from scenarios.workload import build

pytestmark = pytest.mark.engine

ODD = (
    "Hello world 12345, 3.14 and 1,000,000.",
    "  two  spaces\n\n\ttabs\r\n",
    "naïve café — «oui» 東京 नमस्ते 😀👨‍👩‍👧",
    "<|im_start|>user\nhi<|im_end|>\n",
    "don't I'LL we've it's",
    "def f(x):\n    return x ** 2  # comment",
    "\ufffd\u200b\u00a0",
)

COMPARE = """
import json, sys
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

directory, folder, file, texts = sys.argv[1:]
ours = load_file(directory + "/model.safetensors")
with torch.device("meta"):
    empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
theirs = load_gguf_checkpoint(folder + "/" + file, return_tensors=True, model_to_load=empty)
tensors = theirs["tensors"]
converted = AutoTokenizer.from_pretrained(directory)
reference = AutoTokenizer.from_pretrained(folder, gguf_file=file)
chat = [{"role": "user", "content": "What is 12 + 30?"}]
settings = {"tokenize": False, "add_generation_prompt": True}
config = AutoConfig.from_pretrained(directory)
rope = getattr(config, "rope_parameters", None) or {"rope_theta": config.rope_theta}
print(json.dumps({
    "names": sorted(set(ours) ^ set(tensors)),
    "different": [name for name in ours if not torch.equal(ours[name], tensors[name].to(torch.bfloat16))],
    "tensors": len(ours),
    "theta": [rope["rope_theta"], theirs["config"]["rope_theta"]],
    "reference": [reference(text).input_ids for text in json.load(open(texts))],
    "converted": [converted(text).input_ids for text in json.load(open(texts))],
    "decoded": [converted.decode(reference(text).input_ids) for text in json.load(open(texts))],
    "chat": [tokenizer.apply_chat_template(chat, **settings) for tokenizer in (converted, reference)],
    "eos": [converted.eos_token, reference.eos_token],
}))
"""


@pytest.fixture(scope="module")
def directory() -> Path:
    return fetch("smollm2-135m")


@pytest.fixture(scope="module")
def texts(directory: Path) -> list[str]:
    addresses = list(documents("sotu"))
    return [*ODD, *(text[:20_000] for text in addresses[::23])]


@pytest.fixture(scope="module")
def comparison(
    directory: Path, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    """What transformers, in the torch engine's own environment, says of both."""
    scratch = tmp_path_factory.mktemp("compare")
    (scratch / "texts.json").write_text(json.dumps(texts))
    source = smollm2.gguf_file(print)
    torch = runtime.find("torch")
    done = subprocess.run(
        [*torch.program, "-c", COMPARE, directory, source.parent, source.name, scratch / "texts.json"],
        env={
            **torch.env,
            "PYTHONPATH": str(lend_gguf(scratch / "lent")),
            "HF_HUB_OFFLINE": "1",
            "HOME": str(scratch),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, list[object]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def lend_gguf(directory: Path) -> Path:
    """This environment's gguf package alone, for an engine's environment that has none: it is pure Python."""
    package = Path(gguf.__file__).parent
    directory.mkdir()
    for path in package.parent.glob("gguf*"):
        (directory / path.name).symlink_to(path)
    return directory


def test_every_tensor_is_bit_for_bit_the_same(comparison: dict[str, list[object]]) -> None:
    assert comparison["tensors"] == 272
    assert comparison["names"] == []
    assert comparison["different"] == []
    assert comparison["theta"] == [100000.0, 100000.0]


def test_text_has_the_same_tokens(
    comparison: dict[str, list[object]], texts: list[str], directory: Path
) -> None:
    ours = Tokenizer.load(directory)
    assert comparison["converted"] == comparison["reference"]
    assert [ours.encode(text) for text in texts] == comparison["reference"]
    assert comparison["decoded"] == texts


def test_messages_become_the_same_prompt(comparison: dict[str, list[object]], directory: Path) -> None:
    ours = Tokenizer.load(directory).chat([{"role": "user", "content": "What is 12 + 30?"}])
    assert comparison["chat"] == [ours, ours]
    assert comparison["eos"] == ["<|im_end|>", "<|im_end|>"]


def test_the_default_text_is_the_whole_of_it(directory: Path) -> None:
    words = Tokenizer.load(directory)
    lengths = [len(ids) for ids in words.encode_all(list(documents("sotu")))]
    assert (len(lengths), sum(length > 8192 for length in lengths)) == (233, 101)
    assert sum(lengths) == pytest.approx(2.1e6, rel=0.02)


@pytest.mark.parametrize(("letter", "longest"), [("A", 8192), ("C", 1024), ("D", 4096)])
def test_published_sizes_are_exact_over_hundreds_of_prompts(letter: str, longest: int) -> None:
    model = open_model(fetch("mistral-7b-shapes"))
    words = Tokenizer.load(model.path)
    requests = build(Plan(letter, "paper", 21), model)
    every = requests.warmup + requests.requests
    counted = [words.chat_tokens([{"role": "user", "content": request.prompt}]) for request in every]
    assert counted == [request.input_tokens for request in every]
    assert 0.8 * longest <= min(counted) and max(counted) <= longest
    assert len({tuple(words.encode(request.prompt[:400])[:32]) for request in every}) == len(every)
    part = scenario("paper", letter)
    assert len(every) == part.warmup_requests + sum(traffic.requests for traffic in part.traffics)
