"""What is in our images, and under which licences: `make sbom`."""
