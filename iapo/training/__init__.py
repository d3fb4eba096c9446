"""All that knows TRL: configuration, trainer, packed passes, and what `iapo train` does."""
