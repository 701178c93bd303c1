"""A scrape of an index's pod shows the metrics that the catalogue declares."""

import math

from prometheus_client.parser import text_string_to_metric_families

from embedding_contract import metrics as catalogue
from embedding_vectors.metrics import Metrics


def test_exposed_is_declared_with_its_labels_and_declared_is_exposed():
    families = text_string_to_metric_families(Metrics().exposition().decode())
    exposed = {
        sample.name: set(sample.labels) - {"le"} for family in families for sample in family.samples
    }
    assert exposed == {
        series: set(metric.labels) for metric in catalogue.VECTORS for series in metric.series
    }


def test_index_that_was_not_counted_yet_is_not_said_to_be_empty():
    found = Metrics()
    for name in ("aos_vector_index_size", "aos_vector_index_null_count"):
        value = found.registry.get_sample_value(name)
        assert value is not None
        assert math.isnan(value)
    found.index_counted(size=0, missing=0)
    assert found.registry.get_sample_value("aos_vector_index_size") == 0
