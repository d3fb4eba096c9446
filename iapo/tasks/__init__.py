"""Tasks: questions about pictures, with the boxes that the tools need."""
