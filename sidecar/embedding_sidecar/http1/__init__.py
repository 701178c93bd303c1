"""An HTTP/1.1 client for one thing: a POST with a whole body, answered whole."""
