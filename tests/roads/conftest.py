from xml.sax.saxutils import quoteattr

import pytest


def tags_of(tags):
    return "".join(f"<tag k={quoteattr(k)} v={quoteattr(str(v))}/>" for k, v in tags.items())


@pytest.fixture
def write_osm(tmp_path):
    """Write an OSM file: nodes as id: (lat, lon), ways as id: (refs, tags), relations likewise."""

    def write(nodes, ways, relations=(), name="made.osm"):
        parts = [f'<node id="{n}" version="1" lat="{lat!r}" lon="{lon!r}"/>'
                 for n, (lat, lon) in nodes.items()]  # fmt: skip
        for number, (refs, tags) in ways.items():
            nds = "".join(f'<nd ref="{ref}"/>' for ref in refs)
            parts.append(f'<way id="{number}" version="1">{nds}{tags_of(tags)}</way>')
        for number, (members, tags) in enumerate(relations, start=1):
            inside = "".join(
                f'<member type="{kind}" ref="{ref}" role="{role}"/>' for kind, ref, role in members
            )
            parts.append(f'<relation id="{number}" version="1">{inside}{tags_of(tags)}</relation>')
        path = tmp_path / name
        path.write_text(
            "<?xml version='1.0' encoding='UTF-8'?>\n"
            f'<osm version="0.6" generator="by hand">{"".join(parts)}</osm>\n',
            encoding="utf-8",
        )
        return path

    return write
