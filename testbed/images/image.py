"""A built image: its layers and how to run it, as read from the cache.

Cache layout, under ``<cache>/images/``:

``layers/<digest>.tar.zst``
    One layer as an OCI layer archive (``application/vnd.oci.image.layer.v1.tar+zstd``): entries
    sorted, paths without a leading slash, a removed file as an empty ``.wh.NAME``, a folder that
    hides everything below it with an empty ``.wh..wh..opq`` inside, extended attributes as
    ``SCHILY.xattr.*`` records. ``<digest>`` is the hex sha256 of the *uncompressed* archive
    (OCI's diff id). To use it as an overlay's lower folder, unpack it as root and turn ``.wh.NAME``
    into a character device 0:0 called NAME, and ``.wh..wh..opq`` into the attribute
    ``trusted.overlay.opaque=y`` of its folder.
``layers/<digest>/``
    The same, unpacked, ready as an overlay's lower folder.
``images/<name>.json``
    The manifest: the fields of `Image`. Layers come lowest first (an overlay's ``lowerdir`` wants
    them the other way round: `Image.lowerdirs`).
``steps/<key>.json``
    What a step of a recipe gave, by the hash of all that went into it.
"""

import html
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from testbed.errors import ImageBuildError


@dataclass(frozen=True)
class Layer:
    """One layer of an image.

    digest : hex sha256 of the uncompressed archive.
    size_bytes, compressed_bytes : of the archive, before and after zstd.
    created_by : the recipe's instruction.
    base : whether it came from ``FROM`` (and is shared with other images).
    """

    digest: str
    size_bytes: int
    compressed_bytes: int
    created_by: str
    base: bool = False


@dataclass(frozen=True)
class ImageConfig:
    """How a container of the image is started; ``entrypoint`` comes before ``cmd``."""

    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def command(self) -> tuple[str, ...]:
        """What the container runs where nothing else is asked for."""
        return (*self.entrypoint, *self.cmd)


@dataclass(frozen=True)
class Image:
    """An image in the cache; see the module's text for the layout.

    cache : the cache folder (its ``images/`` is ours).
    architecture : as `platform.machine` says, such as ``x86_64`` or ``aarch64``.
    recipe_sha256 : hash of everything that went into it.
    """

    name: str
    architecture: str
    layers: tuple[Layer, ...]
    config: ImageConfig
    recipe_sha256: str
    cache: Path

    @classmethod
    def load(cls, cache: Path, name: str) -> "Image":
        """Read the manifest of an image that was built before.

        Raises
        ------
        ImageBuildError
            If there is none, or it cannot be read.
        """
        path = manifest_path(cache, name)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                name=found["name"],
                architecture=found["architecture"],
                layers=tuple(Layer(**layer) for layer in found["layers"]),
                config=read_config(found["config"]),
                recipe_sha256=found["recipe_sha256"],
                cache=cache,
            )
        except FileNotFoundError as error:
            raise ImageBuildError(
                f"image {name!r} is not in {path.parent}; build it first"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ImageBuildError(
                f"{path}: not a manifest of this version ({error!r}); remove it and build again"
            ) from error

    def save(self) -> None:
        """Write the manifest, whole or not at all."""
        path = manifest_path(self.cache, self.name)
        content = asdict(self)
        del content["cache"]
        write_whole(path, json.dumps(content, indent=1) + "\n")

    @property
    def base_layers(self) -> tuple[Layer, ...]:
        """Layers of ``FROM``: the same in every image upon this base."""
        return tuple(layer for layer in self.layers if layer.base)

    @property
    def app_layers(self) -> tuple[Layer, ...]:
        """Layers of this recipe's own."""
        return tuple(layer for layer in self.layers if not layer.base)

    @property
    def size_bytes(self) -> int:
        """Bytes of all layers, unpacked archives."""
        return sum(layer.size_bytes for layer in self.layers)

    @property
    def compressed_bytes(self) -> int:
        """Bytes of all layers as they travel."""
        return sum(layer.compressed_bytes for layer in self.layers)

    def archive(self, layer: Layer) -> Path:
        """The layer's compressed archive."""
        return layer_archive(self.cache, layer.digest)

    def folder(self, layer: Layer) -> Path:
        """The layer's unpacked folder."""
        return layer_folder(self.cache, layer.digest)

    def lowerdirs(self) -> list[Path]:
        """Unpacked layers, uppermost first, as an overlay's ``lowerdir`` wants them."""
        return [self.folder(layer) for layer in reversed(self.layers)]

    def missing_files(self) -> list[Path]:
        """Files and folders of the manifest that are not in the cache any more."""
        wanted = [
            path for layer in self.layers for path in (self.archive(layer), self.folder(layer))
        ]
        return [path for path in wanted if not path.exists()]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{layer.digest[:12]}</code></td>"
            f"<td style='text-align:right'>{layer.size_bytes / 1e6:.1f}</td>"
            f"<td style='text-align:right'>{layer.compressed_bytes / 1e6:.1f}</td>"
            f"<td style='text-align:left'>{html.escape(layer.created_by)}</td></tr>"
            for layer in self.layers
        )
        return (
            f"<table><caption>{html.escape(self.name)} ({html.escape(self.architecture)}), "
            f"{self.size_bytes / 1e6:.1f} MB, compressed {self.compressed_bytes / 1e6:.1f} MB"
            "</caption><tr><th>layer</th><th>MB</th><th>compressed MB</th><th>made by</th></tr>"
            f"{rows}</table>"
        )


def read_config(found: dict[str, Any]) -> ImageConfig:
    """Build a config from JSON, where tuples came back as lists."""
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in found.items()
    }
    return ImageConfig(**values)


def manifest_path(cache: Path, name: str) -> Path:
    """Where the manifest of an image lies.

    Raises
    ------
    ImageBuildError
        If the name cannot be a file's.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise ImageBuildError(
            f"image name {name!r}: use small letters, digits, dots, dashes and underscores"
        )
    return cache / "images" / "images" / f"{name}.json"


def layer_archive(cache: Path, digest: str) -> Path:
    """Where the compressed archive of a layer lies."""
    return cache / "images" / "layers" / f"{digest}.tar.zst"


def layer_folder(cache: Path, digest: str) -> Path:
    """Where a layer lies unpacked."""
    return cache / "images" / "layers" / digest


def write_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
