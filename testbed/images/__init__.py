"""The edge's own builder for plain Dockerfiles: recipe → plan → layers → image.

`testbed.images.build.build` makes an image, `testbed.images.image.Image` is what it makes; the
latter's module text describes the cache and the layer format.
"""
