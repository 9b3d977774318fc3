"""What crashed teaches which configs to leave alone; it never touches the objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.contract import Config
from engines.space import Space
from scenarios.trial import State
from search.planners.draws import Encoder

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

EVIDENCE = 4
"""Failures, and successes, that must have been seen before anything is refused."""

THRESHOLD = 0.6
"""A config whose chance of failing is above this is not proposed while another one can be found."""

GROWTH = 0.1
"""Share by which what is known must have grown to be worth another fit."""

TREES = 25

FAILED = frozenset({State.CRASHED, State.INFEASIBLE})
WORKED = frozenset({State.COMPLETE, State.PRUNED, State.INVALID})


class Feasibility:
    """A seeded random forest over what crashed or was refused, and what served."""

    def __init__(self, space: Space, seed: int) -> None:
        self._encode = Encoder(space)
        self._seed = seed
        self._configs: list[Config] = []
        self._failed: list[bool] = []
        self._forest: RandomForestClassifier | None = None
        self._fitted = 0

    def tell(self, config: Config, state: State) -> None:
        """A trial's end; `stopped` says nothing about a config."""
        if state in FAILED or state in WORKED:
            self._configs.append(dict(config))
            self._failed.append(state in FAILED)
            if len(self._failed) > (1.0 + GROWTH) * self._fitted:
                self._forest = None

    def risks(self, configs: Sequence[Config]) -> npt.NDArray[np.float64]:
        """Chances in [0, 1] that they fail, shape (configs,); 0 before there is evidence."""
        failures = sum(self._failed)
        if failures < EVIDENCE or len(self._failed) - failures < EVIDENCE:
            return np.zeros(len(configs))
        if self._forest is None:
            self._forest = self._fit()
        points = self._encode.matrix(configs).astype(np.float32)
        votes = [tree.tree_.predict(points)[:, 1] for tree in self._forest.estimators_]
        return np.asarray(np.mean(votes, axis=0))

    def _fit(self) -> RandomForestClassifier:
        from sklearn.ensemble import RandomForestClassifier  # a second, and few searches come to it

        self._fitted = len(self._failed)
        forest = RandomForestClassifier(n_estimators=TREES, max_features=0.6, random_state=self._seed)
        return forest.fit(self._encode.matrix(self._configs), np.array(self._failed))

    def risk(self, config: Config) -> float:
        """Chance in [0, 1] that it fails."""
        return float(self.risks([config])[0])
