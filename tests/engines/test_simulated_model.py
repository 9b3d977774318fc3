"""The simulated engine's performance model and scheduler, without a server."""

from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from engines.contract import Model
from engines.model_shape import ModelShape, shape_of
from engines.simulated import performance
from engines.simulated.blocks import BlockPool, chain
from engines.simulated.driver import Noise
from engines.simulated.performance import Costs, Work, prompt_pairs, step_seconds
from engines.simulated.scheduler import Scheduler, Sequence
from engines.simulated.settings import Settings, Simulation
from tests.engines.simulation import burst, seconds
from tests.tiny_model import make_tiny_model

DEFAULT = Settings()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(make_tiny_model(tmp_path_factory.mktemp("tiny")), "tiny")


@pytest.fixture(scope="module")
def shape(model: Model) -> ModelShape:
    found = shape_of(model)
    assert found is not None
    return found


def test_a_step_is_the_sum_of_its_terms() -> None:
    costs = Costs(base=1.0, sequence=0.5, kv=0.01, prefill=0.1, pair=0.001)
    work = Work(decodes=4, context=100, prompt=10, pairs=55, drafts=2)
    assert step_seconds(costs, work) == pytest.approx(1.0 + 2.0 + 1.0 + 1.2 + 0.055)


def test_the_default_config_costs_what_the_docstring_says(shape: ModelShape) -> None:
    costs = performance.costs(DEFAULT, shape)
    assert costs.base == pytest.approx(4.5e-3 + 0.8e-3 + 0.1e-6 * 64)
    assert costs.sequence == 50e-6
    assert costs.prefill == 40e-6
    assert costs.kv == pytest.approx(4.5e-3 * 2 * 30 * 3 * 64 * 2 / shape.weight_bytes)


def test_prompt_pairs_of_chunks_add_up_to_the_whole() -> None:
    assert prompt_pairs(0, 7) + prompt_pairs(7, 30) == prompt_pairs(0, 30) == 30 * 31 // 2


@pytest.mark.parametrize(
    ("change", "term", "less"),
    [
        ({"quantization": "fp8"}, "base", True),
        ({"quantization": "fp8"}, "prefill", True),
        ({"enforce_eager": True}, "base", False),
        ({"cudagraph_mode": "PIECEWISE"}, "base", False),
        ({"async_scheduling": True}, "base", True),
        ({"kv_cache_dtype": "fp8"}, "kv", True),
        ({"block_size": 64}, "kv", True),
        ({"attention_backend": "FLASHINFER"}, "kv", True),
        ({"attention_backend": "TRITON_ATTN"}, "prefill", False),
        ({"tensor_parallel_size": 3}, "base", True),
        ({"max_num_seqs": 512}, "base", False),
    ],
)
def test_each_flag_moves_its_term(
    change: dict[str, int | str | bool], term: str, less: bool, shape: ModelShape
) -> None:
    before = getattr(performance.costs(DEFAULT, shape), term)
    after = getattr(performance.costs(replace(DEFAULT, **change), shape), term)  # type: ignore[arg-type]
    assert (after < before) is less
    assert after != before


def test_fp8_kv_doubles_the_cache_and_utilisation_grows_it(shape: ModelShape) -> None:
    memory = performance.device_memory(shape)
    normal = performance.kv_capacity(DEFAULT, shape, memory)
    assert performance.kv_capacity(replace(DEFAULT, kv_cache_dtype="fp8"), shape, memory) == pytest.approx(
        2 * normal, rel=1e-3
    )
    assert performance.kv_capacity(replace(DEFAULT, gpu_memory_utilization=0.8), shape, memory) < normal
    assert normal % DEFAULT.block_size == 0


def test_start_up_is_one_for_the_default_and_less_without_compilation() -> None:
    assert performance.start_share(DEFAULT) == pytest.approx(1.0)
    assert performance.start_share(replace(DEFAULT, enforce_eager=True)) == pytest.approx(0.45)
    assert performance.start_share(replace(DEFAULT, max_num_seqs=256)) == pytest.approx(1.25)


