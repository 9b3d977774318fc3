"""A model directory without weights, made in milliseconds: tokenizer, chat template and shapes for tests."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SENTENCES = (
    "The harbour was quiet in the morning, and the boats lay still against the wall.",
    "A farmer who keeps good records knows which field paid for the seed and which did not.",
    "She opened the letter slowly, read it twice, and put it back in the drawer without a word.",
    "Rain fell on the hills all night; by noon the river had risen above the old stone bridge.",
    "The committee asked for a report on the cost of the railway, and the engineer wrote one.",
    "We measured the distance between the two towers with a chain, and then again with a wire.",
    "Nobody in the village remembered when the mill had stopped, but everybody knew the reason.",
    "If the price of bread goes up again this winter, the council will have to open the stores.",
    "He had learned to read from a newspaper that his father brought home from the market.",
    "The second winter was harder than the first, yet fewer people left the valley that year.",
    "A ship that sails too early meets the storm, and a ship that sails too late meets the ice.",
    "The teacher drew a circle on the board and asked the children how they would find its centre.",
    "There were 14 horses, 3 wagons and 250 sacks of grain in the yard when the buyer came.",
    "It is easy to promise a better road; it is harder to say who shall pay for the stones.",
)
"""Plain English of many words, for prompts as well as for training the tokenizer."""

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SHAPES = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "rope_theta": 100000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def make_tiny_model(directory: Path) -> Path:
    """Write `tokenizer.json`, `tokenizer_config.json` and `config.json` into `directory` and return it.

    The tokenizer is a byte-level BPE of some 650 tokens: any text can be encoded and comes back unchanged.
    The directory is made if it is not there. The shapes are those of a 135M Llama; there are no weights.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "model_max_length": SHAPES["max_position_embeddings"],
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    _write(directory / "tokenizer_config.json", settings)
    special = {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": tokenizer.get_vocab_size()}
    _write(directory / "config.json", {**SHAPES, **special})
    return directory


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        min_frequency=1,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _write(path: Path, data: dict[str, object]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
