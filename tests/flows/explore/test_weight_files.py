"""Spectra from the files alone: the engine's layers in its order, numpy's singular values; else the model is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from data_contracts.errors import CheckpointError
from evals.audit.weights import open_weights
from flows.base_models.resolve import NANO
from flows.explore import material
from flows.explore.scene import Subject
from flows.explore.weight_files import open_spectra, plain_layers


def a_copy(folder: Path, **changed: object) -> Path:
    """Nano's folder with other values in its config."""
    folder.mkdir()
    for path in NANO.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    config = {**json.loads((NANO / "config.json").read_text()), **changed}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_layers_and_energies_are_those_of_the_loaded_model() -> None:
    spectra, model = open_spectra(Subject("nano", NANO), None), material.open_model(Subject("nano", NANO), None)
    assert list(spectra.layers) == list(model.targets)
    tensors = load_file(next(NANO.glob("*.safetensors")))
    for layer in spectra.layers[:8]:
        singular = np.linalg.svd(tensors[f"{layer}.weight"].astype(float), compute_uv=False)
        np.testing.assert_allclose(spectra.energies(layer, inputs=False), singular**2, atol=1e-9 * singular[0] ** 2)
    moment = material.measurements(model).moment(spectra.layers[3]).numpy().astype(float)
    found = spectra.energies(spectra.layers[3], inputs=True)
    np.testing.assert_allclose(found, np.linalg.svd(moment, compute_uv=False), atol=1e-6 * found[0])


@pytest.mark.parametrize(
    "changed", [{"model_type": "gpt2"}, {"quantization_config": {"bits": 4}}, {"num_hidden_layers": 99}], ids=["family", "4 bits", "fewer"]
)
def test_other_folders_need_the_model(changed: dict[str, object], tmp_path: Path) -> None:
    folder = a_copy(tmp_path / "model", **changed)
    assert plain_layers(folder, open_weights(folder)) is None


def test_a_layer_of_another_name_needs_the_model(tmp_path: Path) -> None:
    files = open_weights(NANO)
    name = "model.layers.0.self_attn.q_proj.weight"
    renamed = {key.replace("q_proj", "qkv_proj") if key == name else key: file for key, file in files.items()}
    for file in renamed.values():
        file.header.tensors.setdefault(name.replace("q_proj", "qkv_proj"), file.header.tensors[name])
    assert plain_layers(NANO, renamed) is None
    assert plain_layers(NANO, open_weights(NANO)) is not None


def test_a_model_of_another_family_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.explore.weight_files._FAMILIES", ())
    by_model = open_spectra(Subject("nano", NANO), None)
    monkeypatch.undo()
    by_file = open_spectra(Subject("nano", NANO), None)
    assert (by_model.layers, by_model.files) == (by_file.layers, {})
    layer = by_file.layers[-1]
    np.testing.assert_allclose(by_model.energies(layer, inputs=False), by_file.energies(layer, inputs=False), rtol=1e-9, atol=1e-12)


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    folder = a_copy(tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_spectra(Subject("broken", folder), None)


def test_the_first_numbers_load_neither_mlflow_nor_torch(lineage_state: Path) -> None:
    """In another process, as the command does it: what is imported here is what someone waits for."""
    script = """
import sys
import flows.cli.app
from pathlib import Path
from flows.config.model import SkillstackConfig
from flows.explore import scene, weight_files
from flows.explore.views import spectrum
scene.use(SkillstackConfig(state_dir=Path(sys.argv[1])))
subject = next(iter(scene.list_subjects().values()))
assert "champion" in subject.label, subject
spectra = weight_files.open_spectra(subject, None)
energies = spectra.energies(spectra.layers[0], inputs=False)
spectrum.spectrum_figure(energies, spectrum.cut_energies(energies, 0.25), (), inputs=False)
print(sorted({"mlflow", "torch", "transformers", "pandas", "scipy.stats", "matplotlib", "altair", "prefect"} & set(sys.modules)))
"""
    variables = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    line = [sys.executable, "-c", script, str(lineage_state)]
    answer = subprocess.run(line, check=False, capture_output=True, text=True, timeout=300, env=variables)
    assert (answer.returncode, answer.stdout.strip()) == (0, "[]"), answer.stderr
