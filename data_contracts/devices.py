"""What `device: auto` means, in training and in evaluation alike: an accelerator that torch can use, or else the CPU.

Importing torch takes seconds and some hundred megabytes, so it is imported only where a device file shows that there may be an
accelerator.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEV = Path("/dev")
#: Patterns of device files, and whose they are.
DEVICE_FILES = {
    "nvidiactl": "NVIDIA",
    "nvidia[0-9]*": "NVIDIA",
    "dxg": "GPU of Windows, in WSL2",
    "kfd": "AMD ROCm",
    "nvhost*": "NVIDIA Jetson",
    "nvmap": "NVIDIA Jetson",
}


@dataclass(frozen=True)
class DeviceChoice:
    """A torch device, and why it was chosen, as the end of a sentence."""

    device: str
    reason: str


def accelerator_files(dev: Path = DEV) -> tuple[str, ...]:
    """The device files in `dev` that an accelerator's driver makes, in a fixed order."""
    return tuple(sorted({path.name for pattern in DEVICE_FILES for path in dev.glob(pattern)}))


def choose_device(wanted: str, sees_cuda: Callable[[], bool], *, dev: Path = DEV, platform: str = sys.platform) -> DeviceChoice:
    """The device for a setting. `sees_cuda` is torch.cuda.is_available, called only where it can be true.

    Windows has no device files, so torch always decides there; macOS has no CUDA.
    """
    if wanted != "auto":
        return DeviceChoice(wanted, "as configured")
    if platform == "darwin":
        return DeviceChoice("cpu", "macOS has no CUDA; the device mps has to be named")
    found = accelerator_files(dev)
    if not found and platform != "win32":
        return DeviceChoice("cpu", f"{dev} has no device file of an accelerator ({', '.join(DEVICE_FILES)})")
    because = f"{dev / found[0]} is there" if found else "Windows has no device files"
    if sees_cuda():
        return DeviceChoice("cuda", f"{because} and torch can use it")
    return DeviceChoice("cpu", f"{because}, but torch cannot use it: built for the CPU, an old driver, or no device visible")
