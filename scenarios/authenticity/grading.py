"""Holds sampled answers against the model: by the torch engine, after the measurement, off the clock."""

from __future__ import annotations

from collections.abc import Sequence

from engines.contract import EngineError, Model
from engines.host import Device
from engines.reference import LIMIT, Reference, reference
from scenarios import models, tokenizer
from scenarios.authenticity.evidence import Graded, Text
from scenarios.authenticity.sample import Sampled


def graded(
    samples: Sequence[Sequence[Sampled]], model: Model, devices: Sequence[Device] = (), limit: float = LIMIT
) -> tuple[Text, ...]:
    """The samples of several measurements, graded in one go; `devices` are GPUs that may be used.

    Never raises for what is missing: where the torch engine or the weights are, each says so.
    """
    words = tokenizer.load(model.path)
    items = [one.item(words) for sample in samples for one in sample]
    if not items:
        return tuple(Text("no answer was whole") for _ in samples)
    try:
        models.check_weights(model)
        made = reference(model.path, models.digest(model.path), items, devices=devices, limit=limit)
    except (models.ModelError, EngineError) as error:
        return tuple(Text(str(error)) for _ in samples)
    return tuple(_texts(samples, made))


def _texts(samples: Sequence[Sequence[Sampled]], made: Reference) -> list[Text]:
    texts, place = [], 0
    for sample in samples:
        figures = made.items[place : place + len(sample)]
        place += len(sample)
        answers = tuple(
            Graded(one.index, each.logprob, each.gap, each.rank)
            for one, each in zip(sample, figures, strict=True)
        )
        share = len(sample) / len(made.items)
        why = "" if answers else "no answer was whole"
        texts.append(Text(why, answers, made.how, round(made.seconds * share, 2)))
    return texts
