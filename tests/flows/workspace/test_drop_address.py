"""A drop's address is not trusted: upwards, out through a link, or outside the allowed roots is one clear error before anything is read."""

from __future__ import annotations

import contextlib
import http.server
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from data_contracts.errors import ConfigError, DropError, SkillstackError
from flows.config.model import SkillstackConfig, parse_config
from flows.inbox.box import Inbox
from flows.workspace.drop_address import local_drop, naming_as_typed, require_allowed, typed_address


def config(home: Path, *roots: str, folder: str = "inbox") -> SkillstackConfig:
    return parse_config({"state_dir": "state", "inbox": {"folder": folder, "allowed_roots": list(roots)}}, where="test", folder=home)


@pytest.mark.parametrize(
    "address",
    ["../drop.jsonl", "drops/../../x.jsonl", "s3://bucket/drops/../secret.jsonl", "s3://bucket/drops/%2e%2e/secret.jsonl", "a\\..\\b"],
)
def test_nothing_leads_upwards(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"contains \.\."):
        require_allowed(config(tmp_path, "drops", "s3://bucket/drops"), address)


@pytest.mark.parametrize("address", ["", "a\0b"])
def test_what_is_no_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the address of a file"):
        require_allowed(config(tmp_path), address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://bucket/other/x.jsonl",
        "s3://bucket/drops-of-others/x.jsonl",
        "s3://bucket2/drops/x",
        "http://bucket/drops/x",
        "file:///etc/passwd",
    ],
)
def test_urls_need_an_allowed_root(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="outside the allowed roots"):
        require_allowed(config(tmp_path, "s3://bucket/drops"), address)
    with pytest.raises(ConfigError, match=r"outside the allowed roots \(none\)"):
        require_allowed(config(tmp_path), address)
    require_allowed(config(tmp_path, "s3://bucket/drops"), "s3://bucket/drops/month/x.jsonl")


def test_local_files_stay_inside_the_roots_where_there_are_any(tmp_path: Path) -> None:
    inside = tmp_path / "drops"
    inside.mkdir()
    outside = tmp_path / "outside.jsonl"
    outside.write_text("secret")
    (inside / "link.jsonl").symlink_to(outside)
    require_allowed(config(tmp_path), str(outside))
    rooted = config(tmp_path, "drops")
    require_allowed(rooted, str(inside / "any.jsonl"))
    for address in (outside, inside / "link.jsonl"):
        with pytest.raises(ConfigError, match="outside the allowed roots"):
            require_allowed(rooted, str(address))


