"""What both sides of a worker process share: headers, pickling with raw buffers, the start page."""
