"""Where on the road, and which cell: road maps, cells, coverage and map matching."""
