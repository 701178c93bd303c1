"""What Prometheus and Alertmanager prove: rules loaded, sidecars scraped, alerts delivered."""