def test_a_url_is_fetched_by_content_and_a_missing_one_is_named(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/roots/route.jsonl", b"rows\n")
    try:
        settings = config(tmp_path, "memory://roots")
        first, second = (local_drop(settings, "memory://roots/route.jsonl") for _ in range(2))
        assert first == second
        assert first.read_text() == "rows\n"
        assert first.is_relative_to(tmp_path / "state" / "drops")
        with pytest.raises(DropError, match="cannot be read"):
            local_drop(settings, "memory://roots/gone.jsonl")
    finally:
        memory.rm("/roots", recursive=True)


def test_links_do_not_lead_out_of_a_file_root(tmp_path: Path) -> None:
    (tmp_path / "drops").mkdir()
    (tmp_path / "secret.jsonl").write_text("secret")
    (tmp_path / "drops" / "plain.jsonl").write_text("rows\n")
    (tmp_path / "drops" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    (tmp_path / "drops" / "away").symlink_to(tmp_path)
    rooted = config(tmp_path, f"file://{tmp_path}/drops")
    assert local_drop(rooted, f"file://{tmp_path}/drops/plain.jsonl").read_text() == "rows\n"
    for address in (f"file://{tmp_path}/drops/link.jsonl", f"local://{tmp_path}/drops/away/secret.jsonl"):
        with pytest.raises(ConfigError, match="outside the allowed roots"):
            local_drop(rooted, address)


def test_an_address_inside_another_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the address of a file"):
        require_allowed(config(tmp_path, "http://host/drops"), "http://host/drops/x::file:///etc/passwd")


@pytest.fixture
def host() -> Iterator[tuple[str, dict[str, str]]]:
    """A web server on loopback: its address, and path -> where it redirects to (paths without one have rows)."""
    redirects: dict[str, str] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path in redirects else 200)
            if self.path in redirects:
                self.send_header("Location", redirects[self.path])
            self.end_headers()
            self.wfile.write(b"" if self.path in redirects else b"rows of " + self.path.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", redirects
    server.shutdown()
    server.server_close()


def test_redirects_do_not_lead_out_of_an_http_root(tmp_path: Path, host: tuple[str, dict[str, str]]) -> None:
    url, redirects = host
    port = url.rpartition(":")[2]
    redirects |= {
        "/drops/moved.jsonl": "/drops/plain.jsonl",
        "/drops/up.jsonl": "/secret",
        "/drops/other.jsonl": f"http://localhost:{port}/drops/plain.jsonl",
        "/drops/file.jsonl": "file:///etc/passwd",
        "/drops/round.jsonl": "/drops/round.jsonl",
    }
    rooted = config(tmp_path, f"{url}/drops")
    assert local_drop(rooted, f"{url}/drops/plain.jsonl").read_text() == "rows of /drops/plain.jsonl"
    assert local_drop(rooted, f"{url}/drops/moved.jsonl").read_text() == "rows of /drops/plain.jsonl"
    for name in ("up", "other", "file"):
        with pytest.raises(ConfigError, match="outside the allowed roots"):
            local_drop(rooted, f"{url}/drops/{name}.jsonl")
    with pytest.raises(DropError, match="redirects more than 5 times"):
        local_drop(rooted, f"{url}/drops/round.jsonl")
    assert not list((tmp_path / "state" / "drops").glob(".fetch-*"))


@contextlib.contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow further, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("from_inbox", [False, True])
def test_a_disk_that_fills_while_a_drop_is_copied_is_named_and_nothing_is_left(tmp_path: Path, from_inbox: bool) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/roots/route.jsonl", b"r" * 200_000)
    inbox = Inbox(settings := config(tmp_path, folder="memory://roots"))
    arrivals = inbox.look()
    try:
        with pytest.raises(SkillstackError, match="the disk is full") as refusal, no_file_over(100_000):
            inbox.take(arrivals[0]) if from_inbox else local_drop(settings, "memory://roots/route.jsonl")
        assert "free space under" in str(refusal.value)
        assert list((tmp_path / "state" / "drops").iterdir()) == []
        taken = inbox.take(arrivals[0])
        assert taken is not None
        assert taken.drop.read_bytes() == b"r" * 200_000
    finally:
        memory.rm("/roots", recursive=True)


def test_a_person_at_the_shell_may_point_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert typed_address("../drop.jsonl") == str(tmp_path / "drop.jsonl")
    assert typed_address("s3://bucket/x") == "s3://bucket/x"


def test_what_is_refused_is_named_as_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = "../drops/june.jsonl"
    path = typed_address(typed)
    with pytest.raises(DropError) as refused, naming_as_typed(typed, None):
        raise DropError(f"{path}:4", f"is {path}, unlike {path}.gz", "mend it")
    assert str(refused.value) == f"{typed}:4: is {typed}, unlike {path}.gz (mend it)"
    other = DropError("elsewhere", "is broken")
    with pytest.raises(DropError) as refused, naming_as_typed(typed, "held.jsonl"):
        raise other
    assert refused.value is other


def test_the_query_of_an_address_is_not_the_name_of_the_file(tmp_path: Path, host: tuple[str, dict[str, str]]) -> None:
    """A store signs its addresses there; the file's name is in the report and the lineage."""
    url, _ = host
    fetched = local_drop(config(tmp_path, f"{url}/drops"), f"{url}/drops/june.jsonl?X-Amz-Signature={'a' * 400}")
    assert fetched.name == "june.jsonl"
