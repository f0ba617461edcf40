"""Lines of made GeoLife files; nothing here comes from the data set."""

from datetime import UTC, datetime, timedelta

HEADER = [
    "Geolife trajectory",
    "WGS 84",
    "Altitude is in Feet",
    "Reserved 3",
    "0,2,255,My Track,0,0,2,8421376",
    "0",
]
START = datetime(2008, 5, 1, 10, 0, 0, tzinfo=UTC)


def plt_line(seconds, lat, lon):
    when = START + timedelta(seconds=seconds)
    return f"{lat:.6f},{lon:.6f},0,194,39569.4,{when:%Y-%m-%d},{when:%H:%M:%S}"
