"""Sequential model-based configuration (SMAC3): random forests over the conditional space."""

from __future__ import annotations

import logging
import random
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import (
    AndConjunction,
    Categorical,
    Configuration,
    ConfigurationSpace,
    InCondition,
    OrdinalHyperparameter,
)
from smac.acquisition.maximizer import LocalAndSortedRandomSearch, LocalSearch
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.runhistory import StatusType, TrialInfo, TrialValue

from engines.contract import Config, Value
from engines.space import Parameter, Space
from search.planners.draws import draw, varied, walk

INITIAL = 8
"""Points of the initial design: ten a parameter, SMAC's own default, would outlast every budget."""

TRIALS = 200
CHALLENGERS = 500
STARTS = 5
STEPS = 10
"""Of a local search: where the acquisition is flat, SMAC's own has no end."""

SEED = 0
"""Of the target function, as SMAC knows it; one for all trials, which it would else keep apart."""

FEWEST = 4
"""Scores before its model is asked."""

RANKED = 3
"""Configs taken from one ranking (SMAC's own default is 8): many are passed over as surely crashing."""

LEAVES = 1024
"""Of a tree. SMAC's own bound, a million, is allocated beforehand at every fit."""


class Smac:
    """Proposer of the `smac` planner. Costs are 1 / score, which SMAC models on a log scale.

    Its config selector is asked directly: the intensifier, which repeats configs, has nothing to do where
    each runs once, and its list of running ones takes ever longer to go through.
    """

    name = "smac"

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._codes = _configspace(space, seed)
        self._facade = _facade(self._codes, seed) if len(self._codes) else None
        self._selected: Iterator[Configuration] = iter(self._facade._config_selector if self._facade else ())

    def suggest(self) -> Config:
        """Its next config; at random once it has none."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._decoded(next(self._selected))
            except (StopIteration, ConfigurationSpaceExhaustedException):
                self._selected = iter(())
        return draw(self._space, self._rng)

    def accept(self, number: int, config: Config) -> None:
        """It never selects a config twice, and learns nothing from those that run."""

    def tell(self, number: int, config: Config, score: float | None) -> None:
        """Scores go to the model; the rest stays out of it. Scores must be positive."""
        if score is None or self._facade is None:
            return
        value = TrialValue(cost=1.0 / score, time=0.0, status=StatusType.SUCCESS)
        self._facade.tell(TrialInfo(config=self._coded(config), seed=SEED), value, save=False)

    def _decoded(self, codes: Configuration) -> dict[str, Value]:
        chosen = dict(codes)

        def choose(parameter: Parameter) -> Value:
            code = chosen.get(parameter.name)
            return parameter.default if code is None else parameter.choices[int(code)]

        return walk(self._space, choose)

    def _coded(self, config: Config) -> Configuration:
        values = self._space.filled(config)
        codes = {
            each.name: each.choices.index(values[each.name])
            for each in varied(self._space)
            if each.name in self._codes and each.name in values
        }
        return Configuration(self._codes, values=codes)


def _configspace(space: Space, seed: int) -> ConfigurationSpace:
    codes = ConfigurationSpace(seed=seed)
    for parameter in varied(space):
        if not _conditions_can_hold(space, parameter):
            continue
        codes.add(_hyperparameter(parameter))
        conditions = [
            InCondition(
                codes[parameter.name], codes[parent], [space[parent].choices.index(v) for v in allowed]
            )
            for parent, allowed in parameter.when.items()
            if parent in codes
        ]
        if conditions:
            codes.add(conditions[0] if len(conditions) == 1 else AndConjunction(*conditions))
    return codes


def _conditions_can_hold(space: Space, parameter: Parameter) -> bool:
    constant = {each.name: each.default for each in space if len(each.choices) == 1} | dict(space.pinned)
    return all(
        _conditions_can_hold(space, space[parent]) and (parent not in constant or constant[parent] in allowed)
        for parent, allowed in parameter.when.items()
    )


def _hyperparameter(parameter: Parameter) -> Any:
    """Ordered ones are ordinals: ConfigSpace's neighbours of short integer ranges never end."""
    codes, default = list(range(len(parameter.choices))), parameter.choices.index(parameter.default)
    if parameter.ordered:
        return OrdinalHyperparameter(parameter.name, codes, default_value=default)
    return Categorical(parameter.name, codes, default=default)


class _Maximizer(LocalAndSortedRandomSearch):
    """SMAC's own, with local searches that begin in the same order in every process."""

    def __init__(self, codes: ConfigurationSpace, seed: int) -> None:
        super().__init__(
            codes,
            challengers=CHALLENGERS,
            local_search_iterations=STARTS,
            max_steps=STEPS,
            seed=seed,
        )
        self._local_search = _LocalSearch(codes, max_steps=STEPS, n_steps_plateau_walk=10, seed=seed)


class _LocalSearch(LocalSearch):
    """SMAC's own takes its start points from a set, whose order hangs on PYTHONHASHSEED."""

    def _get_init_points_from_previous_configs(self, *given: Any) -> list[Configuration]:
        points = super()._get_init_points_from_previous_configs(*given)
        return sorted(points, key=lambda point: tuple(np.nan_to_num(point.get_array(), nan=-1.0)))


def _facade(codes: ConfigurationSpace, seed: int) -> Any:
    logging.getLogger("smac").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from smac import HyperparameterOptimizationFacade as Facade
        from smac import Scenario
        from smac.initial_design import RandomInitialDesign
        from smac.main.config_selector import ConfigSelector
        from smac.model.random_forest import RandomForest

        output = Path(tempfile.gettempdir()) / "ceiling-smac"
        scenario = Scenario(codes, deterministic=True, n_trials=TRIALS, seed=seed, output_directory=output)
        return Facade(
            scenario,
            model=RandomForest(codes, log_y=True, n_jobs=1, seed=seed, max_depth=20, max_leaf_nodes=LEAVES),
            acquisition_maximizer=_Maximizer(codes, seed),
            initial_design=RandomInitialDesign(scenario, n_configs=INITIAL),
            intensifier=Facade.get_intensifier(scenario, max_config_calls=1),
            config_selector=ConfigSelector(scenario, retrain_after=RANKED, min_trials=FEWEST),
            logging_level=False,
            overwrite=True,
        )
