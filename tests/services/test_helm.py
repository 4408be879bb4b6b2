"""The Helm values against the charts that read them: their schema, and what `helm template` makes of them.

    SKILLSTACK_CHARTS=FOLDER pytest tests/services/test_helm.py

FOLDER holds the charts prefect-server and prefect-worker as folders (`helm pull --untar`, or a checkout of their repository with the charts
that they depend on below `charts/`). What needs the command `helm` is left out where there is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHARTS = Path(os.environ.get("SKILLSTACK_CHARTS") or "/nowhere")
pytestmark = [pytest.mark.services, pytest.mark.skipif(not CHARTS.is_dir(), reason="SKILLSTACK_CHARTS names no folder with the charts")]

REPOSITORY = Path(__file__).parents[2]
KUBERNETES = REPOSITORY / "infra/kubernetes"
MISTAKES = {"prefect-server": {"server": {"basicAuth": {"enabled": "yes"}}}, "prefect-worker": {"worker": {"config": {"limit": "1"}}}}
NAMES = tuple(MISTAKES)


def values_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((KUBERNETES / f"{name}-values.yaml").read_text())
    return found


def merged(below: Any, above: Any) -> Any:
    """Values over a chart's defaults, as Helm puts them."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: merged(below.get(name), value) for name, value in above.items()}


def unknown(defaults: Any, values: dict[str, Any], where: str = "") -> list[str]:
    """Values that the chart does not name and its schema lets pass: they would be ignored. Below an empty default anything may stand."""
    found = []
    for name, value in values.items():
        if name not in defaults:
            found.append(where + name)
        elif isinstance(value, dict) and defaults[name]:
            found += unknown(defaults[name], value, f"{where}{name}.")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_values_keep_the_schema_of_their_chart(name: str) -> None:
    from jsonschema import Draft7Validator

    defaults = yaml.safe_load((CHARTS / name / "values.yaml").read_text())
    schema = json.loads((CHARTS / name / "values.schema.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(merged(defaults, values_of(name)))] == []
    assert unknown(defaults, values_of(name)) == []
    assert list(Draft7Validator(schema).iter_errors(merged(defaults, MISTAKES[name]))), "the schema checks nothing"


@pytest.fixture(params=NAMES)
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    helm = shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed")
    line = [helm, "template", request.param, str(CHARTS / request.param), "--namespace", "skillstack"]
    done = subprocess.run(
        [*line, "--values", str(KUBERNETES / f"{request.param}-values.yaml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def test_what_is_rendered_keeps_the_schema_of_kubernetes(rendered: list[dict[str, Any]]) -> None:
    import kubernetes_validate

    for each in rendered:
        kubernetes_validate.validate(without_nothing(each), "1.33", strict=True)


def without_nothing(value: Any) -> Any:
    """Keys without a value are as good as not there, for Kubernetes."""
    if isinstance(value, dict):
        return {name: without_nothing(each) for name, each in value.items() if each is not None}
    return [without_nothing(each) for each in value] if isinstance(value, list) else value


def test_the_pods_are_of_the_tested_release_and_admitted_by_the_namespace(rendered: list[dict[str, Any]]) -> None:
    pinned = re.search(r"(?m)^prefect==(.*)$", (REPOSITORY / "infra/constraints.txt").read_text())
    assert pinned is not None
    namespace = yaml.safe_load((KUBERNETES / "namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = [each["spec"]["template"]["spec"] for each in rendered if each["kind"] == "Deployment"]
    assert len(pods) == 1
    for pod in pods:
        for container in pod["containers"] + pod.get("initContainers", []):
            assert container["image"].startswith(f"prefecthq/prefect:{pinned[1]}-")
            rules = container["securityContext"]
            # The profile `restricted` of Kubernetes' Pod Security Standards.
            assert rules["allowPrivilegeEscalation"] is False
            assert rules["capabilities"] == {"drop": ["ALL"]}
            assert {**pod["securityContext"], **rules}["runAsNonRoot"] is True
            assert {**pod["securityContext"], **rules}["seccompProfile"]["type"] == "RuntimeDefault"


def test_secrets_and_claims_are_those_that_somebody_makes(rendered: list[dict[str, Any]]) -> None:
    guide = (REPOSITORY / "docs/guides/service.md").read_text()
    text = yaml.safe_dump(rendered)
    references = set(re.findall(r"secretKeyRef:\s+key: (\S+)\s+name: (\S+)", text))
    assert references
    for key, secret in references:
        assert re.search(rf"create secret generic {secret} (.|\n)*?--from-literal={key}=", guide), (
            f"the guide does not make {secret}: {key}"
        )
    claims = (yaml.safe_load((KUBERNETES / name).read_text()) for name in ("leases.yaml", "state.yaml"))
    made = {each["metadata"]["name"] for each in claims}
    assert set(re.findall(r"claimName: (\S+)", text)) <= made
