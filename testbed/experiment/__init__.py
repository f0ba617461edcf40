"""The loop that ties mobility, prediction, planning and migration together on live hosts."""
