"""Stands between the halves of a migration, at the target, and has something happen at a point.

``python3 between.py POINT DEED``. A point is a message's name and ``?`` where it is about to reach
the target's half, ``!`` where its answer is about to leave. Deeds: ``pause`` (until a file `GO`
is there; what lives goes on saying so), ``flip`` a bit, ``forge`` one with the right check sum,
``cut`` the line in the middle of the frame. It happens once; a line made later passes through.
"""

import json
import os
import select
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

from edge.squeeze import expand

POINT, DEED = sys.argv[1:3]
USED, PAUSED, GO = (Path("/run/between") / word for word in ("used", "paused", "go"))
WITHOUT_ANSWER = {"layer", "pages", "forked", "files", "hurry"}
asked = [""]


def exactly(source, size):
    data = b""
    while len(data) < size:
        more = os.read(source, size - len(data))
        if not more:
            os._exit(0)  # both lines end with us
        data += more
    return data


def write(target, data):
    while data:
        data = data[os.write(target, data) :]


def frames(source):
    """Whole frames; an empty one is a beat."""
    while True:
        length = exactly(source, 4)
        if not struct.unpack("<I", length)[0]:
            yield length, None
            continue
        text = exactly(source, struct.unpack("<I", length)[0])
        head = json.loads(text)
        yield length + text + exactly(source, head["size"]) + exactly(source, 4), head


def pause(source, target, coming, held):
    PAUSED.touch()
    while not GO.exists():
        if select.select([source], [], [], 0.05)[0]:
            frame, head = next(coming)
            if head is None:
                write(target, frame)
            else:
                held.append(frame)


def flip(frame):
    last_head = 4 + struct.unpack("<I", frame[:4])[0]
    body = bytearray(frame[4:-4])
    body[last_head - 4 if last_head < len(frame) - 4 else 0] ^= 1
    return frame[:4] + body + frame[-4:]


def forge(frame, head):
    """Another content that nobody can tell from one that was sent so, whether it was packed."""
    content = bytearray(expand(head, frame[-4 - head["size"] : -4]))
    content[0] ^= 1
    plain = {name: value for name, value in head.items() if name not in {"codec", "whole"}}
    text = json.dumps({**plain, "size": len(content)}).encode()
    check = struct.pack("<I", zlib.crc32(text + content))
    return struct.pack("<I", len(text)) + text + content + check


def relay(source, target, sign):
    coming = frames(source)
    for frame, head in coming:
        held = [frame]
        if head and sign == "?" and head["message"] not in WITHOUT_ANSWER:
            asked[0] = head["message"]
        name = head and (head["message"] if sign == "?" else asked[0])
        if name and name + sign == POINT and not USED.exists():
            USED.touch()
            if DEED == "pause":
                pause(source, target, coming, held)
            elif DEED == "cut":
                write(target, frame[: len(frame) // 2])
                os._exit(0)
            else:
                held = [forge(frame, head) if DEED == "forge" else flip(frame)]
        for one in held:
            write(target, one)


USED.parent.mkdir(exist_ok=True)
half = subprocess.Popen(
    ["python3", "-m", "edge.target"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    bufsize=0,
)
threading.Thread(target=relay, args=(0, half.stdin.fileno(), "?")).start()
relay(half.stdout.fileno(), 1, "!")
