"""The simulated engine's answers: natural text of exactly known tokens, and what speculation makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from platformdirs import user_cache_dir
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from engines.simulated.answer import Answer
from engines.simulated.chat import ChatRequest
from engines.simulated.drafts import Drafter
from engines.simulated.scheduler import Scheduler, Sequence
from engines.simulated.settings import Settings
from engines.simulated.text import Lexicon, Story, TextError, natural_length
from tests.tiny_model import SENTENCES, make_tiny_model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    model = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Tokenizer.from_file(str(model / "tokenizer.json"))


@pytest.fixture(scope="module")
def lexicon(tokenizer: Tokenizer) -> Lexicon:
    return Lexicon.build(tokenizer)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 30, 400])
def test_an_answer_encodes_back_to_exactly_its_tokens(
    length: int, lexicon: Lexicon, tokenizer: Tokenizer
) -> None:
    for seed in range(20):
        tokens = Story(lexicon, seed, length).take(length)
        text = b"".join(piece for _, piece in tokens).decode()
        assert len(tokens) == length
        assert tokenizer.encode(text, add_special_tokens=False).ids == [token for token, _ in tokens]


def test_a_seed_is_a_text(lexicon: Lexicon) -> None:
    texts = [tuple(Story(lexicon, seed, 100).take(100)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_a_text_is_the_same_however_it_is_taken(lexicon: Lexicon) -> None:
    whole, slow = Story(lexicon, 5, 90), Story(lexicon, 5, 90)
    for end in range(1, 91):
        slow.take(end)
    assert slow.tokens == whole.take(90)


def test_natural_lengths_vary_about_their_median() -> None:
    lengths = sorted(natural_length(seed) for seed in range(999))
    assert 150 < lengths[499] < 210
    assert lengths[0] < 60 < 500 < lengths[-1]


def trained(sentences: tuple[str, ...], marks_apart: bool = True) -> Tokenizer:
    """A tokenizer that writes a word's leading space as a mark of its own, as Mistral's and Llama 2's do."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
        if marks_apart
        else [pre_tokenizers.Metaspace()]
    )
    made.decoder = decoders.Metaspace()
    letters = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,\u2581"]
    made.train_from_iterator(
        sentences, trainers.BpeTrainer(vocab_size=600, initial_alphabet=letters, show_progress=False)
    )
    return made


def test_tokenizers_with_marked_spaces_carry_the_text_too() -> None:
    tokenizer = trained(SENTENCES)
    lexicon = Lexicon.build(tokenizer)
    for length in (3, 80, 300):
        tokens = Story(lexicon, length, length).take(length)
        ids = [token for token, _ in tokens]
        text = b"".join(piece for _, piece in tokens).decode()
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids
        assert tokenizer.decode(ids) == text


def test_a_tokenizer_without_words_is_refused() -> None:
    with pytest.raises(TextError, match="no single token for any common English word"):
        Lexicon.build(trained(("",)))


def test_a_tokenizer_that_runs_words_together_is_refused() -> None:
    with pytest.raises(TextError, match="does not keep the tokens of neighbouring words apart"):
        Lexicon.build(trained(SENTENCES, marks_apart=False))


@pytest.mark.parametrize(
    ("prompt", "answer", "produced", "expected"),
    [
        ([1, 2, 3, 4, 9], [1, 2, 3, 4, 7, 7], 2, (3, 2)),
        ([1, 2, 3, 4, 9], [1, 2, 3, 4, 9, 7], 2, (3, 3)),
        ([1, 2, 3, 1, 2, 8], [1, 2, 8, 8, 8, 8], 2, (3, 1)),
        ([5, 5, 5], [5, 5, 5, 5, 5], 1, (1, 1)),
        ([1, 2, 3, 4, 9], [8, 8, 1, 2, 3, 4], 1, (0, 0)),
    ],
)
def test_drafts_are_what_followed_the_last_time(
    prompt: list[int], answer: list[int], produced: int, expected: tuple[int, int], lexicon: Lexicon
) -> None:
    story = Story(lexicon, 0, len(answer))
    story.tokens = [(token, b"") for token in answer]
    told = Answer(
        "", "", ChatRequest(()), story, prompt, len(answer), False, 0.0, lambda _: None, lambda: None
    )
    assert Drafter(told, 2, 3)(produced) == expected


def acceptance(story: Story, tokenizer: Tokenizer, length: int) -> float:
    """Share of drafted tokens that come true over a whole answer."""
    prompt = tokenizer.encode("The farmer crossed the river and the road.", add_special_tokens=False).ids
    answer = Answer(
        "id", "m", ChatRequest(()), story, prompt, length, False, 0.0, lambda _: None, lambda: None
    )
    sequence = Sequence(len(prompt), length, speculate=Drafter(answer, 3, 5))
    scheduler = Scheduler(Settings(), 10**5)
    scheduler.submit(sequence)
    while step := scheduler.plan():
        scheduler.finish(step)
    assert sequence.produced == length
    return sequence.accepted / max(1, sequence.drafted)


def test_speculation_pays_on_loops_and_not_on_prose(lexicon: Lexicon, tokenizer: Tokenizer) -> None:
    assert acceptance(Story(lexicon, 3, 600, looping=True), tokenizer, 600) > 0.9
    assert acceptance(Story(lexicon, 3, 600), tokenizer, 600) < 0.6


def test_real_tokenizers_carry_the_text(smollm2: Path) -> None:
    tokenizer = Tokenizer.from_file(str(smollm2 / "tokenizer.json"))
    lexicon = Lexicon.build(tokenizer)
    for seed in range(30):
        tokens = Story(lexicon, seed, 500).take(500)
        text = b"".join(piece for _, piece in tokens).decode()
        assert tokenizer.encode(text, add_special_tokens=False).ids == [token for token, _ in tokens]


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """The real model's directory, where `ceiling models fetch smollm2-135m` has put it."""
    path = Path(user_cache_dir("ceiling")) / "models" / "smollm2-135m"
    if not (path / "tokenizer.json").exists():
        pytest.skip("smollm2-135m is not fetched")
    return path
