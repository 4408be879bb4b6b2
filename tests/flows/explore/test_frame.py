"""Every view is a page of one form."""

from __future__ import annotations

import json

from flows.explore.frame import PAGES


def test_every_view_is_a_marimo_app_with_a_sentence() -> None:
    import importlib.util

    for page in PAGES:
        specification = importlib.util.spec_from_file_location(f"{page.name}_page", page.file)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        assert type(module.app).__name__ == "App"
        assert page.look_for.startswith(("Look", "Read"))
    files = {path for path in PAGES[0].file.parent.glob("*.py") if path.stem != "__init__"}
    assert {page.file for page in PAGES} == files, "every file of the folder is a page"
    assert json.dumps([page.name for page in PAGES])
