"""scikit-learn on an engine, through joblib: the same numbers as with joblib's own workers, and a fit that survives."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

import engine.integrations.joblib as on_engine
from engine import Engine
from tests.ecosystem.sklearn_functions import data, figures
from tests.integration.exits import environment


@pytest.fixture(autouse=True)
def _no_engine_stays() -> Iterator[None]:
    on_engine.register()
    yield
    on_engine.stop(timeout=5)


def test_the_numbers_are_those_of_loky() -> None:
    """GridSearchCV, cross_val_score and RandomForestClassifier; joblib's own workers in a program of their own."""
    command = [sys.executable, "-m", "tests.ecosystem.sklearn_functions", "loky"]
    with subprocess.Popen(command, env=environment("loky"), stdout=subprocess.PIPE) as with_loky:
        try:
            ours = figures("engine")
            theirs, _ = with_loky.communicate(timeout=100)
        finally:
            with_loky.kill()
    assert ours == json.loads(theirs)


class Mortal(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not looked into by the type check
    """An estimator whose first fit kills its process."""

    def __init__(self, marker: str = "") -> None:
        self.marker = marker

    def fit(self, features: Any, classes: Any) -> "Mortal":
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.inner_ = LogisticRegression(max_iter=200).fit(features, classes)
        self.classes_ = self.inner_.classes_
        return self

    def predict(self, features: Any) -> Any:
        return self.inner_.predict(features)


def test_a_worker_that_dies_does_not_cost_the_fit(tmp_path: Path) -> None:
    features, classes = data()
    with Engine(processes=2) as engine:
        with parallel_config(backend="engine", engine=engine, n_jobs=2):
            scores = cross_val_score(Mortal(str(tmp_path / "died")), features, classes, cv=3)
        assert engine.snapshot().crashes == engine.snapshot().retries == 1
    assert scores.tolist() == cross_val_score(LogisticRegression(max_iter=200), features, classes, cv=3).tolist()
