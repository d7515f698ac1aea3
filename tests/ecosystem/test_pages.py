"""Every Python block of ``docs/ecosystem`` is a script that runs; those of notebooks run in one, in test_jupyter.py."""

from pathlib import Path

import pytest

from tests.docs.test_examples import Example, examples_in, run_example
from tests.support import REPOSITORY

NOTEBOOKS = "notebooks.md"
PAGES = sorted(page for page in (REPOSITORY / "docs" / "ecosystem").glob("*.md") if page.name != NOTEBOOKS)
EXAMPLES = [
    example
    for page in PAGES
    for example in examples_in(str(page.relative_to(REPOSITORY)), page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_the_example_runs(example: Example, tmp_path: Path) -> None:
    assert example.is_run
    run_example(example, tmp_path)


def test_every_page_has_one() -> None:
    assert {example.page for example in EXAMPLES} == {str(page.relative_to(REPOSITORY)) for page in PAGES} != set()
