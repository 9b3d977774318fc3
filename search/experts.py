"""Expert configs: what people who tune an engine by hand try first, as far as they can be tried here."""

from __future__ import annotations

import contextlib

from engines.contract import Config
from engines.space import Space, SpaceError


def experts(space: Space, default: Config) -> tuple[Config, ...]:
    """The space's expert configs, canonical, with pinned values put in; each once, and none the default.

    One with a flag or a choice that this version, device or model cannot do is left out.
    """
    made: list[Config] = []
    for config in space.experts:
        with contextlib.suppress(SpaceError):
            canonical = space.canonical(config)
            if canonical != default and canonical not in made:
                made.append(canonical)
    return tuple(made)
