"""The errors that a person sees: each says where, what, and the way out. The command line turns them into exit code 1."""

from __future__ import annotations


class SkillstackError(Exception):
    """Base of every expected failure.

    `str(error)` is one line for a person: where it happened, what is wrong, and what to do about it.
    """

    def __init__(self, where: str, what: str, way_out: str = "") -> None:
        self.where, self.what, self.way_out = where, what, way_out
        super().__init__(f"{where}: {what}" + (f" ({way_out})" if way_out else ""))

    def __reduce__(self) -> tuple[type[SkillstackError], tuple[str, str, str]]:
        return type(self), (self.where, self.what, self.way_out)


class ConfigError(SkillstackError):
    """A configuration file or argument that cannot be used."""


class DropError(SkillstackError):
    """A drop that cannot be read or does not keep its contract."""


class RenderingError(SkillstackError):
    """A row that the model's chat template and tokenizer cannot turn into a training example or a prompt."""


class ManifestError(SkillstackError):
    """A manifest that is missing, unreadable, or disagrees with the files it names."""


class CheckpointError(SkillstackError):
    """A model folder or checkpoint that is missing, incomplete or of the wrong kind."""


class TrainingError(SkillstackError):
    """Training that cannot start or must not go on (for instance a loss that is not finite)."""


class EvaluationError(SkillstackError):
    """A suite or an evaluation that cannot be trusted (missing, empty, not finite)."""


class LineageError(SkillstackError):
    """The registry refuses: a moved alias, a missing version, a lost race, a failed verification."""
