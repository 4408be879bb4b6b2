"""What the command line says where a package is missing: `pip install skillstack` brings the engine only."""

from __future__ import annotations

from data_contracts.errors import ConfigError

#: Top-level modules that flows and evals import and that no part of the engine brings (compared with the imports by a test).
OF_EXTRAS = frozenset({
    "alembic", "boto3", "cryptography", "datasets", "gguf", "httpx", "lm_eval", "marimo", "mlflow", "model_signing", "pandas", "plotly",
    "prefect", "prometheus_client", "psycopg2", "pyarrow", "requests", "scipy", "sqlalchemy", "typer", "urllib3", "uvicorn",
})  # fmt: skip


def missing_extra(error: Exception) -> ConfigError | None:
    """The refusal for an import that failed because an extra is not installed; None for any other error."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name not in OF_EXTRAS:
        return None
    what = f"needs the package {name}, which is not installed: pip install skillstack brings the engine only"
    return ConfigError("skillstack", what, "pip install 'skillstack[all]'")
