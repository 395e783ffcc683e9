"""Real parts at the edges: programs that tests start and stop."""
