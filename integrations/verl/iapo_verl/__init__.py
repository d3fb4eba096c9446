"""IAPO in VeRL: an agent loop, a reward function, and attribution on the actor's FSDP engine (docs/verl.md)."""
