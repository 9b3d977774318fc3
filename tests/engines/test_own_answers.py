"""Which prompts the reference model answers together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.torch_reference import TOGETHER, batches

LENGTHS = st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 800)), max_size=60)


@given(LENGTHS)
def test_every_item_is_in_one_batch_that_fits_and_has_one_length(lengths: list[tuple[int, int]]) -> None:
    asked = dict(enumerate(lengths))
    made = list(batches(asked))
    assert sorted(place for batch in made for place in batch) == sorted(asked)
    for batch in made:
        answers = {asked[place][1] for place in batch}
        assert len(answers) == 1
        widest = max(asked[place][0] for place in batch)
        assert len(batch) == 1 or len(batch) * (widest + answers.pop()) <= TOGETHER


def test_prompts_of_a_thousand_tokens_are_answered_a_dozen_at_a_time() -> None:
    assert [len(batch) for batch in batches(dict.fromkeys(range(30), (1024, 256)))] == [12, 12, 6]
