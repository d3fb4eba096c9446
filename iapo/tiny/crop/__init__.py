"""The second tiny world: pages whose print is too small for the student, which has to crop the right panel to read."""
