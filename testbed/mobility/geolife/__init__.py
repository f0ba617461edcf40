"""GeoLife 1.3: real tracks of people in Beijing, read, checked and imported."""
