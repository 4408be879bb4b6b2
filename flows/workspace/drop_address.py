"""Addresses of drops: checked against the allowed roots, and downloaded if they are not local files.

An address in a request (a parameter of a deployment) is not trusted: `..`, links and redirects out of a root, and all other addresses
are refused.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

from data_contracts.digests import file_digest
from data_contracts.errors import ConfigError, DropError, SkillstackError
from flows.config.model import SkillstackConfig
from flows.machine.disk import naming_full_disk

_WAY_OUT = "name a file under one of inbox.allowed_roots, or add its folder there"
_FILE_SCHEMES = ("file", "local")
_HTTP = ("http://", "https://")
_MAX_REDIRECTS = 5
_HTTP_SECONDS = 60.0


def is_url(address: str) -> bool:
    return "://" in address


def typed_address(address: str) -> str:
    """The absolute address of what a person typed: relative paths are relative to the working directory."""
    return address if is_url(address) else os.path.abspath(address)


@contextmanager
def naming_as_typed(*addresses: str | None) -> Iterator[None]:
    """Whatever is refused within is named as the person wrote it, not by the absolute path that it was made."""
    try:
        yield
    except SkillstackError as error:
        where, what = error.where, error.what
        for address in filter(None, addresses):
            path = re.compile(re.escape(typed_address(address)) + r"(?![\w./-])")
            where, what = (path.sub(lambda _, typed=address: typed, text) for text in (where, what))  # type: ignore[misc]
        if (where, what) == (error.where, error.what):
            raise
        raise type(error)(where, what, error.way_out) from error


def local_drop(config: SkillstackConfig, address: Path | str) -> Path:
    """The local file of an address; a URL is downloaded into the state directory. Raises ConfigError if the address is not allowed."""
    text = str(address)
    require_allowed(config, text)
    return fetch(config, text) if is_url(text) else Path(text)


def require_allowed(config: SkillstackConfig, address: str) -> None:
    """Raise ConfigError for an address outside the allowed roots. Without any root, local files are allowed and URLs are not."""
    if "\0" in address or "::" in address or not address:  # fsspec reads a::b as one address inside another
        raise ConfigError(f"drop {address!r}", "is not the address of a file", _WAY_OUT)
    if ".." in unquote(address).replace("\\", "/").split("/"):
        raise ConfigError(f"drop {address}", "contains ..", "give the path without it")
    roots = config.inbox.allowed_roots
    if is_url(address):
        if not any(_url_below(address, root) for root in (*roots, config.inbox.folder) if is_url(root)):
            raise ConfigError(f"drop {address}", f"is outside the allowed roots ({', '.join(roots) or 'none'})", _WAY_OUT)
        return
    folders = [Path(root) for root in roots if not is_url(root)]
    if not roots:
        return
    inside = (*folders, config.state_dir / "drops", *(() if is_url(config.inbox.folder) else (Path(config.inbox.folder),)))
    real = Path(address).resolve()  # a link inside a root may lead out of it
    if not any(real.is_relative_to(folder.resolve()) for folder in inside):
        raise ConfigError(f"drop {address}", f"is outside the allowed roots ({', '.join(roots)})", _WAY_OUT)


def _url_below(address: str, root: str) -> bool:
    scheme, _, path = unquote(address).partition("://")
    root_scheme, _, root_path = unquote(root).partition("://")
    if scheme.lower() in _FILE_SCHEMES:  # a link inside the root may lead out of it
        real = Path(address.partition("://")[2]).resolve()
        return root_scheme.lower() in _FILE_SCHEMES and real.is_relative_to(Path(root.partition("://")[2]).resolve())
    below = posixpath.normpath(path).split("/")
    above = posixpath.normpath(root_path).split("/")
    return scheme.lower() == root_scheme.lower() and below[: len(above)] == above and len(below) > len(above)


def fetch(config: SkillstackConfig, url: str) -> Path:
    """Copy a remote file to `state_dir/drops/<digest>/<name>`, completely or not at all. Raises DropError if it cannot be downloaded."""
    drops = config.state_dir / "drops"
    drops.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=drops, prefix=".fetch-") as scratch:
        path = urlsplit(url).path if url.lower().startswith(_HTTP) else url  # the name is on record, and a query may be a signature
        copy = Path(scratch) / posixpath.basename(path)
        with reading(url, "check the address and the credentials"), naming_full_disk(config.state_dir), copy.open("wb") as target:
            download(config, url, target)
        return keep(config, copy)


def download(config: SkillstackConfig, url: str, target: BinaryIO) -> None:
    """Copy the content of a URL. Raises ConfigError for a redirect out of the allowed roots, else what the URL's reader raises."""
    if url.lower().startswith(_HTTP):
        _download_http(config, url, target)
        return
    import fsspec

    with fsspec.open(url, "rb") as source:
        shutil.copyfileobj(source, target)


def _download_http(config: SkillstackConfig, url: str, target: BinaryIO) -> None:
    """Check each redirect before following it: an allowed host must not send this machine to another one."""
    import httpx

    with httpx.Client(timeout=_HTTP_SECONDS) as client:
        for _ in range(_MAX_REDIRECTS + 1):
            with client.stream("GET", url) as answer:
                if not answer.has_redirect_location:
                    answer.raise_for_status()
                    for part in answer.iter_bytes():
                        target.write(part)
                    return
                url = urljoin(url, answer.headers["location"])
            require_allowed(config, url)
    raise DropError(url, f"redirects more than {_MAX_REDIRECTS} times", "give the address of the file itself")


@contextmanager
def reading(where: str, way_out: str, kind: type[SkillstackError] = DropError) -> Iterator[None]:
    """Turn any error of reading a file into one line: fsspec's readers raise errors of their own types, without a common base."""
    try:
        yield
    except SkillstackError:
        raise
    except ImportError as error:
        raise kind(
            where, f"no reader is installed for this kind of URL: {_line(error)}", "install it; for s3:// it is the package s3fs"
        ) from error
    except Exception as error:
        raise kind(where, f"cannot be read: {_line(error)}", way_out) from error


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def keep(config: SkillstackConfig, copy: Path) -> Path:
    """Move a copied drop to the folder of its digest; the same file is kept once."""
    target = config.state_dir / "drops" / file_digest(copy)[:16] / copy.name
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(copy, target)
    return target
