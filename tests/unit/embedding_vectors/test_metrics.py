"""What a scrape of a pod of an index shows is what the catalogue declares."""

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
