"""Values and readers that all providers' translations share; no IO."""
