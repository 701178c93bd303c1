"""Proofs by Prometheus and Alertmanager: rules loaded, sidecars scraped, alerts delivered."""
