"""How users move and what their radio sees: traces, trips, signal strength, handovers."""
