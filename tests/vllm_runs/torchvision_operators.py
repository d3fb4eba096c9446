"""Declares the two operators that `import torchvision` looks up, where its own build does not fit torch's.

Its wheel is compiled against torch for GPUs. On torch for the CPU its operators do not load, and only its Python side
is used. A `.pth` file imports this at the start of each process.
"""

from __future__ import annotations

import sys
from typing import Any


class _BeforeTorchvision:
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                self.library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            # A library that is let go takes its operators along.
            vars(sys.modules[__name__])["library"] = self.library


sys.meta_path.insert(0, _BeforeTorchvision())
