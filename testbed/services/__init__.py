"""The offloaded applications: for each a recipe, a server, a client and what the client needs."""
