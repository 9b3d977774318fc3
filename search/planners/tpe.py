"""Tree-structured Parzen estimators (Optuna), multivariate, with constant liar for trials in flight."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from engines.contract import Config, Value
from engines.space import Parameter, Space
from search.planners.draws import varied, walk

STARTUP = 8
"""Completed trials before the model takes over from random draws."""


class Tpe:
    """Proposer of the `tpe` planner. Ordered parameters are the integers of their ranks."""

    name = "tpe"

    def __init__(self, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=STARTUP
            )
        self._space = space
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._drawn: tuple[Config, Any] | None = None
        self._open: dict[int, Any] = {}

    def suggest(self) -> Config:
        """One draw; a draw that nobody accepted is closed as failed, which the model leaves out."""
        self._close()
        trial = self._study.ask()
        config = walk(self._space, lambda parameter: _value(parameter, _ask(trial, parameter)))
        self._drawn = (config, trial)
        return config

    def accept(self, number: int, config: Config) -> None:
        """Keep the draw open while it runs, which makes it a lie of the constant liar."""
        if self._drawn is not None and self._drawn[0] == config:
            self._open[number] = self._drawn[1]
            self._drawn = None
        self._close()

    def tell(self, number: int, config: Config, score: float | None) -> None:
        """Scores go to the model, everything else is a failed trial."""
        trial = self._open.pop(number, None)
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        if trial is not None:
            self._study.tell(trial, score, state=state)
        elif score is not None:
            filled = self._filled(config)
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=state,
                    value=score,
                    params={each.name: _coded(each, value) for each, value in filled},
                    distributions={each.name: _distribution(each) for each, _ in filled},
                )
            )

    def _filled(self, config: Config) -> list[tuple[Parameter, Value]]:
        values = self._space.filled(config)
        return [(each, values[each.name]) for each in varied(self._space) if each.name in values]

    def _close(self) -> None:
        if self._drawn is not None:
            self._study.tell(self._drawn[1], state=TrialState.FAIL)
            self._drawn = None


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.ordered:
        return IntDistribution(0, len(parameter.choices) - 1)
    return CategoricalDistribution(tuple(range(len(parameter.choices))))


def _ask(trial: Any, parameter: Parameter) -> int:
    last = len(parameter.choices) - 1
    if parameter.ordered:
        return int(trial.suggest_int(parameter.name, 0, last))
    return int(trial.suggest_categorical(parameter.name, tuple(range(last + 1))))


def _value(parameter: Parameter, code: int) -> Value:
    return parameter.choices[code]


def _coded(parameter: Parameter, value: Value) -> int:
    return parameter.choices.index(value)
