"""What a training takes of a device's memory, from its settings and the shapes of its models alone."""
