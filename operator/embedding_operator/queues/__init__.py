"""The work queue of the controllers, and fair locks and queues."""
