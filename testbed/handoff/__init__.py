"""When each step of a handoff happens, and on which hosts."""
