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


def northward(begin_s=0, count=30, *, lat=39.9, lon=116.3, step_s=1, step_deg=1e-4):
    """Lines of a track due north, about 11 m a fix."""
    return [plt_line(begin_s + i * step_s, lat + i * step_deg, lon) for i in range(count)]


def make_user(data, user, tracks, labels=()):
    """Write one user: ``tracks`` are lines by name, ``labels`` (begin_s, end_s, mode)."""
    folder = data / user / "Trajectory"
    folder.mkdir(parents=True)
    for name, lines in tracks.items():
        (folder / f"{name}.plt").write_bytes("\r\n".join([*HEADER, *lines, ""]).encode())
    if labels:
        lines = ["Start Time\tEnd Time\tTransportation Mode"]
        for begin_s, end_s, mode in labels:
            begin, end = (START + timedelta(seconds=s) for s in (begin_s, end_s))
            lines.append(f"{begin:%Y/%m/%d %H:%M:%S}\t{end:%Y/%m/%d %H:%M:%S}\t{mode}")
        (data / user / "labels.txt").write_bytes("\r\n".join([*lines, ""]).encode())
    return data / user
