"""How much memory a process takes, and its largest value in each phase of what it does."""

from __future__ import annotations

import bisect
import ctypes
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GIB = 2**30


class Peak:
    """The process's memory: on an accelerator PyTorch's own count, else what of it is resident.

    Attributes:
        base: Bytes that are not counted.
        phases: The largest value of each phase in bytes.
        seconds: The seconds of each phase, over all times.
    """

    def __init__(self) -> None:
        import torch

        self.module = torch.cuda if torch.cuda.is_available() else None
        self.reset()

    def reset(self) -> None:
        """Counts from here on."""
        gc.collect()
        if not self.module:
            # What the allocator holds without need is no library's.
            ctypes.CDLL(None).malloc_trim(0)
        self.base = 0 if self.module else self._status("VmRSS")
        self.phases: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def now(self) -> int:
        """Bytes in use."""
        return self.module.memory_allocated() if self.module else self._status("VmRSS") - self.base

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures what runs inside."""
        if self.module:
            self.module.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")
        started = time.perf_counter()
        try:
            yield
        finally:
            peak = self.module.max_memory_allocated() if self.module else self._status("VmHWM") - self.base
            self.phases[name] = max(peak, self.phases.get(name, 0))
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    @contextmanager
    def running(self) -> Iterator[None]:
        """Is open while there are phases."""
        yield

    @staticmethod
    def _status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


class TensorPeak(Peak):
    """The bytes of tensors on the CPU, as PyTorch's profiler sees them taken and given back.

    What libraries take by themselves, what the allocator keeps, and images and tokens outside of tensors are not in it.
    """

    def reset(self) -> None:
        """Counts from here on; nothing is taken off."""
        self.module, self.base = None, 0
        self.phases, self.seconds = {}, {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Records while it is open; then the phases are there."""
        import torch

        held = self._held()
        with torch.autograd.profiler.profile(profile_memory=True) as profile:
            yield
        self._read(profile.kineto_results.events(), held)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Marks what runs inside."""
        import torch

        started = time.perf_counter()
        with torch.autograd.profiler.record_function(f"phase:{name}"):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _read(self, events: Any, held: int) -> None:
        changes = sorted((one.start_ns(), one.nbytes()) for one in events if one.name() == "[memory]")
        spans = [(one.start_ns(), one.end_ns(), one.name()[6:]) for one in events if one.name().startswith("phase:")]
        times, sizes = [time for time, _ in changes], []
        for _, size in changes:
            held += size
            sizes.append(held)
        for start, end, name in spans:
            first, last = bisect.bisect_left(times, start), bisect.bisect_right(times, end)
            # What is there at its beginning counts, whether or not it takes more.
            inside = sizes[max(0, first - 1) : last]
            self.phases[name] = max(*inside, self.phases.get(name, 0), 0)

    @staticmethod
    def _held() -> int:
        import torch

        gc.collect()
        tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor) and one.device.type == "cpu"]
        return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())
