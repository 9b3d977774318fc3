"""A comparison as one self-contained page: no network, no script, inline SVG."""
