"""The shipped suite's classes can be inherited together: none hides a method of another."""

import inspect
from collections import Counter

from omnimem.testing import conformance


def test_no_class_hides_what_another_asks() -> None:
    classes = [
        kind
        for name, kind in inspect.getmembers(conformance, inspect.isclass)
        if name.endswith("Conformance") and name != "ClientConformance"
    ]
    assert len(classes) == 5
    own = Counter(name for kind in classes for name in vars(kind) if not name.startswith("__"))
    assert {name for name, count in own.items() if count > 1} == set()
