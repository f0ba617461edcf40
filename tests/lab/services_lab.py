"""A lab in which every service runs at once, each with a user of its own."""

SERVICES_NAME = "services"
SERVICES = """
name: services
map: {source: berlin}
hosts:
  edge-1: {role: server, tier: local}
  edge-2: {role: server, tier: local}
  bs-1: {role: base-station}
  user: {role: user}
links:
  - {between: [user, bs-1]}
  - {between: [bs-1, "edge-*"]}
  - {between: [edge-1, edge-2]}
services:
  simple: {kind: simple}
  faces: {kind: face-detection}
  people: {kind: openface}
  objects: {kind: yolo}
  memory: {kind: ram, options: {memory_mb: 60, rewrite_mb_per_s: 2, whole_every: 20}}
  match: {kind: xonotic}
  mine: {kind: digest, options: {rounds: 3}}
users:
  someone: {host: user, service: simple, trace: {source: sumo}}
"""