def noise(seed: int | None, settings: Settings = DEFAULT, scale: float = 1.0) -> list[float]:
    drawn = Noise(settings, Simulation(noise_seed=seed, noise=scale))
    return [drawn.start, *(drawn.step() for _ in range(400))]


def test_noise_belongs_to_a_seed_and_a_config() -> None:
    assert noise(5) == noise(5)
    others = [noise(6), noise(5, replace(DEFAULT, max_num_seqs=8)), noise(None), noise(None)]
    assert len({each[0] for each in [noise(5), *others]}) == 5
    assert set(noise(5, scale=0)) == {1.0}


def test_noise_is_a_little_per_start_and_per_step() -> None:
    starts = [noise(seed)[0] for seed in range(300)]
    assert statistics.fmean(starts) == pytest.approx(1, abs=0.005)
    assert statistics.stdev(starts) == pytest.approx(0.015, rel=0.2)
    start, *steps = noise(1)
    assert statistics.stdev(step / start for step in steps) == pytest.approx(0.02, rel=0.2)


def test_batching_raises_throughput_by_as_much_as_the_model_says(shape: ModelShape) -> None:
    costs = performance.costs(DEFAULT, shape)
    times = {limit: seconds(replace(DEFAULT, max_num_seqs=limit), costs, burst(32)) for limit in (1, 8, 32)}
    assert times[1] > 5 * times[8] > 10 * times[32]
    alone = sum(
        step_seconds(costs, work)
        for work in [
            Work(prompt=100, pairs=prompt_pairs(0, 100)),
            *(Work(decodes=1, context=100 + n) for n in range(1, 50)),
        ]
    )
    assert times[1] == pytest.approx(32 * alone)


def test_a_long_prompt_is_split_and_decodes_go_on_beside_it() -> None:
    scheduler = Scheduler(replace(DEFAULT, max_num_batched_tokens=512, max_num_seqs=8), 10**6)
    scheduler.submit(Sequence(10, 20))
    first = scheduler.plan()
    assert first is not None
    scheduler.finish(first)
    scheduler.submit(Sequence(1000, 5))
    works = []
    for _ in range(3):
        step = scheduler.plan()
        assert step is not None
        works.append(step.work)
        scheduler.finish(step)
    assert [(work.decodes, work.prompt) for work in works] == [(1, 511), (1, 489), (2, 0)]


def test_without_chunked_prefill_decodes_wait_for_whole_prompts() -> None:
    settings = replace(DEFAULT, enable_chunked_prefill=False, max_num_batched_tokens=1024)
    scheduler = Scheduler(settings, 10**6)
    scheduler.submit(Sequence(10, 20))
    first = scheduler.plan()
    assert first is not None
    scheduler.finish(first)
    for sequence in (Sequence(1000, 5), Sequence(900, 5)):
        scheduler.submit(sequence)
    works = []
    for _ in range(3):
        step = scheduler.plan()
        assert step is not None
        works.append((step.work.decodes, step.work.prompt))
        scheduler.finish(step)
    assert works == [(0, 1000), (0, 900), (3, 0)]


def test_a_full_cache_queues_and_takes_longer(shape: ModelShape) -> None:
    costs = performance.costs(DEFAULT, shape)
    roomy = seconds(DEFAULT, costs, burst(16))
    tight = seconds(DEFAULT, costs, burst(16), capacity=4 * 160)
    assert tight > 2.5 * roomy


def test_the_youngest_gives_way_when_blocks_run_out_and_still_finishes() -> None:
    old, young = Sequence(64, 64), Sequence(64, 64)
    scheduler = Scheduler(DEFAULT, 192)
    for sequence in (old, young):
        scheduler.submit(sequence)
    ends: list[Sequence] = []
    while step := scheduler.plan():
        ends += [sequence for sequence, _ in scheduler.finish(step) if sequence.produced == sequence.target]
    assert ends == [old, young]
    assert (old.preempted, young.preempted, scheduler.preemptions) == (0, 1, 1)
    assert scheduler.pool.used == 0


