"""What scikit-learn computes in parallel, as numbers to compare; run as a script it prints those of a backend."""

import json
import sys
from typing import Any

from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

__all__ = ["data", "figures"]


def data() -> tuple[Any, Any]:
    """Give features, of more than a megabyte, and classes."""
    features, classes = make_classification(n_samples=2_700, n_features=50, n_informative=8, random_state=5)
    return features, classes


def figures(backend: str, **options: Any) -> dict[str, list[float]]:
    """Return what a grid search, a cross validation and a forest come to."""
    features, classes = data()
    with parallel_config(backend=backend, n_jobs=2, **options):
        search = GridSearchCV(LogisticRegression(max_iter=100), {"C": [0.01, 1.0]}, cv=2).fit(features, classes)
        scores = cross_val_score(RandomForestClassifier(4, random_state=3), features, classes, cv=3)
        forest = RandomForestClassifier(10, random_state=7).fit(features, classes)
        chances = forest.predict_proba(features[:50])
    return {
        "search": [*search.cv_results_["mean_test_score"].tolist(), float(search.best_params_["C"])],
        "scores": scores.tolist(),
        "importances": forest.feature_importances_.tolist(),
        "chances": chances.ravel().tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(figures(sys.argv[1])))
