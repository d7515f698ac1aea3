"""``engine jobs``: look at durable jobs and steer them, from outside the programs that run them."""
