"""Input attribution of tool calls, and how two attributions are compared. Tensors only: no trainer, tool or reward."""
