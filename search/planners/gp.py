"""A Gaussian process with expected improvement: few trials, smooth landscapes."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from engines.contract import Config, Value
from engines.space import Space
from search.planners.draws import Encoder, draw, key, varied, walk
from search.planners.feasibility import Feasibility

STARTUP = 6
"""Scores before the model takes over from random draws."""

REFIT = 0.2
"""Share by which the scores must have grown before the kernel is fitted anew; until then it is kept."""

CANDIDATES = 384
NEIGHBOURS_OF = 4
"""The best configs so far, whose neighbours (one parameter changed) join the random candidates."""

Array = npt.NDArray[np.float64]


class Gp:
    """Proposer of the `gp` planner: Matern 5/2 over log scores, gains weighted by the chance to serve."""

    name = "gp"

    def __init__(self, space: Space, seed: int, feasibility: Feasibility) -> None:
        self._space = space
        self._feasibility = feasibility
        self._encode = Encoder(space)
        self._rng = random.Random(seed)
        self._seed = seed
        self._configs: list[Config] = []
        self._scores: list[float] = []
        self._running: dict[int, Config] = {}
        self._ranked: list[Config] = []
        self._kernel: Any = None
        self._fitted_to = 0

    def suggest(self) -> Config:
        """The candidate of highest expected improvement, then the next one, until something is told.

        Linear algebra runs on one thread: matrices are small, and proposals have to repeat exactly.
        """
        if len(self._scores) < STARTUP or self._encode.width == 0:
            return draw(self._space, self._rng)
        if not self._ranked:
            self._ranked = self._rank()
        return self._ranked.pop(0)

    def accept(self, number: int, config: Config) -> None:
        """Until it is told, the model believes that it scores what was predicted."""
        self._running[number] = config
        self._ranked = []

    def tell(self, number: int, config: Config, score: float | None) -> None:
        """Scores must be positive."""
        self._running.pop(number, None)
        self._ranked = []
        if score is not None:
            self._configs.append(config)
            self._scores.append(float(np.log(score)))

    def _rank(self) -> list[Config]:
        with threadpool_limits(1):
            return self._ranked_candidates()

    def _ranked_candidates(self) -> list[Config]:
        x = self._encode.matrix(self._configs)
        y = np.array(self._scores)
        scaled = (y - y.mean()) / (y.std() or 1.0)
        model = self._fitted(x, scaled)
        if self._running:
            pending = self._encode.matrix(list(self._running.values()))
            x, scaled = np.vstack([x, pending]), np.concatenate([scaled, model.predict(pending)])
            model = _conditioned(model.kernel_, x, scaled)
        candidates = self._candidates()
        gains = _improvement(model, self._encode.matrix(candidates), float(scaled.max()))
        worth = gains * (1.0 - self._feasibility.risks(candidates))
        order = np.argsort(-np.round(worth, 9), kind="stable")
        return [candidates[index] for index in order]

    def _fitted(self, x: Array, y: Array) -> GaussianProcessRegressor:
        if self._kernel is not None and len(y) < (1.0 + REFIT) * self._fitted_to:
            return _conditioned(self._kernel, x, y)
        kernel = ConstantKernel(1.0, (0.1, 10.0)) * Matern(
            length_scale=np.full(x.shape[1], 1.0), length_scale_bounds=(0.1, 20.0), nu=2.5
        ) + WhiteKernel(0.05, (1e-3, 0.5))
        model = GaussianProcessRegressor(kernel=kernel, random_state=self._seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        self._kernel, self._fitted_to = model.kernel_, len(y)
        return model

    def _candidates(self) -> list[Config]:
        found: dict[str, Config] = {}
        best = sorted(range(len(self._scores)), key=lambda index: -self._scores[index])
        for index in best[:NEIGHBOURS_OF]:
            for config in self._neighbours(self._configs[index]):
                found.setdefault(key(config), config)
        for _ in range(CANDIDATES):
            config = draw(self._space, self._rng)
            found.setdefault(key(config), config)
        return list(found.values())

    def _neighbours(self, config: Config) -> list[Config]:
        values = self._space.filled(config)
        changes: list[tuple[str, Value]] = [
            (each.name, choice)
            for each in varied(self._space)
            if each.name in values
            for choice in each.choices
            if choice != values[each.name]
        ]
        return [self._changed({**values, name: value}) for name, value in changes]

    def _changed(self, values: dict[str, Value]) -> Config:
        return walk(self._space, lambda parameter: values.get(parameter.name, parameter.default))


def _conditioned(kernel: Any, x: Array, y: Array) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(kernel=kernel, optimizer=None).fit(x, y)


def _improvement(model: GaussianProcessRegressor, x: Array, best: float) -> Array:
    mean, deviation = model.predict(x, return_std=True)
    deviation = np.maximum(deviation, 1e-9)
    z = (mean - best) / deviation
    return np.asarray((mean - best) * norm.cdf(z) + deviation * norm.pdf(z))
