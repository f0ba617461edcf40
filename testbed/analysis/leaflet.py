"""A chart as a map to move about in: zoom, switch layers, point at things to have them named.

Nothing is fetched: the map is drawn from the chart's own layers. With internet access streets and
houses of OpenStreetMap can be switched on beneath.
"""

import html
import math
from collections.abc import Callable
from typing import Any

import ipyleaflet
import ipywidgets

from testbed.analysis.basemap import Points, View
from testbed.analysis.chart import Areas, Chart, Layer, Lines, Spots, colour_of

TILE_PX, WIDTH_PX, DEEPEST = 256, 800, 18
MOST_THINGS = 6000
"""So many lines, areas and places a browser still moves smoothly."""


def widget(chart: Chart, height_px: int = 460) -> ipyleaflet.Map:
    """The widget of a chart.

    Layers beyond `MOST_THINGS` are thinned out to what the view shows, longest lines first, and
    their names in the layer control say so.
    """
    view = chart.view
    shown = ipyleaflet.Map(
        center=((view.south + view.north) / 2, (view.west + view.east) / 2),
        zoom=_zoom(view, height_px),
        layers=[],
        prefer_canvas=True,
        scroll_wheel_zoom=True,
        attribution_control=True,
        layout={"height": f"{height_px}px"},
    )
    streets = ipyleaflet.TileLayer(
        url="https://tile.openstreetmap.org/{z}/{x}/{y}.png",
        name="OpenStreetMap (needs internet access)",
        base=False,
        visible=False,
        attribution="© OpenStreetMap contributors" if chart.attributed else "",
    )
    shown.add(streets)
    pointed = ipywidgets.HTML()
    for layer in chart.layers:
        drawn = _geojson(layer, chart)
        if layer.words:
            drawn.on_hover(_teller(pointed))
        shown.add(drawn)
    shown.add(ipyleaflet.WidgetControl(widget=pointed, position="bottomright"))
    shown.add(ipyleaflet.LayersControl(position="topright"))
    shown.add(ipyleaflet.ScaleControl(position="bottomleft", imperial=False))
    return shown


def _zoom(view: View, height_px: int) -> int:
    """The closest zoom level at which the whole view is seen.

    The world is 256 px wide at level 0 and doubles with each level. (`ipyleaflet.Map.fit_bounds`
    would ask the browser, and leaves a task behind where none answers.)
    """
    across = 360.0 / (view.east - view.west) * WIDTH_PX / TILE_PX
    along = 360.0 * view.squeeze / (view.north - view.south) * height_px / TILE_PX
    return max(0, min(DEEPEST, math.floor(math.log2(min(across, along)))))


def _teller(pointed: ipywidgets.HTML) -> Callable[..., None]:
    """Writes the words of what is pointed at into a corner of the map."""

    def tell(*, feature: dict[str, Any], **_: Any) -> None:
        pointed.value = f"&nbsp;{feature['properties']['words']}&nbsp;"

    return tell


def _geojson(layer: Layer, chart: Chart) -> ipyleaflet.GeoJSON:
    """One layer; each thing carries its own style, which is what the browser reads."""
    shapes = layer.points[:, None, :] if isinstance(layer, Spots) else _shapes(layer)
    kept, note = _thinned(shapes, chart)
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(layer, shapes[i]),
            "properties": {
                "style": _style(layer, i),
                "words": html.escape(layer.words[i]) if layer.words else "",
            },
        }
        for i in kept
    ]
    return ipyleaflet.GeoJSON(
        data={"type": "FeatureCollection", "features": features},
        name=f"{layer.label or 'roads'}{note}",
        point_style={"radius": layer.size_px / 2} if isinstance(layer, Spots) else {},
        hover_style={"color": "#111111"} if layer.words else {},
    )


def _shapes(layer: Lines | Areas) -> tuple[Points, ...]:
    return layer.lines if isinstance(layer, Lines) else layer.rings


def _thinned(shapes: Any, chart: Chart) -> tuple[list[int], str]:
    """Indices of what is drawn, and what the layer control says about it."""
    if len(shapes) <= MOST_THINGS:
        return list(range(len(shapes))), ""
    near = [i for i, shape in enumerate(shapes) if chart.view.touches(shape)]
    if len(near) <= MOST_THINGS:
        return near, " (only here)"
    extent = {i: float((shapes[i].max(axis=0) - shapes[i].min(axis=0)).sum()) for i in near}
    longest = sorted(near, key=lambda i: (-extent[i], i))[:MOST_THINGS]
    return sorted(longest), f" ({MOST_THINGS:,} of {len(near):,} here)"


def _geometry(layer: Layer, points: Points) -> dict[str, Any]:
    pairs = points.tolist()
    if isinstance(layer, Lines):
        return {"type": "LineString", "coordinates": pairs}
    if isinstance(layer, Areas):
        return {"type": "Polygon", "coordinates": [[*pairs, pairs[0]]]}
    return {"type": "Point", "coordinates": pairs[0]}


def _style(layer: Layer, index: int) -> dict[str, Any]:
    colour = colour_of(layer, index)
    if isinstance(layer, Lines):
        return {"color": colour, "weight": layer.width_px, "opacity": 1.0}
    if isinstance(layer, Areas):
        return {"color": "#9d9d9d", "weight": 1, "fillColor": colour, "fillOpacity": 0.15}
    return {"color": "white", "weight": 1, "fillColor": colour, "fillOpacity": 0.9}
