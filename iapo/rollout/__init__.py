"""Two turns of a policy around a tool: prompt, generation, records."""
