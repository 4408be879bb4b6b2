"""minio server /data ...: an S3-type store on port 9000 whose objects outlive it."""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

READY = Path("/tmp/ready")


def replay(record: Path) -> None:
    """Once the server answers, give it the requests of its earlier lives, and let it record again."""
    address = "http://127.0.0.1:9000/moto-api"
    while True:
        try:
            urllib.request.urlopen(f"{address}/", timeout=3)
            break
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    steps = ["replay-recording"] if record.exists() else []
    for step in [*steps, "start-recording"]:
        urllib.request.urlopen(urllib.request.Request(f"{address}/recorder/{step}", method="POST"), timeout=600)
    READY.touch()


def main() -> None:
    assert sys.argv[1] == "server", sys.argv
    record = Path(sys.argv[2]) / "requests.jsonl"
    (record.parent / "writable").touch()  # as MinIO does, refuse a folder that is not ours
    assert os.environ["MINIO_ROOT_USER"]
    assert os.environ["MINIO_ROOT_PASSWORD"]
    READY.unlink(missing_ok=True)
    os.environ["MOTO_RECORDER_FILEPATH"] = str(record)
    from moto.server import main as serve

    threading.Thread(target=replay, args=(record,), daemon=True).start()
    serve(["-H", "0.0.0.0", "-p", "9000"])


if __name__ == "__main__":
    main()
