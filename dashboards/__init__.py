"""The Grafana dashboards and the mixin, generated from one description in Python.

`python -m docs.generate` writes them; nothing of this package is installed anywhere.
"""
