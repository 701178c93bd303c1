"""Commands for people: `embedding-operator render`, `alerts verify`, `kubectl embedding`."""
