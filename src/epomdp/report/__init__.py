"""Self-contained report pages: frozen dataclasses in, one HTML file out, nothing fetched from anywhere."""