def test_kept_prompts_spare_their_prefill_but_never_the_last_token() -> None:
    tokens = list(range(64))
    hashes = chain(tokens, 16)
    assert len(hashes) == 3
    scheduler = Scheduler(DEFAULT, 10**4)
    works = []
    for _ in range(2):
        sequence = Sequence(64, 1, hashes)
        scheduler.submit(sequence)
        step = scheduler.plan()
        assert step is not None
        works.append((step.work.prompt, sequence.cached))
        scheduler.finish(step)
    assert works == [(64, 0), (16, 48)]
    assert scheduler.pool.reset()
    last = Sequence(64, 1, hashes)
    scheduler.submit(last)
    fresh = scheduler.plan()
    assert fresh is not None
    assert fresh.work.prompt == 64


def test_a_hash_covers_everything_before_it() -> None:
    one, other = chain([1] * 64, 16), chain([2] + [1] * 63, 16)
    assert not set(one) & set(other)
    assert chain([1] * 64 + [9], 16)[:3] == one


def test_idle_blocks_give_way_the_longest_unused_first() -> None:
    pool = BlockPool(4)
    for key in (1, 2):
        assert pool.allocate(1)
        assert pool.publish((key,)) == 1
        pool.release((key,), 0)
    assert pool.available == 4
    assert pool.allocate(3)
    assert pool.share((2,)) == 1
    assert pool.share((1,)) == 0
    assert not pool.allocate(1)
    assert not pool.reset()


def test_cancelled_sequences_leave_nothing_behind() -> None:
    scheduler = Scheduler(replace(DEFAULT, max_num_seqs=1), 10**4)
    running, waiting = Sequence(40, 9, chain(list(range(40)), 16)), Sequence(40, 9)
    for sequence in (running, waiting):
        scheduler.submit(sequence)
    step = scheduler.plan()
    assert step is not None
    for sequence in (running, waiting, running):
        scheduler.cancel(sequence)
    assert scheduler.finish(step) == []
    assert scheduler.plan() is None
    assert scheduler.pool.used == 0


@examples(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 40)), min_size=1, max_size=12),
    most=st.integers(1, 6),
    budget=st.integers(6, 200),
    blocks=st.integers(9, 30),
    chunked=st.booleans(),
    drafts=st.integers(0, 4),
)
def test_whatever_comes_every_sequence_gets_exactly_its_tokens(
    sizes: list[tuple[int, int]], most: int, budget: int, blocks: int, chunked: bool, drafts: int
) -> None:
    budget = budget if chunked else 200
    settings = replace(
        DEFAULT, max_num_seqs=most, max_num_batched_tokens=budget, enable_chunked_prefill=chunked
    )
    scheduler = Scheduler(settings, blocks * 16)
    guess = random.Random(0)
    sequences = [
        Sequence(prompt, target, chain([7] * prompt, 16), lambda _: (drafts, guess.randint(0, drafts)))
        for prompt, target in sizes
    ]
    for sequence in sequences:
        scheduler.submit(sequence)
    for _ in range(20_000):
        step = scheduler.plan()
        if step is None:
            break
        assert sum(share.tokens for share in step.shares) <= budget
        assert len(scheduler.running) <= most
        assert 0 <= scheduler.pool.available <= blocks
        scheduler.finish(step)
    assert [sequence.produced for sequence in sequences] == [target for _, target in sizes]
    assert scheduler.pool.used == 0


def test_speculation_costs_where_it_guesses_wrong(shape: ModelShape) -> None:
    costs = performance.costs(DEFAULT, shape)
    wrong = [Sequence(100, 50, speculate=lambda _: (5, 0)) for _ in range(8)]
    right = [Sequence(100, 50, speculate=lambda _: (5, 5)) for _ in range(8)]
    plain = seconds(DEFAULT, costs, burst(8))
    assert seconds(DEFAULT, costs, right) < 0.4 * plain < plain < seconds(DEFAULT, costs, wrong)
