"""How a running container is moved, as the controller sees it."""
