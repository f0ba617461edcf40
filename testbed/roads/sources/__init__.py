"""Where road maps come from: files of several kinds, and OpenStreetMap's servers."""
