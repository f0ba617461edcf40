"""One image of one recipe, by whoever can build here: a Docker engine, or our own builder."""

import contextlib
import os
from pathlib import Path

from testbed.errors import ImageBuildError
from testbed.images.build import Progress, build, quiet
from testbed.images.image import Image

VARIABLE = "TESTBED_BUILDER"
BUILDERS = ("docker", "own")


def make_image(
    folder: Path,
    *,
    cache: Path,
    name: str,
    progress: Progress = quiet,
    output: Progress = quiet,
) -> Image:
    """Build the image of ``folder/Dockerfile``, or find it built.

    An engine builds it where one answers, unless TESTBED_BUILDER says ``own``.

    Raises
    ------
    RecipeError, ImageBuildError, UnsupportedMachineError
        As `testbed.images.build.build` and `testbed.images.engine.build_with_engine` do.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in {"", *BUILDERS}:
        raise ImageBuildError(f"{VARIABLE} is {asked!r}; write one of {', '.join(BUILDERS)}")
    if asked != "own":
        from testbed.images import engine  # noqa: PLC0415 - the SDK takes long to load

        client = engine.find_engine()
        if client is not None:
            with contextlib.closing(client):
                return engine.build_with_engine(
                    folder, cache=cache, name=name, engine=client, progress=progress, output=output
                )
        if asked:
            raise ImageBuildError(
                f"{VARIABLE} is docker, but no engine answers; start it, or set DOCKER_HOST"
            )
    return build(folder, cache=cache, name=name, progress=progress, output=output)
