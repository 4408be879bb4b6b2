"""The ledger's head in a second place, which proves later that no entry up to it was removed or written anew.

A file (`signing.head_file`) has to take it: else the entry stays pending. A webhook (`signing.head_url`) gets it, and a head that does not
arrive is a warning and no failure: the next one covers every entry before it.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from data_contracts.errors import LineageError
from flows.lineage.storage.connection import Lineage
from flows.lineage.storage.records import LedgerEntry

WEBHOOK_SECONDS = 10.0

logger = logging.getLogger(__name__)


def head_of(entry: LedgerEntry) -> str:
    """`number:digest`: kept in another place, it proves later that no entry up to this one was changed."""
    return f"{entry.sequence}:{entry.digest}"


def keep_head(lineage: Lineage, entry: LedgerEntry) -> None:
    """Append the head to the file, and send it to the webhook; writing the same one again changes nothing.

    Raises LineageError if the file cannot be written: the entry then stays pending.
    """
    path = lineage.keys.head_file
    if path is not None and head_of(entry) not in kept_heads(path):
        _append(path, entry)
    if lineage.keys.head_url:
        _send(lineage, lineage.keys.head_url, entry)


def _append(path: Path, entry: LedgerEntry) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n")
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * torn + head_of(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise LineageError(
            str(path), f"the ledger's head cannot be written: {error.strerror}", "make signing.head_file writable"
        ) from error


def _send(lineage: Lineage, url: str, entry: LedgerEntry) -> None:
    """POST the head as JSON. Redirects are not followed."""
    import httpx

    body = {
        "model": lineage.model_name,
        "head": head_of(entry),
        "action": entry.action,
        "version": entry.version,
        "champion": entry.champion,
        "time": entry.time.isoformat(),
    }
    try:
        httpx.post(url, json=body, timeout=WEBHOOK_SECONDS).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"answered {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else f"cannot be reached: {error}"
        logger.warning("signing.head_url (%s) %s: it did not receive the ledger's head %s", _host(url), why, head_of(entry))


def _host(url: str) -> str:
    """A webhook without its path, which often is a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}"


def kept_heads(path: Path) -> list[str]:
    """The heads in the second place, oldest first; an incomplete line (after a full disk) is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise LineageError(str(path), "cannot be read", "restore it from backup") from error
    return [line for line in lines if re.fullmatch(r"\d+:[0-9a-f]{64}", line)]
