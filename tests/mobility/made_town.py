"""A made town of streets on a grid, about 150 m apart, as OpenStreetMap data."""

SIZE = 5
LAT, LON = 52.5, 13.4
STEP_LAT, STEP_LON = 0.00135, 0.0022
PLATFORM, SITE = 900, 901


def made_town():
    nodes, ways = [], []
    for row in range(SIZE):
        for column in range(SIZE):
            lat, lon = LAT + row * STEP_LAT, LON + column * STEP_LON
            nodes.append(f'<node id="{node(row, column)}" version="1" lat="{lat}" lon="{lon}"/>')
    for line in range(SIZE):
        kind = "secondary" if line == 2 else "residential"
        ways.append(way(100 + line, kind, [node(line, column) for column in range(SIZE)]))
        ways.append(way(200 + line, kind, [node(row, line) for row in range(SIZE)]))
    ways.append(way(PLATFORM, "platform", [node(0, 0), node(1, 1)]))
    ways.append(way(SITE, "construction", [node(1, 1), node(2, 2)]))
    body = "\n".join([*nodes, *ways])
    return f'<?xml version="1.0"?>\n<osm version="0.6">\n{body}\n</osm>\n'


def node(row, column):
    return 1 + row * SIZE + column


def way(number, kind, nodes):
    refs = "".join(f'<nd ref="{ref}"/>' for ref in nodes)
    return f'<way id="{number}" version="1">{refs}<tag k="highway" v="{kind}"/></way>'
